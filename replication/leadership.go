package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/tiermesh/tiermesh/crdt"
)

// leadership is this node's current term as leader; ctx is nil without one.
type leadership struct {
	ctx    context.Context
	cancel context.CancelFunc
	random [8]byte
}

// tenure is the present leadership and whether the group is closed.
type tenure struct {
	mu      sync.Mutex // guards the fields below
	term    leadership
	changed chan struct{} // closed and replaced when term changes
	closed  bool
}

func (t *tenure) get() (term leadership, changed <-chan struct{}, closed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.term, t.changed, t.closed
}

// set ends the present leadership and begins the next.
func (t *tenure) set(next leadership) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.term.cancel != nil {
		t.term.cancel()
	}
	t.term = next
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *tenure) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}

// watchLeadership keeps the current leadership; it returns when stop closes.
func (g *Group) watchLeadership() {
	for {
		select {
		case leads := <-g.raft.LeaderCh():
			g.setLeadership(leads)
		case <-g.ending.stop:
			g.setLeadership(false)
			return
		}
	}
}

// snapshotPause is the time between two snapshots at the least: each writes the
// store's memtable out, and many small tables are compacted over and over. It is
// also how long after one that went wrong the next is tried.
const snapshotPause = 2 * time.Second

// replayPart is the part of the log's bounds from which on a leader has a snapshot
// made when its term begins. A node that is killed over and over, never long after its
// start, would replay more each time.
const replayPart = 8

// watchLog has a snapshot made, and the log cut, whenever the log grew by
// SnapshotEntries or SnapshotBytes: Raft itself counts entries alone, and polls.
// It returns when stop closes.
func (g *Group) watchLog() {
	var again <-chan time.Time
	for {
		select {
		case <-g.log.full:
		case <-again:
		case <-g.ending.stop:
			return
		}
		g.log.entries.Store(0)
		g.log.bytes.Store(0)
		again = nil
		if err := g.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) && !errors.Is(err, raft.ErrRaftShutdown) {
			g.cfg.Logger.Warn("snapshot", "err", err)
			again = time.After(snapshotPause)
			continue
		}
		select {
		case <-time.After(snapshotPause):
		case <-g.ending.stop:
			return
		}
	}
}

// setLeadership begins or ends a term. It begins only after a barrier, so that
// a leader's first read shows every committed entry, and with a random half of
// the actor id that no other leadership has.
func (g *Group) setLeadership(leads bool) {
	var next leadership
	if leads {
		if err := g.raft.Barrier(0).Error(); err != nil {
			return // lost again; LeaderCh says so
		}
		if g.log.grew(replayPart) {
			g.log.cut() // what was replayed now need not be once more
		}
		if err := g.observeOwn(); err != nil {
			g.cfg.Fatal(fmt.Errorf("read the site's last records: %w", err))
			return
		}
		if _, err := io.ReadFull(g.cfg.Random, next.random[:]); err != nil {
			g.cfg.Fatal(fmt.Errorf("read randomness: %w", err))
			return
		}
		next.ctx, next.cancel = context.WithCancel(context.Background())
	}
	g.tenure.set(next)
	if leads && g.isNew() {
		g.ending.loops.Go(func() { // ends with the leadership, or when the group closes
			if err := g.Raise(next.ctx, g.cfg.Siblings.Format); err != nil {
				g.cfg.Logger.Warn("a new site's format was not set", "err", err)
			}
		})
	}
}

// Lead waits until this node leads its site and returns a context that ends
// with that leadership. The error is ctx's, or [ErrClosed].
func (g *Group) Lead(ctx context.Context) (context.Context, error) {
	for {
		// First: whoever asks again and again until ctx ends must come to that end also
		// while this node leads on.
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("wait for leadership: %w", err)
		}
		term, changed, closed := g.tenure.get()
		if closed {
			return nil, ErrClosed
		}
		if term.ctx != nil {
			return term.ctx, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Leads reports whether this node leads its site.
func (g *Group) Leads() bool { return g.Leading() != nil }

// Leading returns a context that ends with this node's leadership, nil when it
// does not lead.
func (g *Group) Leading() context.Context {
	term, _, _ := g.tenure.get()
	return term.ctx
}

// Actor returns the author and the Automerge actor id for changes made in the
// current leadership, or [ErrNotLeader].
func (g *Group) Actor() (crdt.Author, crdt.Actor, error) {
	term, _, _ := g.tenure.get()
	if term.ctx == nil {
		return crdt.Author{}, crdt.Actor{}, ErrNotLeader
	}
	author := crdt.Author{Site: g.cfg.Site, Incarnation: g.store.Incarnation()}
	return author, crdt.NewActor(author, term.random), nil
}

// observeOwn moves the clock past the last record of each of the site's own
// chains, which another node's clock may have stamped.
func (g *Group) observeOwn() error {
	for _, stream := range g.store.Streams() {
		for author, head := range g.store.Vector(stream) {
			if author.Site != g.cfg.Site {
				continue
			}
			run, err := g.store.ReadRun(crdt.ChainID{Stream: stream, Author: author}, head.Seq, head.Seq, 1)
			if err != nil {
				return err
			}
			rec, err := crdt.DecodeRecord(run.Records[0])
			if err != nil {
				return err
			}
			g.clock.Observe(rec.Time)
		}
	}
	return nil
}
