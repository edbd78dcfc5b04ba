package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// rootStepsMax bounds how far originals of originals are followed.
const rootStepsMax = 16

// rootOf follows an event to the original that it hangs at, as far as this site
// holds the way.
func (n *Node) rootOf(id tiers.DocID) (store.DocKey, event.View, error) {
	k, v, err := n.Event(id)
	if err != nil {
		return k, v, err
	}
	return n.rootFrom(k, v)
}

func (n *Node) rootFrom(k store.DocKey, v event.View) (store.DocKey, event.View, error) {
	for range rootStepsMax {
		o, merged := v.Original()
		if !merged {
			break
		}
		nk, nv, err := n.otherEvent(o)
		if errors.Is(err, store.ErrNotFound) {
			break
		}
		if err != nil {
			return k, v, err
		}
		k, v = nk, nv
	}
	return k, v, nil
}

// otherEvent returns the event that another one's document tells of.
func (n *Node) otherEvent(o event.Other) (store.DocKey, event.View, error) {
	stream, err := tiers.ParseStream(o.Stream)
	if err != nil { // it was written without
		return n.Event(o.Event)
	}
	k := store.DocKey{Stream: stream, Doc: o.Event}
	v, err := n.eventView(k)
	return k, v, err
}

// MergeEvents says that two events are one: of the originals that they hang at the
// later is merged into the earlier. This site must hold both and may write to both:
// it is above both, or above one and the other's own. It returns the original. The
// error wraps [event.ErrNotNow] when they are one already, or is as
// [Node.ActOnEvent]'s.
func (n *Node) MergeEvents(ctx context.Context, key string, a, b tiers.DocID, note, who string) (tiers.DocID, error) {
	if done, err := n.group.Earlier(key); err == nil && len(done) == 2 {
		return n.nameOf(store.DocKey{Stream: done[0].Stream, Doc: done[0].Doc}), nil
	}
	ka, va, err := n.rootOf(a)
	if err != nil {
		return "", err
	}
	kb, vb, err := n.rootOf(b)
	if err != nil {
		return "", err
	}
	if ka == kb {
		return "", fmt.Errorf("%w: %s and %s are one already: %s", event.ErrNotNow, a, b, ka.Doc)
	}
	if event.Earlier(va.Self(), vb.Self()) > 0 {
		ka, va, kb, vb = kb, vb, ka, va
	}
	for _, v := range []event.View{va, vb} {
		if v.State == event.StateVoid {
			return "", fmt.Errorf("%w: %s is void: reopen it first", event.ErrNotNow, v.ID)
		}
	}
	edits, err := n.mergeEdits(ka, va, kb, vb, note, who)
	if err != nil {
		return "", err
	}
	if _, err := n.docs.write(ctx, key, edits...); err != nil {
		return "", err
	}
	return n.nameOf(ka), nil
}

// nameOf is an event's name: in full if the bare one is ambiguous here.
func (n *Node) nameOf(k store.DocKey) tiers.DocID {
	if _, err := n.eventKeys(k.Doc); errors.Is(err, ErrAmbiguous) {
		return tiers.DocID(k.String())
	}
	return k.Doc
}

// mergeEdits merges kb into ka: what both documents say of it has one time, so that
// both take it and what takes it back in one order.
func (n *Node) mergeEdits(ka store.DocKey, va event.View, kb store.DocKey, vb event.View, note, who string) ([]Edit, error) {
	if err := n.writesBoth(ka, kb); err != nil {
		return nil, err
	}
	original := va.Self()
	original.Reporters, original.Priority = nil, 0
	duplicate := vb.Self()
	a := event.Action{At: n.group.Clock().Now(), By: n.creds.ID.Site, Kind: event.KindMerge, Note: note}
	a.Who = who
	edits, err := pairEdits(ka, kb, a, original, duplicate)
	if err != nil || vb.Report.Priority >= va.Report.Priority {
		return edits, err
	}
	raised, err := n.raisePriority(ka, va, vb.Report.Priority)
	if err != nil {
		return nil, err
	}
	edits[0].Ops = append(edits[0].Ops, raised[0].Ops...)
	return append(edits, raised[1:]...), nil
}

