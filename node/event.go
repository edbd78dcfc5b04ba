package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// Event returns the present view of the event of a name. Several that have the name
// and are one, see [Node.mergeNamesakes], are their original; the error wraps
// [ErrAmbiguous] when they are not one.
func (n *Node) Event(id tiers.DocID) (store.DocKey, event.View, error) {
	keys, err := n.eventKeys(id)
	if err != nil {
		return store.DocKey{}, event.View{}, err
	}
	v, err := n.eventView(keys[0])
	return keys[0], v, err
}

// eventKeys returns where the one event of a name stands: its original's first, then
// that of duplicates with the same name.
func (n *Node) eventKeys(id tiers.DocID) ([]store.DocKey, error) {
	keys, err := n.keysOf(id, tiers.ClassUrgent, tiers.ClassRoutine)
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, fmt.Errorf("%w: this site holds no %s", store.ErrNotFound, id)
	case len(keys) == 1:
		return keys, nil
	}
	first := -1
	for i, k := range keys {
		v, err := n.eventView(k)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if into, merged := v.Original(); merged && into.Event == id.Local() {
			continue
		}
		if first >= 0 {
			return nil, ambiguous(id, keys)
		}
		first = i
	}
	if first < 0 {
		return nil, ambiguous(id, keys)
	}
	keys[0], keys[first] = keys[first], keys[0]
	return keys, nil
}

// eventView returns an event's present view. The error wraps [store.ErrNotFound] also
// while the site holds of an event only what follows its report.
func (n *Node) eventView(k store.DocKey) (event.View, error) {
	var v event.View
	if err := n.read(k, &v); err != nil {
		return v, err
	}
	if v.Report.Type == "" && v.Pending > 0 { // what others did to it came before it
		return v, fmt.Errorf("%w: the report of %s has not come here yet", store.ErrNotFound, k.Doc)
	}
	v.Derive()
	return v, nil
}

// ownEvent returns an event that this site may write to.
func (n *Node) ownEvent(id tiers.DocID) (store.DocKey, event.View, error) {
	k, v, err := n.Event(id)
	if err == nil && !n.Topology().MayWrite(k.Stream, n.creds.ID.Site) {
		err = fmt.Errorf("%w: %s, site %s", ErrNotWriter, k.Stream, n.creds.ID.Site)
	}
	return k, v, err
}

// ActOnEvent makes an action on an event in this site's name, durably, and returns
// where it stands; a key that was used before returns the first one's place. By and
// At are the node's to set. The error wraps [event.ErrInvalid], [event.ErrNotNow],
// [ErrNotWriter] or what a write returns.
func (n *Node) ActOnEvent(ctx context.Context, key string, id tiers.DocID, a event.Action) (replication.Written, error) {
	k, _, err := n.ownEvent(id)
	if err != nil {
		return replication.Written{}, err
	}
	a.By = n.creds.ID.Site
	return n.writeOne(ctx, key, Edit{Key: k, Make: func() ([]crdt.Op, error) {
		v, err := n.eventView(k)
		if err != nil {
			return nil, err
		}
		if err := v.Check(a); err != nil {
			return nil, fmt.Errorf("%s is %s: %w", k.Doc, v.State, err)
		}
		a.At = n.group.Clock().Now()
		op, err := event.ActionOp(a)
		return []crdt.Op{op}, err
	}})
}

// writeOne writes one document.
func (n *Node) writeOne(ctx context.Context, key string, e Edit) (replication.Written, error) {
	done, err := n.docs.write(ctx, key, e)
	if err != nil {
		return replication.Written{}, err
	}
	return done[0], nil
}

