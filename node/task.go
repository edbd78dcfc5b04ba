package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// find returns the document of a name in the streams of some classes that this site
// holds; a full name ([tiers.FullName]) says in which. A name that two sites gave to
// two documents is refused: no command acts on one of them by chance. The error wraps
// [store.ErrNotFound], [ErrAmbiguous] or [tiers.ErrInvalidID].
func (n *Node) find(doc tiers.DocID, classes ...tiers.Class) (store.DocKey, error) {
	keys, err := n.keysOf(doc, classes...)
	switch {
	case err != nil:
		return store.DocKey{}, err
	case len(keys) == 0:
		return store.DocKey{}, fmt.Errorf("%w: this site holds no %s", store.ErrNotFound, doc)
	case len(keys) > 1:
		return store.DocKey{}, ambiguous(doc, keys)
	}
	return keys[0], nil
}

// ambiguous is the error of a name that several documents have.
func ambiguous(doc tiers.DocID, keys []store.DocKey) error {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.String()
	}
	return fmt.Errorf("%w: %s: name one of them in full: %s", ErrAmbiguous, doc, strings.Join(names, ", "))
}

// keysOf returns where documents of a name, or the one of a full name, stand: in all
// streams that this site holds, or those of some classes, in stream order. The error
// wraps [tiers.ErrInvalidID].
func (n *Node) keysOf(doc tiers.DocID, classes ...tiers.Class) (out []store.DocKey, err error) {
	stream, local, full, err := doc.Split()
	if err == nil {
		err = local.Validate()
	}
	if err != nil {
		return nil, err
	}
	keys, err := n.group.Store().Named(local)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(keys, func(k store.DocKey) bool {
		return full && k.Stream != stream || len(classes) > 0 && !slices.Contains(classes, k.Stream.Class)
	}), nil
}

// read decodes a document's present view.
func (n *Node) read(k store.DocKey, into any) error {
	v, err := n.views.View(k)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(v.JSON, into); err != nil {
		return fmt.Errorf("view of %s: %w", k, err)
	}
	return nil
}

// Task returns a task's present view.
func (n *Node) Task(id tiers.DocID) (store.DocKey, dispatch.TaskView, error) {
	k, err := n.find(id, tiers.ClassCommand)
	if err != nil {
		return k, dispatch.TaskView{}, err
	}
	var v dispatch.TaskView
	return k, v, n.read(k, &v)
}

// Act makes an action on a task in this site's name, durably, and returns where it
// stands; a key that was used before returns the first one's place. By, Tier and At
// are the node's to set. The error wraps [dispatch.ErrInvalid], [dispatch.ErrNotNow],
// [ErrNotWriter], [ErrNoStream] or what a write returns.
func (n *Node) Act(ctx context.Context, key string, id tiers.DocID, a dispatch.Action) (replication.Written, error) {
	k, err := n.find(id, tiers.ClassCommand)
	if err != nil {
		return replication.Written{}, err
	}
	t, self := n.Topology(), n.creds.ID.Site
	if !t.MayWrite(k.Stream, self) {
		return replication.Written{}, fmt.Errorf("%w: %s, site %s", ErrNotWriter, k.Stream, self)
	}
	if site, ok := t.Site(self); ok {
		a.By, a.Tier, a.ToTier, a.Outcome = self, site.Tier, 0, ""
	}
	if a.Kind == dispatch.ActionRelay || a.Task != "" && a.Kind != dispatch.ActionMerge {
		return replication.Written{}, fmt.Errorf("%w: action %s with task %q is the node's own", dispatch.ErrInvalid, a.Kind, a.Task)
	}
	child, err := n.addressee(t, k.Stream, &a)
	if err != nil {
		return replication.Written{}, err
	}
	if a.Kind == dispatch.ActionMerge {
		if err := n.mergeable(id, a.Task); err != nil {
			return replication.Written{}, err
		}
	}
	edits := []Edit{{Key: k, Make: func() ([]crdt.Op, error) { return n.actionOps(k, a) }}}
	if child {
		e, err := n.childOf(k, key, &a)
		if err != nil {
			return replication.Written{}, err
		}
		edits = append(edits, e)
	}
	done, err := n.docs.write(ctx, key, edits...)
	if err != nil {
		return replication.Written{}, err
	}
	return done[0], nil
}

