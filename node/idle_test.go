package node_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/transport/identity"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// pipes are UDP sockets inside a bubble.
type pipes struct {
	mu   sync.Mutex // guards ends
	ends map[string]*pipeEnd
	sent atomic.Int64 // datagrams
}

type pipeEnd struct {
	p    *pipes
	addr *net.UDPAddr
	in   chan datagram
	gone chan struct{}
	once sync.Once

	mu     sync.Mutex    // guards the fields below
	woken  chan struct{} // closed when the deadline has passed
	passed bool
}

type datagram struct {
	b    []byte
	from net.Addr
}

func (p *pipes) listen(addr string) *pipeEnd {
	a := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr))
	e := &pipeEnd{p: p, addr: a, in: make(chan datagram, 256), gone: make(chan struct{}), woken: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ends[addr] = e
	return e
}

// ReadFrom implements [net.PacketConn].
func (e *pipeEnd) ReadFrom(b []byte) (int, net.Addr, error) {
	e.mu.Lock()
	woken := e.woken
	e.mu.Unlock()
	select {
	case <-woken:
		return 0, nil, os.ErrDeadlineExceeded
	default:
	}
	select {
	case d := <-e.in:
		return copy(b, d.b), d.from, nil
	case <-woken:
		return 0, nil, os.ErrDeadlineExceeded
	case <-e.gone:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements [net.PacketConn].
func (e *pipeEnd) WriteTo(b []byte, to net.Addr) (int, error) {
	e.p.mu.Lock()
	peer := e.p.ends[to.String()]
	e.p.mu.Unlock()
	e.p.sent.Add(1)
	if peer != nil {
		select {
		case peer.in <- datagram{append([]byte(nil), b...), e.addr}:
		default: // lost
		}
	}
	return len(b), nil
}

// SetReadDeadline ends reading when the time has passed, which is all that QUIC
// uses it for.
func (e *pipeEnd) SetReadDeadline(t time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	passed := !t.IsZero() && !t.After(time.Now())
	if passed == e.passed {
		return nil
	}
	if e.passed = passed; passed {
		close(e.woken)
	} else {
		e.woken = make(chan struct{})
	}
	return nil
}

// Close implements [net.PacketConn].
func (e *pipeEnd) Close() error {
	e.once.Do(func() { close(e.gone) })
	return nil
}

// LocalAddr implements [net.PacketConn].
func (e *pipeEnd) LocalAddr() net.Addr { return e.addr }

// SetDeadline implements [net.PacketConn].
func (e *pipeEnd) SetDeadline(t time.Time) error { return e.SetReadDeadline(t) }

// SetWriteDeadline implements [net.PacketConn].
func (e *pipeEnd) SetWriteDeadline(time.Time) error { return nil }

// idleMesh starts a city, a district and a township over pipes, in a bubble.
func idleMesh(t *testing.T, p *pipes) (nodes []*node.Node) {
	t.Helper()
	dir := t.TempDir()
	if err := identity.InitCA(dir, "cq", time.Now()); err != nil {
		t.Fatal(err)
	}
	ca, err := identity.OpenCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	doc := tiers.TopologyDoc{Federation: "cq", Version: 1, Sites: []tiers.Site{
		{ID: city, Tier: tiers.TierCity, Name: "c"},
		{ID: district, Tier: tiers.TierDistrict, Name: "d", Parent: city},
		{ID: township, Tier: tiers.TierTownship, Name: "t", Parent: district},
	}}
	for i := range doc.Sites {
		s := &doc.Sites[i]
		if err := ca.Issue(identity.IssueConfig{ID: identity.ID{Federation: "cq", Site: s.ID, Node: 1}, OutDir: filepath.Join(dir, string(s.ID)), Now: time.Now()}); err != nil {
			t.Fatal(err)
		}
		creds, err := identity.Load(filepath.Join(dir, string(s.ID)))
		if err != nil {
			t.Fatal(err)
		}
		s.Key = creds.SitePublicKey()
		s.Nodes = []tiers.NodeAddr{{Node: 1, Addr: "127.0.0.1:" + []string{"7001", "7002", "7003"}[i]}}
	}
	topology, err := tiers.NewTopology(doc)
	if err != nil {
		t.Fatal(err)
	}
	b, err := topology.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "topology.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range doc.Sites {
		at := filepath.Join(dir, string(s.ID))
		n, err := node.Open(node.Config{Dir: filepath.Join(at, "data"), Credentials: at, Topology: file, Listen: s.Nodes[0].Addr},
			node.Options{Conn: p.listen(s.Nodes[0].Addr)})
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// wakeUps is how often goroutines of this process were run, about: the runtime
// counts one in eight.
func wakeUps() (n uint64) {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(sample)
	for _, c := range sample[0].Value.Float64Histogram().Counts {
		n += 8 * c
	}
	return n
}

// TestIdleSitesRest: sites to which nothing happens do next to nothing: their links
// are kept alive and not ticked, and nothing else polls. What a link shows is right
// all the same, and what is written then goes out at once.
func TestIdleSitesRest(t *testing.T) {
	// The codec is every test's, and must not be a bubble's.
	if _, err := wire.Append(nil, &wire.Bye{Reason: strings.Repeat("long enough to be compressed ", 100)}); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{ends: map[string]*pipeEnd{}}
		nodes := idleMesh(t, p)
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		for _, n := range nodes {
			running.Go(func() {
				if err := n.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		defer running.Wait()
		defer stop()
		time.Sleep(2 * time.Minute)
		// A collection that finds the processors busy wakes its sweeper tens of
		// thousands of times.
		runtime.GC()
		defer debug.SetGCPercent(debug.SetGCPercent(-1))
		sent, ticks, wakes := p.sent.Load(), ticksOf(nodes), wakeUps()
		const idle = time.Hour
		time.Sleep(idle)
		t.Logf("in an hour: %d datagrams, %d ticks, about %d wake-ups", p.sent.Load()-sent, ticksOf(nodes)-ticks, wakeUps()-wakes)
		// Two links: each end sends a keepalive at most in half the time that a silent
		// link lives, and acknowledges the other's; and a tick in all of it.
		if n, most := p.sent.Load()-sent, 2*2*2*int64(idle/(15*time.Second/2)); n > most || n < most/4 {
			t.Errorf("%d datagrams in an hour, not %d", n, most)
		}
		if n, most := ticksOf(nodes)-ticks, 2*2*uint64(idle/(15*time.Second)); n > most {
			t.Errorf("%d ticks of sessions in an hour, at most %d are needed", n, most)
		}
		// Three sites: a polling loop of 500 ms at each would be 20,000.
		if n := wakeUps() - wakes; n > 40_000 {
			t.Errorf("about %d wake-ups in an hour", n)
		}
		for _, n := range nodes {
			for _, l := range n.Links() {
				if now := time.Now(); !l.Equal || !l.ProvenAt.Equal(now) || now.Sub(l.LastContact) > 8*time.Second {
					t.Errorf("after an hour: %v, proven %v ago, last contact %v ago", l, now.Sub(l.ProvenAt), now.Sub(l.LastContact))
				}
			}
		}
		began := time.Now()
		reportAt(t, nodes[2])
		for nodes[0].Group().Store().Counts().Records < nodes[2].Group().Store().Counts().Records && time.Since(began) < time.Minute {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("what was written on quiet links was at the city after %v", took)
		}
	})
}

func ticksOf(nodes []*node.Node) (sum uint64) {
	for _, n := range nodes {
		sum += n.Ticks()
	}
	return sum
}

func reportAt(t *testing.T, n *node.Node) {
	t.Helper()
	if _, err := n.Report(t.Context(), "k", event.Report{Type: "01001", Title: "井盖", Priority: 3, SourceKey: "k"}); err != nil {
		t.Fatal(err)
	}
}
