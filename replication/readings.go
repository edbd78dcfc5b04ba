package replication

import (
	"context"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// readingsCommand appends a batch of readings to the site's own stream.
type readingsCommand struct {
	Time  uint64 `cbor:"1,keyasint"`
	Batch []byte `cbor:"2,keyasint"`
}

// thinCommand is a [store.Thin].
type thinCommand struct {
	Site     tiers.SiteID `cbor:"1,keyasint"`
	Code     string       `cbor:"2,keyasint"`
	Readings uint32       `cbor:"3,keyasint,omitempty"`
	Minutes  uint32       `cbor:"4,keyasint,omitempty"`
	// Min, Max and Not say which numbers are values; earlier builds leave them out.
	Min *float64  `cbor:"5,keyasint,omitempty"`
	Max *float64  `cbor:"6,keyasint,omitempty"`
	Not []float64 `cbor:"7,keyasint,omitempty"`
}

func thinOf(t store.Thin) *thinCommand {
	return &thinCommand{Site: t.Site, Code: t.Code, Readings: t.Readings, Minutes: t.Minutes, Min: t.Values.Min, Max: t.Values.Max, Not: t.Values.Not}
}

func (c *thinCommand) thin() store.Thin {
	t := store.Thin{Site: c.Site, Code: c.Code, Readings: c.Readings, Minutes: c.Minutes}
	t.Values.Min, t.Values.Max, t.Values.Not = c.Min, c.Max, c.Not
	return t
}

// alone reports whether the command needs a Tx, and so an entry, of its own.
func (c command) alone() bool { return c.Aside != nil || c.Thin != nil || c.Compare != nil }

// AppendReadings writes a batch of readings, as package crdt/reading encodes it, to
// the site's own stream of class reading, and returns when it is durable and
// applied. A key that was used before returns the first result and writes nothing.
// A reading that is written at a later time wins over one for the same time of the
// same series. The error wraps [ErrNotLeader], [ErrUnknown] or [store.ErrBadChange].
func (g *Group) AppendReadings(ctx context.Context, key string, at crdt.HybridTime, batch []byte) (Written, error) {
	o, err := g.propose(ctx, command{Key: key, Readings: &readingsCommand{Time: uint64(at), Batch: batch}})
	if err != nil || len(o.Placed) == 0 {
		return Written{}, err
	}
	return o.written()[0], nil
}

// Thin drops readings that are older than an indicator's limits and keeps their
// rollups; see [store.Tx.Thin]. It returns how many hours it worked on; call it
// again until that is 0. The error wraps [ErrNotLeader] or [ErrUnknown].
func (g *Group) Thin(ctx context.Context, t store.Thin) (int, error) {
	if !g.WritesGaps() {
		t.Values = store.Thin{}.Values
	}
	o, err := g.propose(ctx, command{Thin: thinOf(t)})
	return o.New, err
}

func (f *fsm) runReadings(tx *store.Tx, c *readingsCommand) (outcome, error) {
	author := crdt.Author{Site: f.site, Incarnation: tx.Incarnation()}
	p, err := tx.AppendReadings(author, crdt.HybridTime(c.Time), c.Batch)
	if err != nil {
		return outcome{}, err
	}
	f.clock.Observe(crdt.HybridTime(c.Time))
	return outcome{Placed: []placed{{
		Site: p.Chain.Stream.Site, Class: p.Chain.Stream.Class, Doc: store.ReadingDoc,
		Incarnation: p.Chain.Author.Incarnation, Seq: p.Seq,
	}}}, nil
}
