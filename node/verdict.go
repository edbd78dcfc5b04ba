package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// stallTicks returns after how many ticks without progress a session ends: 30 s
// at the default tick, and up to half as much again, so that links that stalled
// together are not reset together.
func stallTicks() int { return 300 + rand.IntN(150) } //nolint:gosec // spreading load, not a secret

// progress notes what a message shows: that the peer took something in, or that
// both ends have compared.
func (d *linkDriver) progress(m wire.Message) {
	if _, ack := m.(*wire.Ack); ack {
		d.n.links.moved(d.peer)
	}
	if d.talk.compared != nil && d.session.Compared() {
		d.talk.compared()
		d.talk.compared = nil
	}
}

// stored answers the session's range: durable, contradicted by what the store
// holds, or not stored.
func (d *linkDriver) stored(r ingested) {
	if errors.Is(r.err, store.ErrFork) {
		d.session.Contradicted(r.r)
		return
	}
	d.session.Ingested(r.r, r.err)
	if r.err == nil {
		d.n.links.moved(d.peer)
	}
}

// refused counts what the session did not take.
func (d *linkDriver) refused(r federation.Ready) {
	why := "what it sent is not for this site by the topology here"
	if r.Close != nil {
		why = r.Close.Reason
	}
	for _, code := range r.Refusals {
		text := why
		if code == wire.CodeChain && r.Close == nil {
			text = "it holds other records of a chain"
		}
		d.n.links.refusals.note(d.peer, code, text)
	}
}

// goodbye closes the link; where the goodbye says more than a code, the peer gets
// to read it.
func (d *linkDriver) goodbye(ctx context.Context, bye *wire.Bye) {
	d.talk.closing.Store(true)
	if bye.Redirect != nil || bye.RetryAfterMS > 0 {
		d.n.links.farewell(ctx, d.link, bye)
		return
	}
	d.close(bye.Code, bye.Reason)
}

// broken counts a link that the transport ended because the peer did not keep to the
// protocol; what the session closes is counted there.
func (d *linkDriver) broken(err error) {
	var closed *transport.ClosedError
	if d.talk.closing.Load() || !errors.As(err, &closed) || closed.Remote {
		return
	}
	if closed.Code == wire.CodeProtocol || closed.Code == wire.CodeStalled {
		d.n.links.refusals.note(d.peer, closed.Code, closed.Reason)
	}
}

// put hands a message to a lane. When the lane's queue is full the session waits,
// but no longer than a stall takes: a peer that reads nothing is let go.
func (d *linkDriver) put(ctx context.Context, lane tiers.Lane, m wire.Message) error {
	select {
	case d.lanes[lane] <- m:
		return nil
	default:
	}
	limit := time.NewTimer(time.Duration(stallTicks()) * d.n.opts.Tick)
	defer limit.Stop()
	tick := time.NewTicker(d.n.opts.Tick)
	defer tick.Stop()
	for {
		select {
		case d.lanes[lane] <- m:
			return nil
		case <-tick.C:
			d.link.Watch(true) // the loop does not, while it waits here
		case <-limit.C:
			bye := &wire.Bye{Code: wire.CodeStalled, Reason: fmt.Sprintf("nothing of lane %d was read", lane)}
			d.n.alarms.raiseOf(d.peer, fmt.Sprintf("link to %s: %s", d.peer, bye.Reason))
			d.goodbye(ctx, bye)
			return &transport.ClosedError{Code: bye.Code, Reason: bye.Reason}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// startIngest hands a range to the site's Raft and returns how to wait for the
// outcome. What the site holds already is compared instead, so that no peer can
// make the site write by sending it what it has.
func (n *Node) startIngest(ctx context.Context, r federation.Range) (wait func() (fresh int, err error)) {
	if end := r.Checkpoint.Head; r.Known {
		switch mine, err := n.group.Store().HashAt(r.Chain, end.Seq); {
		case err == nil && mine == end.Hash:
			return func() (int, error) { return 0, nil }
		case err == nil:
			return func() (int, error) {
				return 0, fmt.Errorf("%w: %s differs at or before %d", store.ErrFork, r.Chain, end.Seq)
			}
		case !errors.Is(err, store.ErrNotFound): // else it is on its way into the store
			return func() (int, error) { return 0, err }
		}
	}
	return n.group.StartIngest(ctx, store.Range{Chain: r.Chain, First: r.First, Records: r.Records, Checkpoint: r.Checkpoint})
}
