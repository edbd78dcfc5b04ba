package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/relay"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// LinkConfig is what all link benchmarks have in common.
type LinkConfig struct {
	// Dir is where the sites live; it must exist. Each benchmark makes a
	// directory of its own in it and removes it.
	Dir string
	// Seed makes the documents.
	Seed uint64
	// RTT is the line's round trip beyond loopback's own, BytesPerS its rate each
	// way (zero means no bound), QueueBytes what it buffers before it drops (see
	// [relay.Shape]).
	RTT        time.Duration
	BytesPerS  float64
	QueueBytes int
	// RedialMax bounds a site's wait between attempts to reach its parent; zero
	// means the node's default.
	RedialMax time.Duration
	// Idle is how long a silent link lives; zero means the benchmark's own.
	Idle time.Duration
	// Worker starts a process that calls [Work], Engine the engine's (nil: none).
	Worker, Engine []string
	// Profiles is a directory for a CPU profile of each end of what is measured;
	// "" for none.
	Profiles string
	// Progress is told what runs and how far it is; nil is told nothing.
	Progress Progress
}

// Progress is told what runs.
type Progress interface {
	Line(text string)
	Bar(done, of int, what string)
}

type silent struct{}

func (silent) Line(string) {}

func (silent) Bar(int, int, string) {}

func (c LinkConfig) withDefaults() LinkConfig {
	if c.Progress == nil {
		c.Progress = silent{}
	}
	return c
}

func (c LinkConfig) shape() relay.Shape {
	return relay.Shape{Delay: c.RTT / 2, BytesPerS: c.BytesPerS, QueueBytes: c.QueueBytes}
}

// documentBytes is what a document takes at one site, generously.
const documentBytes = 4 << 10

// validate reports the first size out of bounds, among them more documents
// than the disk has room for. The error wraps [ErrConfig].
func (c LinkConfig) validate(copies ...int) error {
	if err := c.shape().Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if len(c.Worker) == 0 {
		return fmt.Errorf("%w: no command for the sites' processes", ErrConfig)
	}
	if c.RedialMax < 0 || c.RTT < 0 || c.Idle < 0 {
		return fmt.Errorf("%w: redial within %v, round trip %v, idle %v: want none below 0", ErrConfig, c.RedialMax, c.RTT, c.Idle)
	}
	need := uint64(64 << 20)
	for _, n := range copies {
		need += uint64(n) * documentBytes
	}
	free, err := freeBytes(c.Dir)
	if err != nil {
		return fmt.Errorf("%w: directory %s: %w", ErrConfig, c.Dir, err)
	}
	if free < need {
		return fmt.Errorf("%w: %d MB are free in %s, this takes about %d MB: choose less or another --dir", ErrConfig, free>>20, c.Dir, need>>20)
	}
	return nil
}

// within reports an integer out of bounds.
func within(what string, v, least, most int) error {
	if v < least || v > most {
		return fmt.Errorf("%w: %s %d: want %d to %d", ErrConfig, what, v, least, most)
	}
	return nil
}

// ParseRate reads a rate such as 500kbit, 10mbit or 1gbit and returns bytes per
// second. The error wraps [ErrConfig].
func ParseRate(s string) (float64, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	for unit, bits := range map[string]float64{"kbit": 1e3, "mbit": 1e6, "gbit": 1e9} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			v, err := strconv.ParseFloat(number, 64)
			if err == nil && v > 0 && !math.IsInf(v*bits, 0) {
				return v * bits / 8, nil
			}
		}
	}
	return 0, fmt.Errorf("%w: rate %q: want one such as 500kbit, 10mbit or 1gbit", ErrConfig, s)
}

// ParseBytes reads a size such as 23MB, in powers of ten. The error wraps
// [ErrConfig].
func ParseBytes(s string) (int64, error) {
	text := strings.ToUpper(strings.TrimSpace(s))
	for _, u := range []struct {
		unit  string
		bytes float64
	}{{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}} {
		if number, ok := strings.CutSuffix(text, u.unit); ok {
			v, err := strconv.ParseFloat(number, 64)
			if err == nil && v > 0 && v*u.bytes < 1<<50 {
				return int64(v * u.bytes), nil
			}
			break
		}
	}
	return 0, fmt.Errorf("%w: size %q: want one such as 500KB or 23MB", ErrConfig, s)
}

// mesh is a few sites, each a process, with a line in front of every parent.
type mesh struct {
	cfg   LinkConfig
	dir   string
	sites map[tiers.SiteID]*site
}

// site is one of them; process is nil while it is down.
type site struct {
	id      tiers.SiteID
	process *process
	line    *relay.Relay // those who dial the site go through it
}

const benchFederation = "bench"

