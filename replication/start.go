package replication

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/tiermesh/tiermesh/replication/store"
)

// logCacheEntries is how many of the last entries stay in memory: more than are
// ever under way.
const logCacheEntries = 64

// keyServerID is where the stable store holds this disk's Raft identity.
var keyServerID = []byte("tiermesh server id")

// bootstrapMark is the file whose presence lets a directory without Raft state
// become a new group.
const bootstrapMark = "bootstrap"

// serverID returns this disk's identity in the group: the node's number and a
// random part that is made with the disk. A lost disk therefore never comes
// back under its old identity, with which it had voted.
func (g *Group) serverID() (raft.ServerID, error) {
	b, err := g.log.Get(keyServerID)
	if err == nil || !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return raft.ServerID(b), err
	}
	// A log without one is of a version that had the number alone.
	last, err := g.log.LastIndex()
	if err != nil {
		return "", err
	}
	id := strconv.FormatUint(uint64(g.cfg.Node), 10)
	if last == 0 {
		var random [4]byte
		if _, err := io.ReadFull(g.cfg.Random, random[:]); err != nil {
			return "", fmt.Errorf("read randomness: %w", err)
		}
		id += "-" + hex.EncodeToString(random[:])
	}
	return raft.ServerID(id), g.log.Set(keyServerID, []byte(id))
}

// bootstrap makes a directory without Raft state a group of this one voter,
// when it may. Otherwise the node has no group yet.
func (g *Group) bootstrap(rc *raft.Config, snaps *snapshots) error {
	mark := filepath.Join(g.cfg.Dir, bootstrapMark)
	exists, err := raft.HasExistingState(g.log, g.log, snaps)
	if err != nil {
		return err
	}
	if !exists {
		_, err := os.Stat(mark)
		if err != nil && !g.cfg.Bootstrap {
			g.cfg.Logger.Warn("this node belongs to no group yet: it waits until its site's leader adds it; for a new site run: tiermesh raft init")
			return nil
		}
		addr := serverAddress(g.id, g.cfg.Siblings.Advertise)
		conf := raft.Configuration{Servers: []raft.Server{{ID: g.id, Address: addr, Suffrage: raft.Voter}}}
		if g.store.AppliedIndex() == store.RebasedIndex {
			err = g.beginWithStore(snaps, conf)
		} else {
			_, trans := raft.NewInmemTransport(addr)
			err = raft.BootstrapCluster(rc, g.log, g.log, snaps, trans, conf)
		}
		if err != nil {
			return err
		}
	}
	if err := os.Remove(mark); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// beginWithStore makes a group whose log begins with a snapshot of a rebased
// store, so that nodes that join get what no log holds.
func (g *Group) beginWithStore(snaps *snapshots, conf raft.Configuration) error {
	const term = 1
	k, err := snaps.Create(raft.SnapshotVersionMax, store.RebasedIndex, term, conf, store.RebasedIndex, nil)
	if err != nil {
		return err
	}
	if err := (checkpointSnapshot{g.fsm}).Persist(k); err != nil {
		return err
	}
	return g.log.SetUint64([]byte("CurrentTerm"), term)
}

// openLog opens the Raft log and stable store. The error wraps
// [store.ErrLocked] when another process has it, or [ErrLogDamaged].
func openLog(path string, fatal func(error)) (*sealedLog, error) {
	if err := checkFile(path); err != nil {
		return nil, err
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path:        path,
		BoltOptions: &bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%w: %s: stop the other process first", store.ErrLocked, path)
	}
	if err != nil {
		return nil, fmt.Errorf("open raft log %s: %w", path, err)
	}
	log := &sealedLog{boltStore: bolt, fatal: fatal, full: make(chan struct{}, 1)}
	if err := log.sealValues(); err != nil {
		return nil, errors.Join(fmt.Errorf("open raft log %s: %w", path, err), log.Close())
	}
	return log, nil
}

// transport returns what carries Raft's messages.
func (g *Group) transport(logger hclog.Logger) raft.Transport {
	if g.cfg.Siblings.Streams == nil {
		// A site of one voter sends none; its transport is never dialled.
		_, trans := raft.NewInmemTransport(serverAddress(g.id, g.cfg.Siblings.Advertise))
		return trans
	}
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: newStreamLayer(g.cfg, g.id, g.store.SiteFormat), MaxPool: 4, Timeout: rpcTimeout, Logger: logger,
	})
}