// addressee notes the tier of the site that an action is addressed to, and reports
// whether it needs a task of its own there, since it may not hold this one.
func (n *Node) addressee(t *tiers.Topology, stream tiers.StreamID, a *dispatch.Action) (child bool, err error) {
	if a.To == "" {
		return false, nil
	}
	to, ok := t.Site(a.To)
	may := []string{}
	for _, id := range t.Audience(stream) {
		may = append(may, string(id))
	}
	if ok && t.InAudience(stream, a.To) {
		a.ToTier = to.Tier
		return false, nil
	}
	if ok && a.Kind == dispatch.ActionDelegate && t.IsAncestor(a.By, a.To) && !to.Retired {
		a.ToTier = to.Tier
		return true, nil
	}
	return false, fmt.Errorf("%w: to %.64q: %s of a task of %s goes to one of %s, or a delegation to a site below this one",
		ErrNoStream, a.To, a.Kind, stream.Site, strings.Join(may, ", "))
}

// actionOps checks an action on the task as it is now. It is called with the task's
// writers held back.
func (n *Node) actionOps(k store.DocKey, a dispatch.Action) ([]crdt.Op, error) {
	var v dispatch.TaskView
	if err := n.read(k, &v); err != nil {
		return nil, err
	}
	a.At = n.group.Clock().Now()
	if err := v.Check(a); err != nil {
		return nil, fmt.Errorf("%s is %s: %w", k.Doc, v.State, err)
	}
	op, err := dispatch.ActionOp(a)
	return []crdt.Op{op}, err
}

// mergeable checks the task that another one merges into.
func (n *Node) mergeable(id, into tiers.DocID) error {
	if id == into {
		return fmt.Errorf("%w: task %s: a task does not merge into itself", dispatch.ErrInvalid, into)
	}
	_, v, err := n.Task(into)
	if err != nil {
		return fmt.Errorf("merge into %s: %w", into, err)
	}
	if out := v.Outcome(); out != dispatch.OutcomeOpen {
		return fmt.Errorf("%w: merge into %s: it is %s: want one that is open", dispatch.ErrNotNow, into, v.State)
	}
	return nil
}

// childOf makes the task that a delegation gives to a site which does not hold its
// parent: it carries the brief.
func (n *Node) childOf(k store.DocKey, key string, a *dispatch.Action) (Edit, error) {
	var v dispatch.TaskView
	if err := n.read(k, &v); err != nil {
		return Edit{}, err
	}
	b := v.Brief
	b.BriefOrigin = dispatch.BriefOrigin{
		By: a.By, ByTier: a.Tier, Parent: k.Doc, ParentStream: k.Stream.String(), Step: b.Step, Role: b.Role, Calendar: b.Calendar, Versions: b.Versions,
	}
	b.DispatchedAtMS = n.group.Clock().Now().Millis()
	if a.Organ != "" {
		b.Organ = a.Organ
	}
	if a.Limit != nil {
		if err := a.Limit.Validate(); err != nil {
			return Edit{}, err
		}
		b.Limit = *a.Limit
	}
	n.dispatchMode(a.To).Enter(&b)
	ops, err := dispatch.TaskOps(b)
	a.Task = dispatch.ChildTaskID(k.Doc, a.To, key)
	return Edit{Key: docKey(a.To, tiers.ClassCommand, a.Task), Create: true, Ops: ops}, err
}

// Start is what an event is to be fanned out into: a plan, or one organ with a
// limit.
type Start struct {
	Plan  string
	Title string
	Organ string
	Limit dispatch.Limit
	// To is the site that the tasks are offered to; empty for this one.
	To tiers.SiteID
}

