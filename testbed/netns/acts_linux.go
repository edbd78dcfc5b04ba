package netns

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// Supports implements [run.World].
func (w *World) Supports(k scenario.ActKind) bool {
	switch k {
	case scenario.ActFsyncError, scenario.ActClock, scenario.ActUpgrade:
		return false
	default:
		return true
	}
}

// Act implements [run.World].
func (w *World) Act(ctx context.Context, a scenario.Act) error {
	if err := w.known(a.Site); err != nil {
		return err
	}
	on := w.sites[a.Site]
	if int(a.Node) > len(on) {
		return fmt.Errorf("%w: site %s has no node %d", ErrConfig, a.Site, a.Node)
	}
	if a.Node > 0 {
		on = on[a.Node-1 : a.Node]
	}
	var err error
	switch a.Kind {
	case scenario.ActKill:
		err = w.each(on, func(m *member) error { return w.at(m).kill() })
	case scenario.ActStart:
		err = w.startDown(ctx, a.Site, on)
	case scenario.ActPause:
		err = w.each(on, w.pause)
	case scenario.ActResume:
		err = w.each(on, w.resume)
	case scenario.ActBackup:
		err = w.each(on, w.backUp)
	case scenario.ActRestoreBackup:
		err = w.restore(ctx, a.Site, on)
	case scenario.ActClone:
		err = w.clone(ctx, a.Site)
	case scenario.ActDiskFull:
		err = w.each(on, fillDisk)
	case scenario.ActBitrot:
		err = w.each(on, func(m *member) error { return w.rot(ctx, m) })
	case scenario.ActFsyncError, scenario.ActClock, scenario.ActUpgrade:
		err = run.ErrUnsupported
	default:
		err = fmt.Errorf("%w: unknown", run.ErrUnsupported)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", a.Kind, a.Site, err)
	}
	return nil
}

func (w *World) each(on []*member, f func(*member) error) (err error) {
	for _, m := range on {
		if e := f(m); e != nil {
			err = errors.Join(err, fmt.Errorf("node %d: %w", m.num, e))
		}
	}
	return err
}

// startDown starts those that are down, with room on their disks.
func (w *World) startDown(ctx context.Context, id tiers.SiteID, on []*member) error {
	for _, m := range on {
		if err := freeDisk(m); err != nil {
			return err
		}
		if !w.at(m).up() {
			if err := w.spawn(m); err != nil {
				return err
			}
		}
	}
	return w.ready(ctx, id)
}

func (w *World) pause(m *member) error {
	p := w.at(m)
	if !p.up() {
		return fmt.Errorf("%w: %s", run.ErrDown, m.site)
	}
	p.paused.Store(true)
	return p.standStill()
}

func (w *World) resume(m *member) error {
	p := w.at(m)
	if !p.up() {
		return fmt.Errorf("%w: %s", run.ErrDown, m.site)
	}
	defer p.paused.Store(false)
	return p.signal(syscall.SIGCONT)
}

// backUp copies a node's disk while its process stands still.
func (w *World) backUp(m *member) error {
	if p := w.at(m); p.up() && !p.paused.Load() {
		if err := p.standStill(); err != nil {
			return err
		}
		return errors.Join(copyDisk(m.data(), m.backup()), p.signal(syscall.SIGCONT))
	}
	return copyDisk(m.data(), m.backup())
}

// restore kills nodes, puts their copies back and starts them.
func (w *World) restore(ctx context.Context, id tiers.SiteID, on []*member) error {
	for _, m := range on {
		if err := w.at(m).kill(); err != nil {
			return err
		}
		if err := putBack(m.backup(), m.data()); err != nil {
			return err
		}
	}
	return w.startDown(ctx, id, on)
}

// clone starts a process of the same identity on another copy of the backup.
func (w *World) clone(ctx context.Context, id tiers.SiteID) error {
	if n := len(w.sites[id]); n > 1 {
		return fmt.Errorf("%w: of a site of %d nodes: want one of 1", run.ErrUnsupported, n)
	}
	of := w.sites[id][0]
	w.mu.Lock()
	number := len(w.clones) + 1
	w.mu.Unlock()
	name := fmt.Sprint("clone-", number)
	m := newMember(id, of.num, fmt.Sprintf("%s-%s-%s", w.record.prefix, id, name), filepath.Join(of.dir, name))
	m.credentials = of.credentials
	if err := copyDisk(of.backup(), m.data()); err != nil {
		return err
	}
	var err error
	if m.addr, err = w.net.add(id, m.ns); err != nil {
		return err
	}
	if err := w.writeConfig(m); err != nil {
		return err
	}
	w.mu.Lock()
	w.clones = append(w.clones, m)
	w.mu.Unlock()
	if err := w.spawn(m); err != nil {
		return err
	}
	_, err = w.answers(ctx, m)
	return err
}

// rot flips a bit in a node's largest table.
func (w *World) rot(ctx context.Context, m *member) error {
	done, err := flipBit(m.data())
	if done || err != nil {
		return err
	}
	// All is in memory and in the log: an end in order writes a table.
	if p := w.at(m); p.up() && !p.paused.Load() {
		if err := p.stop(ctx); err != nil {
			return err
		}
		if done, err = flipBit(m.data()); err != nil {
			return err
		}
		if err := w.startDown(ctx, m.site, []*member{m}); err != nil {
			return err
		}
	}
	if !done {
		return errors.New("the store has no table yet")
	}
	return nil
}
