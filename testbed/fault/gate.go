package fault

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tiermesh/tiermesh/testbed/relay"
)

// Gate is a UDP socket that drops datagrams to and from cut peers, silently.
type Gate struct {
	*net.UDPConn
	sent, received atomic.Uint64

	mu  sync.RWMutex // guards the fields below
	cut map[uint16]struct{}
	out map[uint16]*outgoing
}

// Out is what happens to datagrams on their way to a peer.
type Out struct {
	// Cut drops all of them.
	Cut bool
	// Loss is the share that is dropped, 0 to 1.
	Loss float64
	// PayloadMax is the size of the largest that passes, in bytes; zero means no bound.
	PayloadMax int
	relay.Shape
}

// outgoing is the line to one peer.
type outgoing struct {
	Out
	g *Gate

	mu     sync.Mutex // guards the fields below
	line   *relay.Line
	flying []flight // in the order in which they come out
	armed  bool     // deliver will be called
}

type flight struct {
	due  time.Time
	data []byte
	to   net.Addr
}

// NewGate puts a gate under a socket, which it owns from then on.
func NewGate(conn *net.UDPConn) *Gate {
	return &Gate{UDPConn: conn, cut: map[uint16]struct{}{}, out: map[uint16]*outgoing{}}
}

// Port returns the local UDP port, which identifies a site on loopback.
func (g *Gate) Port() uint16 {
	return g.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// Cut drops everything to and from a peer's port from now on.
func (g *Gate) Cut(port uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut[port] = struct{}{}
}

// Heal lets a peer's datagrams through again.
func (g *Gate) Heal(port uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.cut, port)
}

// Shape sets what happens from now on to datagrams on their way to a peer's port;
// the zero Out ends that. What is under way arrives as it would have. The error
// wraps [relay.ErrShape].
func (g *Gate) Shape(port uint16, o Out) error {
	if err := o.Validate(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if o == (Out{}) {
		delete(g.out, port)
		return nil
	}
	g.out[port] = &outgoing{Out: o, g: g, line: relay.NewLine(o.Shape)}
	return nil
}

// outTo returns the line to a peer, nil for one that is left alone.
func (g *Gate) outTo(port uint16) *outgoing {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.out[port]
}

// HealAll lets everybody's datagrams through again.
func (g *Gate) HealAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.cut)
}

func (g *Gate) drops(port uint16) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	_, ok := g.cut[port]
	return ok
}

// Bytes returns the UDP payload bytes that passed in each direction.
func (g *Gate) Bytes() (sent, received uint64) { return g.sent.Load(), g.received.Load() }

// ReadFrom implements [net.PacketConn].
func (g *Gate) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, addr, err := g.UDPConn.ReadFrom(p)
		if err != nil {
			return n, addr, err
		}
		if port(addr) != 0 && g.drops(port(addr)) {
			continue
		}
		g.received.Add(uint64(n))
		return n, addr, nil
	}
}

// WriteTo implements [net.PacketConn]. A dropped datagram counts as written.
func (g *Gate) WriteTo(p []byte, addr net.Addr) (int, error) {
	if g.drops(port(addr)) {
		return len(p), nil
	}
	o := g.outTo(port(addr))
	if o == nil {
		g.sent.Add(uint64(len(p)))
		return g.UDPConn.WriteTo(p, addr)
	}
	fits := o.PayloadMax == 0 || len(p) <= o.PayloadMax
	if !o.Cut && fits && (o.Loss == 0 || rand.Float64() >= o.Loss) { //nolint:gosec // noise, not a secret
		o.send(p, addr)
	}
	return len(p), nil
}

// send puts a datagram on the line, unless its queue is full.
func (o *outgoing) send(p []byte, to net.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	due, ok := o.line.Enter(now, len(p))
	if !ok {
		return
	}
	o.g.sent.Add(uint64(len(p)))
	o.flying = append(o.flying, flight{due, bytes.Clone(p), to})
	if !o.armed {
		o.armed = true
		time.AfterFunc(due.Sub(now), o.deliver)
	}
}

// deliver sends what has come out of the line. Errors are losses: the peers'
// business, as on a line.
func (o *outgoing) deliver() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.flying) > 0 {
		f := o.flying[0]
		if left := time.Until(f.due); left > 0 {
			time.AfterFunc(left, o.deliver)
			return
		}
		_, _ = o.g.UDPConn.WriteTo(f.data, f.to)
		o.flying = o.flying[1:]
	}
	o.armed = false
}

func port(addr net.Addr) uint16 {
	if u, ok := addr.(*net.UDPAddr); ok {
		return u.AddrPort().Port()
	}
	if ap, err := netip.ParseAddrPort(addr.String()); err == nil {
		return ap.Port()
	}
	return 0
}

// packetConn hides the methods of *net.UDPConn with which QUIC would bypass
// ReadFrom and WriteTo, and keeps those that size its buffers. Packets keep QUIC's
// smallest size: it tries larger ones only on a socket that forbids fragments.
type packetConn struct {
	net.PacketConn
	bufferSizer
}

type bufferSizer interface {
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}

// PacketConn returns the gate as a plain packet connection, which is what goes
// under QUIC.
func (g *Gate) PacketConn() net.PacketConn { return packetConn{g, g.UDPConn} }
