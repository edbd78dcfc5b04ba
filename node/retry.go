package node

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// heldBefore finds what is in quarantine here of something that comes in again: what an
// earlier write with its key made, or what is held of its origin, also when its bytes
// are others now. It looks at what the state machine says, no index.
func (n *Node) heldBefore(in Incoming) (k store.DocKey, v event.QuarantineView, found bool, err error) {
	if in.Place != "" {
		k = docKey(n.creds.ID.Site, tiers.ClassRoutine, in.heldID(""))
		if k, v, found, err = n.readIfHeld(k); found || err != nil {
			return k, v, found, err
		}
		in.Place, in.Key = "", in.byContent // as builds before held it
	}
	raw := in.Raw
	if in.ID != "" { // then its key is of the bytes
		if raw, err = rawOf(in); err != nil {
			return k, v, false, nil //nolint:nilerr // what cannot be kept was not
		}
	}
	done, err := n.group.Earlier(holdKey(in, raw))
	switch {
	case err != nil:
		return k, v, false, err
	case len(done) == 1 && done[0].Doc.Kind() == event.KindQuarantine:
		return n.readHeld(store.DocKey{Stream: done[0].Stream, Doc: done[0].Doc})
	case len(done) > 0: // it is an event
		return k, v, false, nil
	}
	if in.Origin.None() {
		return k, v, false, nil
	}
	for _, own := range slices.Compact([]string{in.Report.SourceKey, ""}) {
		k = docKey(n.creds.ID.Site, tiers.ClassRoutine, heldID(in.Origin, own))
		if k, v, found, err = n.readIfHeld(k); found || err != nil {
			return k, v, found, err
		}
	}
	return k, v, false, nil
}

// readIfHeld reads what is held in a document, if it is there.
func (n *Node) readIfHeld(k store.DocKey) (store.DocKey, event.QuarantineView, bool, error) {
	if _, err := n.group.Store().Changes(k); errors.Is(err, store.ErrNotFound) {
		return k, event.QuarantineView{}, false, nil
	} else if err != nil {
		return k, event.QuarantineView{}, false, err
	}
	return n.readHeld(k)
}

func (n *Node) readHeld(k store.DocKey) (store.DocKey, event.QuarantineView, bool, error) {
	var v event.QuarantineView
	err := n.read(k, &v)
	return k, v, err == nil, err
}

// takeInAgain is what becomes of something that is in quarantine and comes again: err
// is what is wrong with it now.
func (n *Node) takeInAgain(ctx context.Context, in Incoming, r event.Report, err error, k store.DocKey, v event.QuarantineView) (TakenIn, error) {
	if v.State == event.QuarantineHeld && err == nil {
		done, lerr := n.letIn(ctx, k, in.ID, r, "it came again")
		switch {
		case errors.Is(lerr, event.ErrNotNow): // decided in between
			if _, v, _, err = n.readHeld(k); err != nil {
				return TakenIn{}, err
			}
		case lerr == nil || !errors.Is(lerr, event.ErrInvalid):
			return done, lerr
		default:
			err = lerr
		}
	}
	here := TakenIn{Written: replication.Written{Stream: k.Stream, Doc: k.Doc}, Again: true}
	switch v.State {
	case event.QuarantineReleased:
		here.Written = n.releasedAs(v)
		return here, nil
	case event.QuarantineDiscarded:
		here.Note = discardedNote(v)
		return here, nil
	}
	if err == nil || !errors.Is(err, event.ErrInvalid) {
		return TakenIn{}, err
	}
	here.Held, here.Field = err.Error(), event.FieldOf(err)
	return here, n.holdAgain(ctx, in, k, v, err)
}

// releasedAs is where the event stands that something was released as.
func (n *Node) releasedAs(v event.QuarantineView) replication.Written {
	w := replication.Written{Doc: v.Event, Stream: tiers.StreamID{Site: v.Site, Class: tiers.ClassRoutine}}
	if k, there, err := n.ownEventNamed(v.Event); err == nil && there {
		w.Stream = k.Stream
	}
	return w
}

// holdAgain notes that what is held came again with other bytes, or that another
// reason keeps it from being an event now.
func (n *Node) holdAgain(ctx context.Context, in Incoming, k store.DocKey, v event.QuarantineView, why error) error {
	h, err := n.heldOf(in, why)
	if err != nil {
		return err
	}
	if bytes.Equal(h.Content(), v.Held.Content()) && h.Reason == v.Held.Reason {
		return nil
	}
	op, err := event.HoldAgainOp(h)
	if err != nil {
		return err
	}
	_, err = n.docs.write(ctx, "", Edit{Key: k, Ops: []crdt.Op{op}})
	return err
}

// letIn makes an event of what is held, without a person: the event and the decision
// are one write, whoever is first. A report whose identifier an event of this site has
// is that event if it is of the same content, and stays held if it is not.
func (n *Node) letIn(ctx context.Context, k store.DocKey, clientID string, r event.Report, why string) (TakenIn, error) {
	w, err := n.release(ctx, "retry:"+k.String(), k, clientID, r, event.QuarantineAction{Reason: why}, false)
	return TakenIn{Written: w}, err
}
