package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// World is a federation of processes. See the package comment.
type World struct {
	cfg      Config
	topology *tiers.Topology
	sites    map[tiers.SiteID][]*member
	order    []tiers.SiteID
	base     scenario.Line
	record   *record
	starter  *starter
	net      *network

	mu     sync.Mutex // guards the fields below and the members' processes
	clones []*member
	frozen map[tiers.SiteID][]*member // nil before Freeze
	stores map[tiers.SiteID]*store.Store

	closing  sync.Once
	closeErr error
}

var _ run.World = (*World)(nil)

// New returns a world that is to be opened.
func New(cfg Config) *World {
	return &World{cfg: cfg.withDefaults(), sites: map[tiers.SiteID][]*member{}, stores: map[tiers.SiteID]*store.Store{}}
}

// startsMax is how many sites start, or end, at once.
const startsMax = 8

// Open implements [run.World]. When it fails it leaves nothing behind but files.
// The error wraps [ErrMissing] or [ErrConfig] where one of these is the cause.
func (w *World) Open(ctx context.Context, s *scenario.Script, progress func(up, of int)) error {
	if err := w.cfg.Validate(); err != nil {
		return err
	}
	if err := Check(); err != nil {
		return err
	}
	if err := sweepDead(); err != nil {
		return err
	}
	if err := w.open(ctx, s, progress); err != nil {
		return errors.Join(fmt.Errorf("open world: %w", err), w.Close())
	}
	return nil
}

func (w *World) open(ctx context.Context, s *scenario.Script, progress func(up, of int)) (err error) {
	if err := os.MkdirAll(w.cfg.Dir, 0o700); err != nil {
		return err
	}
	if w.cfg.Dir, err = filepath.EvalSymlinks(w.cfg.Dir); err != nil {
		return err
	}
	if w.record, err = newRecord(w.cfg.Dir); err != nil {
		return err
	}
	w.starter = newStarter()
	if w.net, err = openNetwork(w.record.prefix); err != nil {
		return err
	}
	if err := w.settle(ctx, s); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx) // each goroutine ends with its site's start, or ctx
	var (
		mu sync.Mutex // guards up, and orders progress
		up int
	)
	g.SetLimit(startsMax)
	for _, id := range w.order {
		g.Go(func() error {
			for _, m := range w.sites[id] {
				if err := w.spawn(m); err != nil {
					return err
				}
			}
			if err := w.ready(ctx, id); err != nil {
				return err
			}
			if err := w.whole(ctx, id); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if up++; progress != nil {
				progress(up, len(w.order))
			}
			return nil
		})
	}
	return g.Wait()
}

// settle makes everything that the processes need: namespaces, certificates, the
// topology, configurations and the lines as they are at the start.
func (w *World) settle(ctx context.Context, s *scenario.Script) error {
	rows := slices.Clone(s.Federation.Sites)
	caDir := filepath.Join(w.cfg.Dir, "ca")
	if err := identity.InitCA(caDir, w.cfg.Federation, time.Now()); err != nil {
		return err
	}
	ca, err := identity.OpenCA(caDir)
	if err != nil {
		return err
	}
	small := smallDisks(s)
	for i := range rows {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		row := &rows[i]
		w.order = append(w.order, row.ID)
		row.Nodes = nil
		for num := range s.Federation.NodesOf(row.ID) {
			m, key, err := w.house(ca, row.ID, uint32(num+1), small[row.ID])
			if err != nil {
				return err
			}
			row.Key = key
			row.Nodes = append(row.Nodes, tiers.NodeAddr{Node: m.num, Addr: m.listen()})
			w.sites[row.ID] = append(w.sites[row.ID], m)
		}
		if len(w.sites[row.ID]) > 1 {
			if err := replication.Init(w.sites[row.ID][0].data()); err != nil {
				return err
			}
		}
	}
	if w.topology, err = tiers.NewTopology(tiers.TopologyDoc{Federation: w.cfg.Federation, Version: 1, Sites: rows}); err != nil {
		return err
	}
	b, err := w.topology.Marshal()
	if err != nil {
		return err
	}
	if err := os.WriteFile(w.topologyFile(), b, 0o600); err != nil {
		return fmt.Errorf("write topology: %w", err)
	}
	w.base = s.Federation.Line
	return w.baseLines(w.topology)
}

