package replication_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// network joins the nodes of a test's site by pipes in memory.
type network struct {
	mu    sync.Mutex // guards the fields below
	ports map[uint32]*port
	cut   map[[2]uint32]bool
	open  map[*cable]struct{}
	old   map[uint32]bool // nodes of a build before formats had numbers
}

// port is where a node is plugged in; it is a [replication.Streams].
type port struct {
	net    *network
	node   uint32
	accept chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// cable is one end of a stream.
type cable struct {
	net.Conn
	ends [2]uint32
	net  *network
	old  bool
}

// Protocol is that of the older end.
func (c *cable) Protocol() int {
	if c.old {
		return 1
	}
	return 2
}

func newNetwork() *network {
	return &network{ports: map[uint32]*port{}, cut: map[[2]uint32]bool{}, open: map[*cable]struct{}{}, old: map[uint32]bool{}}
}

func (n *network) plug(node uint32) *port {
	p := &port{net: n, node: node, accept: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[node] = p
	return p
}

// isolate cuts a node off from all others, or ends that.
func (n *network) isolate(node uint32, cut bool) {
	n.mu.Lock()
	for other := range n.ports {
		n.cut[[2]uint32{node, other}], n.cut[[2]uint32{other, node}] = cut, cut
	}
	var broken []*cable
	for c := range n.open {
		if n.cut[c.ends] {
			broken = append(broken, c)
		}
	}
	n.mu.Unlock()
	for _, c := range broken {
		_ = c.Close()
	}
}

// Dial implements [replication.Streams].
func (p *port) Dial(ctx context.Context, node uint32, _ string) (net.Conn, error) {
	n := p.net
	n.mu.Lock()
	to, cut, old := n.ports[node], n.cut[[2]uint32{p.node, node}], n.old[p.node] || n.old[node]
	n.mu.Unlock()
	if to == nil || cut {
		return nil, net.ErrClosed
	}
	a, b := net.Pipe()
	near, far := &cable{a, [2]uint32{p.node, node}, n, old}, &cable{b, [2]uint32{p.node, node}, n, old}
	n.mu.Lock()
	n.open[near], n.open[far] = struct{}{}, struct{}{}
	n.mu.Unlock()
	select {
	case to.accept <- far:
		return near, nil
	case <-to.closed:
	case <-ctx.Done():
	}
	return nil, errors.Join(net.ErrClosed, near.Close(), far.Close())
}

// Close implements [net.Conn].
func (c *cable) Close() error {
	c.net.mu.Lock()
	delete(c.net.open, c)
	c.net.mu.Unlock()
	return c.Conn.Close()
}

// Accept implements [net.Listener].
func (p *port) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (p *port) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements [net.Listener].
func (p *port) Addr() net.Addr { return &net.TCPAddr{} }

// cluster is a site of several nodes.
type cluster struct {
	t      *testing.T
	dir    string
	net    *network
	change func(*replication.Config)

	mu    sync.Mutex // guards nodes
	nodes map[uint32]*replication.Group
}

// newCluster forms a site of n voters.
func newCluster(t *testing.T, n uint32, change func(*replication.Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), net: newNetwork(), change: change, nodes: map[uint32]*replication.Group{}}
	t.Cleanup(c.close)
	if err := replication.Init(c.path(1)); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		c.start(i + 1)
	}
	for i := range n - 1 {
		c.join(i + 2)
	}
	return c
}

func (c *cluster) path(node uint32) string { return filepath.Join(c.dir, fmt.Sprint(node)) }

func (c *cluster) start(node uint32) *replication.Group {
	c.t.Helper()
	cfg := config(c.t, c.path(node))
	cfg.Node, cfg.Bootstrap, cfg.Siblings = node, false, replication.Siblings{Nodes: 3, Streams: c.net.plug(node)}
	cfg.ElectionTimeout = 500 * time.Millisecond
	if c.change != nil {
		c.change(&cfg)
	}
	g, err := replication.Open(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[node] = g
	return g
}

// crash ends a node without a flush.
func (c *cluster) crash(node uint32) {
	c.t.Helper()
	c.mu.Lock()
	g := c.nodes[node]
	delete(c.nodes, node)
	c.mu.Unlock()
	if err := g.Abandon(); err != nil {
		c.t.Error(err)
	}
}

func (c *cluster) close() {
	for _, g := range c.all() {
		if err := g.Close(); err != nil {
			c.t.Error(err)
		}
	}
}

func (c *cluster) all() map[uint32]*replication.Group {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.nodes)
}

