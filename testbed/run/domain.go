package run

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// Domain is what a script asks of a site's domain, as its API has it. A new verb
// adds here what it needs; no world has to know of it.
type Domain interface {
	List(ctx context.Context, q api.ListQuery) (api.Page, error)
	ListTasks(ctx context.Context, q api.TaskQuery) (api.Page, error)
	ActOnTask(ctx context.Context, r api.TaskActionRequest) (api.TaskResult, error)
	IssueOrder(ctx context.Context, r api.OrderRequest) (api.OrderResult, error)
	StepOrder(ctx context.Context, r api.OrderStepRequest) (api.OrderStepResult, error)
	Order(ctx context.Context, name string) (api.OrderDetail, error)
	SwitchMode(ctx context.Context, r api.ModeRequest) (api.ModeResult, error)
	Mode(ctx context.Context, site tiers.SiteID) (command.Standing, error)
	MergeEvents(ctx context.Context, r api.MergeRequest) (api.EventResult, error)
	UnmergeEvents(ctx context.Context, r api.MergeRequest) (api.EventResult, error)
	ListOrders(ctx context.Context, q api.ListQuery) (api.OrdersPage, error)
	ListReceipts(ctx context.Context, q api.ReceiptQuery) (api.ReceiptsPage, error)
	api.Responders
}

// patience is how long a site that is down, or has not heard yet of what it is asked
// about, is asked again.
const patience = 20 * time.Second

// names are what a script has named.
type names struct {
	mu sync.Mutex // guards all
	of map[string]thing
}

// thing is something named.
type thing struct {
	kind   string
	doc    tiers.DocID // of an event, a request, a pool or an order
	stream tiers.StreamID
	at     tiers.SiteID // who made it: the home of a unit, who asked or lent
	to     tiers.SiteID // who borrows a pool
	units  []responder.Lent
	asked  time.Duration
	report event.Report // of an event
	// targets are those of an order.
	targets []tiers.SiteID
}

func newNames() *names { return &names{of: map[string]thing{}} }

func (n *names) put(name string, t thing) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of[name] = t
}

func (n *names) get(name string) thing {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.of[name]
}

// nameOf returns the name of a holder: of the event whose task it is, of a request
// or of a pool; what has none is called what it is.
func (n *names) nameOf(holder string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, t := range n.of {
		if t.doc != "" && string(t.doc) == holder || t.kind == kindEvent && string(dispatch.TaskID(t.doc)) == holder {
			return name
		}
	}
	return cmp.Or(holder, scenario.Nobody)
}

const kindEvent = "event"

// deed is something to be done at a site. Begin notes what has to be known before it
// is asked for, Done what came of it; nil for nothing.
type deed struct {
	at    tiers.SiteID
	begin func()
	do    func(ctx context.Context, d Domain) error
	done  func()
}

// domain plays a step about the domain; false when it is none.
func (p *player) domain(ctx context.Context, line int, c scenario.Command) (bool, error) {
	switch c := c.(type) {
	case scenario.Event:
		return true, p.event(ctx, line, c)
	case scenario.Duplicate:
		return true, p.duplicate(ctx, line, c)
	case scenario.Work:
		p.beside.Go(func() { p.fatal(p.work(p.beside.loads, line, c)) })
		return true, nil
	case scenario.Aid:
		p.aid(line, c)
		return true, nil
	case scenario.Refused:
		d, ok := p.deed(line, c.Do)
		if !ok {
			return false, nil
		}
		return true, p.refused(ctx, d)
	default:
		d, ok := p.deed(line, c)
		if !ok {
			return false, nil
		}
		return true, p.perform(ctx, d)
	}
}

