package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// Config describes one node of a site.
type Config struct {
	// Dir holds raft.db, snapshots/ and store/; created when missing.
	Dir        string
	Federation string
	Site       tiers.SiteID
	// Node is the node's number in its site, from 1.
	Node uint32
	// Now and Random are the clock and the source of randomness; nil means the
	// real ones are missing, which Validate refuses.
	Now    func() time.Time
	Random io.Reader
	// Fatal is called once on a storage error; it must end the process.
	Fatal  func(error)
	Logger *slog.Logger
	// SnapshotEntries is how many entries the log may grow by before the store
	// is flushed and the log cut; zero means 8192.
	SnapshotEntries uint64
	// ElectionTimeout is how long a node waits for a leader; zero means 150 ms.
	ElectionTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.SnapshotEntries == 0 {
		c.SnapshotEntries = 8192
	}
	if c.ElectionTimeout == 0 {
		c.ElectionTimeout = 150 * time.Millisecond
	}
	return c
}

// Validate reports what is missing.
func (c Config) Validate() error {
	switch {
	case c.Dir == "":
		return errors.New("replication: no directory")
	case c.Federation == "":
		return errors.New("replication: no federation")
	case c.Node == 0:
		return errors.New("replication: node number 0")
	case c.Now == nil || c.Random == nil || c.Fatal == nil:
		return errors.New("replication: clock, randomness and fatal handler must be given")
	}
	return c.Site.Validate()
}

// Group is an open node of a site's Raft group.
type Group struct {
	cfg   Config
	codec codec
	store *store.Store
	log   *sealedLog
	raft  *raft.Raft
	clock *crdt.Clock
	watch sync.WaitGroup
	stop  chan struct{}

	ending sync.Once
	endErr error
	gate   sync.RWMutex // held to propose; taken whole to let nobody in any more

	mu     sync.Mutex // guards the fields below
	term   leadership
	lead   chan struct{} // closed and replaced when term changes
	closed bool
}

// leadership is this node's current term as leader; ctx is nil without one.
type leadership struct {
	ctx    context.Context
	cancel context.CancelFunc
	random [8]byte
}

// Open opens the node and starts Raft; a new directory becomes a site of one
// voter. The error wraps the store's sentinels, or [ErrBehind].
func Open(cfg Config) (*Group, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open site directory: %w", err)
	}
	st, err := store.Open(store.Config{
		Dir: filepath.Join(cfg.Dir, "store"), Federation: cfg.Federation, Site: cfg.Site, Fatal: cfg.Fatal, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	g := &Group{
		cfg: cfg, codec: c, store: st, clock: crdt.NewClock(cfg.Now),
		stop: make(chan struct{}), lead: make(chan struct{}),
	}
	if err := g.openRaft(); err != nil {
		if g.log != nil {
			err = errors.Join(err, g.log.Close())
		}
		return nil, errors.Join(err, st.Close())
	}
	// Ends when Close closes stop.
	g.watch.Go(g.watchLeadership)
	return g, nil
}

func (g *Group) openRaft() error {
	path := filepath.Join(g.cfg.Dir, "raft.db")
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path:        path,
		BoltOptions: &bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
	if errors.Is(err, bbolt.ErrTimeout) {
		return fmt.Errorf("%w: %s: stop the other process first", store.ErrLocked, path)
	}
	if err != nil {
		return fmt.Errorf("open raft log %s: %w", path, err)
	}
	g.log = &sealedLog{boltStore: bolt, fatal: g.cfg.Fatal}
	logger := newRaftLogger(g.cfg.Logger)
	// An interrupted backup leaves hard links that would hold on to the disk.
	left, err := filepath.Glob(filepath.Join(g.cfg.Dir, "backup-*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		return fmt.Errorf("clear interrupted backup in %s: %w", g.cfg.Dir, err)
	}
	snaps, err := newSnapshots(filepath.Join(g.cfg.Dir, "snapshots"))
	if err != nil {
		return err
	}
	if err := g.catchUp(snaps); err != nil {
		return fmt.Errorf("open raft in %s: %w", g.cfg.Dir, err)
	}
	id := raft.ServerID(strconv.FormatUint(uint64(g.cfg.Node), 10))
	// A site of one voter sends no Raft message; its transport is never dialled.
	addr, trans := raft.NewInmemTransport(raft.ServerAddress(id))
	rc := g.raftConfig(id, logger)
	bootstrap, err := raft.HasExistingState(g.log, g.log, snaps)
	if err != nil {
		return fmt.Errorf("read raft state in %s: %w", g.cfg.Dir, err)
	}
	if !bootstrap {
		conf := raft.Configuration{Servers: []raft.Server{{ID: id, Address: addr, Suffrage: raft.Voter}}}
		if err := raft.BootstrapCluster(rc, g.log, g.log, snaps, trans, conf); err != nil {
			return fmt.Errorf("bootstrap raft in %s: %w", g.cfg.Dir, err)
		}
	}
	machine := &fsm{store: g.store, site: g.cfg.Site, codec: g.codec, fatal: g.cfg.Fatal}
	if g.raft, err = raft.NewRaft(rc, machine, g.log, g.log, snaps, trans); err != nil {
		return fmt.Errorf("start raft in %s: %w", g.cfg.Dir, err)
	}
	g.log.running.Store(true)
	return nil
}

// catchUp checks the log and brings a store that reflects less than Raft has forgotten up to the
// latest snapshot: it was lost, or replaced by an older one. The error wraps
// [ErrBehind] when no snapshot helps.
func (g *Group) catchUp(snaps *snapshots) error {
	list, err := snaps.List()
	if err != nil {
		return err
	}
	first, err := g.log.FirstIndex()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		if first > 1 {
			return fmt.Errorf("%w: the log starts at entry %d and there is no snapshot: restore this node from a backup", ErrBehind, first)
		}
		return g.log.check(1)
	}
	latest := list[0]
	if err := g.log.check(latest.Index + 1); err != nil || g.store.AppliedIndex() >= latest.Index {
		return err
	}
	g.cfg.Logger.Warn("store is behind its log: taking it from the snapshot", "index", g.store.AppliedIndex(), "snapshot_index", latest.Index)
	if err := g.store.Replace(snaps.store(latest.ID)); err != nil {
		return err
	}
	if at := g.store.AppliedIndex(); at < latest.Index {
		return fmt.Errorf("%w: snapshot %s holds entry %d", ErrBehind, latest.ID, at)
	}
	return nil
}

func (g *Group) raftConfig(id raft.ServerID, logger hclog.Logger) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = id
	rc.HeartbeatTimeout = g.cfg.ElectionTimeout
	rc.ElectionTimeout = g.cfg.ElectionTimeout
	rc.LeaderLeaseTimeout = g.cfg.ElectionTimeout
	rc.CommitTimeout = 50 * time.Millisecond
	rc.MaxAppendEntries = 512
	rc.BatchApplyCh = true
	rc.SnapshotThreshold = g.cfg.SnapshotEntries
	// Often: a snapshot is cheap, and the log is read whole at every start.
	rc.SnapshotInterval = 2 * time.Second
	rc.TrailingLogs = 256
	rc.NoSnapshotRestoreOnStart = true
	rc.NoLegacyTelemetry = true
	rc.Logger = logger
	return rc
}

