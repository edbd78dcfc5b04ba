package sim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// ErrNothing is wrapped when there is nothing that an act could be done to.
var ErrNothing = errors.New("sim: nothing to do it to")

// acts are what can be done to sites.
var acts = map[scenario.ActKind]func(*World, context.Context, scenario.Act) error{
	scenario.ActKill:          (*World).actKill,
	scenario.ActStart:         (*World).actStart,
	scenario.ActPause:         (*World).actPause,
	scenario.ActResume:        (*World).actPause,
	scenario.ActDiskFull:      (*World).actDisk,
	scenario.ActFsyncError:    (*World).actDisk,
	scenario.ActBitrot:        (*World).actBitrot,
	scenario.ActClock:         (*World).actClock,
	scenario.ActBackup:        (*World).actBackup,
	scenario.ActRestoreBackup: (*World).actRestore,
	scenario.ActClone:         (*World).actClone,
	scenario.ActUpgrade:       (*World).actUpgrade,
}

// Supports implements [run.World].
func (w *World) Supports(k scenario.ActKind) bool { return acts[k] != nil }

// Act implements [run.World].
func (w *World) Act(ctx context.Context, a scenario.Act) error {
	act := acts[a.Kind]
	if act == nil {
		return fmt.Errorf("%w: %s", run.ErrUnsupported, a.Kind)
	}
	if len(w.of(a.Site, a.Node, false)) == 0 {
		return fmt.Errorf("%s: no node %d of site %s", a.Kind, a.Node, a.Site)
	}
	if err := act(w, ctx, a); err != nil {
		return fmt.Errorf("%s of site %s: %w", a.Kind, a.Site, err)
	}
	return nil
}

// actKill ends nodes; all of a site means its clones, too.
func (w *World) actKill(_ context.Context, a scenario.Act) error {
	for _, m := range w.of(a.Site, a.Node, a.Node == 0) {
		w.kill(m)
	}
	return nil
}

func (w *World) actStart(ctx context.Context, a scenario.Act) error {
	for _, m := range w.of(a.Site, a.Node, false) {
		if w.living(m) != nil {
			m.disk.set(sound)
		}
	}
	return w.start(ctx, a.Site, a.Node)
}

func (w *World) actPause(_ context.Context, a scenario.Act) error {
	on := a.Kind == scenario.ActPause
	for _, m := range w.of(a.Site, a.Node, false) {
		w.mu.Lock()
		m.paused = on && m.life != nil
		on := m.paused
		w.mu.Unlock()
		w.net.pause(m.addr, on)
	}
	return nil
}

// actDisk breaks disks and has the stores flush, so that they find out. A node that
// had nothing to flush finds out later.
func (w *World) actDisk(_ context.Context, a scenario.Act) error {
	to := full
	if a.Kind == scenario.ActFsyncError {
		to = unflushable
	}
	for _, m := range w.of(a.Site, a.Node, false) {
		l := w.living(m)
		if l == nil {
			continue
		}
		m.disk.set(to)
		// The node says itself what it makes of the error.
		w.running.Go(func() { _ = l.node.Group().Store().Flush() }) // ends with the flush or the node
		if l.dead.Load() {
			<-l.gone
		}
	}
	return nil
}

func (w *World) actClock(_ context.Context, a scenario.Act) error {
	w.sites[a.Site].clock.ahead.Add(int64(a.By))
	return nil
}

// actBitrot flips one bit in a table of a store, of a node that is up or down.
func (w *World) actBitrot(_ context.Context, a scenario.Act) error {
	for _, m := range w.of(a.Site, a.Node, false) {
		tables, err := w.tables(m)
		if err != nil {
			return err
		}
		if len(tables) == 0 {
			continue
		}
		rng := rand.New(rand.NewPCG(w.script.Seed, m.starts)) //nolint:gosec // reproducible
		return flip(tables[rng.IntN(len(tables))], rng)
	}
	return fmt.Errorf("%w: no table yet", ErrNothing)
}

// tables lists a store's tables; one that is up flushes first, when it has none.
func (w *World) tables(m *member) ([]string, error) {
	pattern := filepath.Join(w.data(m.at), "store", "*.sst")
	found, err := filepath.Glob(pattern)
	l := w.living(m)
	if err != nil || len(found) > 0 || l == nil {
		return found, err
	}
	if err := l.node.Group().Store().Flush(); err != nil {
		return nil, err
	}
	return filepath.Glob(pattern)
}