// led has the leader do something that may be done twice; when it leads no longer,
// the next one does it.
func (c *cluster) led(do func(lead *replication.Group) error) {
	c.t.Helper()
	ctx, err := limited(c.t), replication.ErrNotLeader
	for again(err) && ctx.Err() == nil {
		err = do(c.leader())
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// again reports that a write has to be repeated, under the same key, at the next leader.
func again(err error) bool {
	return errors.Is(err, replication.ErrNotLeader) || errors.Is(err, replication.ErrUnknown)
}

// remove takes a member out of the group.
func (c *cluster) remove(id string) {
	c.t.Helper()
	tried := false
	c.led(func(lead *replication.Group) error {
		err := lead.Remove(id)
		if tried && errors.Is(err, replication.ErrMember) {
			return nil // what was unknown came about
		}
		tried = true
		return err
	})
}

// join makes a new node a voter.
func (c *cluster) join(node uint32) {
	c.t.Helper()
	id := c.all()[node].ID()
	c.led(func(lead *replication.Group) error { return lead.AddNonvoter(id, "test") })
	c.agree()
	c.led(func(lead *replication.Group) error { return lead.Promote(id) })
}

// leader waits until a node leads.
func (c *cluster) leader() *replication.Group {
	c.t.Helper()
	var lead *replication.Group
	c.wait("a leader", func() bool {
		for _, g := range c.all() {
			if g.Leads() && g.Linearize(limited(c.t)) == nil {
				lead = g
			}
		}
		return lead != nil
	})
	return lead
}

func (c *cluster) wait(what string, done func() bool) {
	c.t.Helper()
	ctx := limited(c.t)
	for !done() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			for n, g := range c.all() {
				m, err := g.Members()
				c.t.Logf("node %d: leads %v, %+v, members %+v, %v", n, g.Leads(), g.Progress(), m, err)
			}
			c.t.Fatalf("waited for: %s", what)
		}
	}
}

// agree waits until all members that run hold the same.
func (c *cluster) agree() {
	c.t.Helper()
	lead := c.leader()
	c.wait("all members to hold the same", func() bool {
		if !lead.Leads() {
			lead = c.leader()
		}
		members, err := lead.Members()
		if err != nil {
			return false
		}
		last, digest := lead.Progress().Last, lead.Digest()
		for _, m := range members {
			g := c.all()[m.Node]
			if g != nil && g.ID() == m.ID && (g.Progress().Applied < last || g.Digest() != digest) {
				return false
			}
		}
		return true
	})
}

// put writes a new document at the leader, again until it is done.
func (c *cluster) put(doc tiers.DocID) replication.Written {
	c.t.Helper()
	ctx := limited(c.t)
	for ctx.Err() == nil {
		w, err := put(ctx, c.leader(), doc)
		if err == nil {
			return w
		}
		if !again(err) {
			c.t.Fatal(err)
		}
	}
	c.t.Fatalf("%s not written", doc)
	return replication.Written{}
}

func put(ctx context.Context, g *replication.Group, doc tiers.DocID) (replication.Written, error) {
	_, actor, err := g.Actor()
	if err != nil {
		return replication.Written{}, err
	}
	b, err := engine.New().Build(nil, actor, 1, []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: string(doc)}})
	if err != nil {
		return replication.Written{}, err
	}
	w, err := g.Append(ctx, string(doc), []store.Item{{Stream: stream, Doc: doc, Time: g.Clock().Now(), Change: b.Raw}})
	if err != nil {
		return replication.Written{}, err
	}
	return w[0], nil
}

