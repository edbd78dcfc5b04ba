package transport

import (
	"context"
	"net"
	"net/netip"

	"github.com/quic-go/quic-go"
)

// Handshakes shows [handshakes] to this package's tests.
type Handshakes struct{ h *handshakes }

// NewHandshakes returns one with none under way.
func NewHandshakes() Handshakes { return Handshakes{&handshakes{by: map[netip.Addr]int{}}} }

// Begin takes in a first packet from host and returns how to end the handshake well.
func (h Handshakes) Begin(ctx context.Context, host string) (done func(), err error) {
	ctx, err = h.h.begin(ctx, &quic.ClientInfo{RemoteAddr: &net.UDPAddr{IP: net.ParseIP(host), Port: 1}})
	if err != nil {
		return nil, err
	}
	return ctx.Value(handshakeDone{}).(func()), nil
}

// Stats returns the counts, and how many are under way.
func (h Handshakes) Stats() (s HandshakeStats, underWay int) {
	h.h.mu.Lock()
	defer h.h.mu.Unlock()
	return h.h.stats, h.h.all
}

// Suspicious reports whether addresses are to be proven.
func (h Handshakes) Suspicious() bool { return h.h.suspicious(nil) }

// Clip shows [clip] to this package's tests.
func Clip(s string) string { return clip(s) }
