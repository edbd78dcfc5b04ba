package replication

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// Written says where one item of an accepted append stands.
type Written struct {
	Stream tiers.StreamID
	Doc    tiers.DocID
	Seq    uint64
}

// Append writes local changes, all or none, and returns when they are durable
// and applied. key is the client's idempotency key ("" for none): a second
// append with the same key returns the first one's result and writes nothing.
// The error wraps [ErrNotLeader], [ErrUnknown], [store.ErrMoved] or
// [store.ErrBadChange].
func (g *Group) Append(ctx context.Context, key string, items []store.Item) ([]Written, error) {
	cmd := command{Key: key, Append: make([]appendItem, len(items))}
	for i, it := range items {
		cmd.Append[i] = appendItem{
			Site: it.Stream.Site, Class: it.Stream.Class, Doc: it.Doc,
			Base: it.Base, Time: uint64(it.Time), Change: it.Change,
		}
	}
	o, err := g.propose(ctx, cmd)
	return o.written(), err
}

// Earlier returns the result of an earlier append with this key, or nil.
func (g *Group) Earlier(key string) ([]Written, error) {
	b, err := g.store.Outcome(key)
	if b == nil || err != nil {
		return nil, err
	}
	var o outcome
	if err := g.codec.dec.Unmarshal(b, &o); err != nil {
		return nil, fmt.Errorf("%w: outcome of %q: %w", store.ErrCorrupt, key, err)
	}
	return o.written(), nil
}

func (o outcome) written() []Written {
	out := make([]Written, len(o.Placed))
	for i, p := range o.Placed {
		out[i] = Written{Stream: tiers.StreamID{Site: p.Site, Class: p.Class}, Doc: p.Doc, Seq: p.Seq}
	}
	return out
}

// Ingest writes a verified range of another author's chain and returns how
// many of its records were new. It is idempotent. The error wraps
// [ErrNotLeader], [ErrUnknown], [store.ErrGap] or [store.ErrFork].
func (g *Group) Ingest(ctx context.Context, r store.Range) (int, error) {
	return g.StartIngest(ctx, r)()
}

// StartIngest begins what [Group.Ingest] does and returns how to wait for its
// end. Ranges that are started one after the other are applied in that order.
func (g *Group) StartIngest(ctx context.Context, r store.Range) (wait func() (int, error)) {
	if r.Arrived == 0 {
		r.Arrived = g.clock.Now()
	}
	p, err := g.start(ctx, command{Ingest: newIngestCommand(r)})
	return func() (int, error) {
		if err != nil {
			return 0, err
		}
		o, err := p.wait(ctx)
		return o.New, err
	}
}

// Claim gives an exclusive resource of the site to a holder and returns the
// epoch of the grant, which fences all earlier ones. With force it is taken from
// whoever has it. The error wraps [ErrNotLeader], [ErrUnknown], [store.ErrHeld]
// or [store.ErrBadClaim].
func (g *Group) Claim(ctx context.Context, key, resource, holder string, force bool) (epoch uint64, err error) {
	if holder == "" {
		return 0, fmt.Errorf("%w: no holder", store.ErrBadClaim)
	}
	o, err := g.propose(ctx, command{Key: key, Claim: &claimCommand{Resource: resource, Holder: holder, Force: force}})
	return o.Epoch, err
}

// Release gives a resource back that was claimed in an epoch. The error wraps
// [ErrNotLeader], [ErrUnknown] or [store.ErrFenced].
func (g *Group) Release(ctx context.Context, key, resource string, epoch uint64) error {
	_, err := g.propose(ctx, command{Key: key, Claim: &claimCommand{Resource: resource, Epoch: epoch}})
	return err
}

// NewIncarnation starts incarnation from+1, once, whoever asks how often.
func (g *Group) NewIncarnation(ctx context.Context, from uint32) error {
	_, err := g.propose(ctx, command{Incarnation: &incarnationCommand{From: from}})
	return err
}

// SetAside moves the records of a chain that lost a fork to the evidence and
// returns how many; see [store.Tx.SetAside]. When the site still writes that
// chain, a new incarnation begins with it. The error wraps [ErrNotLeader],
// [ErrUnknown] or [store.ErrMoved].
func (g *Group) SetAside(ctx context.Context, e store.Evict) (int, error) {
	o, err := g.propose(ctx, command{Aside: &asideCommand{
		Site: e.Chain.Stream.Site, Class: e.Chain.Stream.Class, Author: e.Chain.Author.Site, Incarnation: e.Chain.Author.Incarnation,
		Keep: e.Keep, Hash: e.Hash, ProofSeq: e.Proof.Head.Seq, ProofHash: e.Proof.Head.Hash, ProofTimeMS: e.Proof.TimeMS, Signature: e.Proof.Signature,
	}})
	return o.New, err
}

// entryBytesMax bounds a log entry: twice what a link's largest frame holds.
const entryBytesMax = 8 << 20

// await waits for Raft's answer, or for the end of ctx.
func await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	// Ends when Raft answers, which Close waits for.
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// enqueue puts something into Raft's queue, unless the group is closing.
func enqueue[F raft.Future](g *Group, put func() F) (future F, err error) {
	g.gate.RLock()
	defer g.gate.RUnlock()
	if _, _, closed := g.tenure.get(); closed {
		return future, ErrClosed
	}
	return put(), nil
}

// newRaftLogger passes Raft's warnings and errors to the injected logger.
func newRaftLogger(l *slog.Logger) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: lineWriter{l}, DisableTime: true})
}

type lineWriter struct{ l *slog.Logger }

// Write logs one line of Raft's.
func (w lineWriter) Write(p []byte) (int, error) {
	w.l.Warn("raft", "text", strings.TrimSpace(string(p)))
	return len(p), nil
}
