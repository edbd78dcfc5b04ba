package replication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/tiermesh/tiermesh/replication/archive"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// The directories of a salvage: a working copy of the damaged store, what is
// being prepared, and what is prepared.
const (
	salvageWork      = "salvage.work"
	salvagePreparing = "salvage.preparing"
	salvageReady     = "salvage.ready"
	salvageReport    = "report.json"
)

// RepairConfig says which node to repair while it is down.
type RepairConfig struct {
	RecoverConfig
	Now time.Time
}

func (c RepairConfig) path(name string) string { return filepath.Join(c.Dir, name) }

// Inspect reads a node's store while the node is down, and names what is damaged;
// a store that cannot be opened is a finding, too. The error wraps
// [store.ErrLocked], [store.ErrForeign] or [ErrRecovering].
func Inspect(ctx context.Context, cfg RepairConfig) ([]store.Finding, error) {
	if err := unfinished(cfg.Dir); err != nil {
		return nil, err
	}
	out := []store.Finding{}
	if _, gone := os.Stat(cfg.path("store")); gone != nil {
		out = append(out, store.Finding{File: cfg.path("store"), What: gone.Error()})
		return out, nil //nolint:nilerr // that it is gone is what was found
	}
	if err := noSnapshot(cfg); err != nil {
		out = append(out, store.Finding{File: cfg.path("snapshots"), What: err.Error()})
	}
	var broken faults
	st, err := store.Open(store.Config{
		Dir: cfg.path("store"), Federation: cfg.Federation, Site: cfg.Site, Salvaging: true,
		Fatal: broken.add,
	})
	if errors.Is(err, store.ErrLocked) || errors.Is(err, store.ErrForeign) || errors.Is(err, store.ErrFormat) {
		return nil, err
	}
	if err != nil {
		found, listed := store.CheckTables(ctx, nil, cfg.path("store"))
		return append(append(out, store.Finding{File: cfg.path("store"), What: err.Error()}), found...), listed
	}
	r, err := st.Scrub(ctx)
	if closed := errors.Join(st.Close(), broken.all()); closed != nil {
		r.Findings = append(r.Findings, store.Finding{File: cfg.path("store"), What: closed.Error()})
	}
	return append(out, r.Findings...), err
}

// noSnapshot returns why a node cannot start when its log goes on from a snapshot
// that it does not have, or not from the one that it has. A log that cannot be
// read says nothing.
func noSnapshot(cfg RepairConfig) error {
	if _, err := os.Stat(cfg.path("raft.db")); err != nil {
		return nil //nolint:nilerr // see above
	}
	log, err := openLog(cfg.path("raft.db"), nil)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	first, err := log.FirstIndex()
	s := &snapshots{dir: cfg.path("snapshots")}
	entries, _ := os.ReadDir(s.dir)
	end, found := uint64(0), false
	for _, e := range entries {
		if m, bad := s.meta(e.Name()); bad == nil {
			end, found = max(end, m.Index), true
		}
	}
	switch err := errors.Join(err, log.Close()); {
	case err != nil || first <= end+1:
		return nil //nolint:nilerr // see above
	case !found:
		return fmt.Errorf("there is no whole snapshot, and the log starts at entry %d", first)
	default:
		return fmt.Errorf("the snapshot ends at entry %d, and the log starts at entry %d", end, first)
	}
}

// ServerID returns the identity of a node's disk while the node is down.
func ServerID(dir string) (string, error) {
	log, err := openLog(filepath.Join(dir, "raft.db"), nil)
	if err != nil {
		return "", err
	}
	b, err := log.Get(keyServerID)
	return string(b), errors.Join(err, log.Close())
}