// StartTasks fans an event out into tasks, all or none, and returns their
// identifiers. The error wraps what [Node.Act]'s does.
func (n *Node) StartTasks(ctx context.Context, key string, id tiers.DocID, s Start) ([]tiers.DocID, error) {
	k, ev, err := n.Event(id)
	if err != nil {
		return nil, err
	}
	t, self := n.Topology(), n.creds.ID.Site
	if s.To == "" {
		s.To = self
	}
	if !t.MayWrite(k.Stream, self) {
		return nil, fmt.Errorf("%w: %s, site %s", ErrNotWriter, k.Stream, self)
	}
	if s.To != self && !t.IsAncestor(self, s.To) {
		return nil, fmt.Errorf("%w: to %.64q: want %s or a site below it", ErrNoStream, s.To, self)
	}
	planned, err := n.planTasks(s, key, ev.Name(), dispatch.Brief{
		Event: k.Doc, Stream: k.Stream.String(), Title: ev.Report.Title, Type: ev.Report.Type, Place: ev.Report.Place, Priority: ev.Report.Priority,
	})
	if err != nil {
		return nil, err
	}
	var ids []tiers.DocID
	edits := []Edit{{Key: k, Make: func() ([]crdt.Op, error) { return n.fanOutOps(k, planned) }}}
	for _, p := range planned {
		ops, err := dispatch.TaskOps(p.Brief)
		if err != nil {
			return nil, err
		}
		ids = append(ids, p.ID)
		edits = append(edits, Edit{Key: docKey(s.To, tiers.ClassCommand, p.ID), Create: true, Ops: ops})
	}
	_, err = n.docs.write(ctx, key, edits...)
	return ids, err
}

// planTasks returns the tasks to start of the event of a name, with their origin and calendar.
func (n *Node) planTasks(s Start, key string, name tiers.DocID, b dispatch.Brief) ([]dispatch.Planned, error) {
	self, _ := n.Topology().Site(n.creds.ID.Site)
	b.By, b.ByTier = self.ID, self.Tier
	b.DispatchedAtMS = n.group.Clock().Now().Millis()
	var planned []dispatch.Planned
	if s.Plan != "" {
		p, err := n.responsePlan(s.Plan)
		if err != nil {
			return nil, err
		}
		planned = dispatch.FanOut(p, b, name)
	} else {
		if err := errors.Join(s.Limit.Validate(), dispatch.CheckOrgan(s.Organ)); err != nil {
			return nil, err
		}
		b.Organ, b.Limit = s.Organ, s.Limit
		planned = []dispatch.Planned{{ID: dispatch.ManualTaskID(name, key), Brief: b}}
	}
	mode := n.dispatchMode(s.To)
	for i := range planned {
		mode.Enter(&planned[i].Brief)
		if s.Title != "" {
			planned[i].Brief.Title = s.Title
		}
	}
	return planned, n.timed(planned, s.Plan)
}

// timed gives tasks their calendars, and the versions of what they are made from.
func (n *Node) timed(planned []dispatch.Planned, plan string) error {
	for i := range planned {
		b := &planned[i].Brief
		c, err := n.calendarFor(b.Limit, b.DispatchedAtMS)
		if err != nil {
			return err
		}
		b.Calendar = c
		versions := map[string]string{}
		maps.Copy(versions, b.Versions)
		add := func(key, name, code string) {
			if u := n.usedVersion(name, code); u != "" {
				versions[key] = string(u)
			}
		}
		add(dispatch.UsedType, catalog.Types, b.Type)
		add(dispatch.UsedPlan, catalog.Plans, plan)
		if c != nil {
			add(dispatch.UsedCalendar, catalog.Calendars, c.Code)
		}
		if b.Versions = versions; len(versions) == 0 {
			b.Versions = nil
		}
	}
	return nil
}