// deed returns what a command asks for, and of whom.
func (p *player) deed(line int, c scenario.Command) (deed, bool) {
	key := fmt.Sprintf("line-%d", line)
	switch c := c.(type) {
	case scenario.Task:
		return p.taskDeed(key, c), true
	case scenario.Unit:
		return p.unitDeed(key, c), true
	case scenario.Send:
		return p.sendDeed(key, c), true
	case scenario.Recall:
		return p.recallDeed(key, c), true
	case scenario.Ask:
		return p.askDeed(key, c), true
	case scenario.Lend:
		return p.lendDeed(key, c), true
	case scenario.GiveBack:
		return p.giveBackDeed(key, c), true
	case scenario.TakeBack:
		return p.takeBackDeed(key, c), true
	case scenario.Rule:
		return p.ruleDeed(key, c), true
	case scenario.Merge:
		return p.mergeDeed(key, c), true
	case scenario.Order:
		return p.orderDeed(key, c), true
	case scenario.Receipt:
		return p.receiptDeed(key, c), true
	case scenario.Mode:
		return p.modeDeed(key, c), true
	default:
		return deed{}, false
	}
}

// perform does a deed. What is refused is tried again for a while: what it waits for
// may be on its way.
func (p *player) perform(ctx context.Context, d deed) error {
	return p.try(ctx, d, func(err error) bool {
		return errors.Is(err, api.ErrRejected) || errors.Is(err, api.ErrNotFound) || errors.Is(err, api.ErrInvalid)
	})
}

// try does a deed until that has an outcome that does not pass, in time.
func (p *player) try(ctx context.Context, d deed, again func(error) bool) error {
	if d.begin != nil {
		d.begin()
	}
	ctx, cancel := context.WithTimeout(ctx, p.pace().within(patience))
	defer cancel()
	var refused error // the last time
	for {
		err := p.insist(ctx, d.at, func(s Site) error {
			return s.Ask(ctx, func(x Domain) error { return d.do(ctx, x) })
		})
		if err == nil {
			if d.done != nil {
				d.done()
			}
			return nil
		}
		if again(err) {
			refused = err
		} else if ctx.Err() == nil || refused == nil {
			return fmt.Errorf("site %s: %w", d.at, err)
		}
		if wait(ctx, retryEvery) != nil {
			return fmt.Errorf("site %s: %w", d.at, refused)
		}
	}
}

// errNotRefused reports something that a script expects to be refused.
var errNotRefused = errors.New("it was done, and should have been refused")

// refused does a deed that the site must refuse.
func (p *player) refused(ctx context.Context, d deed) error {
	err := p.try(ctx, d, func(error) bool { return false })
	switch {
	case err == nil:
		return fmt.Errorf("site %s: %w", d.at, errNotRefused)
	case errors.Is(err, api.ErrRejected), errors.Is(err, api.ErrNotFound), errors.Is(err, api.ErrInvalid):
		return nil
	default:
		return err
	}
}

// event reports an event under a name.
func (p *player) event(ctx context.Context, line int, c scenario.Event) error {
	r, err := p.ledger.make(line, scenario.Report{From: scenario.SourceMade, Urgent: c.Urgent})
	if err != nil {
		return err
	}
	r.Type, r.Title = cmp.Or(c.Type, r.Type), c.Name
	return p.eventNamed(ctx, c.Name, c.At, r)
}

// eventNamed reports something and gives the event a name.
func (p *player) eventNamed(ctx context.Context, name string, at tiers.SiteID, r event.Report) error {
	ctx, cancel := context.WithTimeout(ctx, p.pace().within(patience))
	defer cancel()
	a, err := p.handed(ctx, at, r)
	if err != nil {
		return err
	}
	p.names.put(name, thing{kind: kindEvent, doc: a.Doc, stream: a.Stream, at: at, report: r})
	return ctx.Err()
}

