package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// dispatchBatch is how many events are dispatched at once, dispatchPage how many of
// the work list are read at once.
const (
	dispatchBatch = 64
	dispatchPage  = 256
)

// dispatchRetry is how long the dispatcher waits after it lost the leadership or
// a write's outcome.
const dispatchRetry = 100 * time.Millisecond

// eachTerm calls f in each of this node's leaderships, and again a moment after it
// returned nil, until ctx ends or f fails.
func (n *Node) eachTerm(ctx context.Context, f func(lead context.Context) error) error {
	for {
		lead, err := n.group.Lead(ctx)
		if err != nil {
			return nil //nolint:nilerr // only the end of ctx or of the group ends the wait
		}
		n.catchUp(ctx, lead)
		if err := f(lead); err != nil {
			return err
		}
		select {
		case <-time.After(dispatchRetry):
		case <-ctx.Done():
			return nil
		}
	}
}

// catchUp waits, at the beginning of a leadership, until the views show what is applied
// by then: after a crash the indexes lack what had not been flushed, and who decides by
// them would take some of the rules for all. It gives up after catchUpMax.
func (n *Node) catchUp(ctx, lead context.Context) {
	st := n.group.Store()
	last := time.After(catchUpMax)
	for until := st.AppliedIndex(); st.ViewsAt() < until; {
		select {
		case <-time.After(catchUpEvery):
		case <-last:
			return
		case <-lead.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// How long a leadership waits for views, and how often it looks.
const (
	catchUpMax   = time.Minute
	catchUpEvery = 10 * time.Millisecond
)

// onChange makes a pass in each of this node's leaderships, and again with each
// change and tick, until ctx ends or a pass fails. What there is to do is in the
// store, so nothing is lost between two passes.
func (n *Node) onChange(ctx context.Context, changed <-chan struct{}, ticks <-chan time.Time, pass func(context.Context) (again bool, err error)) error {
	return n.eachTerm(ctx, func(lead context.Context) error { return passWhile(ctx, lead, changed, ticks, pass) })
}

// passWhile makes passes until the leadership or ctx ends, or one has an error: nil is
// returned for those that go away by themselves. A pass that reports more to do is
// made again at once.
func passWhile(ctx, lead context.Context, changed <-chan struct{}, ticks <-chan time.Time, pass func(context.Context) (again bool, err error)) error {
	for {
		again, err := pass(ctx)
		switch {
		case ctx.Err() != nil || lead.Err() != nil || goesAway(err):
			return nil //nolint:nilerr // what goes away, or the end of the term, ends these passes only
		case err != nil:
			return err
		case again:
			continue
		}
		select {
		case <-changed:
		case <-ticks:
		case <-lead.Done():
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// goesAway reports whether an error is one that a loop comes back from after a moment.
func goesAway(err error) bool {
	return errors.Is(err, replication.ErrNotLeader) || errors.Is(err, replication.ErrUnknown) || errors.Is(err, ErrBusy) ||
		errors.Is(err, crdt.ErrUnavailable) || errors.Is(err, errOlderTopology)
}

// passOver reports whether an error is of one document alone, which keeps no other one
// from being served, and no loop from going on. What others have spoilt is raised, with
// what cannot be done; what waits for records is done when they come.
func (n *Node) passOver(what string, err error) bool {
	if spoilt(err) {
		n.alarms.raise(alarmBlocked, what, fmt.Sprintf("%s: %v", what, err))
		return true
	}
	return errors.Is(err, ErrHeldBack)
}

// spoilt reports whether a document is such that no change can be made on it.
func spoilt(err error) bool {
	return errors.Is(err, engine.ErrPoisoned) || errors.Is(err, engine.ErrTooLarge) ||
		errors.Is(err, engine.ErrEngine) || errors.Is(err, engine.ErrHeads)
}

// dispatcher gives each event of this site its task. One goroutine owns it.
type dispatcher struct {
	n *Node
	// left are the events that were looked at and got none, most often because no rule
	// matches: they stay in the work list, and keep no other one from being served.
	left map[store.DocKey]leftEvent
	// after is how far the work list was gone through; nil for the beginning.
	after *store.IndexHit
	// rules and mode are those under which they were looked at.
	rules *dispatch.Table
	mode  dispatch.SubjectMode
}

// leftEvent says until when an event is left alone, unless it changes.
type leftEvent struct {
	version uint64
	until   time.Time
}

// leftFor is how long an event that got no task is left alone, unless it, the rules or
// the mode change: a rule may look at the time.
const leftFor = time.Minute

// runDispatch gives each event of this site its task, by the rules as this
// site last saw them, with or without links. Its work list is an index, so it
// goes on after a crash where it stopped; a task's identifier follows from the
// event's, so no event gets two.
func (n *Node) runDispatch(ctx context.Context, changed <-chan struct{}) error {
	d := dispatcher{n: n, left: map[store.DocKey]leftEvent{}}
	ticks := time.NewTicker(leftFor)
	defer ticks.Stop()
	return n.onChange(ctx, changed, ticks.C, d.pass)
}

// pass dispatches the next batch and reports whether the work list goes on.
func (d *dispatcher) pass(ctx context.Context) (more bool, err error) {
	defer func() {
		if err != nil {
			d.after = nil // some of the batch may still wait
		}
	}()
	rules, types, err := d.n.route(true)
	if err != nil || rules.Len() == 0 {
		return false, err
	}
	work, versions, more, err := d.work(rules)
	if err != nil || len(work) == 0 {
		return more, err
	}
	if _, err := d.n.board.candidates(d.n); err != nil { // what was listed since
		return false, err
	}
	var g errgroup.Group // ends with the batch
	g.SetLimit(16)
	for _, k := range work {
		g.Go(func() error {
			err := d.n.dispatchOne(ctx, k, rules, types)
			if d.n.passOver(fmt.Sprintf("%s cannot be dispatched", k), err) {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	until := d.n.opts.Now().Add(leftFor)
	for i, k := range work {
		version, err := d.n.group.Store().Version(k)
		if err != nil {
			return false, err
		}
		if version == versions[i] { // nothing was written to it
			d.left[k] = leftEvent{version, until}
		}
	}
	return more, nil
}

// work returns the next events that wait for a task and are not left alone, up to a
// batch, their versions, and whether there may be more of them behind.
func (d *dispatcher) work(rules *dispatch.Table) (work []store.DocKey, versions []uint64, more bool, err error) {
	now, self, st := d.n.opts.Now(), d.n.creds.ID.Site, d.n.group.Store()
	if mode := d.n.dispatchMode(self); rules != d.rules || mode != d.mode {
		clear(d.left)
		d.rules, d.mode, d.after = rules, mode, nil
	}
	if d.after == nil {
		maps.DeleteFunc(d.left, func(_ store.DocKey, l leftEvent) bool { return !now.Before(l.until) })
	}
	for {
		hits, err := st.Index(store.IndexQuery{
			Name: event.IndexUndispatched, Prefix: event.UndispatchedAt(self), After: d.after, Limit: dispatchPage, // others dispatch theirs
		})
		if err != nil {
			return nil, nil, false, err
		}
		for i, h := range hits {
			version, err := st.Version(h.Key)
			if err != nil {
				return nil, nil, false, err
			}
			if l, left := d.left[h.Key]; left && l.version == version && now.Before(l.until) {
				continue
			}
			if work, versions = append(work, h.Key), append(versions, version); len(work) == dispatchBatch {
				d.after = &hits[i]
				return work, versions, true, nil
			}
		}
		if len(hits) < dispatchPage {
			d.after = nil
			return work, versions, false, nil
		}
		d.after = &hits[len(hits)-1]
	}
}

// dispatchOne decides on one event and writes the task and the event's action
// together, unless it has one or no rule matches.
func (n *Node) dispatchOne(ctx context.Context, k store.DocKey, rules *dispatch.Table, categories map[string]string) error {
	v, err := n.views.View(k)
	if errors.Is(err, store.ErrNotFound) {
		return nil // set aside in a fork since it was listed
	}
	if err != nil {
		return err
	}
	var ev event.View
	if err := json.Unmarshal(v.JSON, &ev); err != nil {
		return fmt.Errorf("view of %s: %w", k, err)
	}
	if ev.State != event.StateReported {
		return nil
	}
	subject := n.subject(ev, categories, n.opts.Now())
	decision, ok := rules.Decide(subject)
	if !ok {
		return nil
	}
	to, note := n.taskSite(decision)
	if note != "" {
		n.alarms.raise(alarmRouting, decision.Rule, note)
	}
	at := n.group.Clock().Now()
	planned, err := n.fannedOut(to, ev.Name(), subject.SubjectMode, dispatch.Brief{
		Event: k.Doc, Stream: k.Stream.String(), Title: ev.Report.Title, Type: ev.Report.Type,
		Place: ev.Report.Place, Organ: decision.Organ, Limit: decision.Limit, Priority: ev.Report.Priority,
		DispatchedAtMS: at.Millis(), Rule: decision.Rule, Plan: decision.Plan,
		BriefOrigin: dispatch.BriefOrigin{Versions: n.ruleVersions(decision.Rule)},
	})
	if err != nil {
		return err
	}
	if err := n.sendUnit(ctx, subject, decision, planned); err != nil {
		return err
	}
	edits := []Edit{{Key: k}}
	for _, p := range planned {
		action, err := event.ActionOp(event.Action{
			At: at, By: n.creds.ID.Site, Kind: event.KindDispatch, Task: p.ID, Organ: p.Brief.Organ, Note: decision.Rule, Mode: p.Brief.Mode,
		})
		if err != nil {
			return err
		}
		ops, err := dispatch.TaskOps(p.Brief)
		if err != nil {
			return err
		}
		edits[0].Ops = append(edits[0].Ops, action)
		edits = append(edits, Edit{Key: docKey(to, tiers.ClassCommand, p.ID), Create: true, Ops: ops})
	}
	_, err = n.docs.write(ctx, "dispatch:"+string(ev.Name()), edits...)
	if errors.Is(err, ErrExists) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// sent is the unit that a task begins with; empty for none.
type sent struct{ id, epoch string }

// unitFor claims the unit that a decision asks for.
func (n *Node) unitFor(ctx context.Context, s dispatch.Subject, d dispatch.Decision, task tiers.DocID) (sent, error) {
	if d.Skill == "" {
		return sent{}, nil
	}
	u, order, ok, err := n.assign(ctx, s, d.Skill, task)
	if err != nil || !ok {
		return sent{}, err
	}
	return sent{u.ref.String(), order.Epoch.String()}, nil
}

// rules reads the dispatch rules of this site and its ancestors; of several with
// one code the nearest site's holds. used names the version that each is of.
func (n *Node) rules() (out []dispatch.Rule, used map[string]catalog.Used, err error) {
	c, _ := catalog.Find(catalog.Rules)
	used = map[string]catalog.Used{}
	for _, site := range n.catalogSites() {
		docs, err := n.group.Store().DocumentsOf(catalogStream(site), c.Kind, "", 0)
		if err != nil {
			return nil, nil, err
		}
		for _, k := range docs {
			if _, nearer := used[k.Doc.Name()]; nearer {
				continue
			}
			r, ok, err := n.ruleAt(k)
			if err != nil {
				return nil, nil, err
			}
			if used[k.Doc.Name()], err = n.usedOf(site, c, k.Doc.Name()); err != nil && !isNotFound(err) {
				return nil, nil, err
			}
			if ok {
				out = append(out, r)
			}
		}
	}
	return out, used, nil
}

// ruleAt reads a rule; ok is false when it is retired or unusable.
func (n *Node) ruleAt(k store.DocKey) (r dispatch.Rule, ok bool, err error) {
	v, err := n.views.View(k)
	if isNotFound(err) {
		return r, false, nil
	}
	if err != nil {
		return r, false, err
	}
	e, err := catalog.EntryFromView(v.JSON)
	if err == nil {
		r, err = dispatch.RuleFromView(v.JSON)
	}
	if err != nil {
		n.alarms.raise(alarmRule, k.String(), fmt.Sprintf("rule %s is unusable: %v", k, err))
		return r, false, nil
	}
	return r, !e.Retired(), nil
}

// categories maps event type codes to their category: of several with one code,
// that of this site or the nearest above it, or else of any below.
func (n *Node) categories() (map[string]string, error) {
	out, from := map[string]string{}, map[string]int{}
	near := n.catalogSites()
	err := n.eachView(catalog.KindEventType, func(k store.DocKey, b []byte) error {
		t, err := catalog.EventTypeFromView(b)
		far := slices.Index(near, k.Stream.Site)
		if far < 0 {
			far = len(near)
		}
		if at, there := from[t.Code]; !there || far < at {
			out[t.Code], from[t.Code] = t.Category, far
		}
		return err
	})
	return out, err
}

// eachView calls f with the view of every document of a kind, as last
// materialised.
func (n *Node) eachView(kind string, f func(store.DocKey, []byte) error) error {
	hits, err := n.group.Store().Index(store.IndexQuery{Name: kind})
	if err != nil {
		return err
	}
	for _, h := range hits {
		v, err := n.views.View(h.Key)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if err := f(h.Key, v.JSON); err != nil {
			return err
		}
	}
	return nil
}

// sendUnit claims a unit for an event: for the task of its plan's lead, or else the
// first.
func (n *Node) sendUnit(ctx context.Context, subject dispatch.Subject, d dispatch.Decision, planned []dispatch.Planned) error {
	lead := max(slices.IndexFunc(planned, func(p dispatch.Planned) bool { return p.Brief.Role == dispatch.RoleLead }), 0)
	unit, err := n.unitFor(ctx, subject, d, planned[lead].ID)
	planned[lead].Brief.Unit, planned[lead].Brief.UnitEpoch = unit.id, unit.epoch
	return err
}
