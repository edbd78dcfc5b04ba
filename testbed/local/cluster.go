package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/fault"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// Config describes a federation to run.
type Config struct {
	// Dir holds everything: ca/, topology.json and one directory a site. A
	// directory of an earlier run is taken up where that left it.
	Dir        string
	Federation string
	// Sites are the sites' codes, tiers, names and parents; keys and addresses
	// are filled in.
	Sites  []tiers.Site
	Logger *slog.Logger
	// API makes each site serve its API on a Unix socket in its directory.
	API bool
	// RedialMax bounds the wait between dials; zero means the node's default.
	RedialMax time.Duration
}

// Cluster is a running federation.
type Cluster struct {
	cfg      Config
	topology *tiers.Topology

	mu    sync.Mutex // guards the maps
	sites map[tiers.SiteID]*site
	cut   map[[2]tiers.SiteID]struct{}
}

// site is one site of the cluster; node is nil while it is down.
type site struct {
	row  tiers.Site
	port uint16
	gate *fault.Gate
	node *node.Node
	stop context.CancelFunc
	done chan error
}

// Open creates or takes up a federation and starts every site. The caller must
// Close it. Progress, when not nil, is told of each site that is up.
func Open(ctx context.Context, cfg Config, progress func(up, of int)) (*Cluster, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Cluster{cfg: cfg, sites: map[tiers.SiteID]*site{}, cut: map[[2]tiers.SiteID]struct{}{}}
	for _, row := range cfg.Sites {
		c.sites[row.ID] = &site{row: row}
	}
	if err := errors.Join(os.MkdirAll(cfg.Dir, 0o700), c.credentials(), c.ports(), c.writeTopology()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	up := 0
	for _, row := range cfg.Sites {
		if err := c.Start(ctx, row.ID); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		if up++; progress != nil {
			progress(up, len(cfg.Sites))
		}
	}
	return c, nil
}

func (c *Cluster) siteDir(id tiers.SiteID) string { return filepath.Join(c.cfg.Dir, string(id)) }

func (c *Cluster) topologyFile() string { return filepath.Join(c.cfg.Dir, "topology.json") }

// credentials makes the federation's CA and each site's certificate once.
func (c *Cluster) credentials() error {
	caDir := filepath.Join(c.cfg.Dir, "ca")
	if _, err := os.Stat(filepath.Join(caDir, "ca.crt")); errors.Is(err, os.ErrNotExist) {
		if err := identity.InitCA(caDir, c.cfg.Federation, time.Now()); err != nil {
			return err
		}
	}
	ca, err := identity.OpenCA(caDir)
	if err != nil {
		return err
	}
	for id, s := range c.sites {
		dir := filepath.Join(c.siteDir(id), "credentials")
		if _, err := os.Stat(filepath.Join(dir, "node.crt")); errors.Is(err, os.ErrNotExist) {
			if err := ca.Issue(identity.IssueConfig{
				ID: identity.ID{Federation: c.cfg.Federation, Site: id, Node: 1}, OutDir: dir, Now: time.Now(),
			}); err != nil {
				return err
			}
		}
		creds, err := identity.Load(dir)
		if err != nil {
			return err
		}
		s.row.Key = creds.SitePublicKey()
	}
	return nil
}

// ports binds a free loopback port for each site.
func (c *Cluster) ports() error {
	for _, s := range c.sites {
		if err := s.bind(0); err != nil {
			return err
		}
		s.row.Nodes = []tiers.NodeAddr{{Node: 1, Addr: s.gate.LocalAddr().String()}}
	}
	return nil
}

func (s *site) bind(port uint16) error {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		return fmt.Errorf("bind port of site %s: %w", s.row.ID, err)
	}
	s.gate = fault.NewGate(conn)
	s.port = s.gate.Port()
	return nil
}

// writeTopology writes the bootstrap file. Ports change with every run, so its
// version rises above the last one's and the city publishes it anew.
func (c *Cluster) writeTopology() error {
	doc := tiers.TopologyDoc{Federation: c.cfg.Federation, Version: 1}
	if b, err := os.ReadFile(c.topologyFile()); err == nil {
		old, err := tiers.ParseTopology(b)
		if err != nil {
			return fmt.Errorf("topology of an earlier run in %s: %w", c.cfg.Dir, err)
		}
		doc.Version = old.Version() + 1
	}
	for _, s := range c.sites {
		doc.Sites = append(doc.Sites, s.row)
	}
	var err error
	if c.topology, err = tiers.NewTopology(doc); err != nil {
		return err
	}
	b, err := c.topology.Marshal()
	if err != nil {
		return err
	}
	return writeFile(c.topologyFile(), b)
}

