package replication

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/archive"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// The directories of a recovery: what is being prepared, what is prepared, and
// where the old state goes.
const (
	recoverPreparing = "recover.preparing"
	recoverReady     = "recover.ready"
	recoverOld       = "recover.old"
)

// ErrRecovering reports a directory whose recovery was interrupted.
var ErrRecovering = errors.New("replication: unfinished recovery")

// RecoverConfig says what to recover.
type RecoverConfig struct {
	Dir        string
	Federation string
	Site       tiers.SiteID
}

// RecoverInfo is what a recovery came to.
type RecoverInfo struct {
	// Records is how many records the site has, Replayed how many entries of the
	// log were applied to get there.
	Records, Replayed uint64
	Incarnation       uint32
	// Old is where the state before the recovery is kept.
	Old string
}

// Recover makes one node's directory a new group of its own, in a new
// incarnation, from the node's store and all of its log: the way on for a site
// that lost a majority of its nodes for good. What only the lost nodes held is
// lost, and what was under way may have taken effect. The lost nodes must never
// be started again with their old directories. An interrupted recovery goes on
// where it stopped. The error wraps the store's sentinels or [ErrLogDamaged].
func Recover(cfg RecoverConfig) (info RecoverInfo, err error) {
	path := func(name string) string { return filepath.Join(cfg.Dir, name) }
	if _, err := os.Stat(path(recoverReady)); errors.Is(err, os.ErrNotExist) {
		if info.Replayed, err = prepareRecovery(cfg); err != nil {
			return info, err
		}
	}
	old := path(recoverOld)
	if err := install(cfg.Dir, recoverReady, old); err != nil {
		return info, fmt.Errorf("recover: %w", err)
	}
	info.Old = old
	st, err := store.Open(store.Config{Dir: path("store"), Federation: cfg.Federation, Site: cfg.Site})
	if err != nil {
		return info, err
	}
	info.Records, info.Incarnation = st.Counts().Records, st.Incarnation()
	return info, st.Close()
}

// install puts a prepared store that begins a new group in the place of the
// store, the log and the snapshots, which go into the directory old. Each step
// can be taken again, and until the last one is the node does not start.
func install(dir, ready, old string) error {
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.MkdirAll(old, 0o700); err != nil {
		return err
	}
	move := func(from, to string) error {
		if err := os.Rename(from, to); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	for _, name := range []string{"raft.db", "snapshots"} {
		if err := move(path(name), filepath.Join(old, name)); err != nil {
			return err
		}
	}
	next := filepath.Join(path(ready), "store")
	if _, err := os.Stat(next); err == nil {
		if err := errors.Join(move(path("store"), filepath.Join(old, "store")), os.Rename(next, path("store"))); err != nil {
			return err
		}
	}
	return errors.Join(archive.SyncDir(old), markBootstrap(dir), os.RemoveAll(path(ready)), archive.SyncDir(dir))
}

// unfinished refuses a directory in which a recovery or a salvage was
// interrupted, before anything is made in it.
func unfinished(dir string) error {
	for name, verb := range map[string]string{recoverReady: "recover", salvageReady: "salvage"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("%w in %s: run tiermesh %s again", ErrRecovering, dir, verb)
		}
	}
	return nil
}

// prepareRecovery makes the recovered store beside the present one.
func prepareRecovery(cfg RecoverConfig) (replayed uint64, err error) {
	if _, err := os.Stat(filepath.Join(cfg.Dir, recoverOld)); err == nil {
		return 0, fmt.Errorf("recover: %s holds the state before an earlier recovery: move it away first", filepath.Join(cfg.Dir, recoverOld))
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "raft.db")); err != nil {
		return 0, fmt.Errorf("%w: %s has no Raft log: %w", ErrBehind, cfg.Dir, err)
	}
	log, err := openLog(filepath.Join(cfg.Dir, "raft.db"), nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	st, err := store.Open(store.Config{Dir: filepath.Join(cfg.Dir, "store"), Federation: cfg.Federation, Site: cfg.Site})
	if err != nil {
		return 0, err
	}
	preparing := filepath.Join(cfg.Dir, recoverPreparing)
	err = errors.Join(os.RemoveAll(preparing), os.MkdirAll(preparing, 0o700))
	if err == nil {
		err = st.Checkpoint(filepath.Join(preparing, "store"))
	}
	if err := errors.Join(err, st.Close()); err != nil {
		return 0, fmt.Errorf("recover: %w", err)
	}
	if st, err = store.Open(store.Config{Dir: filepath.Join(preparing, "store"), Federation: cfg.Federation, Site: cfg.Site}); err != nil {
		return 0, err
	}
	last, err := log.LastIndex()
	if err == nil {
		replayed, err = replay(st, log, cfg.Site, last)
	}
	if err == nil {
		err = st.Rebase()
	}
	if err := errors.Join(err, st.Close()); err != nil {
		return replayed, fmt.Errorf("recover: %w", err)
	}
	if err := os.Rename(preparing, filepath.Join(cfg.Dir, recoverReady)); err != nil {
		return replayed, fmt.Errorf("recover: %w", err)
	}
	return replayed, nil
}

// replay applies what the log has up to an entry and the store lacks.
func replay(st *store.Store, log entryLog, site tiers.SiteID, last uint64) (n uint64, err error) {
	c, err := newCodec()
	if err != nil {
		return 0, err
	}
	first, err := log.FirstIndex()
	if err != nil {
		return 0, err
	}
	at := st.AppliedIndex() + 1
	if first > at && last >= at {
		return 0, fmt.Errorf("%w: the log starts at entry %d, the store ends at %d: restore a backup", ErrBehind, first, at-1)
	}
	var fatal error
	f := &fsm{store: st, site: site, codec: c, clock: crdt.NewClock(func() time.Time { return time.Time{} }), format: Format, fatal: func(err error) { fatal = errors.Join(fatal, err) }}
	for ; at <= last; at++ {
		var l raft.Log
		if err := log.GetLog(at, &l); err != nil {
			return n, err
		}
		f.Apply(&l)
		if fatal != nil {
			return n, fatal
		}
		n++
	}
	return n, nil
}