// taskDeed makes a move on the task of an event, with what the move needs besides.
func (p *player) taskDeed(key string, c scenario.Task) deed {
	id := dispatch.TaskID(p.names.get(c.Event).doc)
	var done api.TaskResult
	return deed{
		at: c.At, begin: func() { p.orders.over(c.Move, string(id), p.elapsed()) },
		do: func(ctx context.Context, d Domain) (err error) {
			done, err = d.ActOnTask(ctx, api.TaskActionRequest{Key: key, Task: id, Action: moveOf(c.Move, c.At, c.To)})
			return err
		},
		done: func() { p.ledger.moved(c.At, key, done.WriteResult) },
	}
}

// moveOf fills in what a move needs: a reason, persons who are not the same for
// handling and for verifying, and evidence.
func moveOf(kind string, at, to tiers.SiteID) dispatch.Action {
	a := dispatch.Action{Kind: kind, To: to}
	if codes := dispatch.Reasons(kind); len(codes) > 0 {
		a.Reason = codes[0]
	}
	switch kind {
	case dispatch.ActionDispose, dispatch.ActionFeedback:
		a.Who, a.Evidence = "handler-"+string(at), []string{"photo-" + string(at)}
	case dispatch.ActionVerify, dispatch.ActionClose, dispatch.ActionEvaluate:
		a.Who = "verifier-" + string(at)
		if kind == dispatch.ActionEvaluate {
			a.Score = 4
		}
	case dispatch.ActionExtend:
		a.Limit = &dispatch.Limit{Amount: 1, Unit: dispatch.UnitHour}
	}
	return a
}

// ruleDeed publishes a rule.
func (p *player) ruleDeed(key string, c scenario.Rule) deed {
	r := dispatch.Rule{
		Code: c.Code, Order: c.Order, TypePrefix: c.Type, Organ: c.Organ, Limit: dispatch.Limit{Amount: 2, Unit: dispatch.UnitHour},
		Site: string(c.To), Skill: c.Skill, Mode: c.Mode,
	}
	return deed{at: c.At, do: func(ctx context.Context, d Domain) error {
		_, err := d.PublishRules(ctx, api.RulesRequest{Key: key, Rules: []dispatch.Rule{r}})
		return err
	}}
}

// elapsed is the time of the run so far.
func (p *player) elapsed() time.Duration { return time.Since(p.began) }

// shows returns what a site shows of something named, in the words of a measure.
// Elsewhere says that the site is not among those that are to hold it.
func (p *player) shows(ctx context.Context, id tiers.SiteID, c scenario.Expect) (text string, elsewhere bool, err error) {
	t := p.names.get(c.Of)
	switch {
	case c.Measure == scenario.MeasureHolder:
		text, err = p.holder(ctx, id, unitID{t.at, c.Of})
		return text, false, err
	case c.Measure == scenario.MeasureMode && t.kind == "":
		return p.modeShown(ctx, id, tiers.SiteID(c.Of))
	case t.kind == command.KindOrder:
		return p.orderShown(ctx, id, t, c)
	default:
		return p.viewShown(ctx, id, t, c.Measure)
	}
}

// viewShown is a measure of the view of an event, or its task, a request or a pool.
func (p *player) viewShown(ctx context.Context, id tiers.SiteID, t thing, m scenario.Measure) (text string, elsewhere bool, err error) {
	doc, stream := t.doc, t.stream
	ofEvent := slices.Contains([]scenario.Measure{scenario.MeasureOriginal, scenario.MeasureReporters, scenario.MeasureTasks}, m)
	if t.kind == kindEvent && !ofEvent {
		doc = dispatch.TaskID(t.doc)
		stream = tiers.StreamID{Site: t.at, Class: tiers.ClassCommand}
	}
	s, err := p.w.Site(id)
	if err != nil {
		return "", false, err
	}
	views, err := s.View(ctx, doc.Kind(), doc.Name())
	if errors.Is(err, api.ErrNotFound) {
		return scenario.Absent, !p.tree.topology().InAudience(stream, id), nil
	}
	if err != nil {
		return "", false, err
	}
	view := views[0]
	for _, v := range views { // of two copies of a request, that of who asked
		if strings.Contains(string(v), `"stream":"`+stream.String()+`"`) {
			view = v
		}
	}
	switch {
	case ofEvent:
		text, err = p.eventShows(m, view)
		return text, false, err
	case t.kind == kindEvent:
		text, err = taskShows(m, view)
		return text, false, err
	}
	var v struct {
		State string `json:"state"`
		responder.RequestView
	}
	if err := json.Unmarshal(view, &v); err != nil {
		return "", false, err
	}
	if t.kind == responder.KindRequest && v.State == responder.RequestGranted {
		p.orders.granted(t, v.RequestView, p.elapsed())
	}
	return v.State, false, nil
}