func (c *cluster) puts(name string, n int) {
	c.t.Helper()
	for i := range n {
		c.put(tiers.DocID(fmt.Sprintf("event:%s-%d", name, i)))
	}
}

// TestThreeNodes: a site of three goes on without any one of them, and the one
// that comes back holds the same as the others.
func TestThreeNodes(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.puts("start", 5)
	for node := range uint32(3) {
		c.crash(node + 1)
		c.puts(fmt.Sprintf("without-%d", node+1), 5)
		c.start(node + 1)
		c.agree()
	}
	if n := c.leader().Store().Counts().Records; n != 20 {
		t.Errorf("%d records", n)
	}
	c.wait("three voters, of which one leads", func() bool {
		members, err := c.leader().Members()
		voters, leads := 0, 0
		for _, m := range members {
			if m.Voter {
				voters++
			}
			if m.Leader {
				leads++
			}
		}
		return err == nil && len(members) == 3 && voters == 3 && leads == 1
	})
}

// TestNoQuorumNoWrite: without a majority nothing is acknowledged, and what was
// tried is unknown, not done.
func TestNoQuorumNoWrite(t *testing.T) {
	c := newCluster(t, 3, nil)
	lead := c.leader()
	for node, g := range c.all() {
		if g != lead {
			c.net.isolate(node, true)
		}
	}
	if _, err := put(limited(t), lead, "event:alone"); !errors.Is(err, replication.ErrUnknown) && !errors.Is(err, replication.ErrNotLeader) {
		t.Errorf("%v", err)
	}
	for node := range c.all() {
		c.net.isolate(node, false)
	}
	c.puts("healed", 3)
	c.agree()
}

// TestCloseHandsOver: when a leader has ended in order, another node has begun
// the next term already; it did not have to miss the old one first.
func TestCloseHandsOver(t *testing.T) {
	c := newCluster(t, 3, func(cfg *replication.Config) { cfg.ElectionTimeout = 10 * time.Second }) // nobody misses anybody
	lead := c.leader()
	c.agree()
	c.mu.Lock()
	maps.DeleteFunc(c.nodes, func(_ uint32, g *replication.Group) bool { return g == lead })
	c.mu.Unlock()
	term := lead.Progress().Term
	if err := lead.Close(); err != nil {
		t.Fatal(err)
	}
	var next uint64
	for _, g := range c.all() {
		next = max(next, g.Progress().Term)
	}
	if next <= term {
		t.Errorf("nobody follows the leader of term %d", term)
	}
	c.puts("after", 1)
}

// TestLostDisk: a node whose disk was lost comes back as somebody else: it has
// no vote, and the group does not count it, until it was added.
func TestLostDisk(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.puts("before", 20)
	lost := c.all()[2].ID()
	c.crash(2)
	if err := os.RemoveAll(c.path(2)); err != nil {
		t.Fatal(err)
	}
	g := c.start(2)
	if g.ID() == lost {
		t.Fatalf("the new disk calls itself %s again", lost)
	}
	// With node 3 gone, node 2 would make a majority if it were taken for its
	// old self.
	c.crash(3)
	if g := c.all()[1]; g.Leads() {
		if _, err := put(limited(t), g, "event:alone"); err == nil {
			t.Error("acknowledged by one disk of three")
		}
	}
	if m, err := g.Members(); err != nil || len(m) != 0 {
		t.Errorf("the new disk got members %v, %v", m, err)
	}
	c.start(3)
	c.remove(lost)
	c.join(2)
	c.crash(3)
	c.puts("two", 5)
	c.start(3)
	c.agree()
	if err := c.leader().Remove("9-none"); !errors.Is(err, replication.ErrMember) {
		t.Errorf("no member: %v", err)
	}
}

