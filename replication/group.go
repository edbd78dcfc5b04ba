package replication

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// Config describes one node of a site.
type Config struct {
	// Dir holds raft.db, snapshots/ and store/, and in damaged-TIME/ what a repair
	// or salvage set aside; created when missing.
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
	// is flushed and the log cut; zero means 2048.
	SnapshotEntries uint64
	// SnapshotBytes is how many bytes the log may grow by before that; zero means
	// 64 MiB. Ranges from peers make entries of hundreds of kilobytes.
	SnapshotBytes int64
	// TrailingEntries is how many entries the log keeps behind a snapshot: a
	// follower that lacks more is sent the snapshot. Zero means 64 for a site
	// of one node and 512 for more.
	TrailingEntries uint64
	// ElectionTimeout is how long a node waits for a leader; zero means 1 s. A lone
	// voter waits for nobody.
	ElectionTimeout time.Duration
	Disk            Disk
	// Siblings are the other nodes of the site.
	Siblings Siblings
	// Bootstrap lets an empty directory become a new site of this one voter.
	// Otherwise the node waits until a leader adds it, unless [Init], [Restore]
	// or [Recover] made the directory.
	Bootstrap bool
}

// Disk is what a node's directory is on.
type Disk struct {
	// FS is the store's file system; nil means the operating system's. Raft's log,
	// snapshots that come from a leader, and what a repair moves do not go through it,
	// so it must show the same files.
	FS store.FS
	// ReserveBytes is the size of a file that is given up to start on a full disk;
	// zero means none.
	ReserveBytes int64
}

// Siblings says how the nodes of a site reach each other; zero for a site that
// only ever has this one.
type Siblings struct {
	// Nodes is how many nodes the site is meant to have; zero means 1.
	Nodes int
	// Streams connects them.
	Streams Streams
	// Address returns where a node of the site is reached now, when that is
	// known better than the group's own configuration says; may be nil.
	Address func(node uint32) (string, bool)
	// Advertise is the address of this node that goes into a new group's
	// configuration.
	Advertise string
	// Format is the newest format that this node reads and writes; zero means
	// [Format]. Tests of mixed builds lower it.
	Format uint32
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.SnapshotEntries == 0 {
		c.SnapshotEntries = 2048
	}
	if c.SnapshotBytes == 0 {
		c.SnapshotBytes = 64 << 20
	}
	if c.TrailingEntries == 0 {
		c.TrailingEntries = 64
		if c.Siblings.Nodes > 1 {
			c.TrailingEntries = 512
		}
	}
	if c.Siblings.Format == 0 {
		c.Siblings.Format = Format
	}
	if c.ElectionTimeout == 0 {
		c.ElectionTimeout = time.Second
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
	trans raft.Transport
	id    raft.ServerID
	fsm   *fsm
	// repairs has what a repair needs besides.
	repairs repairs
	clock   *crdt.Clock

	gate    sync.RWMutex // held to propose; taken whole to let nobody in any more
	combine combiner
	tenure  tenure
	ending  ending
}

// ending is how the group comes to its end.
type ending struct {
	once  sync.Once
	err   error
	stop  chan struct{}  // closed to end its loops
	loops sync.WaitGroup // waits for them
}

// Open opens the node and starts Raft. The error wraps the store's sentinels,
// [ErrBehind], [ErrDamaged], [ErrLogDamaged] or [ErrRecovering].
func Open(cfg Config) (*Group, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	fatal := cfg.Fatal
	cfg.Fatal = func(err error) { fatal(withRemedy(cfg, err)) }
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open site directory: %w", err)
	}
	g := &Group{cfg: cfg, codec: c, clock: crdt.NewClock(cfg.Now), ending: ending{stop: make(chan struct{})}, tenure: tenure{changed: make(chan struct{})}}
	if err := errors.Join(unfinished(cfg.Dir), g.reserve()); err != nil {
		return nil, err
	}
	if err := g.finishRepair(); err != nil {
		return nil, err
	}
	st, err := store.Open(store.Config{
		Dir: filepath.Join(cfg.Dir, "store"), Federation: cfg.Federation, Site: cfg.Site, Fatal: cfg.Fatal, Logger: cfg.Logger, FS: cfg.Disk.FS,
	})
	if err != nil {
		return nil, withRemedy(cfg, err)
	}
	g.store = st
	if err := errors.Join(readable(st, cfg.Siblings.Format), clearRepair(cfg.Dir)); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	g.combine = newCombiner(g)
	if err := withRemedy(cfg, g.openRaft()); err != nil {
		if g.log != nil {
			err = errors.Join(err, g.log.Close())
		}
		return nil, errors.Join(err, st.Close())
	}
	// All end when Close lets nobody in any more.
	g.ending.loops.Go(g.watchLeadership)
	g.ending.loops.Go(g.watchLog)
	g.ending.loops.Go(g.combine.run)
	return g, nil
}

// Store returns the state machine's store, for reading.
func (g *Group) Store() *store.Store { return g.store }

// Clock returns the site's hybrid clock.
func (g *Group) Clock() *crdt.Clock { return g.clock }

// Close hands the leadership over, stops Raft, then flushes and closes log and store. It waits for all of
// it and is idempotent.
func (g *Group) Close() error { return g.end(true, g.store.Close) }

// Abandon ends the node as a crash would: nothing is flushed beyond what was
// acknowledged. The testbed uses it.
func (g *Group) Abandon() error { return g.end(false, g.store.Abandon) }

func (g *Group) end(handOver bool, closeStore func() error) error {
	g.ending.once.Do(func() {
		// Raft never answers what is in its queue when it shuts down. So nobody
		// is let in any more, and a barrier behind the last one in shows that the
		// queue is empty: Raft answers it as leader or refuses it as follower.
		g.gate.Lock()
		g.tenure.close()
		g.gate.Unlock()
		close(g.ending.stop)
		close(g.combine.waiting)
		g.ending.loops.Wait() // for barriers and every proposal, too
		if handOver {
			g.handOver()
		}
		_ = g.raft.Barrier(0).Error()
		// Raft would wait for messages under way to nodes that do not answer.
		err := errors.Join(closeTransport(g.trans), g.raft.Shutdown().Error())
		g.repairs.one.Lock() // a repair ends with its reader, whose owner ended it before
		// Raft's goroutines use both until Shutdown returned.
		g.ending.err = errors.Join(err, g.log.Close(), closeStore())
	})
	return g.ending.err
}