// taskShows is one measure of a task's view.
func taskShows(m scenario.Measure, view json.RawMessage) (string, error) {
	var v dispatch.TaskView
	if err := json.Unmarshal(view, &v); err != nil {
		return "", err
	}
	switch m {
	case scenario.MeasureCustodian:
		return cmp.Or(string(v.Custodian), scenario.Nobody), nil
	case scenario.MeasureRule:
		return v.Brief.Rule, nil
	case scenario.MeasureOrgan:
		return v.Brief.Organ, nil
	case scenario.MeasureConflicts:
		return fmt.Sprint(len(v.Conflicts)), nil
	case scenario.MeasureStandDowns:
		return fmt.Sprint(len(v.StandDown)), nil
	case scenario.MeasureLimit:
		return fmt.Sprintf("%d-%s", v.Brief.Limit.Amount, v.Brief.Limit.Unit), nil
	case scenario.MeasureMode:
		return cmp.Or(v.Brief.Mode, scenario.ModeNormal), nil
	default:
		return v.State, nil
	}
}

// named looks whether the sites that an expectation is about show what it says. Got
// is what the first one shows that does not, or what all do.
func (p *player) named(ctx context.Context, c scenario.Expect) (got string, holds bool, err error) {
	ids := c.At.Of(p.tree.rows())
	for _, id := range ids {
		if len(ids) > 1 && p.net.isDown(id) {
			continue
		}
		text, elsewhere, err := p.shows(ctx, id, c)
		if err != nil {
			return "", false, fmt.Errorf("site %s: %w", id, err)
		}
		if elsewhere && len(ids) > 1 {
			continue
		}
		if got = text; !c.HoldsText(text) {
			return fmt.Sprintf("%s at %s", text, id), false, nil
		}
	}
	if got == "" {
		return "held by none of the sites", false, nil
	}
	return got, true, nil
}

// uses reports whether a script has a command of which f says so.
func uses(s *scenario.Script, f func(scenario.Command) bool) bool {
	return slices.ContainsFunc(s.Steps, func(st scenario.Step) bool { return f(st.Do) })
}

// usesUnits reports whether a script has registered units.
func usesUnits(c scenario.Command) bool {
	switch c.(type) {
	case scenario.Unit, scenario.Aid:
		return true
	default:
		return false
	}
}

// givesOrders reports whether a script gives orders to sites.
func givesOrders(c scenario.Command) bool {
	switch c := c.(type) {
	case scenario.Order:
		return true
	case scenario.Work:
		return c.On == scenario.OnOrders
	default:
		return false
	}
}

// lookAtOrders has the oracle of orders look at the sites that can be read now.
func (p *player) lookAtOrders() {
	if !uses(p.s, givesOrders) {
		return
	}
	if sites, err := p.judge.readable(); err == nil { // else at the end
		p.commands.Look(p.elapsed(), sites)
	}
}

// madeWrite is what a client asked of a document as a write that must not be lost.
func madeWrite(site tiers.SiteID, key string, done api.WriteResult) (oracle.Acked, bool) {
	stream, err := parseStream(done.Stream)
	return oracle.Acked{Site: site, Key: key, Stream: stream, Doc: done.ID, Seq: done.Seq, At: time.Now()}, err == nil
}
