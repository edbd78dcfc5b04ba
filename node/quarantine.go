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
	r, err := v.Held.Released(set)
	if err != nil {
		return replication.Written{}, err
	}
	if r.ReportedAtMS == 0 {
		r.ReportedAtMS = v.Held.ReceivedAtMS
	}
	if err := r.Validate(n.opts.Now()); err != nil {
		return replication.Written{}, err
	}
	if !n.knowsType(r.Type) {
		return replication.Written{}, event.UnknownType(r.Type)
	}
	doc, err := n.releasedID(v.Held)
	if err != nil {
		return replication.Written{}, err
	}
	at := n.group.Clock().Now()
	a := event.Action{At: at, By: n.creds.ID.Site, Kind: event.KindRelease, Note: string(id)}
	a.Who = who
	ops, err := event.CreateOps(r, a)
	if err != nil {
		return replication.Written{}, err
	}
	done, err := n.docs.write(ctx, key, n.decide(k, event.QuarantineAction{
		At: at, By: n.creds.ID.Site, Kind: event.QuarantineRelease, Who: who, Event: doc, Set: set,
	}), Edit{Key: docKey(k.Stream.Site, event.Class(r.Priority), doc), Create: true, Ops: ops})
	if err != nil {
		return replication.Written{}, err
	}
	return done[1], nil
}

// releasedID is the identifier that the client gave, if no event has it, or a new
// one.
func (n *Node) releasedID(h event.Held) (tiers.DocID, error) {
	if id, err := event.ClientID(h.ID); err == nil {
		free := true
		for _, c := range []tiers.Class{tiers.ClassUrgent, tiers.ClassRoutine} {
			if _, err := n.group.Store().Changes(docKey(n.creds.ID.Site, c, id)); !errors.Is(err, store.ErrNotFound) {
				free = false
			}
		}
		if free {
			return id, nil
		}
	}
	id, err := uuid.NewV7FromReader(n.opts.Random)
	if err != nil {
		return "", fmt.Errorf("new event id: %w", err)
	}
	return tiers.NewDocID(event.Kind, id.String()), nil
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
