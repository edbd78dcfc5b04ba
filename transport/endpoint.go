package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/identity"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// alpn names the protocol between sites.
const alpn = "tiermesh/1"

// socketBytes is the size of the socket's buffers that QUIC wants.
const socketBytes = 7 << 20

// Config describes an endpoint.
type Config struct {
	// Conn is the UDP socket; the endpoint owns it.
	Conn        net.PacketConn
	Credentials *identity.Credentials
	Logger      *slog.Logger
	// Handshake bounds the time to set a link up; zero means 5 s.
	Handshake time.Duration
	// Idle is how long a silent link lives; zero means 15 s. A third of it is
	// the keepalive period.
	Idle time.Duration
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Handshake == 0 {
		c.Handshake = 5 * time.Second
	}
	if c.Idle == 0 {
		c.Idle = 15 * time.Second
	}
	return c
}

// Validate reports what cannot work. The error wraps [ErrConfig].
func (c Config) Validate() error {
	if c.Conn == nil || c.Credentials == nil {
		return fmt.Errorf("%w: socket and credentials must be given", ErrConfig)
	}
	if c.Handshake < 0 || c.Idle < 0 {
		return fmt.Errorf("%w: negative time-out", ErrConfig)
	}
	return nil
}

// Endpoint listens and dials on one UDP socket.
type Endpoint struct {
	cfg      Config
	quic     *quic.Transport
	listener *quic.Listener
	tls      *tls.Config
	conf     *quic.Config

	closeOnce sync.Once
	closeErr  error
}

// ListenUDP binds a UDP address, host:port. The error wraps [ErrBusyPort] when
// another process has it, and names the address.
func ListenUDP(addr string) (*net.UDPConn, error) {
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: listen address %q: %w", ErrConfig, addr, err)
	}
	conn, err := net.ListenUDP("udp", a)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: %s: stop the other process or choose another port", ErrBusyPort, addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return conn, nil
}

// Open starts listening. The caller must Close the endpoint.
func Open(cfg Config) (*Endpoint, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	growBuffers(cfg)
	e := &Endpoint{
		cfg: cfg, quic: &quic.Transport{Conn: cfg.Conn}, tls: cfg.Credentials.TLS(alpn),
		conf: &quic.Config{
			HandshakeIdleTimeout:           cfg.Handshake,
			MaxIdleTimeout:                 cfg.Idle,
			KeepAlivePeriod:                cfg.Idle / 3,
			InitialStreamReceiveWindow:     256 << 10,
			MaxStreamReceiveWindow:         4 << 20,
			InitialConnectionReceiveWindow: 512 << 10,
			MaxConnectionReceiveWindow:     8 << 20,
			MaxIncomingStreams:             -1,
			MaxIncomingUniStreams:          tiers.LaneCount,
			Allow0RTT:                      false,
		},
	}
	var err error
	if e.listener, err = e.quic.Listen(e.tls, e.conf); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Conn.LocalAddr(), err)
	}
	return e, nil
}

// growBuffers asks for the socket buffers that QUIC wants, and says once what
// to do when the system grants less.
func growBuffers(cfg Config) {
	conn, ok := cfg.Conn.(interface {
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
	})
	if !ok {
		return
	}
	if err := errors.Join(conn.SetReadBuffer(socketBytes), conn.SetWriteBuffer(socketBytes)); err != nil {
		cfg.Logger.Warn("small UDP buffers: raise net.core.rmem_max and net.core.wmem_max to 7500000", "err", err)
	}
}

// Addr returns the address that the endpoint listens on.
func (e *Endpoint) Addr() net.Addr { return e.cfg.Conn.LocalAddr() }

// Dial opens a link to a site. The error wraps [ErrPeerSite] when another site
// answers, or one of identity's sentinels.
func (e *Endpoint) Dial(ctx context.Context, addr string, want tiers.SiteID) (*Link, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s at %q: %w", want, addr, err)
	}
	conn, err := e.quic.Dial(ctx, to, e.tls, e.conf)
	if err != nil {
		return nil, fmt.Errorf("dial %s at %s: %w", want, addr, err)
	}
	l, err := newLink(conn)
	if err == nil && l.peer.Site != want {
		err = fmt.Errorf("%w: %s at %s is %s", ErrPeerSite, want, addr, l.peer)
		_ = l.Close(wire.CodeFederation, "dialled another site")
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Accept returns the next link that a peer opened. The error is ctx's, an
// [ErrClosed], or says why one peer was refused, after which Accept goes on.
func (e *Endpoint) Accept(ctx context.Context) (*Link, error) {
	conn, err := e.listener.Accept(ctx)
	if errors.Is(err, quic.ErrServerClosed) || errors.Is(err, quic.ErrTransportClosed) {
		return nil, ErrClosed
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return newLink(conn)
}

// Close closes every link and the socket, and waits. It is idempotent.
func (e *Endpoint) Close() error {
	e.closeOnce.Do(func() {
		e.closeErr = errors.Join(e.listener.Close(), e.quic.Close(), e.cfg.Conn.Close())
	})
	return e.closeErr
}

// Abandon closes the socket first, so that no peer is told, as when the
// process is killed. The testbed uses it.
func (e *Endpoint) Abandon() error {
	e.closeOnce.Do(func() {
		e.closeErr = e.cfg.Conn.Close()
		_ = e.listener.Close()
		_ = e.quic.Close() // the socket's error again
	})
	return e.closeErr
}