// fanOutOps notes the tasks in the event, unless it is over.
func (n *Node) fanOutOps(k store.DocKey, planned []dispatch.Planned) (ops []crdt.Op, err error) {
	var ev event.View
	if err := n.read(k, &ev); err != nil {
		return nil, err
	}
	if ev.State == event.StateClosed || ev.State == event.StateVoid || ev.State == event.StateMerged {
		return nil, fmt.Errorf("%w: %s is %s: reopen it first, or go on with its original", dispatch.ErrNotNow, k.Doc, ev.State)
	}
	for _, p := range planned {
		op, err := event.ActionOp(event.Action{
			At: n.group.Clock().Now(), By: n.creds.ID.Site, Kind: event.KindDispatch, Task: p.ID, Organ: p.Brief.Organ, Note: p.Brief.Plan, Mode: p.Brief.Mode,
		})
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// fannedOut returns the tasks that a rule's decision makes of the event of a name for a site:
// those of its plan, or the one that the brief is of. A plan that is not in force
// leaves the one, with an alarm, so that the event is not left without any.
func (n *Node) fannedOut(to tiers.SiteID, name tiers.DocID, mode dispatch.SubjectMode, b dispatch.Brief) ([]dispatch.Planned, error) {
	if self, _ := n.Topology().Site(n.creds.ID.Site); to != self.ID {
		b.By, b.ByTier = self.ID, self.Tier
	}
	planned, plan := []dispatch.Planned{{ID: dispatch.TaskID(name), Brief: b}}, ""
	if b.Plan != "" {
		p, err := n.responsePlan(b.Plan)
		switch {
		case errors.Is(err, store.ErrNotFound) || errors.Is(err, dispatch.ErrInvalid) || errors.Is(err, tiers.ErrInvalidID):
			n.alarms.raise(alarmPlan, b.Plan, fmt.Sprintf("rule %s names plan %.64q, which is not in force: %v", b.Rule, b.Plan, err))
		case err != nil:
			return nil, err
		default:
			planned, plan = dispatch.FanOut(p, b, name), p.Code
		}
	}
	for i := range planned {
		mode.Enter(&planned[i].Brief)
	}
	return planned, n.timed(planned, plan)
}

// inForce calls f with the views of a catalog document's name in this site's
// catalog and its ancestors', the nearest first, until f reports that it has it.
func (n *Node) inForce(doc tiers.DocID, f func(json []byte) error) (found bool, err error) {
	self := n.creds.ID.Site
	for _, site := range append([]tiers.SiteID{self}, n.Topology().Ancestors(self)...) {
		v, err := n.views.View(docKey(site, tiers.ClassCatalog, doc))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		if e, err := catalog.EntryFromView(v.JSON); err != nil || e.Retired() {
			return false, err
		}
		err = f(v.JSON)
		return err == nil, err
	}
	return false, nil
}

// responsePlan returns the plan in force with a code.
func (n *Node) responsePlan(code string) (p dispatch.Plan, err error) {
	doc := tiers.NewDocID(dispatch.KindPlan, code)
	if err := doc.Validate(); err != nil {
		return p, err
	}
	found, err := n.inForce(doc, func(b []byte) (err error) { p, err = dispatch.PlanFromView(b); return err })
	if err == nil && !found {
		err = fmt.Errorf("%w: plan %s: this site's catalog and those above it have none of that code", store.ErrNotFound, code)
	}
	return p, err
}

// calendarFor returns the part of the calendar in force that a limit needs; nil
// when it needs none, or no calendar was published.
func (n *Node) calendarFor(l dispatch.Limit, startMS int64) (out *dispatch.Calendar, err error) {
	if l.Unit == dispatch.UnitUrgentHour {
		return nil, nil
	}
	_, err = n.inForce(tiers.NewDocID(dispatch.KindCalendar, dispatch.DefaultCalendar().Code), func(b []byte) error {
		c, err := dispatch.CalendarFromView(b)
		if err != nil { // two good edits of its fields may not go together
			n.alarms.raise(alarmCalendar, "", fmt.Sprintf("the calendar is unusable, limits are counted by the built-in one: %v", err))
			return nil
		}
		out = c.Around(startMS)
		return nil
	})
	return out, err
}