func closeTransport(t raft.Transport) error {
	if c, ok := t.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}

func (g *Group) openRaft() error {
	var err error
	if g.log, err = openLog(filepath.Join(g.cfg.Dir, "raft.db"), g.cfg.Fatal); err != nil {
		return err
	}
	g.log.stored = g.combine.stored
	g.log.bounds = logSize{entries: int64(g.cfg.SnapshotEntries), bytes: g.cfg.SnapshotBytes}
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
	g.repairs.snaps = snaps
	if err := g.catchUp(snaps); err != nil {
		return fmt.Errorf("open raft in %s: %w", g.cfg.Dir, err)
	}
	if g.id, err = g.serverID(); err != nil {
		return fmt.Errorf("read raft state in %s: %w", g.cfg.Dir, err)
	}
	g.fsm = &fsm{store: g.store, site: g.cfg.Site, codec: g.codec, clock: g.clock, fatal: g.cfg.Fatal, format: g.cfg.Siblings.Format}
	rc := g.raftConfig(g.id, logger)
	if err := g.bootstrap(rc, snaps); err != nil {
		return fmt.Errorf("bootstrap raft in %s: %w", g.cfg.Dir, err)
	}
	// Followers and the state machine are given what was just written: without
	// this it would be read back from the disk and decoded for each of them.
	recent, err := raft.NewLogCache(logCacheEntries, g.log)
	if err != nil {
		return fmt.Errorf("start raft in %s: %w", g.cfg.Dir, err)
	}
	g.trans = g.transport(logger)
	if g.raft, err = raft.NewRaft(rc, g.fsm, recent, g.log, snaps, g.trans); err != nil {
		return errors.Join(fmt.Errorf("start raft in %s: %w", g.cfg.Dir, err), closeTransport(g.trans))
	}
	g.log.running.Store(true)
	return g.electLone(rc)
}

// loneLease is how often a lone voter looks whether it still leads.
const loneLease = 5 * time.Second

// electLone has the only voter of a group become leader at once. Raft lets a
// follower look anew whenever its time-out was shortened, by however little.
func (g *Group) electLone(rc *raft.Config) error {
	servers := g.raft.GetConfiguration().Configuration().Servers
	if len(servers) != 1 || servers[0].ID != g.id {
		return nil
	}
	shorter := raft.ReloadableConfig{
		TrailingLogs: rc.TrailingLogs, SnapshotInterval: rc.SnapshotInterval, SnapshotThreshold: rc.SnapshotThreshold,
		HeartbeatTimeout: rc.HeartbeatTimeout - 1, ElectionTimeout: rc.ElectionTimeout,
	}
	return g.raft.ReloadConfig(shorter)
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
			return fmt.Errorf("%w: the log starts at entry %d and there is no snapshot: in a site of one node run tiermesh salvage, in a larger one empty the directory and let the node join again", ErrBehind, first)
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
	rc.LeaderLeaseTimeout = max(g.cfg.ElectionTimeout/2, 100*time.Millisecond)
	if g.cfg.Siblings.Nodes <= 1 {
		// A leader wakes up so often to see whether it hears from a majority, also where
		// it is that alone. Until it is restarted, one that got siblings so long notices
		// late that it is cut off from them; others elect the next one meanwhile.
		rc.LeaderLeaseTimeout = loneLease
		rc.HeartbeatTimeout = loneLease + 1 // for electLone
		rc.ElectionTimeout = loneLease + 1
	}
	rc.CommitTimeout = 50 * time.Millisecond
	// Entries hold many commands each; a follower gets a few MiB at a time.
	rc.MaxAppendEntries = 64
	rc.ShutdownOnRemove = false
	rc.BatchApplyCh = true
	rc.SnapshotThreshold = g.cfg.SnapshotEntries
	// watchLog sees to snapshots; Raft itself looks for entries of earlier runs.
	rc.SnapshotInterval = time.Minute
	rc.TrailingLogs = g.cfg.TrailingEntries
	rc.NoSnapshotRestoreOnStart = true
	rc.NoLegacyTelemetry = true
	rc.Logger = logger
	return rc
}
