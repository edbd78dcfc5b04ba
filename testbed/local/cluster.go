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
)

// Config describes a federation to run.
type Config struct {
	// Dir holds everything: ca/, topology.json and one directory a site. A
	// directory of an earlier run is taken up where that left it.
	Dir        string
	Federation string
	// Sites are the sites' codes, tiers, names and parents; keys and addresses
	// are filled in.
	Sites []tiers.Site
	// Nodes is how many nodes each site has; zero means 1.
	Nodes uint32
	// NodesAt is how many nodes single sites have, where that is not Nodes.
	NodesAt map[tiers.SiteID]uint32
	// Now is a site's clock; nil means the machine's.
	Now    func(tiers.SiteID) time.Time
	Logger *slog.Logger
	// API makes each node serve its API on a Unix socket in its directory.
	API bool
	// RedialMax bounds the wait between dials; zero means the node's default.
	RedialMax time.Duration
	// LinkIdle is how long a silent link lives; zero means the node's default.
	LinkIdle time.Duration
	// Tick is the nodes' unit of time for what stalls; zero means their default.
	Tick time.Duration
	// StandInAfter is for how long a parent must be silent; zero means the node's
	// default.
	StandInAfter time.Duration
	// Engine starts a node's worker process; nil for an engine in this process.
	Engine []string
	// Fatal is what a node does about a storage error; nil for its default, which
	// ends the process.
	Fatal func(error)
	Configured
}

// Configured is what few federations set of their nodes.
type Configured struct {
	// Comparing bounds the accepted links that compare at once; zero means the
	// node's default.
	Comparing int
	// Duplicates says when nodes suspect two reports to be of one thing.
	Duplicates node.Duplicates
	// Area says where events happen.
	Area node.Area
	// Uncut says that the network is never cut: nodes use their sockets as they do
	// outside of the testbed, many datagrams a call.
	Uncut bool
}

// Cluster is a running federation.
type Cluster struct {
	cfg      Config
	topology *tiers.Topology
	rows     map[tiers.SiteID]*tiers.Site

	mu      sync.Mutex // guards the fields below
	members map[place]*member
	cut     map[[2]tiers.SiteID]struct{}
	alone   map[place]bool // nodes that are cut off from everything
}

// place is one node of a site.
type place struct {
	site tiers.SiteID
	node uint32
}

// member is one node of the cluster; node is nil while it is down.
type member struct {
	at   place
	port uint16
	gate *fault.Gate
	node *node.Node
	stop context.CancelFunc
	done chan error
	// ended is why the node ended that nobody had end.
	ended error
}

// Open creates or takes up a federation and starts every site. The caller must
// Close it. Progress, when not nil, is told of each site that is up.
func Open(ctx context.Context, cfg Config, progress func(up, of int)) (*Cluster, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Nodes = max(cfg.Nodes, 1)
	c := &Cluster{
		cfg: cfg, rows: map[tiers.SiteID]*tiers.Site{}, members: map[place]*member{},
		cut: map[[2]tiers.SiteID]struct{}{}, alone: map[place]bool{},
	}
	for _, row := range cfg.Sites {
		c.rows[row.ID] = &row
		for i := range c.nodesAt(row.ID) {
			at := place{row.ID, i + 1}
			c.members[at] = &member{at: at}
		}
	}
	if err := errors.Join(os.MkdirAll(cfg.Dir, 0o700), c.credentials(), c.ports(), c.writeTopology()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := c.startAll(ctx, progress); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// atOnce is how many sites start at once: most of a start waits for the disk.
const atOnce = 16

func (c *Cluster) startAll(ctx context.Context, progress func(up, of int)) error {
	g, ctx := errgroup.WithContext(ctx) // ends with the last start
	g.SetLimit(atOnce)
	var mu sync.Mutex // guards up, and progress is called one by one
	up := 0
	for _, row := range c.cfg.Sites {
		g.Go(func() error {
			if err := c.Start(ctx, row.ID); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if up++; progress != nil {
				progress(up, len(c.cfg.Sites))
			}
			return nil
		})
	}
	return g.Wait()
}

// nodesAt returns how many nodes a site has.
func (c *Cluster) nodesAt(id tiers.SiteID) uint32 {
	if n := c.cfg.NodesAt[id]; n > 0 {
		return n
	}
	return c.cfg.Nodes
}

// dir is a node's directory; the first node's is the site's.
func (c *Cluster) dir(at place) string {
	dir := filepath.Join(c.cfg.Dir, string(at.site))
	if at.node > 1 {
		dir = filepath.Join(dir, fmt.Sprintf("node-%d", at.node))
	}
	return dir
}

func (c *Cluster) topologyFile() string { return filepath.Join(c.cfg.Dir, "topology.json") }

// Start starts the nodes of a site that are down and waits until it takes
// writes.
func (c *Cluster) Start(ctx context.Context, id tiers.SiteID) error {
	for i := range c.nodesAt(id) {
		if c.member(place{id, i + 1}).node == nil {
			if err := c.open(place{id, i + 1}); err != nil {
				return err
			}
		}
	}
	for i := range c.nodesAt(id) {
		if err := c.NodeOf(id, i+1).Ready(ctx); err != nil {
			return fmt.Errorf("start site %s: node %d: %w", id, i+1, err)
		}
	}
	return nil
}

// StartNode starts one node that is down. It does not wait for anything.
func (c *Cluster) StartNode(id tiers.SiteID, node uint32) error { return c.open(place{id, node}) }

func (c *Cluster) member(at place) *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members[at]
}

func (c *Cluster) open(at place) error {
	m := c.member(at)
	if m.gate == nil {
		if err := m.bind(m.port); err != nil {
			return err
		}
		c.applyCuts(at)
	}
	cfg := node.Config{
		Dir: c.Data(at.site, at.node), Credentials: filepath.Join(c.dir(at), "credentials"),
		Topology: c.topologyFile(), Listen: m.gate.LocalAddr().String(),
	}
	if c.cfg.StandInAfter > 0 {
		cfg.StandInAfter = c.cfg.StandInAfter.String()
	}
	cfg.Duplicates = c.cfg.Duplicates
	cfg.Area = c.cfg.Area
	if c.cfg.API {
		cfg.API = c.APIOf(at.site, at.node)
	}
	var now func() time.Time
	if c.cfg.Now != nil {
		now = func() time.Time { return c.cfg.Now(at.site) }
	}
	conn := m.gate.PacketConn()
	if c.cfg.Uncut {
		conn = m.gate.UDPConn
	}
	n, err := node.Open(cfg, node.Options{
		Now:    now,
		Logger: c.cfg.Logger, Conn: conn, RedialMax: c.cfg.RedialMax, Tick: c.cfg.Tick, Comparing: c.cfg.Comparing, LinkIdle: c.cfg.LinkIdle, Engine: c.cfg.Engine, Bootstrap: at.node == 1, Fatal: c.cfg.Fatal,
	})
	if err != nil {
		m.gate = nil // the node closed it
		return fmt.Errorf("start node %d of site %s: %w", at.node, at.site, err)
	}
	run, stop := context.WithCancel(context.Background())
	m.stop, m.done = stop, make(chan error, 1)
	c.mu.Lock()
	m.node, m.ended = n, nil
	c.mu.Unlock()
	go func() { // ends with stop, Crash or Close
		err := n.Run(run)
		c.mu.Lock()
		if m.node == n && err != nil {
			m.ended = fmt.Errorf("node %d of site %s ended: %w", at.node, at.site, err)
		}
		c.mu.Unlock()
		m.done <- err
	}()
	return nil
}

// Ended returns an error for each node that ended by itself, or nil.
func (c *Cluster) Ended() (all error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		all = errors.Join(all, m.ended)
	}
	return all
}

