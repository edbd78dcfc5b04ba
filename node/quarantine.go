package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// Quarantined returns what is held under an identifier.
func (n *Node) Quarantined(id tiers.DocID) (store.DocKey, event.QuarantineView, error) {
	k, err := n.find(id, tiers.ClassRoutine)
	if err != nil {
		return k, event.QuarantineView{}, err
	}
	var v event.QuarantineView
	return k, v, n.read(k, &v)
}

// held returns what is held here. Only the site that holds it decides on it: two
// sites that release it while they are apart would make two events of it.
func (n *Node) held(id tiers.DocID) (store.DocKey, event.QuarantineView, error) {
	k, v, err := n.Quarantined(id)
	if err == nil && k.Stream.Site != n.creds.ID.Site {
		err = fmt.Errorf("%w: %s: site %s holds it, and decides on it", ErrNotWriter, id, k.Stream.Site)
	}
	return k, v, err
}

// Release makes an event of what is held in quarantine, with fields set, and returns
// where it stands. What it says is checked as a report is. The error wraps
// [event.ErrInvalid], [event.ErrNotNow] when it was decided on, [ErrNotWriter] or
// what a write returns.
func (n *Node) Release(ctx context.Context, key string, id tiers.DocID, set map[string]string, who string) (replication.Written, error) {
	if done, err := n.group.Earlier(key); err == nil && len(done) == 2 {
		return done[1], nil
	}
	k, v, err := n.held(id)
	if err != nil {
		return replication.Written{}, err
	}
	r, err := n.wouldRelease(v, set)
	if err != nil {
		return replication.Written{}, err
	}
	return n.release(ctx, key, k, v.Held.ID, r, event.QuarantineAction{Who: who, Set: set}, true)
}

// wouldRelease is the report that something held would be released as. The error wraps
// [event.ErrInvalid].
func (n *Node) wouldRelease(v event.QuarantineView, set map[string]string) (event.Report, error) {
	r, err := v.Held.Released(set)
	if err != nil {
		return r, err
	}
	if r, err = n.checked(r, v.Held.ReceivedAtMS); err == nil && !n.knowsType(r.Type) {
		err = event.UnknownType(r.Type)
	}
	return r, err
}

// release writes an event and, with it, the decision on what is held. The event has the
// identifier that the client gave. One of this site that has it already is the event if
// it is of the same content; if not, the new one is renamed, or refused.
func (n *Node) release(ctx context.Context, key string, k store.DocKey, clientID string, r event.Report, decision event.QuarantineAction, rename bool) (replication.Written, error) {
	for range 2 { // another report with the identifier may become an event in between
		w, err := n.releaseOnce(ctx, key, k, clientID, r, decision, rename)
		if !errors.Is(err, ErrExists) {
			return w, err
		}
	}
	return replication.Written{}, fmt.Errorf("%w: %s", ErrBusy, k)
}

func (n *Node) releaseOnce(ctx context.Context, key string, k store.DocKey, clientID string, r event.Report, decision event.QuarantineAction, rename bool) (replication.Written, error) {
	a := event.Action{At: n.group.Clock().Now(), By: n.creds.ID.Site, Kind: event.KindRelease, Note: string(k.Doc)}
	a.Who = decision.Who
	decision.At, decision.By, decision.Kind = a.At, a.By, event.QuarantineRelease
	create := event.CreateOps
	id, err := event.ClientID(clientID)
	if err == nil {
		ek, there, err := n.ownEventNamed(id)
		if err != nil {
			return replication.Written{}, err
		}
		same := false
		if there {
			if same, err = n.sameReport(ek, r); err != nil {
				return replication.Written{}, err
			}
		}
		switch {
		case same:
			decision.Event = id
			_, err := n.writeOne(ctx, key, n.decide(k, decision))
			return replication.Written{Stream: ek.Stream, Doc: id}, err
		case there && !rename:
			return replication.Written{}, event.OtherContent(id)
		case there:
			id = ""
		default:
			create = event.NamedOps
		}
	} else {
		id = ""
	}
	if id == "" {
		u, err := uuid.NewV7FromReader(n.opts.Random)
		if err != nil {
			return replication.Written{}, fmt.Errorf("new event id: %w", err)
		}
		id = tiers.NewDocID(event.Kind, u.String())
	}
	ops, err := create(r, a)
	if err != nil {
		return replication.Written{}, err
	}
	decision.Event = id
	done, err := n.docs.write(ctx, key, n.decide(k, decision), Edit{Key: docKey(k.Stream.Site, event.Class(r.Priority), id), Create: true, Ops: ops})
	if err != nil {
		return replication.Written{}, err
	}
	return done[len(done)-1], nil
}

// Discard notes why what is held is no event; it stays where it is. The error is as
// [Node.Release]'s.
func (n *Node) Discard(ctx context.Context, key string, id tiers.DocID, reason, who string) (replication.Written, error) {
	k, _, err := n.held(id)
	if err != nil {
		return replication.Written{}, err
	}
	return n.writeOne(ctx, key, n.decide(k, event.QuarantineAction{
		At: n.group.Clock().Now(), By: n.creds.ID.Site, Kind: event.QuarantineDiscard, Who: who, Reason: reason,
	}))
}

// decide appends an action to what is held, unless one was made.
func (n *Node) decide(k store.DocKey, a event.QuarantineAction) Edit {
	return Edit{Key: k, Make: func() ([]crdt.Op, error) {
		var v event.QuarantineView
		if err := n.read(k, &v); err != nil {
			return nil, err
		}
		if v.State != event.QuarantineHeld {
			return nil, fmt.Errorf("%w: %s is %s: want one that is held", event.ErrNotNow, k.Doc, v.State)
		}
		op, err := event.QuarantineOp(a)
		return []crdt.Op{op}, err
	}}
}
