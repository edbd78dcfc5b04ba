package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/quic-go/quic-go"
)

// Bounds of the handshakes that peers begin. One more is refused in a packet,
// before any cryptography, and its peer dials again later.
const (
	// handshakesMax bounds those under way, handshakesOfOne those from one address:
	// it may be that of a gateway with a whole district behind it.
	handshakesMax   = 512
	handshakesOfOne = 128
	// validateFrom is how many are under way when a peer must show that its address
	// is its own (RFC 9000, section 8.1.2), at the cost of a round trip.
	validateFrom = 64
)

// errHandshakes refuses a handshake.
var errHandshakes = errors.New("transport: too many handshakes under way")

// HandshakeStats count the handshakes that peers began and that led to no link.
type HandshakeStats struct {
	// Refused were too many at once; Failed showed no certificate of this federation
	// or did not go on.
	Refused, Failed uint64
}

// handshakes bounds the handshakes under way. Safe for concurrent use.
type handshakes struct {
	mu    sync.Mutex // guards the fields below
	all   int
	by    map[netip.Addr]int
	stats HandshakeStats
}

// handshakeDone is the key of the function that a connection's context holds: it
// ends the handshake.
type handshakeDone struct{}

// begin takes in the first packet of a handshake; it is [quic.Transport.ConnContext].
func (h *handshakes) begin(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	from := addrOf(info.RemoteAddr)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all >= handshakesMax || h.by[from] >= handshakesOfOne {
		h.stats.Refused++
		return nil, errHandshakes
	}
	h.all++
	h.by[from]++
	var once sync.Once
	end := func(failed bool) { once.Do(func() { h.end(from, failed) }) }
	context.AfterFunc(ctx, func() { end(true) })
	return context.WithValue(ctx, handshakeDone{}, func() { end(false) }), nil
}

func (h *handshakes) end(from netip.Addr, failed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all--
	if h.by[from]--; h.by[from] == 0 {
		delete(h.by, from)
	}
	if failed {
		h.stats.Failed++
	}
}

// done ends the handshake of a connection that stands.
func (h *handshakes) done(conn *quic.Conn) {
	if end, ok := conn.Context().Value(handshakeDone{}).(func()); ok {
		end()
	}
}

// suspicious reports whether a peer must show that its address is its own.
func (h *handshakes) suspicious(net.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all >= validateFrom
}

func addrOf(a net.Addr) netip.Addr {
	if u, ok := a.(*net.UDPAddr); ok {
		return u.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// Handshakes returns the counts since the endpoint was opened.
func (e *Endpoint) Handshakes() HandshakeStats {
	e.handshakes.mu.Lock()
	defer e.handshakes.mu.Unlock()
	return e.handshakes.stats
}