// writeFile replaces a file at once, so that a kill leaves the old or the new.
func writeFile(path string, b []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Start starts a site that is down and waits until it takes writes.
func (c *Cluster) Start(ctx context.Context, id tiers.SiteID) error {
	s := c.sites[id]
	if s.gate == nil {
		if err := s.bind(s.port); err != nil {
			return err
		}
		c.applyCuts()
	}
	cfg := node.Config{
		Dir: filepath.Join(c.siteDir(id), "data"), Credentials: filepath.Join(c.siteDir(id), "credentials"),
		Topology: c.topologyFile(), Listen: s.gate.LocalAddr().String(),
	}
	if c.cfg.API {
		cfg.API = c.API(id)
	}
	n, err := node.Open(cfg, node.Options{
		Logger: c.cfg.Logger, Conn: s.gate.PacketConn(), RedialMax: c.cfg.RedialMax,
	})
	if err != nil {
		s.gate = nil // the node closed it
		return fmt.Errorf("start site %s: %w", id, err)
	}
	run, stop := context.WithCancel(context.Background())
	s.stop, s.done = stop, make(chan error, 1)
	go func() { s.done <- n.Run(run) }() // ends with stop, Crash or Close
	c.mu.Lock()
	s.node = n
	c.mu.Unlock()
	return n.Ready(ctx)
}

// API returns the address of a site's API.
func (c *Cluster) API(id tiers.SiteID) string {
	return "unix:" + filepath.Join(c.siteDir(id), "api.sock")
}

// Node returns a site's node, nil while it is down.
func (c *Cluster) Node(id tiers.SiteID) *node.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sites[id]; s != nil {
		return s.node
	}
	return nil
}

// Nodes returns the nodes that are up, in site order.
func (c *Cluster) Nodes() []*node.Node {
	var out []*node.Node
	for _, s := range c.topology.Sites() {
		if n := c.Node(s.ID); n != nil {
			out = append(out, n)
		}
	}
	return out
}

// Topology returns the topology that the cluster was started with.
func (c *Cluster) Topology() *tiers.Topology { return c.topology }

// Crash ends a site as SIGKILL would: what was not fsynced is gone and no peer
// is told.
func (c *Cluster) Crash(id tiers.SiteID) error {
	c.mu.Lock()
	s := c.sites[id]
	n := s.node
	s.node = nil
	c.mu.Unlock()
	if n == nil {
		return nil
	}
	err := n.Crash()
	s.stop()
	err = errors.Join(err, <-s.done)
	s.gate = nil
	return err
}

// Cut drops every datagram between two sites.
func (c *Cluster) Cut(a, b tiers.SiteID) {
	c.mu.Lock()
	c.cut[pair(a, b)] = struct{}{}
	c.mu.Unlock()
	c.applyCuts()
}

// Isolate cuts a site from every other one.
func (c *Cluster) Isolate(id tiers.SiteID) {
	for _, s := range c.topology.Sites() {
		if s.ID != id {
			c.Cut(id, s.ID)
		}
	}
}

// Heal ends every cut.
func (c *Cluster) Heal() {
	c.mu.Lock()
	old := c.cut
	c.cut = map[[2]tiers.SiteID]struct{}{}
	c.mu.Unlock()
	for p := range old {
		c.gates(p, func(g *fault.Gate, port uint16) { g.Heal(port) })
	}
}

func pair(a, b tiers.SiteID) [2]tiers.SiteID {
	p := [2]tiers.SiteID{a, b}
	slices.Sort(p[:])
	return p
}

func (c *Cluster) applyCuts() {
	c.mu.Lock()
	cuts := make([][2]tiers.SiteID, 0, len(c.cut))
	for p := range c.cut {
		cuts = append(cuts, p)
	}
	c.mu.Unlock()
	for _, p := range cuts {
		c.gates(p, func(g *fault.Gate, port uint16) { g.Cut(port) })
	}
}

// gates calls f for each end of a pair that is bound, with the other's port.
func (c *Cluster) gates(p [2]tiers.SiteID, f func(g *fault.Gate, peer uint16)) {
	a, b := c.sites[p[0]], c.sites[p[1]]
	if a.gate != nil {
		f(a.gate, b.port)
	}
	if b.gate != nil {
		f(b.gate, a.port)
	}
}

// Close ends every site in order and waits for all.
func (c *Cluster) Close() error {
	var g errgroup.Group // each goroutine ends with its site
	for _, s := range c.sites {
		c.mu.Lock()
		n := s.node
		s.node = nil
		c.mu.Unlock()
		switch {
		case n != nil:
			g.Go(func() error {
				s.stop()
				return <-s.done
			})
		case s.gate != nil:
			g.Go(s.gate.Close)
		}
	}
	return g.Wait()
}
