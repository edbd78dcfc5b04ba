package replication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/tiermesh/tiermesh/replication/archive"
	"github.com/tiermesh/tiermesh/replication/store"
)

// The directories of a repair: the copy that is being checked, and the copy that
// is to take the store's place.
const (
	repairCopy  = "repair.copy"
	repairReady = "repair.ready"
)

// repairs is what a group needs to repair itself while it runs.
type repairs struct {
	snaps *snapshots
	one   sync.Mutex // held by the repair under way, and for good once the group ended
}

// RepairInfo is what a repair came to.
type RepairInfo struct {
	// Index is the entry that the store reflects now, Records what it holds.
	Index, Records uint64
	// Kept is the directory to which the damaged state was moved.
	Kept string
}

// WithRemedy says what to do about an error that a damaged store or log is the cause
// of; others it returns as they are.
func (g *Group) WithRemedy(err error) error { return withRemedy(g.cfg, err) }

func withRemedy(cfg Config, err error) error {
	switch {
	case errors.Is(err, ErrLogDamaged) && cfg.Siblings.Nodes > 1:
		return fmt.Errorf("%w: move the node's directory away, and let it join the others again", err)
	case errors.Is(err, ErrLogDamaged):
		return fmt.Errorf("%w: run: tiermesh salvage --config FILE --confirm %s", err, cfg.Site)
	case err == nil || errors.Is(err, ErrDamaged) || !store.IsDamage(err):
		return err
	case cfg.Siblings.Nodes > 1:
		return fmt.Errorf("%w: %w: run tiermesh repair, or with the node down: tiermesh repair --config FILE", ErrDamaged, err)
	default:
		return fmt.Errorf("%w: %w: end the node and run: tiermesh salvage --config FILE --confirm %s", ErrDamaged, err, cfg.Site)
	}
}

// finishRepair ends a repair that a crash interrupted between its two steps.
func (g *Group) finishRepair() error {
	ready, place := filepath.Join(g.cfg.Dir, repairReady), filepath.Join(g.cfg.Dir, "store")
	_, noStore := os.Stat(place)
	_, noCopy := os.Stat(ready)
	switch {
	case noCopy == nil && errors.Is(noStore, os.ErrNotExist):
		g.cfg.Logger.Warn("a repair was interrupted in its last step: it is finished now")
		return errors.Join(os.Rename(ready, place), archive.SyncDir(g.cfg.Dir))
	case noCopy == nil:
		g.cfg.Logger.Warn("a repair was interrupted and changed nothing: run tiermesh repair again")
	}
	return nil
}

// clearRepair removes what an interrupted repair or salvage left beside the store.
func clearRepair(dir string) error {
	var err error
	for _, name := range []string{repairReady, repairCopy, repairCopy + ".partial", salvageWork, salvagePreparing} {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	if err != nil {
		return fmt.Errorf("clear interrupted repair: %w", err)
	}
	return nil
}

// setAside makes the directory for a damaged state, with what was found.
func setAside(dir string, now time.Time, findings any) (string, error) {
	base := filepath.Join(dir, "damaged-"+now.UTC().Format("20060102T150405Z"))
	path := base
	for i := 2; ; i++ {
		err := os.Mkdir(path, 0o700)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrExist) {
			return "", fmt.Errorf("set the damaged state aside: %w", err)
		}
		path = fmt.Sprintf("%s-%d", base, i)
	}
	return path, writeJSON(filepath.Join(path, "findings.json"), findings)
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close(), archive.SyncDir(filepath.Dir(path)))
}

// copyOf is a copy of a store under preparation.
type copyOf struct {
	RecoverConfig
	log *sealedLog
	// upTo is the entry that the copy must reflect, by this node's own log if need
	// be: it is committed.
	upTo uint64
}

// faults collects what Pebble finds in its goroutines.
type faults struct {
	mu  sync.Mutex // guards err
	err error
}

func (f *faults) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = errors.Join(f.err, err)
}

func (f *faults) all() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// receive makes the copy of a sibling's backup.
func (c copyOf) receive(ctx context.Context, r io.Reader) (index uint64, err error) {
	if err := clearRepair(c.Dir); err != nil {
		return 0, err
	}
	path := filepath.Join(c.Dir, repairCopy)
	meta, err := archive.Unpack(r, path)
	if err != nil {
		return 0, err
	}
	info, err := backupInfo(meta)
	if err != nil {
		return 0, err
	}
	if info.Federation != c.Federation || info.Site != c.Site {
		return 0, fmt.Errorf("%w: it is of site %s of federation %q", ErrNoBackup, info.Site, info.Federation)
	}
	return c.check(ctx)
}

// check reads the whole copy, brings it up to date and makes it ready.
func (c copyOf) check(ctx context.Context) (index uint64, err error) {
	path := filepath.Join(c.Dir, repairCopy)
	var broken faults
	st, err := store.Open(store.Config{
		Dir: path, Federation: c.Federation, Site: c.Site, Fatal: broken.add,
	})
	if err != nil {
		return 0, fmt.Errorf("copy: %w", err)
	}
	found, err := st.Scrub(ctx)
	if err == nil && len(found.Findings) > 0 {
		err = fmt.Errorf("%w: the copy is damaged, too: %+v", archive.ErrDamaged, found.Findings[0])
	}
	if err == nil && st.AppliedIndex() < c.upTo {
		_, err = replay(st, c.log, c.Site, c.upTo)
	}
	index = st.AppliedIndex()
	if err := errors.Join(err, st.Close(), broken.all()); err != nil {
		return 0, fmt.Errorf("copy: %w", err)
	}
	if err := errors.Join(os.Rename(path, filepath.Join(c.Dir, repairReady)), archive.SyncDir(c.Dir)); err != nil {
		return 0, fmt.Errorf("copy: %w", err)
	}
	return index, nil
}

