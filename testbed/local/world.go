package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/fault"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/relay"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// World is a [run.World] of real sites in this process, over QUIC on loopback. A
// node that is paused neither hears nor speaks, but runs.
type World struct {
	dir    string
	logger *slog.Logger
	c      *Cluster

	mu     sync.Mutex // guards the fields below
	clocks map[tiers.SiteID]time.Duration
	paused map[place]bool
	alone  map[tiers.SiteID]bool
	lines  map[[2]tiers.SiteID]scenario.Line
	base   scenario.Line
}

var _ run.World = (*World)(nil)

// NewWorld returns a world that keeps its files in a directory.
func NewWorld(dir string, logger *slog.Logger) *World {
	return &World{
		dir: dir, logger: logger, clocks: map[tiers.SiteID]time.Duration{}, paused: map[place]bool{},
		alone: map[tiers.SiteID]bool{}, lines: map[[2]tiers.SiteID]scenario.Line{},
	}
}

// Links in scenarios die and come back fast, so that a script need not wait for
// the patience that a real line deserves.
const (
	worldIdle    = 3 * time.Second
	worldRedial  = time.Second
	worldStandIn = 5 * time.Second
)

// Open implements [run.World].
func (w *World) Open(ctx context.Context, s *scenario.Script, progress func(up, of int)) error {
	w.base = s.Federation.Line
	at := map[tiers.SiteID]uint32{}
	for id, n := range s.Federation.Nodes {
		at[id] = uint32(n)
	}
	c, err := Open(ctx, Config{
		Dir: w.dir, Federation: "testbed", Sites: s.Federation.Sites, NodesAt: at, Now: w.now, Logger: w.logger,
		RedialMax: worldRedial, LinkIdle: worldIdle, StandInAfter: worldStandIn,
		Fatal: func(err error) { w.logger.Error("storage error", "err", err) },
	}, progress)
	if err != nil {
		return err
	}
	w.c = c
	if w.base == (scenario.Line{}) {
		return nil
	}
	return w.shapeAll()
}

func (w *World) now(id tiers.SiteID) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.clocks[id])
}

// Topology implements [run.World].
func (w *World) Topology() *tiers.Topology { return w.c.Topology() }

// Line implements [run.World].
func (w *World) Line(from, to tiers.SiteID, l scenario.Line) error {
	w.mu.Lock()
	w.lines[[2]tiers.SiteID{from, to}] = l
	w.mu.Unlock()
	return w.shape(from, to)
}

// Isolate implements [run.World].
func (w *World) Isolate(id tiers.SiteID, cut bool) error {
	w.mu.Lock()
	w.alone[id] = cut
	w.mu.Unlock()
	var errs []error
	for _, s := range w.c.Topology().Sites() {
		if s.ID != id {
			errs = append(errs, w.shape(id, s.ID), w.shape(s.ID, id))
		}
	}
	return errors.Join(errs...)
}

func (w *World) shapeAll() error {
	var errs []error
	for _, a := range w.c.Topology().Sites() {
		for _, b := range w.c.Topology().Sites() {
			if a.ID != b.ID {
				errs = append(errs, w.shape(a.ID, b.ID))
			}
		}
	}
	return errors.Join(errs...)
}

// shape brings the gates of one site's nodes to what holds for the line to another
// site: its own state, and whether an end is isolated or paused.
func (w *World) shape(from, to tiers.SiteID) error {
	w.mu.Lock()
	l, ok := w.lines[[2]tiers.SiteID{from, to}]
	if !ok {
		l = w.base
	}
	cut := l.Cut || w.alone[from] || w.alone[to]
	w.mu.Unlock()
	for i := range w.c.nodesAt(from) {
		for j := range w.c.nodesAt(to) {
			a, b := place{from, i + 1}, place{to, j + 1}
			w.mu.Lock()
			out := fault.Out{
				Cut: cut || w.paused[a] || w.paused[b], Loss: l.Loss, PayloadMax: max(l.MTU-scenario.HeaderBytes, 0),
				Shape: relay.Shape{Delay: l.Delay, BytesPerS: float64(l.BitsPerSecond) / 8},
			}
			w.mu.Unlock()
			if err := w.c.shape(a, b, out); err != nil {
				return err
			}
		}
	}
	return nil
}

// shape sets what happens to datagrams from one node to another, as far as the
// first is up.
func (c *Cluster) shape(from, to place, o fault.Out) error {
	a, b := c.member(from), c.member(to)
	if a.gate == nil {
		return nil // set when it starts
	}
	return a.gate.Shape(b.port, o)
}

// reshape sets every line from a site, whose gates are new, and to it.
func (w *World) reshape(id tiers.SiteID) error {
	var errs []error
	for _, s := range w.c.Topology().Sites() {
		w.mu.Lock()
		_, from := w.lines[[2]tiers.SiteID{id, s.ID}]
		touched := from || w.alone[id] || w.alone[s.ID] || w.base != (scenario.Line{}) || len(w.paused) > 0
		w.mu.Unlock()
		if s.ID != id && touched {
			errs = append(errs, w.shape(id, s.ID))
		}
	}
	return errors.Join(errs...)
}