// openMesh makes the sites' credentials, topology and lines, all cut, and
// starts nothing. The caller must close it.
func openMesh(cfg LinkConfig, rows []tiers.Site) (*mesh, error) {
	dir, err := os.MkdirTemp(cfg.Dir, "bench-")
	if err != nil {
		return nil, fmt.Errorf("%w: directory %s: %w", ErrConfig, cfg.Dir, err)
	}
	m := &mesh{cfg: cfg, dir: dir, sites: map[tiers.SiteID]*site{}}
	if err := m.prepare(rows); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *mesh) prepare(rows []tiers.Site) error {
	caDir := filepath.Join(m.dir, "ca")
	if err := identity.InitCA(caDir, benchFederation, time.Now()); err != nil {
		return err
	}
	ca, err := identity.OpenCA(caDir)
	if err != nil {
		return err
	}
	doc := tiers.TopologyDoc{Federation: benchFederation, Version: 1}
	for _, row := range rows {
		id := identity.ID{Federation: benchFederation, Site: row.ID, Node: 1}
		if err := ca.Issue(identity.IssueConfig{ID: id, OutDir: m.credentials(row.ID), Now: time.Now()}); err != nil {
			return err
		}
		creds, err := identity.Load(m.credentials(row.ID))
		if err != nil {
			return err
		}
		line, err := relay.Open(m.cfg.shape())
		if err != nil {
			return err
		}
		line.Cut()
		m.sites[row.ID] = &site{id: row.ID, line: line}
		row.Key, row.Nodes = creds.SitePublicKey(), []tiers.NodeAddr{{Node: 1, Addr: line.Addr().String()}}
		doc.Sites = append(doc.Sites, row)
	}
	topology, err := tiers.NewTopology(doc)
	if err != nil {
		return err
	}
	b, err := topology.Marshal()
	if err != nil {
		return err
	}
	return os.WriteFile(m.topology(), b, 0o600)
}

func (m *mesh) topology() string { return filepath.Join(m.dir, "topology.json") }

func (m *mesh) credentials(id tiers.SiteID) string {
	return filepath.Join(m.dir, string(id), "credentials")
}

// data is a site's data directory.
func (m *mesh) data(id tiers.SiteID) string { return filepath.Join(m.dir, string(id), "data") }

// start starts a site that is down and waits until it takes writes.
func (m *mesh) start(ctx context.Context, id tiers.SiteID) error {
	s := m.sites[id]
	p, err := startProcess(ctx, m.cfg.Worker, setup{
		Node:   node.Config{Dir: m.data(id), Credentials: m.credentials(id), Topology: m.topology(), Listen: "127.0.0.1:0"},
		Engine: m.cfg.Engine, Idle: m.cfg.Idle, RedialMax: m.cfg.RedialMax,
	})
	if err != nil {
		return fmt.Errorf("start site %s: %w", id, err)
	}
	s.process = p
	to, err := netip.ParseAddrPort(p.addr)
	if err != nil {
		return fmt.Errorf("start site %s: %w", id, err)
	}
	s.line.SetTarget(to)
	return nil
}

// startAll starts every site, some at a time.
func (m *mesh) startAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx) // each goroutine ends when its site is up
	g.SetLimit(4)
	for id := range m.sites {
		g.Go(func() error { return m.start(ctx, id) })
	}
	return g.Wait()
}

// stop ends a site in order.
func (m *mesh) stop(id tiers.SiteID) error {
	s := m.sites[id]
	p := s.process
	if s.process = nil; p == nil {
		return nil
	}
	return p.close()
}

// close ends every site and line and removes the directory.
func (m *mesh) close() error {
	var g errgroup.Group // each goroutine ends with its site
	for _, s := range m.sites {
		g.Go(func() error { return errors.Join(m.stop(s.id), s.line.Close()) })
	}
	return errors.Join(g.Wait(), os.RemoveAll(m.dir))
}

// bar tells the progress of one part.
func (m *mesh) bar(what string) func(done, of int) {
	return func(done, of int) { m.cfg.Progress.Bar(done, of, what) }
}

// profile names the CPU profile of a site, "" for none.
func (m *mesh) profile(what string, id tiers.SiteID) string {
	if m.cfg.Profiles == "" {
		return ""
	}
	return filepath.Join(m.cfg.Profiles, fmt.Sprintf("%s-%s.pprof", what, id))
}

// fill writes n events at a site.
func (m *mesh) fill(ctx context.Context, id tiers.SiteID, n int, seed uint64) (*filled, error) {
	res, err := m.sites[id].process.do(ctx, request{Fill: &fillRequest{N: n, Seed: seed}}, m.bar("events written at "+string(id)))
	if err != nil {
		return nil, err
	}
	return res.Filled, nil
}

// status asks a site for what it holds and costs.
func (m *mesh) status(ctx context.Context, id tiers.SiteID) (*status, error) {
	res, err := m.sites[id].process.do(ctx, request{Status: true}, nil)
	if err != nil {
		return nil, err
	}
	return res.Status, nil
}

// heads returns what a site holds of the streams of one site.
func (m *mesh) heads(ctx context.Context, at, of tiers.SiteID) ([]head, error) {
	s, err := m.status(ctx, at)
	if err != nil {
		return nil, err
	}
	var out []head
	for _, h := range s.Heads {
		if h.Stream.Site == of {
			out = append(out, h)
		}
	}
	return out, nil
}

// counts reads the lines in front of some sites.
func (m *mesh) counts(rows []tiers.Site) []relay.Counts {
	out := make([]relay.Counts, len(rows))
	for i, r := range rows {
		out[i] = m.sites[r.ID].line.Counts()
	}
	return out
}