// CorrectEvent corrects fields of an event's report, all or none. Its priority can
// only be raised; the event keeps its stream, and when it becomes urgent an alert in
// the urgent stream of its site tells of it. The error is as [Node.ActOnEvent]'s.
func (n *Node) CorrectEvent(ctx context.Context, key string, id tiers.DocID, fields map[string]string) (replication.Written, error) {
	k, v, err := n.ownEvent(id)
	if err != nil {
		return replication.Written{}, err
	}
	if len(fields) == 0 {
		return replication.Written{}, fmt.Errorf("%w: fields: none to correct", event.ErrInvalid)
	}
	var ops []crdt.Op
	edits := []Edit{{Key: k}}
	for _, name := range sortedKeys(fields) {
		if name == "priority" {
			raised, err := n.raiseEdits(k, v, fields[name])
			if err != nil {
				return replication.Written{}, err
			}
			ops, edits = append(ops, raised[0].Ops...), append(edits, raised[1:]...)
			continue
		}
		op, err := event.CorrectOp(name, fields[name])
		if err != nil {
			return replication.Written{}, err
		}
		if name == "type" && !n.knowsType(fields[name]) {
			return replication.Written{}, event.UnknownType(fields[name])
		}
		ops = append(ops, op)
	}
	edits[0].Ops = ops
	done, err := n.docs.write(ctx, key, edits...)
	if err != nil {
		return replication.Written{}, err
	}
	return done[0], nil
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// raiseEdits raises an event's priority: the first edit is the event's own, the
// second, if any, makes the alert.
func (n *Node) raiseEdits(k store.DocKey, v event.View, text string) ([]Edit, error) {
	to, err := strconv.Atoi(text)
	if err != nil || to < 1 || to > 4 {
		return nil, fmt.Errorf("%w: priority %.40q: want 1 (highest) to 4", event.ErrInvalid, text)
	}
	if to >= v.Report.Priority {
		return nil, fmt.Errorf("%w: priority %d: it is %d, and can only be raised to a lower number", event.ErrNotNow, to, v.Report.Priority)
	}
	return n.raisePriority(k, v, to)
}

// raisePriority returns the edits of [Node.raiseEdits] for a priority that is higher
// than the event's.
func (n *Node) raisePriority(k store.DocKey, v event.View, to int) ([]Edit, error) {
	a := event.Action{At: n.group.Clock().Now(), By: n.creds.ID.Site, Kind: event.KindRaise}
	a.Priority = to
	var edits []Edit
	if event.Class(to) == tiers.ClassUrgent && k.Stream.Class == tiers.ClassRoutine {
		alert := raiseAlertID(v.Name())
		a.Other = &event.Other{Event: alert, Stream: tiers.StreamID{Site: k.Stream.Site, Class: tiers.ClassUrgent}.String()}
		if e, need, err := n.alertEdit(k, v, to, alert); err != nil {
			return nil, err
		} else if need {
			edits = append(edits, e)
		}
	}
	op, err := event.ActionOp(a)
	return append([]Edit{{Key: k, Ops: []crdt.Op{op}}}, edits...), err
}

// raiseAlertID is the alert of an event that became urgent: one, by however many
// sites it is raised while they are apart.
func raiseAlertID(id tiers.DocID) tiers.DocID {
	h := sha256.Sum256([]byte("tiermesh raise v1\x00" + string(id)))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return tiers.NewDocID(event.Kind, fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16]))
}

// alertEdit makes the alert of an event that became urgent: an event in the urgent
// stream that is merged into it from the beginning, so that nobody dispatches it.
func (n *Node) alertEdit(k store.DocKey, v event.View, to int, alert tiers.DocID) (e Edit, need bool, err error) {
	at := docKey(k.Stream.Site, tiers.ClassUrgent, alert)
	if _, err := n.group.Store().Heads(at); err == nil {
		return Edit{}, false, nil
	}
	r := v.Report
	r.SourceKey, r.Channel, r.Reporter, r.Priority = "raise:"+k.Doc.Name(), "raise", "", to
	r.ReportedAtMS = max(n.opts.Now().UnixMilli(), v.Report.ReportedAtMS+1)
	a := event.Action{At: n.group.Clock().Now(), By: n.creds.ID.Site, Kind: event.KindMerge}
	a.Other = &event.Other{Event: k.Doc, Stream: k.Stream.String(), ReportedAtMS: v.Report.ReportedAtMS}
	ops, err := event.CreateOps(r, a)
	return Edit{Key: at, Create: true, Ops: ops}, true, err
}