// Mend makes a damaged store good from the node's own snapshot and log, without
// anybody's help and with nothing lost, while the node is down. The error wraps
// [ErrRepair] when they do not suffice.
func Mend(ctx context.Context, cfg RepairConfig, findings []store.Finding) (info RepairInfo, err error) {
	log, err := openLog(cfg.path("raft.db"), nil)
	if err != nil {
		return info, fmt.Errorf("%w: the log: %w", ErrRepair, err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	snaps, err := newSnapshots(cfg.path("snapshots"))
	if err != nil {
		return info, fmt.Errorf("%w: the snapshots: %w", ErrRepair, err)
	}
	list, err := snaps.List()
	if err != nil {
		return info, fmt.Errorf("%w: the snapshots: %w", ErrRepair, err)
	}
	if err := clearRepair(cfg.Dir); err != nil {
		return info, err
	}
	if len(list) == 0 {
		first, err := log.FirstIndex()
		if err == nil && first != 1 {
			err = fmt.Errorf("there is no snapshot, and the log starts at entry %d", first)
		}
		if err := errors.Join(err, log.check(1)); err != nil {
			return info, fmt.Errorf("%w: %w", ErrRepair, err)
		}
	} else {
		from := snaps.store(list[0].ID)
		c := copyOf{RecoverConfig: cfg.RecoverConfig, log: log}
		err := log.check(list[0].Index + 1)
		if err == nil {
			err = store.LinkCopy(from, cfg.path(repairCopy))
		}
		if err == nil {
			info.Index, err = c.check(ctx)
		}
		if err == nil && info.Index < list[0].Index {
			err = fmt.Errorf("it holds entry %d", info.Index)
		}
		if err != nil {
			return info, fmt.Errorf("%w: snapshot %s: %w", ErrRepair, list[0].ID, errors.Join(err, clearRepair(cfg.Dir)))
		}
	}
	if info.Kept, err = setAside(cfg.Dir, cfg.Now, findings); err != nil {
		return info, err
	}
	return info, takePlace(cfg, info.Kept)
}

// takePlace moves the damaged store away and the copy, if there is one, in its
// place. Without one the next start makes a new store from the log.
func takePlace(cfg RepairConfig, kept string) error {
	for _, move := range [][2]string{{cfg.path("store"), filepath.Join(kept, "store")}, {cfg.path(repairReady), cfg.path("store")}} {
		if err := os.Rename(move[0], move[1]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("exchange store: %w", err)
		}
	}
	return errors.Join(archive.SyncDir(kept), archive.SyncDir(cfg.Dir))
}

// Repair is [Group.Repair] for a node that is down.
func Repair(ctx context.Context, cfg RepairConfig, r io.Reader, findings []store.Finding) (info RepairInfo, err error) {
	if err := noSnapshot(cfg); err != nil {
		return info, fmt.Errorf("%w: %w: empty the directory and let the node join again", ErrRepair, err)
	}
	log, err := openLog(cfg.path("raft.db"), nil)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	snaps, err := newSnapshots(cfg.path("snapshots"))
	if err != nil {
		return info, err
	}
	list, err := snaps.List()
	if err != nil {
		return info, err
	}
	c := copyOf{RecoverConfig: cfg.RecoverConfig, log: log}
	if len(list) > 0 {
		c.upTo = list[0].Index
	}
	if info.Index, err = c.receive(ctx, r); err != nil {
		return info, errors.Join(err, clearRepair(cfg.Dir))
	}
	if info.Kept, err = setAside(cfg.Dir, cfg.Now, findings); err == nil {
		err = c.exchangeSnapshots(ctx, snaps, info.Index, info.Kept)
	}
	if err != nil {
		return info, errors.Join(err, clearRepair(cfg.Dir))
	}
	return info, takePlace(cfg, info.Kept)
}

// SalvageConfig says what to salvage.
type SalvageConfig struct {
	RepairConfig
	// Also are directories of stores of the same site to read besides: another
	// node's, or what an earlier salvage set aside.
	Also []string
}

// SalvageInfo is what a salvage came to.
type SalvageInfo struct {
	store.SalvageResult
	// Before is what was found damaged.
	Before []store.Finding `json:"before"`
	// Mended says that the node's own snapshot and log sufficed: nothing is lost,
	// and the site goes on as it was. The rest of the result is then empty.
	Mended bool `json:"mended"`
	// Kept is the directory to which the damaged state was moved.
	Kept string `json:"kept"`
}

// Salvage makes a new store of everything that can still be verified of a damaged
// one, while the node is down: the way on for a site of one node, or one whose
// every node is damaged. What the node's own snapshot and log can mend is mended.
// Otherwise the node becomes a new group of its own, in a new incarnation, and
// what peers hold of the rest they give back. An interrupted salvage goes on
// where it stopped. The error wraps [ErrRepair] when nothing is damaged, or the
// store's sentinels.
func Salvage(ctx context.Context, cfg SalvageConfig) (info SalvageInfo, err error) {
	if _, err := os.Stat(cfg.path(salvageReady)); err == nil {
		return finishSalvage(cfg)
	}
	if info.Before, err = Inspect(ctx, cfg.RepairConfig); err != nil {
		return info, err
	}
	logBroken := checkLog(cfg.path("raft.db"))
	if errors.Is(logBroken, store.ErrLocked) {
		return info, logBroken
	}
	if len(info.Before) == 0 && len(cfg.Also) == 0 && logBroken == nil {
		return info, fmt.Errorf("%w: nothing is damaged in %s", ErrRepair, cfg.Dir)
	}
	if len(cfg.Also) == 0 && logBroken == nil {
		mended, err := Mend(ctx, cfg.RepairConfig, info.Before)
		if err == nil {
			info.Mended, info.Kept = true, mended.Kept
			return info, nil
		}
		if !errors.Is(err, ErrRepair) {
			return info, err
		}
	}
	if err := prepareSalvage(ctx, cfg, &info); err != nil {
		return info, fmt.Errorf("salvage: %w", err)
	}
	return finishSalvage(cfg)
}

// checkLog opens a log and reads it whole.
func checkLog(path string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%w: %w", ErrLogDamaged, err)
	}
	log, err := openLog(path, nil)
	if err != nil {
		return err
	}
	return errors.Join(log.check(0), log.Close())
}

// prepareSalvage makes the salvaged store beside the damaged one.
func prepareSalvage(ctx context.Context, cfg SalvageConfig, info *SalvageInfo) (err error) {
	work, preparing := cfg.path(salvageWork), cfg.path(salvagePreparing)
	if err := errors.Join(os.RemoveAll(work), os.RemoveAll(preparing), os.MkdirAll(work, 0o700), os.MkdirAll(preparing, 0o700)); err != nil {
		return err
	}
	log, damage := cfg.openEntries()
	if log != nil {
		defer func() { err = errors.Join(err, log.Close()) }()
	}
	incarnation, unread := cfg.replayInto(log, damage, filepath.Join(work, "store"))
	sources := append([]string{cfg.path("store"), filepath.Join(work, "store")}, cfg.Also...)
	older, err := filepath.Glob(filepath.Join(cfg.path("snapshots"), "*", "store"))
	if err != nil {
		return err
	}
	into := store.Config{Dir: filepath.Join(preparing, "store"), Federation: cfg.Federation, Site: cfg.Site}
	sc := store.SalvageConfig{Sources: append(sources, older...), Into: into, Incarnation: incarnation}
	if unread != nil { // what the copy of the damaged store could not take, the new store may
		sc.Replay = func(into *store.Store) error { return cfg.replay(log, damage, into) }
	}
	if info.SalvageResult, err = store.Salvage(sc); err != nil {
		return err
	}
	found, err := Inspect(ctx, RepairConfig{RecoverConfig: RecoverConfig{preparing, cfg.Federation, cfg.Site}})
	if err != nil || len(found) > 0 {
		return fmt.Errorf("the new store does not check: %+v: %w", found, err)
	}
	if info.Kept, err = setAside(cfg.Dir, cfg.Now, info.Before); err != nil {
		return err
	}
	return errors.Join(
		writeJSON(filepath.Join(preparing, salvageReport), info), os.RemoveAll(work),
		os.Rename(preparing, cfg.path(salvageReady)), archive.SyncDir(cfg.Dir))
}

// replayInto makes a copy of the damaged store, as far as it can be opened, and
// applies to it what the log holds and the store lacks: acknowledged writes that
// were not flushed before a crash. It returns an incarnation not below any that
// the log speaks of, and why not all of it was applied, or may not have been.
func (cfg SalvageConfig) replayInto(log entryLog, damage error, copied string) (incarnation uint32, err error) {
	if log == nil {
		return 0, damage
	}
	incarnation, err = lastIncarnation(log, cfg.Site)
	if err != nil {
		return incarnation, err
	}
	if err := store.LinkCopy(cfg.path("store"), copied); err != nil {
		return incarnation, err
	}
	var broken faults
	st, err := store.Open(store.Config{
		Dir: copied, Federation: cfg.Federation, Site: cfg.Site, Salvaging: true,
		Fatal: broken.add,
	})
	if err != nil {
		return incarnation, err
	}
	return incarnation, errors.Join(cfg.replay(log, damage, st), st.Close(), broken.all())
}

// replay applies what can be read of the log to a store. It is an error that the
// log is damaged, also when every entry is there: nothing says so.
func (cfg SalvageConfig) replay(log entryLog, damage error, into *store.Store) error {
	if log == nil {
		return damage
	}
	last, err := log.LastIndex()
	if err == nil {
		_, err = replay(into, log, cfg.Site, last)
	}
	return errors.Join(damage, err)
}

// entryLog is what a salvage reads of a Raft log.
type entryLog interface {
	FirstIndex() (uint64, error)
	LastIndex() (uint64, error)
	GetLog(index uint64, l *raft.Log) error
	Close() error
	// each calls f for every entry, in order.
	each(f func(*raft.Log)) error
}

// openEntries opens the log, or what can be found of it, and says why it is damaged.
func (cfg SalvageConfig) openEntries() (entryLog, error) {
	path := cfg.path("raft.db")
	damage := checkLog(path)
	if damage == nil {
		log, err := openLog(path, nil)
		if err == nil {
			return log, nil
		}
		damage = err
	}
	found, err := findEntries(path)
	if err != nil {
		return nil, errors.Join(damage, err)
	}
	return found, damage
}

// lastIncarnation returns the highest incarnation of a site that its log speaks of.
func lastIncarnation(log entryLog, site tiers.SiteID) (n uint32, err error) {
	c, err := newCodec()
	if err != nil {
		return 0, err
	}
	err = log.each(func(l *raft.Log) {
		if l.Type == raft.LogCommand {
			n = max(n, c.incarnation(l.Data, site))
		}
	})
	return n, err
}

// incarnation returns the highest incarnation of a site that a log entry begins, 0
// for none.
func (c codec) incarnation(entry []byte, site tiers.SiteID) (n uint32) {
	commands, _, _ := c.commands(entry, nil) // what is malformed began nothing
	for _, b := range commands {
		switch cmd, err := c.decodeCommand(b); {
		case err != nil:
		case cmd.Incarnation != nil:
			n = max(n, cmd.Incarnation.From+1)
		case cmd.Aside != nil && cmd.Aside.Author == site:
			n = max(n, cmd.Aside.Incarnation+1)
		}
	}
	return n
}

// finishSalvage puts what was prepared in its place.
func finishSalvage(cfg SalvageConfig) (info SalvageInfo, err error) {
	b, err := os.ReadFile(filepath.Join(cfg.path(salvageReady), salvageReport))
	if err == nil {
		err = json.Unmarshal(b, &info)
	}
	if err == nil {
		err = writeJSON(filepath.Join(info.Kept, salvageReport), info)
	}
	if err == nil {
		err = install(cfg.Dir, salvageReady, info.Kept)
	}
	if err != nil {
		return info, fmt.Errorf("salvage: %w", err)
	}
	return info, nil
}
