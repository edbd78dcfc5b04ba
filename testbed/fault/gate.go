package fault

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Gate is a UDP socket that drops datagrams to and from cut peers, silently.
type Gate struct {
	*net.UDPConn
	sent, received atomic.Uint64

	mu  sync.RWMutex // guards cut
	cut map[uint16]struct{}
}

// NewGate puts a gate under a socket, which it owns from then on.
func NewGate(conn *net.UDPConn) *Gate { return &Gate{UDPConn: conn, cut: map[uint16]struct{}{}} }

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
	g.sent.Add(uint64(len(p)))
	return g.UDPConn.WriteTo(p, addr)
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
// ReadFrom and WriteTo, and keeps those that size its buffers.
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