// pairEdits writes an action into both documents of a pair, each about the other.
func pairEdits(ka, kb store.DocKey, a event.Action, original, duplicate event.Other) ([]Edit, error) {
	a.Other = &duplicate
	up, err := event.ActionOp(a)
	if err != nil {
		return nil, err
	}
	a.Other = &original
	down, err := event.ActionOp(a)
	return []Edit{{Key: ka, Ops: []crdt.Op{up}}, {Key: kb, Ops: []crdt.Op{down}}}, err
}

// writesBoth refuses a merge that this site may not write down, and says which can.
func (n *Node) writesBoth(ka, kb store.DocKey) error {
	t, self := n.Topology(), n.creds.ID.Site
	if t.MayWrite(ka.Stream, self) && t.MayWrite(kb.Stream, self) {
		return nil
	}
	return fmt.Errorf("%w: %s and %s, site %s: site %s can", ErrNotWriter, ka.Stream, kb.Stream, self, commonAncestor(t, ka.Stream.Site, kb.Stream.Site))
}

// commonAncestor is the nearest site that is above two, or one of them when it is
// above the other.
func commonAncestor(t *tiers.Topology, a, b tiers.SiteID) tiers.SiteID {
	others := append([]tiers.SiteID{b}, t.Ancestors(b)...)
	for _, s := range append([]tiers.SiteID{a}, t.Ancestors(a)...) {
		if slices.Contains(others, s) {
			return s
		}
	}
	return t.City()
}

// UnmergeEvents says that two events that were merged are not one. The error is as
// [Node.MergeEvents]'s.
func (n *Node) UnmergeEvents(ctx context.Context, key string, a, b tiers.DocID, note, who string) (replication.Written, error) {
	ka, va, err := n.Event(a)
	if err != nil {
		return replication.Written{}, err
	}
	if o, merged := va.Original(); b == "" && merged {
		b = o.Name()
	}
	if done, err := n.group.Earlier(key); err == nil && len(done) == 2 {
		return done[1], nil
	}
	if now, _ := va.MergedWith(b); !now {
		return replication.Written{}, fmt.Errorf("%w: %s is not merged with %.64q: it is with %v", event.ErrNotNow, a, b, append(va.Merged, va.Into))
	}
	kb, vb, err := n.Event(b)
	if err != nil {
		return replication.Written{}, err
	}
	if kb == ka { // one name for two: they are one, and a is its original
		return replication.Written{}, fmt.Errorf("%w: %s: name both in full: %v", ErrAmbiguous, b, append(va.Merged, tiers.DocID(ka.String())))
	}
	if err := n.writesBoth(ka, kb); err != nil {
		return replication.Written{}, err
	}
	self := func(v event.View) event.Other {
		return event.Other{Event: v.ID, Stream: v.Stream, ReportedAtMS: v.Report.ReportedAtMS}
	}
	act := event.Action{At: n.group.Clock().Now(), By: n.creds.ID.Site, Kind: event.KindUnmerge, Note: note}
	act.Who = who
	edits, err := pairEdits(kb, ka, act, self(vb), self(va))
	if err != nil {
		return replication.Written{}, err
	}
	done, err := n.docs.write(ctx, key, edits...)
	if err != nil {
		return replication.Written{}, err
	}
	return done[1], nil
}

// runMerges brings merges to their end while this node leads: events that sites
// merged while they were apart come to hang at one original, and the open tasks of a
// duplicate go on as its original's. The work lists are indexes that are empty
// nearly always.
func (n *Node) runMerges(ctx context.Context, changed <-chan struct{}) error {
	return n.eachTerm(ctx, func(lead context.Context) error {
		if err := n.recall(); err != nil {
			return err
		}
		n.merging.work.Store(mergePasses)
		return passWhile(ctx, lead, changed, nil, func(ctx context.Context) (bool, error) { return false, n.mergePass(ctx) })
	})
}