// TestSnapshotToFollower: a follower that lacks what the leader has forgotten
// gets the snapshot while writers go on, and holds the same in the end.
func TestSnapshotToFollower(t *testing.T) {
	c := newCluster(t, 3, func(cfg *replication.Config) { cfg.TrailingEntries = 16 })
	c.puts("before", 10)
	for node, g := range c.all() {
		if !g.Leads() {
			c.crash(node)
			c.puts("without", 100)
			if err := c.leader().Snapshot(); err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			var writer sync.WaitGroup
			writer.Go(func() { // ends with stop
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
						_, _ = put(context.Background(), c.leader(), tiers.DocID(fmt.Sprintf("event:meanwhile-%d", i)))
					}
				}
			})
			g = c.start(node)
			c.wait("the follower to have the first records", func() bool { return g.Store().Counts().Records >= 110 })
			close(stop)
			writer.Wait()
			break
		}
	}
	c.agree()
}

// TestLinearizableThreeNodes: clients of one document at a site of three, whose
// leaders are cut off and killed under them, give a history that Porcupine
// accepts. A client reads linearizably and writes on top of what it read.
func TestLinearizableThreeNodes(t *testing.T) {
	c := newCluster(t, 3, nil)
	h := newHistory()
	stop := c.clients(h)
	for round := range 6 {
		h.grow(t, 60)
		for node, g := range c.all() {
			if !g.Leads() {
				continue
			}
			if round%2 == 0 {
				c.net.isolate(node, true)
				c.wait("another leader", func() bool { return othersLead(c, node) })
				h.grow(t, 60)
				c.net.isolate(node, false)
			} else {
				c.crash(node)
				h.grow(t, 60)
				c.start(node)
			}
			break
		}
	}
	stop()
	h.check(t)
	c.agree()
}

func othersLead(c *cluster, node uint32) bool {
	for n, g := range c.all() {
		if n != node && g.Leads() {
			return true
		}
	}
	return false
}

// TestRecover: one node of a site that lost the others goes on alone with all
// that it and its log held, in a new incarnation; emptied nodes join it again.
// A recovery that was interrupted is refused by Open and goes on.
func TestRecover(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.puts("before", 30)
	c.agree()
	for i := range uint32(3) {
		c.crash(i + 1) // what the store had not flushed is in the log
	}
	cfg := replication.RecoverConfig{Dir: c.path(3), Federation: "cq", Site: "500101001"}
	info, err := replication.Recover(cfg)
	if err != nil || info.Records != 30 || info.Replayed < 30 || info.Incarnation != 2 {
		t.Fatalf("%+v, %v", info, err)
	}
	// As a crash between the last steps leaves it.
	ready := filepath.Join(c.path(3), "recover.ready")
	if err := errors.Join(os.Mkdir(ready, 0o700), os.Rename(filepath.Join(c.path(3), "store"), filepath.Join(ready, "store")), os.Remove(filepath.Join(c.path(3), "bootstrap")),
		os.RemoveAll(filepath.Join(c.path(3), "recover.old", "store"))); err != nil {
		t.Fatal(err)
	}
	if _, err := replication.Open(config(t, c.path(3))); !errors.Is(err, replication.ErrRecovering) {
		t.Errorf("opened in the middle: %v", err)
	}
	if info, err = replication.Recover(cfg); err != nil || info.Records != 30 || info.Incarnation != 2 {
		t.Fatalf("%+v, %v", info, err)
	}
	if _, err := replication.Recover(cfg); err == nil {
		t.Error("recovered over what an earlier recovery keeps")
	}
	c.start(3)
	if w, err := put(limited(t), c.leader(), "event:before-7"); err != nil || w.Seq == 0 {
		t.Errorf("a retry of what was acknowledged before: %+v, %v", w, err)
	}
	if n := c.leader().Store().Counts().Records; n != 30 {
		t.Errorf("%d records", n)
	}
	c.puts("after", 3)
	for _, node := range []uint32{1, 2} {
		if err := os.RemoveAll(c.path(node)); err != nil {
			t.Fatal(err)
		}
		c.start(node)
		c.join(node)
	}
	c.agree()
	if n := c.all()[1].Store().Counts().Records; n != 33 {
		t.Errorf("%d records at a node that joined", n)
	}
}