// Repair replaces this node's store by a copy of a sibling's, which r is read
// for: a backup (see [Group.Backup]) of any later entry, or of one from which
// this node's log goes on. The node keeps its identity and its log and serves
// meanwhile; entries wait while the store is exchanged. The old store and
// snapshot go to a directory of their own, with findings. The error wraps
// [archive.ErrDamaged], [ErrNoBackup], [ErrBehind] or [ErrRepair] when nothing
// was changed; any other one may be fatal, too.
func (g *Group) Repair(ctx context.Context, r io.Reader, findings []store.Finding) (info RepairInfo, err error) {
	if !g.repairs.one.TryLock() {
		return info, fmt.Errorf("%w: another one is under way", ErrRepair)
	}
	defer g.repairs.one.Unlock()
	c := copyOf{RecoverConfig{g.cfg.Dir, g.cfg.Federation, g.cfg.Site}, g.log, g.store.AppliedIndex()}
	index, err := c.receive(ctx, r)
	if err != nil {
		return info, errors.Join(err, clearRepair(g.cfg.Dir))
	}
	g.fsm.making.Lock() // no snapshot of the damaged store from here on
	defer g.fsm.making.Unlock()
	if info.Kept, err = setAside(g.cfg.Dir, g.cfg.Now(), findings); err != nil {
		return info, errors.Join(err, clearRepair(g.cfg.Dir))
	}
	if err := c.exchangeSnapshots(ctx, g.repairs.snaps, index, info.Kept); err != nil {
		return info, errors.Join(err, clearRepair(g.cfg.Dir))
	}
	err = g.exchange(index, filepath.Join(info.Kept, "store"))
	if errors.Is(err, ErrRepair) || errors.Is(err, ErrClosed) {
		return info, errors.Join(err, clearRepair(g.cfg.Dir))
	}
	if err != nil {
		g.cfg.Fatal(fmt.Errorf("repair: %w", err))
		return info, err
	}
	info.Index, info.Records = g.store.AppliedIndex(), g.store.Counts().Records
	return info, nil
}

// exchangeSnapshots gives the node's snapshots the copy's contents: their tables
// are the damaged store's own.
func (c copyOf) exchangeSnapshots(ctx context.Context, snaps *snapshots, index uint64, aside string) error {
	list, err := snaps.List()
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.Index > index {
			return fmt.Errorf("%w: the copy is of entry %d, this node's snapshot of entry %d: try again", ErrRepair, index, m.Index)
		}
	}
	return snaps.exchange(ctx, func(dir string) error { return store.LinkCopy(filepath.Join(c.Dir, repairReady), dir) }, aside)
}

// exchange puts the copy, of some entry, in the store's place. What the store
// had applied since the copy was made is applied to it from the log.
func (g *Group) exchange(index uint64, aside string) error {
	g.fsm.mu.Lock()
	defer g.fsm.mu.Unlock()
	var since []*raft.Log
	for i := index + 1; i <= g.store.AppliedIndex(); i++ {
		var l raft.Log
		if err := g.log.GetLog(i, &l); err != nil {
			return fmt.Errorf("%w: read entry %d: %w", ErrRepair, i, err)
		}
		since = append(since, &l)
	}
	if err := g.store.Exchange(filepath.Join(g.cfg.Dir, repairReady), aside); err != nil {
		return err
	}
	g.fsm.applyHeld(since)
	return errors.Join(archive.SyncDir(aside), archive.SyncDir(filepath.Dir(aside)), archive.SyncDir(g.cfg.Dir), g.store.Flush())
}

// ScrubSnapshots reads the tables of this node's snapshots and names those that
// are damaged.
func (g *Group) ScrubSnapshots(ctx context.Context) (out []store.Finding, err error) {
	list, err := g.repairs.snaps.List()
	for _, m := range list {
		// One that is removed meanwhile has nothing left to find.
		found, _ := store.CheckTables(ctx, nil, g.repairs.snaps.store(m.ID))
		out = append(out, found...)
	}
	return out, err
}

// RepairSnapshots makes this node's snapshots again from its store, which must be
// sound, and moves the old ones to a directory of their own, with findings.
func (g *Group) RepairSnapshots(ctx context.Context, findings []store.Finding) (info RepairInfo, err error) {
	if !g.repairs.one.TryLock() {
		return info, fmt.Errorf("%w: another one is under way", ErrRepair)
	}
	defer g.repairs.one.Unlock()
	g.fsm.making.Lock()
	defer g.fsm.making.Unlock()
	if info.Kept, err = setAside(g.cfg.Dir, g.cfg.Now(), findings); err != nil {
		return info, err
	}
	info.Index, info.Records = g.store.AppliedIndex(), g.store.Counts().Records
	return info, g.repairs.snaps.exchange(ctx, g.store.Checkpoint, info.Kept)
}