// merging is what a node keeps in memory of merges.
type merging struct {
	// work is how many passes are to be made yet: none while no event is merged, so that
	// a site without duplicates reads no index for them.
	work atomic.Int32
	// unseen are events that may be certain duplicates of others; nil at a site that
	// leaves those to people.
	unseen chan store.DocKey
	again  []store.DocKey // looked at once; the loop's own
	// named are events whose names clients gave, which others may have; allNamed that
	// more of them are to be looked at than fit.
	named      chan store.DocKey
	allNamed   atomic.Bool
	namedAgain []store.DocKey // looked at once; the loop's own
}

// mergePasses is how many passes follow a merge: the fold that sees it comes before
// its index entries, and a pass may come between.
const mergePasses = 2

// mergePass does what there is to do now. What could not be done yet, since records
// have not come, is tried again with each change.
func (n *Node) mergePass(ctx context.Context) error {
	if err := n.mergeCertain(ctx); err != nil {
		return err
	}
	if err := n.mergeNamesakes(ctx); err != nil {
		return err
	}
	if n.merging.work.Load() <= 0 {
		return nil
	}
	n.merging.work.Add(-1)
	knots, err := n.untie(ctx)
	if err != nil {
		return err
	}
	tasks, err := n.handOver(ctx)
	if knots+tasks > 0 {
		n.merging.work.Store(mergePasses)
	}
	return err
}

// passable reports whether an error is of one document alone, and notes it.
func (n *Node) passable(k store.DocKey, err error) bool {
	return n.passOver(fmt.Sprintf("the merges of %s cannot be brought to an end", k), err) ||
		errors.Is(err, store.ErrNotFound) || errors.Is(err, ErrNotWriter) || errors.Is(err, event.ErrNotNow) || errors.Is(err, ErrAmbiguous)
}

// untie merges what [event.View.Knots] wants.
func (n *Node) untie(ctx context.Context) (found int, err error) {
	hits, err := n.group.Store().Index(store.IndexQuery{Name: event.IndexKnot})
	for _, h := range hits {
		if err := n.untieOne(ctx, h.Key); err != nil && !n.passable(h.Key, err) {
			return len(hits), fmt.Errorf("merges of %s: %w", h.Key, err)
		}
	}
	return len(hits), err
}

// untieOne ends a document's knots, all or none, if this is the nearest site above
// all events in them: one site does it.
func (n *Node) untieOne(ctx context.Context, k store.DocKey) error {
	v, err := n.eventView(k)
	if err != nil {
		return err
	}
	knots := v.Knots()
	if len(knots) == 0 {
		return nil
	}
	first, original, err := n.otherEvent(knots[0].Original)
	if err != nil {
		return err
	}
	at := commonAncestor(n.Topology(), k.Stream.Site, first.Stream.Site)
	var all []knotted
	for _, p := range knots {
		kd, d, err := n.otherEvent(p.Duplicate)
		if err != nil {
			return err
		}
		all = append(all, knotted{kd, d})
		at = commonAncestor(n.Topology(), at, kd.Stream.Site)
	}
	if at != n.creds.ID.Site {
		return nil
	}
	settle := event.Action{At: n.group.Clock().Now(), By: at, Kind: event.KindSettle}
	settle.Other = &event.Other{Event: first.Doc, Stream: first.Stream.String(), ReportedAtMS: original.Report.ReportedAtMS}
	for _, p := range knots {
		settle.Others = append(settle.Others, p.Duplicate.Name())
	}
	op, err := event.ActionOp(settle)
	if err != nil {
		return err
	}
	edits := []Edit{{Key: k, Ops: []crdt.Op{op}}}
	for _, d := range all {
		if _, ever := d.MergedWith(tiers.DocID(first.String())); ever {
			continue // or somebody took them apart
		}
		more, err := n.mergeEdits(first, original, d.key, d.View, "", "")
		if err != nil {
			return err
		}
		edits = append(edits, more...)
	}
	_, err = n.docs.write(ctx, "", joined(edits)...)
	return err
}

