package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/identity"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// The protocols (ALPN): between sites, and between the nodes of one site. Nodes of
// builds before the site's formats had numbers speak alpnUnnumbered alone.
const (
	alpnLink       = "tiermesh/1"
	alpnNodes      = "tiermesh-node/2"
	alpnUnnumbered = "tiermesh-node/1"
)

// acceptQueue is how many links wait to be taken up; one more is refused, and
// its peer dials again later.
const acceptQueue = 256

// socketBytes is the size of the socket's buffers that QUIC wants.
const socketBytes = 7 << 20

// Config describes an endpoint.
type Config struct {
	// Conn is the UDP socket; the endpoint owns it.
	Conn        net.PacketConn
	Credentials *identity.Credentials
	Logger      *slog.Logger
	// Refused is told of callers whose certificate is not accepted; nil for nobody. It
	// must not block, and whoever reaches the socket can have it called.
	Refused func(Refusal)
	// Handshake is how long a link may be silent while it is being set up; zero
	// means 10 s. A packet takes five through the full queue of a slow line, and
	// attempts that give up before the answer keep it full.
	Handshake time.Duration
	// Idle is how long a silent link lives, and how long a link does on which a
	// frame began and does not come in; zero means 15 s. Half of it is the
	// keepalive period: a keepalive that is lost is sent again at once.
	Idle time.Duration
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Handshake == 0 {
		c.Handshake = 10 * time.Second
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
	cfg        Config
	quic       *quic.Transport
	listener   *quic.Listener
	creds      atomic.Pointer[identity.Credentials]
	conf       *quic.Config
	links      chan accepted
	nodes      *Nodes
	handshakes *handshakes
	paths      *paths
	knocks     *knocks
	accepting  sync.WaitGroup
	aside      aside

	closeOnce sync.Once
	closed    chan struct{}
	closeErr  error
}

// accepted is a link that a peer opened, or why it was refused.
type accepted struct {
	link *Link
	err  error
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
	reset := quic.StatelessResetKey(cfg.Credentials.Derive("stateless reset"))
	e := &Endpoint{
		cfg: cfg,
		// The key outlives the process: a peer of its predecessor is told at
		// once that the connection is gone.
		quic:       &quic.Transport{Conn: cfg.Conn, StatelessResetKey: &reset},
		handshakes: &handshakes{by: map[netip.Addr]int{}}, paths: &paths{of: map[netip.AddrPort]shrunk{}},
		links: make(chan accepted, acceptQueue), closed: make(chan struct{}),
		conf: &quic.Config{
			HandshakeIdleTimeout:           cfg.Handshake,
			MaxIdleTimeout:                 cfg.Idle,
			KeepAlivePeriod:                cfg.Idle / 2,
			InitialStreamReceiveWindow:     256 << 10,
			MaxStreamReceiveWindow:         4 << 20,
			InitialConnectionReceiveWindow: 512 << 10,
			MaxConnectionReceiveWindow:     8 << 20,
			// Links carry no such streams, and end when the peer opens one.
			MaxIncomingStreams:    nodeStreams,
			MaxIncomingUniStreams: tiers.LaneCount,
			Allow0RTT:             false,
			// Whatever carries QUIC at all is linked over; discovery finds what else passes.
			InitialPacketSize: packetMin,
			// None is ever sent: quic-go says the size of packets to those who could.
			EnableDatagrams: true,
		},
	}
	e.knocks = &knocks{pending: map[uint64]asked{}, send: func(b []byte, to net.Addr) error {
		_, err := e.quic.WriteTo(b, to)
		return err
	}}
	e.quic.ConnContext, e.quic.VerifySourceAddress = e.handshakes.begin, e.handshakes.suspicious
	e.creds.Store(cfg.Credentials)
	e.aside.life, e.aside.stop = context.WithCancel(context.Background())
	e.nodes = newNodes(e)
	listen := e.conf.Clone()
	listen.GetConfigForClient = func(info *quic.ClientInfo) (*quic.Config, error) { return e.sized(e.conf, info.RemoteAddr), nil }
	var err error
	if e.listener, err = e.quic.Listen(e.listenTLS(), listen); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Conn.LocalAddr(), err)
	}
	e.accepting.Go(e.accept)    // ends with the listener
	e.aside.running.Go(func() { // ends with the endpoint
		e.knocks.serve(func(b []byte) (int, net.Addr, error) { return e.quic.ReadNonQUICPacket(e.aside.life, b) })
	})
	return e, nil
}

// accept takes up connections, by protocol, until the listener is closed.
func (e *Endpoint) accept() {
	for {
		conn, err := e.listener.Accept(context.Background())
		if err != nil {
			return
		}
		e.handshakes.done(conn)
		if conn.ConnectionState().TLS.NegotiatedProtocol != alpnLink {
			e.nodes.serving.Go(func() { e.nodes.serve(conn) }) // ends with the connection, or the endpoint
			continue
		}
		link, err := newLink(e, conn)
		select {
		case e.links <- accepted{link, err}:
		default:
			if link != nil {
				_ = link.Close(wire.CodeBusy, "too many links wait to be taken up")
			}
		}
	}
}

// Nodes returns the streams between the nodes of this endpoint's site.
func (e *Endpoint) Nodes() *Nodes { return e.nodes }

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
	conn, err := e.dial(ctx, to, e.dialTLS(), e.conf)
	if err != nil {
		return nil, fmt.Errorf("dial %s at %s: %w", want, addr, err)
	}
	l, err := newLink(e, conn)
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
	select {
	case a := <-e.links:
		return a.link, a.err
	case <-e.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close closes every link, every stream and the socket, and waits. It is
// idempotent.
func (e *Endpoint) Close() error {
	e.closeOnce.Do(func() {
		err := e.listener.Close()
		e.end()
		e.closeErr = errors.Join(err, e.quic.Close(), e.cfg.Conn.Close())
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
		e.end()
	})
	return e.closeErr
}

// end waits until no connection is taken up any more, and closes what nobody
// took up.
func (e *Endpoint) end() {
	close(e.closed)
	e.accepting.Wait()
	e.nodes.end()
	e.aside.end()
	for {
		select {
		case a := <-e.links:
			if a.link != nil {
				_ = a.link.Close(wire.CodeShutdown, "closing")
			}
		default:
			return
		}
	}
}
