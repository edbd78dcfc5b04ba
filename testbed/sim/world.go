package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// openers is how many sites start at once.
const openers = 4

// settleMax is how long a site that starts may take to take writes, in virtual
// time.
const settleMax = 2 * time.Minute

// Config says where a world keeps its files.
type Config struct {
	// Dir is an empty directory, created when missing. What is in memory there makes
	// a world faster: nothing needs to outlive the process.
	Dir    string
	Logger *slog.Logger
}

// World is a federation in virtual time. It must be made and used in a bubble.
type World struct {
	cfg      Config
	script   *scenario.Script
	net      *network
	topology *tiers.Topology
	places   []place // in the script's order, clones last
	running  sync.WaitGroup
	turn     atomic.Uint64 // counts reports

	mu      sync.Mutex // guards the fields below, and the members'
	members map[place]*member
	sites   map[tiers.SiteID]*state
	began   float64 // processor time, in seconds
	needed  uint64  // bytes that nodes which are gone have counted
}

var _ run.World = (*World)(nil)

// place is one node of a site, or with a clone's number one of a copy of it.
type place struct {
	site  tiers.SiteID
	node  uint32
	clone int
}

func (p place) String() string {
	if p.clone > 0 {
		return fmt.Sprintf("clone %d of site %s", p.clone, p.site)
	}
	return fmt.Sprintf("node %d of site %s", p.node, p.site)
}

// member is a node's machine.
type member struct {
	at     place
	addr   netip.AddrPort
	disk   *disk
	starts uint64
	life   *life // nil while it is down
	paused bool
	// fell says why it is down, when nobody asked for it.
	fell error
}

// state is what is set for a site.
type state struct {
	clock clock
	// old says that it speaks an older version of the protocol.
	old bool
}

// New returns a world; [World.Open] starts it.
func New(cfg Config) *World {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &World{cfg: cfg, members: map[place]*member{}, sites: map[tiers.SiteID]*state{}}
}

// Open implements [run.World]. Sites that the script upgrades begin with an older
// protocol.
func (w *World) Open(ctx context.Context, s *scenario.Script, progress func(up, of int)) error {
	w.script, w.net, w.began = s, newNetwork(s.Seed, s.Federation.Line), run.ThisProcess().CPUSeconds
	for i, row := range s.Federation.Sites {
		w.sites[row.ID] = &state{}
		for n := range s.Federation.NodesOf(row.ID) {
			w.add(place{site: row.ID, node: uint32(n + 1)}, address(i, n+1))
		}
	}
	for _, step := range s.Steps {
		if a, ok := any(step.Do).(scenario.Act); ok && a.Kind == scenario.ActUpgrade && w.sites[a.Site] != nil {
			w.sites[a.Site].old = true
		}
	}
	if err := errors.Join(os.MkdirAll(w.cfg.Dir, 0o700), w.credentials(), w.writeTopology()); err != nil {
		return fmt.Errorf("prepare sites: %w", err)
	}
	var up struct {
		sync.Mutex
		n int
	}
	g, ctx := errgroup.WithContext(ctx) // each goroutine ends with its site's start
	g.SetLimit(openers)
	for _, row := range s.Federation.Sites {
		g.Go(func() error {
			if err := w.start(ctx, row.ID, 0); err != nil {
				return err
			}
			up.Lock()
			defer up.Unlock()
			if up.n++; progress != nil {
				progress(up.n, len(s.Federation.Sites))
			}
			return nil
		})
	}
	return g.Wait()
}

// add makes a member that is down.
func (w *World) add(at place, addr netip.AddrPort) *member {
	seed := w.script.Seed ^ uint64(len(w.places)+1)<<32
	m := &member{at: at, addr: addr, disk: newDisk(filepath.Join(w.data(at), "store"), filepath.Join(w.cfg.Dir, "trash", dirName(at)), seed)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.places, w.members[at] = append(w.places, at), m
	return m
}

// Topology implements [run.World].
func (w *World) Topology() *tiers.Topology { return w.topology }

// Line implements [run.World].
func (w *World) Line(from, to tiers.SiteID, l scenario.Line) error {
	if w.sites[from] == nil || w.sites[to] == nil || from == to {
		return fmt.Errorf("sim: no line from site %s to site %s", from, to)
	}
	w.net.set(from, to, l)
	return nil
}

// Isolate implements [run.World].
func (w *World) Isolate(id tiers.SiteID, cut bool) error {
	if w.sites[id] == nil {
		return fmt.Errorf("sim: no site %s", id)
	}
	w.net.isolate(id, cut)
	return nil
}

// of returns the members of a site, and its clones with clones; node 0 means all.
func (w *World) of(id tiers.SiteID, node uint32, clones bool) (out []*member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.places {
		if at.site == id && (node == 0 || at.node == node) && (clones || at.clone == 0) {
			out = append(out, w.members[at])
		}
	}
	return out
}

// speaker returns the node to talk to at a site: its leader, or any that is up
// while it has none.
func (w *World) speaker(id tiers.SiteID, paused bool) (*life, error) {
	var up *life
	err := fmt.Errorf("site %s: %w", id, run.ErrDown)
	for _, m := range w.of(id, 0, false) {
		w.mu.Lock()
		l, silent, fell := m.life, m.paused, m.fell
		w.mu.Unlock()
		switch {
		case fell != nil:
			err = fmt.Errorf("%w: %w", err, fell)
		case l == nil || silent && !paused || l.dead.Load():
		case l.node.Group().Leads():
			return l, nil
		default:
			up = l
		}
	}
	if up == nil {
		return nil, err
	}
	return up, nil
}

// Read implements [run.World].
func (w *World) Read(id tiers.SiteID) (oracle.Site, error) {
	l, err := w.speaker(id, true)
	if err != nil {
		return oracle.Site{}, err
	}
	return oracle.Site{ID: id, Store: l.node.Group().Store(), View: l.node.Views().View}, nil
}

// Freeze implements [run.World]: the stores are in this process.
func (w *World) Freeze(context.Context) error { return nil }

// Close implements [run.World].
func (w *World) Close() error {
	w.mu.Lock()
	all := slices.Clone(w.places)
	w.mu.Unlock()
	var g errgroup.Group // each goroutine ends with its node
	for _, at := range all {
		g.Go(func() error { return w.stop(w.members[at]) })
	}
	err := g.Wait()
	w.running.Wait()
	return err
}

// Node returns the node that leads a site, or any that is up, for tests. The error
// wraps [run.ErrDown].
func (w *World) Node(id tiers.SiteID) (*node.Node, error) {
	l, err := w.speaker(id, true)
	if err != nil {
		return nil, err
	}
	return l.node, nil
}

// address is that of a node: one network for all.
func address(site, node int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(site >> 8), byte(site), byte(node)}), 4433)
}