// knotted is an event that is to be merged.
type knotted struct {
	key store.DocKey
	event.View
}

// joined makes one edit of those of one document.
func joined(edits []Edit) []Edit {
	at := map[store.DocKey]int{}
	var out []Edit
	for _, e := range edits {
		i, ok := at[e.Key]
		if !ok {
			at[e.Key] = len(out)
			out = append(out, e)
			continue
		}
		if !e.Create {
			out[i].Ops = append(out[i].Ops, e.Ops...)
		}
	}
	return out
}

// handOver takes care of the open tasks of duplicates.
func (n *Node) handOver(ctx context.Context) (found int, err error) {
	hits, err := n.group.Store().Index(store.IndexQuery{Name: event.IndexMerged})
	for _, h := range hits {
		err := n.handOverOne(ctx, h.Key)
		if err != nil && !n.passable(h.Key, err) && !errors.Is(err, dispatch.ErrNotNow) {
			return len(hits), fmt.Errorf("tasks of %s: %w", h.Key, err)
		}
	}
	return len(hits), err
}

// handOverOne merges the open tasks of a duplicate into one of its original's, or
// lets these have them when they have none, if this is the nearest site above both.
func (n *Node) handOverOne(ctx context.Context, k store.DocKey) error {
	v, err := n.eventView(k)
	if err != nil || v.Into == "" {
		return err
	}
	ko, original, err := n.rootFrom(k, v)
	if err != nil {
		return err
	}
	if commonAncestor(n.Topology(), k.Stream.Site, ko.Stream.Site) != n.creds.ID.Site || ko == k {
		return nil
	}
	for _, id := range v.OpenTasks() {
		if err := n.handOverTask(ctx, k, ko, original, id); err != nil {
			return err
		}
	}
	return nil
}

// handOverTask takes care of one task: both documents, and the task's, say so, or
// none of them does.
func (n *Node) handOverTask(ctx context.Context, k, ko store.DocKey, original event.View, id tiers.DocID) error {
	kt, task, err := n.Task(id)
	if err != nil {
		return err
	}
	self, _ := n.Topology().Site(n.creds.ID.Site)
	at := n.group.Clock().Now()
	note := event.Action{At: at, By: self.ID, Kind: event.KindHandOver, Task: id}
	note.Other = &event.Other{Event: ko.Doc, Stream: ko.Stream.String(), ReportedAtMS: original.Report.ReportedAtMS}
	op, err := event.ActionOp(note)
	if err != nil {
		return err
	}
	edits := []Edit{{Key: k, Ops: []crdt.Op{op}}}
	merge := dispatch.Action{Kind: dispatch.ActionMerge, By: self.ID, Tier: self.Tier}
	merge.Task = n.taskFor(task, original)
	if task.Outcome() == dispatch.OutcomeOpen && merge.Task != "" && task.Check(merge) == nil {
		edits = append(edits, Edit{Key: kt, Make: func() ([]crdt.Op, error) { return n.actionOps(kt, merge) }})
	} else if task.Outcome() == dispatch.OutcomeOpen {
		// Nobody works on the original, or this site may not end the task: it goes on as
		// one of the original's.
		op, err := event.ActionOp(event.Action{At: at, By: self.ID, Kind: event.KindDispatch, Task: id, Organ: task.Brief.Organ, Note: "of " + string(k.Doc)})
		if err != nil {
			return err
		}
		edits = append(edits, Edit{Key: ko, Ops: []crdt.Op{op}})
	}
	_, err = n.docs.write(ctx, "", edits...)
	return err
}

// taskFor is the open task of an event that another one is merged into: one of the
// same organ, or else none.
func (n *Node) taskFor(task dispatch.TaskView, original event.View) tiers.DocID {
	for _, id := range original.OpenTasks() {
		_, v, err := n.Task(id)
		if err == nil && v.Outcome() == dispatch.OutcomeOpen && v.Brief.Organ == task.Brief.Organ && id != task.ID {
			return id
		}
	}
	return ""
}