// house makes a node's namespace, directory, certificate and configuration, and
// returns the site's key.
func (w *World) house(ca *identity.CA, id tiers.SiteID, num uint32, small bool) (*member, []byte, error) {
	first := filepath.Join(w.cfg.Dir, string(id))
	dir := first
	if num > 1 {
		dir = filepath.Join(dir, "node-"+strconv.Itoa(int(num)))
	}
	m := newMember(id, num, fmt.Sprintf("%s-%s-%d", w.record.prefix, id, num), dir)
	var err error
	if m.addr, err = w.net.add(id, m.ns); err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(m.data(), 0o700); err != nil {
		return nil, nil, err
	}
	if small {
		if err := mountSmall(m.data()); err != nil {
			return nil, nil, err
		}
	}
	creds, err := m.issue(ca, w.cfg.Federation, filepath.Join(first, "credentials"))
	if err != nil {
		return nil, nil, err
	}
	return m, creds.SitePublicKey(), w.writeConfig(m)
}

// baseLines sets the lines between each site and those above it that were never
// set as they are at the start.
func (w *World) baseLines(t *tiers.Topology) error {
	if w.base == (scenario.Line{}) {
		return nil
	}
	lines := map[way]scenario.Line{}
	for _, id := range w.order {
		for _, above := range t.Ancestors(id) {
			for _, l := range []way{{id, above}, {above, id}} {
				if !w.net.isSet(l) {
					lines[l] = w.base
				}
			}
		}
	}
	return w.net.set(lines)
}

func (w *World) topologyFile() string { return filepath.Join(w.cfg.Dir, "topology.json") }

// Topology implements [run.World].
func (w *World) Topology() *tiers.Topology { return w.topology }

// Line implements [run.World].
func (w *World) Line(from, to tiers.SiteID, l scenario.Line) error {
	if err := w.known(from, to); err != nil {
		return err
	}
	return w.net.set(map[way]scenario.Line{{from, to}: l})
}

// Isolate implements [run.World].
func (w *World) Isolate(id tiers.SiteID, cut bool) error {
	if err := w.known(id); err != nil {
		return err
	}
	return w.net.isolate(id, cut)
}

func (w *World) known(ids ...tiers.SiteID) error {
	for _, id := range ids {
		if len(w.sites[id]) == 0 {
			return fmt.Errorf("%w: no site %q", ErrConfig, id)
		}
	}
	return nil
}

// members returns every member, clones last.
func (w *World) members() (all []*member) {
	for _, id := range w.order {
		all = append(all, w.sites[id]...)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(all, w.clones...)
}

// Usage implements [run.World].
func (w *World) Usage() run.Usage {
	var u run.Usage
	var err error
	if u.WireBytes, err = w.net.sentBytes(); err != nil {
		w.cfg.Logger.Warn("wire bytes cannot be read", "err", err)
	}
	pids := map[string]bool{}
	for _, m := range w.members() { // also those that are down: they come back
		w.mu.Lock()
		u.CPUSeconds += m.cpu
		switch p := m.process; {
		case p.up():
			pids[strconv.Itoa(p.cmd.Process.Pid)] = true
		case p != nil:
			u.CPUSeconds += (p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()).Seconds()
		}
		w.mu.Unlock()
	}
	rss, cpu := usageOf(pids)
	u.RSSBytes, u.CPUSeconds, u.Processes = rss, u.CPUSeconds+cpu, len(w.members())
	return u
}

// stopAll ends every process in order, several at once.
func (w *World) stopAll(ctx context.Context) error {
	var g errgroup.Group // each goroutine ends with its process
	var mu sync.Mutex    // guards errs
	var errs []error
	g.SetLimit(startsMax)
	for _, m := range w.members() {
		g.Go(func() error {
			if p := w.at(m); p.up() {
				if err := p.stop(ctx); err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, fmt.Errorf("stop %s: %w", m, err))
				}
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs, all of them
	return errors.Join(errs...)
}

// Close implements [run.World]. It is idempotent.
func (w *World) Close() error {
	w.closing.Do(func() { w.closeErr = w.close() })
	return w.closeErr
}

func (w *World) close() error {
	var errs []error
	for _, m := range w.members() {
		// What a run has not frozen nobody reads any more.
		errs = append(errs, w.at(m).kill())
		m.client.Close()
	}
	w.mu.Lock()
	for _, st := range w.stores {
		errs = append(errs, st.Close())
	}
	w.mu.Unlock()
	if w.starter != nil {
		w.starter.close()
	}
	if w.net != nil {
		errs = append(errs, w.net.close())
	}
	if w.record != nil {
		if err := sweep(w.record.prefix, w.cfg.Dir); err != nil {
			// The record stays, so that a later run tries again.
			errs = append(errs, err, w.record.file.Close())
		} else {
			errs = append(errs, w.record.remove())
		}
	}
	return errors.Join(errs...)
}
