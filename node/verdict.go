package node

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers/federation"
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
	if bye.Redirect != nil || bye.RetryAfterMS > 0 {
		d.n.links.farewell(ctx, d.link, bye)
		return
	}
	d.close(bye.Code, bye.Reason)
}