// watchLeadership keeps the current leadership; it returns when stop closes.
func (g *Group) watchLeadership() {
	for {
		select {
		case leads := <-g.raft.LeaderCh():
			g.setLeadership(leads)
		case <-g.stop:
			g.setLeadership(false)
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
		if _, err := io.ReadFull(g.cfg.Random, next.random[:]); err != nil {
			g.cfg.Fatal(fmt.Errorf("read randomness: %w", err))
			return
		}
		next.ctx, next.cancel = context.WithCancel(context.Background())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.term.cancel != nil {
		g.term.cancel()
	}
	g.term = next
	close(g.lead)
	g.lead = make(chan struct{})
}

// Lead waits until this node leads its site and returns a context that ends
// with that leadership. The error is ctx's, or [ErrClosed].
func (g *Group) Lead(ctx context.Context) (context.Context, error) {
	for {
		g.mu.Lock()
		term, changed, closed := g.term, g.lead, g.closed
		g.mu.Unlock()
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
func (g *Group) Leads() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.term.ctx != nil
}

// Actor returns the author and the Automerge actor id for changes made in the
// current leadership, or [ErrNotLeader].
func (g *Group) Actor() (crdt.Author, crdt.Actor, error) {
	g.mu.Lock()
	term := g.term
	g.mu.Unlock()
	if term.ctx == nil {
		return crdt.Author{}, crdt.Actor{}, ErrNotLeader
	}
	author := crdt.Author{Site: g.cfg.Site, Incarnation: g.store.Incarnation()}
	return author, crdt.NewActor(author, term.random), nil
}

// Store returns the state machine's store, for reading.
func (g *Group) Store() *store.Store { return g.store }

// Clock returns the site's hybrid clock.
func (g *Group) Clock() *crdt.Clock { return g.clock }

// Close stops Raft, then flushes and closes log and store. It waits for all of
// it and is idempotent.
func (g *Group) Close() error { return g.end(g.store.Close) }

// Abandon ends the node as a crash would: nothing is flushed beyond what was
// acknowledged. The testbed uses it.
func (g *Group) Abandon() error { return g.end(g.store.Abandon) }

func (g *Group) end(closeStore func() error) error {
	g.ending.Do(func() {
		// Raft never answers what is in its queue when it shuts down. So nobody
		// is let in any more, and a barrier behind the last one in shows that the
		// queue is empty: Raft answers it as leader or refuses it as follower.
		g.gate.Lock()
		g.mu.Lock()
		g.closed = true
		g.mu.Unlock()
		g.gate.Unlock()
		close(g.stop)
		g.watch.Wait() // it waits for barriers, too
		_ = g.raft.Barrier(0).Error()
		err := g.raft.Shutdown().Error()
		// Raft's goroutines use both until Shutdown returned.
		g.endErr = errors.Join(err, g.log.Close(), closeStore())
	})
	return g.endErr
}
