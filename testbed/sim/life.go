package sim

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
)

// life is one run of a node, from its start to its end.
type life struct {
	node *node.Node
	stop context.CancelFunc
	// dead is set at the instant of a crash: nothing that the node does from then
	// on gets out.
	dead atomic.Bool
	// done is closed when Run returned, gone when the machine is as a crash or an
	// end left it.
	done, gone chan struct{}
	err        error // of Run, once done is closed
	burial     sync.Once
}

// clock is a site's clock: how far it is from the bubble's.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// start starts the nodes of a site that are down, node 0 meaning all, and waits
// until each takes part, as far as enough of them are up.
func (w *World) start(ctx context.Context, id tiers.SiteID, number uint32) error {
	var started []*life
	for _, m := range w.of(id, number, false) {
		l, err := w.startMember(m)
		if err != nil {
			return err
		}
		if l != nil {
			started = append(started, l)
		}
	}
	if !w.enough(id) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	for _, l := range started {
		if err := l.node.Ready(ctx); err != nil && !l.dead.Load() {
			return fmt.Errorf("start site %s: %w", id, err)
		}
		if err := w.joined(ctx, id, l); err != nil {
			return err
		}
	}
	return nil
}

// enough reports whether most of a site's nodes are up.
func (w *World) enough(id tiers.SiteID) bool {
	all := w.of(id, 0, false)
	w.mu.Lock()
	defer w.mu.Unlock()
	up := 0
	for _, m := range all {
		if m.life != nil && !m.paused {
			up++
		}
	}
	return up > len(all)/2
}

// joined waits until a node knows of as many voters as the site has nodes, which a
// new site comes to one by one.
func (w *World) joined(ctx context.Context, id tiers.SiteID, l *life) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !l.dead.Load() {
		members, err := l.node.Group().Members()
		voters := 0
		for _, m := range members {
			if m.Voter {
				voters++
			}
		}
		if err == nil && voters >= w.script.Federation.NodesOf(id) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("start site %s: it has %d voters of %d: %w", id, voters, w.script.Federation.NodesOf(id), context.Cause(ctx))
		}
	}
	return nil
}

// startMember starts a node that is down; nil when it is up.
func (w *World) startMember(m *member) (*life, error) {
	if w.living(m) != nil {
		return nil, nil
	}
	w.mu.Lock()
	m.starts++
	m.fell, m.paused = nil, false
	site := w.sites[m.at.site]
	seed := [4]uint64{w.script.Seed, uint64(m.addr.Addr().As4()[1])<<16 | uint64(m.addr.Addr().As4()[2])<<8 | uint64(m.addr.Addr().As4()[3]), m.starts}
	old := site.old
	w.mu.Unlock()
	if err := m.disk.settle(); err != nil {
		return nil, err
	}
	l := &life{done: make(chan struct{}), gone: make(chan struct{})}
	var without uint64
	if old {
		without = federation.Features
	}
	n, err := node.Open(node.Config{
		Dir: w.data(m.at), Credentials: w.credentialsOf(m.at), Topology: w.topologyFile(), Listen: m.addr.String(),
	}, node.Options{
		Logger: w.cfg.Logger.With("site", string(m.at.site)), Conn: w.net.open(m.at.site, m.addr),
		Now: site.clock.now, Random: newRandom(seed), Bootstrap: m.at.node == 1, Without: without,
		Disk:  replication.Disk{FS: m.disk},
		Fatal: func(err error) { w.fatal(m, l, err) },
	})
	if err != nil {
		w.net.unplug(m.addr)
		err = fmt.Errorf("start %s: %w", m.at, err)
		w.mu.Lock()
		m.fell = err
		w.mu.Unlock()
		return nil, errors.Join(err, m.disk.crash())
	}
	run, stop := context.WithCancel(context.Background())
	l.node, l.stop = n, stop
	w.mu.Lock()
	m.life = l
	w.mu.Unlock()
	w.running.Go(func() { // ends with stop, Crash or a failure of the node's own
		l.err = n.Run(run)
		close(l.done)
		if l.dead.CompareAndSwap(false, true) {
			w.over(m, l, fmt.Errorf("%s ended by itself: %w", m.at, l.err), m.disk.settle)
		}
	})
	if l.dead.Load() { // while it started
		w.running.Go(func() { w.bury(m, l) })
	}
	return l, nil
}

// fatal is what a node does about a storage error: it ends as in a crash. It is
// called from within the node, and returns.
func (w *World) fatal(m *member, l *life, cause error) {
	if !l.dead.CompareAndSwap(false, true) {
		return
	}
	w.strike(m)
	w.cfg.Logger.Warn("storage error ends a node", "site", string(m.at.site), "err", cause)
	w.mu.Lock()
	m.fell = fmt.Errorf("%s ended: %w", m.at, cause)
	opened := m.life == l
	w.mu.Unlock()
	if opened {
		w.running.Go(func() { w.bury(m, l) }) // ends with the node
	}
}

// strike is the instant of a crash.
func (w *World) strike(m *member) {
	w.net.unplug(m.addr)
	m.disk.strike()
}

// bury ends a node that was struck and takes away what it had not flushed.
func (w *World) bury(m *member, l *life) {
	l.burial.Do(func() {
		// What it says about its own end is that its disk is gone.
		err := l.node.Crash()
		l.stop()
		<-l.done
		w.cfg.Logger.Debug("node crashed", "site", string(m.at.site), "err", errors.Join(err, l.err))
		w.over(m, l, nil, m.disk.crash)
	})
}

// over notes that a life has ended; leave brings the disk to what it is from now on.
func (w *World) over(m *member, l *life, cause error, leave func() error) {
	w.net.unplug(m.addr)
	needed := l.needed()
	err := leave()
	w.mu.Lock()
	w.needed += needed
	if m.life == l {
		m.life = nil
	}
	switch {
	case err != nil:
		m.fell = fmt.Errorf("disk of %s: %w", m.at, err)
	case cause != nil:
		m.fell = cause
	}
	w.mu.Unlock()
	close(l.gone)
}

// living returns a node's present life, or nil; the end of one that is ending is
// waited for.
func (w *World) living(m *member) *life {
	w.mu.Lock()
	l := m.life
	w.mu.Unlock()
	if l != nil && l.dead.Load() {
		<-l.gone
		return nil
	}
	return l
}

// kill ends a node as SIGKILL and a power cut would, and waits.
func (w *World) kill(m *member) {
	l := w.living(m)
	if l == nil {
		return
	}
	if l.dead.CompareAndSwap(false, true) {
		w.strike(m)
		w.bury(m, l)
	}
	<-l.gone
}

// stop ends a node in order, and waits.
func (w *World) stop(m *member) error {
	l := w.living(m)
	if l == nil {
		return nil
	}
	if l.dead.CompareAndSwap(false, true) {
		l.stop()
		<-l.done
		w.over(m, l, nil, m.disk.settle)
	}
	<-l.gone
	return l.err
}

// data returns a node's data directory.
func (w *World) data(at place) string { return filepath.Join(w.cfg.Dir, "data", dirName(at)) }

// dirName names a place's directories.
func dirName(at place) string {
	name := fmt.Sprintf("%s-%d", at.site, at.node)
	if at.clone > 0 {
		name += fmt.Sprintf("-clone-%d", at.clone)
	}
	return name
}