// API returns the address of a site's API, at its first node.
func (c *Cluster) API(id tiers.SiteID) string { return c.APIOf(id, 1) }

// APIOf returns the address of a node's API.
func (c *Cluster) APIOf(id tiers.SiteID, node uint32) string {
	return "unix:" + filepath.Join(c.dir(place{id, node}), "api.sock")
}

// Data returns a node's data directory.
func (c *Cluster) Data(id tiers.SiteID, node uint32) string {
	return filepath.Join(c.dir(place{id, node}), "data")
}

// Node returns the node that leads a site, any one of it while none does, and
// nil while it is down.
func (c *Cluster) Node(id tiers.SiteID) *node.Node {
	var up *node.Node
	for i := range c.nodesAt(id) {
		if n := c.NodeOf(id, i+1); n != nil {
			if n.Group().Leads() {
				return n
			}
			up = n
		}
	}
	return up
}

// NodeOf returns one node of a site, nil while it is down.
func (c *Cluster) NodeOf(id tiers.SiteID, node uint32) *node.Node {
	if m := c.member(place{id, node}); m != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		return m.node
	}
	return nil
}

// Nodes returns one node of each site that is up, as [Cluster.Node] does, in
// site order.
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
	var errs []error
	for i := range c.nodesAt(id) {
		errs = append(errs, c.CrashNode(id, i+1))
	}
	return errors.Join(errs...)
}

// CrashNode ends one node of a site as SIGKILL would.
func (c *Cluster) CrashNode(id tiers.SiteID, node uint32) error {
	m := c.member(place{id, node})
	c.mu.Lock()
	n := m.node
	m.node = nil
	c.mu.Unlock()
	if n == nil {
		return nil
	}
	err := n.Crash()
	m.stop()
	err = errors.Join(err, <-m.done)
	m.gate = nil
	return err
}

// Close ends every site in order and waits for all.
func (c *Cluster) Close() error {
	var g errgroup.Group // each goroutine ends with its node
	for _, m := range c.all() {
		c.mu.Lock()
		n := m.node
		m.node = nil
		c.mu.Unlock()
		switch {
		case n != nil:
			g.Go(func() error {
				m.stop()
				return <-m.done
			})
		case m.gate != nil:
			g.Go(m.gate.Close)
		}
	}
	return g.Wait()
}

// all returns every member, in order.
func (c *Cluster) all() []*member {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*member, 0, len(c.members))
	for _, m := range c.members {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *member) int {
		if a.at.site != b.at.site {
			return slices.Compare([]tiers.SiteID{a.at.site}, []tiers.SiteID{b.at.site})
		}
		return int(a.at.node) - int(b.at.node)
	})
	return out
}

func (m *member) bind(port uint16) error {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		return fmt.Errorf("bind port of node %d of site %s: %w", m.at.node, m.at.site, err)
	}
	m.gate = fault.NewGate(conn)
	m.port = m.gate.Port()
	return nil
}