// flip flips a bit of a file.
func flip(path string, rng *rand.Rand) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > 0 {
		at, b := rng.Int64N(info.Size()), make([]byte, 1)
		if _, err = f.ReadAt(b, at); err == nil {
			b[0] ^= 1 << rng.IntN(8)
			_, err = f.WriteAt(b, at)
		}
	}
	return errors.Join(err, f.Close())
}

func (w *World) copyOf(at place) string { return filepath.Join(w.cfg.Dir, "backup", dirName(at)) }

// down takes a site's nodes down with end and says whether one was up.
func (w *World) down(id tiers.SiteID, end func(*member) error) (was bool, err error) {
	for _, m := range w.of(id, 0, false) {
		was = w.living(m) != nil || was
		err = errors.Join(err, end(m))
	}
	return was, err
}

// killed is kill for [World.down].
func (w *World) killed(m *member) error {
	w.kill(m)
	return nil
}

// again starts a site that was up.
func (w *World) again(ctx context.Context, id tiers.SiteID, was bool) error {
	if !was {
		return nil
	}
	return w.start(ctx, id, 0)
}

// actBackup copies the disks of a site aside. One that is up is stopped for it, in
// order, and started again.
func (w *World) actBackup(ctx context.Context, a scenario.Act) error {
	was, err := w.down(a.Site, w.stop)
	if err != nil {
		return err
	}
	for _, m := range w.of(a.Site, 0, false) {
		if err := replaceDir(w.data(m.at), w.copyOf(m.at)); err != nil {
			return err
		}
	}
	return w.again(ctx, a.Site, was)
}

// actRestore kills a site and puts the copy of its disks back; one that was up is
// started again.
func (w *World) actRestore(ctx context.Context, a scenario.Act) error {
	if err := w.saved(a.Site); err != nil {
		return err
	}
	was, err := w.down(a.Site, w.killed)
	if err != nil {
		return err
	}
	for _, m := range w.of(a.Site, 0, false) {
		if err := replaceDir(w.copyOf(m.at), w.data(m.at)); err != nil {
			return err
		}
	}
	return w.again(ctx, a.Site, was)
}

// saved reports whether there is a copy of a site's disks. The error wraps
// [ErrNothing].
func (w *World) saved(id tiers.SiteID) error {
	for _, m := range w.of(id, 0, false) {
		if _, err := os.Stat(w.copyOf(m.at)); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: no backup of %s", ErrNothing, m.at)
		}
	}
	return nil
}

// actClone starts a second site of one node on the copy of its disk, with the same
// credentials at another address. It lives until its site is killed.
func (w *World) actClone(ctx context.Context, a scenario.Act) error {
	if w.script.Federation.NodesOf(a.Site) > 1 {
		// The copies would reach each other's originals at the addresses of the
		// topology, and vote under their names.
		return fmt.Errorf("%w: clone of a site of several nodes", run.ErrUnsupported)
	}
	if err := w.saved(a.Site); err != nil {
		return err
	}
	first := w.of(a.Site, 1, false)[0]
	at := place{site: a.Site, node: 1, clone: len(w.of(a.Site, 0, true))}
	from := first.addr.Addr().As4()
	m := w.add(at, address(int(from[1])<<8|int(from[2]), 100+at.clone))
	if err := errors.Join(os.MkdirAll(m.disk.trash, 0o700), replaceDir(w.copyOf(first.at), w.data(at))); err != nil {
		return err
	}
	l, err := w.startMember(m)
	if err != nil {
		return err
	}
	return l.node.Ready(ctx)
}

// actUpgrade starts a site again with the newer protocol, node by node.
func (w *World) actUpgrade(ctx context.Context, a scenario.Act) error {
	w.mu.Lock()
	w.sites[a.Site].old = false
	w.mu.Unlock()
	for _, m := range w.of(a.Site, a.Node, false) {
		was := w.living(m) != nil
		if err := w.stop(m); err != nil {
			return err
		}
		if was {
			if err := w.start(ctx, a.Site, m.at.node); err != nil {
				return err
			}
		}
	}
	return nil
}

// replaceDir puts a copy of a directory in the place of another.
func replaceDir(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}
