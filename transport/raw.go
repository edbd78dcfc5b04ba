package transport

import (
	"context"
	"fmt"
	"io"

	"github.com/quic-go/quic-go"
)

// Raw is a stream to the peer that carries whatever is written. Nothing that a site
// sends goes this way: the testbed's misbehaving peers use it, so that they break
// the protocol on a link whose handshake is the real one.
type Raw interface {
	// Write blocks while the peer's flow control does.
	io.Writer
	// Close ends the stream in order.
	io.Closer
	// Reset ends it at once, in the middle of whatever was written.
	Reset()
}

// OpenRaw opens one. It waits while the peer allows no more streams.
func (l *Link) OpenRaw(ctx context.Context) (Raw, error) {
	s, err := l.conn.OpenUniStreamSync(ctx)
	if err != nil {
		return nil, fmt.Errorf("open stream to %s: %w", l.peer.Site, l.reason(err))
	}
	return rawStream{s}, nil
}

type rawStream struct{ *quic.SendStream }

// Reset implements [Raw].
func (s rawStream) Reset() { s.CancelWrite(0) }