// Supports implements [run.World].
func (w *World) Supports(k scenario.ActKind) bool {
	switch k {
	case scenario.ActKill, scenario.ActStart, scenario.ActPause, scenario.ActResume, scenario.ActClock, scenario.ActBackup,
		scenario.ActRestoreBackup:
		return true
	default:
		return false
	}
}

// Act implements [run.World].
func (w *World) Act(ctx context.Context, a scenario.Act) error {
	switch a.Kind {
	case scenario.ActKill:
		if a.Node > 0 {
			return w.c.CrashNode(a.Site, a.Node)
		}
		return w.c.Crash(a.Site)
	case scenario.ActStart:
		return w.start(ctx, a)
	case scenario.ActPause, scenario.ActResume:
		return w.pause(a, a.Kind == scenario.ActPause)
	case scenario.ActClock:
		w.mu.Lock()
		w.clocks[a.Site] += a.By
		w.mu.Unlock()
		return nil
	case scenario.ActBackup:
		return w.backup(ctx, a.Site)
	case scenario.ActRestoreBackup:
		return w.restore(ctx, a.Site)
	default:
		return fmt.Errorf("%w: %s", run.ErrUnsupported, a.Kind)
	}
}

func (w *World) start(ctx context.Context, a scenario.Act) error {
	if a.Node > 0 {
		if w.c.NodeOf(a.Site, a.Node) == nil {
			if err := w.c.StartNode(a.Site, a.Node); err != nil {
				return err
			}
		}
		return w.reshape(a.Site)
	}
	return errors.Join(w.c.Start(ctx, a.Site), w.reshape(a.Site))
}

func (w *World) pause(a scenario.Act, on bool) error {
	w.mu.Lock()
	for i := range w.c.nodesAt(a.Site) {
		if at := (place{a.Site, i + 1}); a.Node == 0 || a.Node == at.node {
			if w.paused[at] = on; !on {
				delete(w.paused, at)
			}
		}
	}
	w.mu.Unlock()
	var errs []error
	for _, s := range w.c.Topology().Sites() { // also to its own other nodes
		errs = append(errs, w.shape(a.Site, s.ID), w.shape(s.ID, a.Site))
	}
	return errors.Join(errs...)
}

// backup copies a site's disk aside, while it is down for a moment.
func (w *World) backup(ctx context.Context, id tiers.SiteID) error {
	if err := w.c.Crash(id); err != nil {
		return err
	}
	for i := range w.c.nodesAt(id) {
		data := w.c.Data(id, i+1)
		aside := data + ".backup"
		if err := errors.Join(os.RemoveAll(aside), os.CopyFS(aside, os.DirFS(data))); err != nil {
			return fmt.Errorf("back up %s: %w", id, err)
		}
	}
	return w.start(ctx, scenario.Act{Site: id})
}

// restore puts the copy back.
func (w *World) restore(ctx context.Context, id tiers.SiteID) error {
	if err := w.c.Crash(id); err != nil {
		return err
	}
	for i := range w.c.nodesAt(id) {
		data := w.c.Data(id, i+1)
		if err := errors.Join(os.RemoveAll(data), os.CopyFS(data, os.DirFS(data+".backup"))); err != nil {
			return fmt.Errorf("restore %s from its backup: %w", id, err)
		}
	}
	return w.start(ctx, scenario.Act{Site: id})
}

// speaker returns the node that speaks for a site.
func (w *World) speaker(id tiers.SiteID) (*node.Node, error) {
	var up *node.Node
	for i := range w.c.nodesAt(id) {
		n := w.c.NodeOf(id, i+1)
		w.mu.Lock()
		silent := w.paused[place{id, i + 1}]
		w.mu.Unlock()
		if n == nil || silent {
			continue
		}
		if n.Group().Leads() {
			return n, nil
		}
		up = n
	}
	if up == nil {
		return nil, fmt.Errorf("site %s: %w", id, run.ErrDown)
	}
	return up, nil
}

// Site implements [run.World].
func (w *World) Site(id tiers.SiteID) (run.Site, error) {
	n, err := w.speaker(id)
	if err != nil {
		return nil, err
	}
	return run.NodeSite(n), nil
}

// Read implements [run.World].
func (w *World) Read(id tiers.SiteID) (oracle.Site, error) {
	n, err := w.speaker(id)
	if err != nil {
		return oracle.Site{}, err
	}
	return oracle.Site{ID: id, Store: n.Group().Store(), View: n.Views().View}, nil
}

// Usage implements [run.World].
func (w *World) Usage() run.Usage {
	return w.c.Usage()
}

// Usage is what a cluster's sites, and this process, have used.
func (c *Cluster) Usage() run.Usage {
	u := run.ThisProcess()
	for _, m := range c.all() {
		if m.gate != nil {
			sent, _ := m.gate.Bytes()
			u.WireBytes += sent
		}
	}
	for _, n := range c.Nodes() {
		for _, l := range n.Links() {
			u.NeededBytes += l.Totals.NeededBytes
		}
	}
	return u
}

// Freeze implements [run.World]: stores can be read all along.
func (w *World) Freeze(context.Context) error { return nil }

// Close implements [run.World].
func (w *World) Close() error {
	if w.c == nil {
		return nil
	}
	return w.c.Close()
}

// Dir returns the directory that holds the world's files.
func (w *World) Dir() string { return filepath.Clean(w.dir) }
