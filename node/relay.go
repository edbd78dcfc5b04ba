package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// runRelay passes the outcome of each task that this site dispatched on to what it
// is a part of: the task that it was delegated from, or the event. A township never
// receives the event of a task that is delegated to it, so this site, which holds
// both, writes for it. The work list is an index, as that of the dispatcher is.
func (n *Node) runRelay(ctx context.Context, changed <-chan struct{}) error {
	return n.onChange(ctx, changed, nil, func(ctx context.Context) (bool, error) { return false, n.relayPass(ctx) })
}

// relayPass relays what waits now.
func (n *Node) relayPass(ctx context.Context) error {
	hits, err := n.group.Store().Index(store.IndexQuery{
		Name: dispatch.IndexTaskRelay, Prefix: dispatch.IndexPrefix(string(n.creds.ID.Site), false),
	})
	if err != nil {
		return err
	}
	for _, h := range hits {
		if !n.Topology().MayWrite(h.Key.Stream, n.creds.ID.Site) {
			continue // it was dispatched before its site got another parent
		}
		err := n.relayOne(ctx, h.Key)
		switch {
		case errors.Is(err, crdt.ErrUnavailable):
			n.alarms.raise(alarmRelay, h.Key.String(), fmt.Sprintf("the outcome of %s cannot be passed on: %v", h.Key, err))
		case n.passOver(fmt.Sprintf("the outcome of %s cannot be passed on", h.Key), err):
		case err != nil && !errors.Is(err, store.ErrNotFound):
			return fmt.Errorf("relay %s: %w", h.Key, err)
		}
	}
	return nil
}

// relayOne writes a task's outcome into what it is a part of, and that it did, in
// one.
func (n *Node) relayOne(ctx context.Context, k store.DocKey) error {
	var task dispatch.TaskView
	if err := n.read(k, &task); err != nil {
		return err
	}
	outcome := task.Outcome()
	if outcome == cmp.Or(task.Relayed, dispatch.OutcomeOpen) {
		return nil // the index is behind
	}
	self, _ := n.Topology().Site(n.creds.ID.Site)
	relay := func(of tiers.DocID) ([]crdt.Op, error) {
		op, err := dispatch.ActionOp(dispatch.Action{
			At: n.group.Clock().Now(), By: self.ID, Tier: self.Tier, Kind: dispatch.ActionRelay,
			ActionDetails: dispatch.ActionDetails{Task: of, Outcome: outcome},
		})
		return []crdt.Op{op}, err
	}
	edits := []Edit{{Key: k, Make: func() ([]crdt.Op, error) { return relay("") }}}
	if up, ok := n.upstream(task.Brief); ok {
		edits = append(edits, Edit{Key: up, Make: func() ([]crdt.Op, error) {
			if task.Brief.Parent != "" {
				return relay(k.Doc)
			}
			op, err := event.ActionOp(event.Action{
				At: n.group.Clock().Now(), By: self.ID, Kind: event.KindTask, Task: k.Doc, Outcome: outcome,
			})
			return []crdt.Op{op}, err
		}})
	}
	more, err := n.relayOriginal(edits[1:], k.Doc, outcome)
	if err != nil {
		return err
	}
	_, err = n.docs.write(ctx, "", append(edits, more...)...)
	return err
}

// relayOriginal tells the original, too, of a task that a duplicate handed over to it.
func (n *Node) relayOriginal(upstream []Edit, task tiers.DocID, outcome string) ([]Edit, error) {
	if len(upstream) == 0 || upstream[0].Key.Doc.Kind() != event.Kind {
		return nil, nil
	}
	v, err := n.eventView(upstream[0].Key)
	if err != nil {
		return nil, err
	}
	for _, a := range slices.Backward(v.Actions) {
		if a.Kind != event.KindHandOver || a.Task != task || a.Other == nil {
			continue
		}
		k, original, err := n.otherEvent(*a.Other)
		if err != nil || !slices.Contains(original.Tasks, task) || !n.Topology().MayWrite(k.Stream, n.creds.ID.Site) {
			return nil, nil // it is not here, and who holds it sees the task itself
		}
		op, err := event.ActionOp(event.Action{At: n.group.Clock().Now(), By: n.creds.ID.Site, Kind: event.KindTask, Task: task, Outcome: outcome})
		return []Edit{{Key: k, Ops: []crdt.Op{op}}}, err
	}
	return nil, nil
}

// upstream is the document that a task is a part of, if this site holds it and may
// write to it.
func (n *Node) upstream(b dispatch.Brief) (store.DocKey, bool) {
	doc, stream := b.Event, b.Stream
	if b.Parent != "" {
		doc, stream = b.Parent, b.ParentStream
	}
	id, err := tiers.ParseStream(stream)
	k := store.DocKey{Stream: id, Doc: doc}
	if err != nil || !n.Topology().MayWrite(k.Stream, n.creds.ID.Site) {
		return k, false
	}
	_, err = n.group.Store().Heads(k)
	return k, err == nil
}
