package sim

import (
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

const (
	// delayMin is how long a datagram is under way at least.
	delayMin = time.Millisecond
	// A line's queue holds what it sends in queueTime, and queueBytes at least; what
	// finds it full is dropped.
	queueTime  = 200 * time.Millisecond
	queueBytes = 12_000
)

// network carries datagrams between the nodes. A datagram costs the same however
// many lines there are, and a line that is idle costs nothing but memory.
type network struct {
	seed uint64
	base scenario.Line

	mu     sync.Mutex // guards the fields below, and the cables'
	ports  map[netip.AddrPort]*port
	alone  map[tiers.SiteID]bool
	cables map[pair]*cable
	sent   uint64 // payload bytes
}

// pair is two sites, in the direction of a line; both are the same for what stays
// within a site.
type pair struct{ from, to tiers.SiteID }

// port is an address; a place that has gone out of use keeps it.
type port struct {
	site tiers.SiteID
	to   simnet.PacketReceiver
	// up says that a node is there, paused that it neither hears nor speaks.
	up, paused bool
}

// cable is a line from one site to another.
type cable struct {
	n    *network
	at   pair
	line scenario.Line
	rng  *rand.Rand
	// free is when it has sent what was handed to it; last when the last arrives.
	free, last time.Time
	flying     []flight
	armed      bool // something will deliver
}

// flight is a datagram under way.
type flight struct {
	due      time.Time
	from, to *port
	packet   simnet.Packet
}

var _ simnet.Router = (*network)(nil)

func newNetwork(seed uint64, base scenario.Line) *network {
	return &network{
		seed: seed, base: base, ports: map[netip.AddrPort]*port{}, alone: map[tiers.SiteID]bool{}, cables: map[pair]*cable{},
	}
}

// open gives an address of a site to a node.
func (n *network) open(site tiers.SiteID, addr netip.AddrPort) net.PacketConn {
	n.mu.Lock()
	n.ports[addr] = &port{site: site, up: true}
	n.mu.Unlock()
	return whole{simnet.NewBlockingSimConn(net.UDPAddrFromAddrPort(addr), n)}
}

// whole is a connection whose datagrams are never broken into fragments, which is what
// QUIC asks a socket for before it tries larger packets.
type whole struct{ *simnet.SimConn }

// SyscallConn answers whatever is set on the connection with success.
func (whole) SyscallConn() (syscall.RawConn, error) { return noSocket{}, nil }

// noSocket is a system's handle of something that is none.
type noSocket struct{}

func (noSocket) Control(func(fd uintptr)) error    { return nil }
func (noSocket) Read(func(fd uintptr) bool) error  { return nil }
func (noSocket) Write(func(fd uintptr) bool) error { return nil }

// AddNode implements [simnet.Router].
func (n *network) AddNode(addr net.Addr, to simnet.PacketReceiver) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.port(addr); p != nil {
		p.to = to
	}
}

// port returns the port of an address, or nil. The caller holds mu.
func (n *network) port(addr net.Addr) *port {
	if u, ok := addr.(*net.UDPAddr); ok {
		a := u.AddrPort()
		return n.ports[netip.AddrPortFrom(a.Addr().Unmap(), a.Port())]
	}
	return nil
}

// unplug ends the use of an address: nothing that is under way to or from it
// arrives.
func (n *network) unplug(addr netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.ports[addr]; p != nil {
		p.up = false
	}
}

// pause lets nothing to or from an address through, or ends that.
func (n *network) pause(addr netip.AddrPort, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.ports[addr]; p != nil {
		p.paused = on
	}
}

// set changes a line.
func (n *network) set(from, to tiers.SiteID, l scenario.Line) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cable(pair{from, to}).line = l
}

// isolate cuts a site off, or ends that.
func (n *network) isolate(id tiers.SiteID, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.alone[id] = on
}

// bytes returns the payload bytes that were sent, whether they arrived or not.
func (n *network) bytes() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent
}

// cable returns the line of a pair. The caller holds mu.
func (n *network) cable(at pair) *cable {
	w := n.cables[at]
	if w == nil {
		h := fnv.New64a()
		_, _ = h.Write([]byte(string(at.from) + ">" + string(at.to)))
		w = &cable{n: n, at: at, line: n.base, rng: rand.New(rand.NewPCG(n.seed, h.Sum64()))} //nolint:gosec // reproducible
		if at.from == at.to {
			w.line = scenario.Line{}
		}
		n.cables[at] = w
	}
	return w
}

// passes reports whether a datagram gets through now.
func (n *network) passes(w *cable, from, to *port) bool {
	if !from.up || !to.up || from.paused || to.paused {
		return false
	}
	return w.at.from == w.at.to || !w.line.Cut && !n.alone[w.at.from] && !n.alone[w.at.to]
}

// SendPacket implements [simnet.Router]. A datagram that is lost is no error.
func (n *network) SendPacket(p simnet.Packet) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	from, to := n.port(p.From), n.port(p.To)
	if from == nil || !from.up || from.paused {
		return nil // nobody sees it
	}
	n.sent += uint64(len(p.Data))
	if to == nil {
		return nil
	}
	w := n.cable(pair{from.site, to.site})
	if !n.passes(w, from, to) {
		return nil
	}
	due, ok := w.admit(time.Now(), len(p.Data))
	if !ok {
		return nil
	}
	w.flying = append(w.flying, flight{due: due, from: from, to: to, packet: p})
	if !w.armed {
		w.armed = true
		time.AfterFunc(time.Until(due), w.deliver)
	}
	return nil
}

// admit says when a datagram arrives; false when it is lost.
func (w *cable) admit(now time.Time, size int) (due time.Time, ok bool) {
	due = now
	if w.line.BitsPerSecond > 0 {
		begin := now
		if w.free.After(now) {
			begin = w.free
		}
		if begin.Sub(now) > max(queueTime, w.takes(queueBytes)) {
			return due, false
		}
		w.free = begin.Add(w.takes(size))
		due = w.free
	}
	// What is lost has taken its time on the line all the same.
	if !w.line.Fits(size) {
		return due, false
	}
	if w.line.Loss > 0 && w.rng.Float64() < w.line.Loss {
		return due, false
	}
	due = due.Add(max(w.line.Delay, delayMin))
	if due.Before(w.last) {
		due = w.last // a line keeps order, also when its delay changes
	}
	w.last = due
	return due, true
}

// takes is how long the line's rate takes for so many bytes.
func (w *cable) takes(bytes int) time.Duration {
	return time.Duration(int64(bytes) * 8 * int64(time.Second) / w.line.BitsPerSecond)
}

// deliver hands on what is due, in order; a receiver that takes its time holds up
// those behind.
func (w *cable) deliver() {
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	for len(w.flying) > 0 && !w.flying[0].due.After(time.Now()) {
		f := w.flying[0]
		w.flying[0] = flight{}
		w.flying = w.flying[1:]
		if !w.n.passes(w, f.from, f.to) || f.to.to == nil {
			continue
		}
		w.n.mu.Unlock()
		f.to.to.RecvPacket(f.packet)
		w.n.mu.Lock()
	}
	w.armed = len(w.flying) > 0
	if w.armed {
		time.AfterFunc(time.Until(w.flying[0].due), w.deliver)
		return
	}
	w.flying = nil
}
