package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tiermesh/tiermesh/transport/identity"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// Kind says what a stream between two nodes of a site is for; it is the
// stream's first byte.
type Kind byte

// The kinds of streams.
const (
	KindRaft Kind = 1 // Raft's messages
	KindAPI  Kind = 2 // HTTP/1.1 to the node's API
	kindEnd  Kind = 3
)

const (
	// nodeStreams bounds the streams that a peer may have open.
	nodeStreams = 256
	// streamQueue is how many accepted streams of a kind wait to be taken up;
	// one more is reset.
	streamQueue = 64
	// nodeIdle is how long a silent connection between nodes lives: short,
	// since a site elects another leader meanwhile.
	nodeIdle = 3 * time.Second
)

// ErrPeerNode reports another node than the one that was dialled.
var ErrPeerNode = errors.New("transport: peer is another node")

// Nodes carries byte streams between the nodes of one site, over connections
// of their own, so that nothing between sites can hold them up. All methods are
// safe for concurrent use.
type Nodes struct {
	e      *Endpoint
	conf   *quic.Config
	accept [kindEnd]chan net.Conn

	ctx     context.Context // ends with the endpoint
	stop    context.CancelFunc
	serving sync.WaitGroup
	dialing sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns map[nodeAddr]*dialling
}

type nodeAddr struct {
	node uint32
	addr string
}

// dialling is a connection to a node, or the attempt at one, which all who need
// it wait for together.
type dialling struct {
	done chan struct{} // closed when conn or err is set
	conn *quic.Conn
	err  error
}

func newNodes(e *Endpoint) *Nodes {
	conf := e.conf.Clone()
	conf.MaxIdleTimeout, conf.KeepAlivePeriod = nodeIdle, nodeIdle/3
	conf.HandshakeIdleTimeout = nodeIdle / 2
	n := &Nodes{e: e, conf: conf, conns: map[nodeAddr]*dialling{}}
	n.ctx, n.stop = context.WithCancel(context.Background())
	for k := range n.accept {
		n.accept[k] = make(chan net.Conn, streamQueue)
	}
	return n
}

// Dial opens a stream to a node of this site. The error wraps [ErrPeerSite] or
// [ErrPeerNode] when another one answers at the address.
func (n *Nodes) Dial(ctx context.Context, kind Kind, node uint32, addr string) (net.Conn, error) {
	conn, err := n.connect(ctx, nodeAddr{node, addr})
	if err != nil {
		return nil, err
	}
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, fmt.Errorf("open stream to node %d at %s: %w", node, addr, err)
	}
	out := newNodeStream(s, conn, n.e.Addr())
	out.kind = kind
	if _, err := s.Write([]byte{byte(kind)}); err != nil {
		return nil, errors.Join(fmt.Errorf("open stream to node %d at %s: %w", node, addr, err), out.Close())
	}
	return out, nil
}

// connect returns a live connection to a node.
func (n *Nodes) connect(ctx context.Context, to nodeAddr) (*quic.Conn, error) {
	n.mu.Lock()
	d := n.conns[to]
	if d == nil || d.over() {
		d = &dialling{done: make(chan struct{})}
		n.conns[to] = d
		n.dialing.Go(func() { // ends with the handshake's time-out
			d.conn, d.err = n.dial(to)
			close(d.done)
		})
	}
	n.mu.Unlock()
	select {
	case <-d.done:
		return d.conn, d.err
	case <-ctx.Done():
		return nil, fmt.Errorf("dial node %d at %s: %w", to.node, to.addr, context.Cause(ctx))
	}
}

// over reports whether an attempt failed, or its connection ended.
func (d *dialling) over() bool {
	select {
	case <-d.done:
		return d.err != nil || d.conn.Context().Err() != nil
	default:
		return false
	}
}

func (n *Nodes) dial(to nodeAddr) (*quic.Conn, error) {
	addr, err := net.ResolveUDPAddr("udp", to.addr)
	if err != nil {
		return nil, fmt.Errorf("dial node %d at %q: %w", to.node, to.addr, err)
	}
	conf := n.e.dialTLS()
	conf.NextProtos = []string{alpnNodes, alpnUnnumbered}
	conn, err := n.e.dial(n.ctx, addr, conf, n.conf)
	if err != nil {
		return nil, fmt.Errorf("dial node %d at %s: %w", to.node, to.addr, err)
	}
	id, err := n.sibling(conn)
	if err == nil && id.Node != to.node {
		err = fmt.Errorf("%w: node %d at %s is %s", ErrPeerNode, to.node, to.addr, id)
		_ = conn.CloseWithError(quic.ApplicationErrorCode(wire.CodeFederation), "dialled another node")
	}
	if err != nil {
		return nil, err
	}
	n.look(conn)
	return conn, nil
}

// look lets the path of a connection be looked after until it ends.
func (n *Nodes) look(conn *quic.Conn) {
	w := newWatch(n.e, conn, func(why string) { _ = conn.CloseWithError(quic.ApplicationErrorCode(wire.CodeStalled), clip(why)) })
	n.e.aside.begin(w.run)
}

// sibling returns who is at the other end, or closes the connection when that
// is no other node of this site.
func (n *Nodes) sibling(conn *quic.Conn) (identity.ID, error) {
	self := n.e.cfg.Credentials.ID
	var id identity.ID
	err := identity.ErrNoIdentity
	if certs := conn.ConnectionState().TLS.PeerCertificates; len(certs) > 0 {
		id, err = identity.FromCertificate(certs[0])
	}
	if err == nil && id.Site != self.Site {
		err = fmt.Errorf("%w: %s is no node of site %s", ErrPeerSite, id, self.Site)
	}
	if err == nil && id.Node == self.Node {
		err = fmt.Errorf("%w: %s has this node's number", ErrPeerNode, id)
	}
	if err != nil {
		_ = conn.CloseWithError(quic.ApplicationErrorCode(wire.CodeFederation), clip(err.Error()))
	}
	return id, err
}

// serve takes up the streams of a connection that another node opened.
func (n *Nodes) serve(conn *quic.Conn) {
	if _, err := n.sibling(conn); err != nil {
		n.e.cfg.Logger.Warn("node refused", "peer", conn.RemoteAddr().String(), "err", err)
		return
	}
	n.look(conn)
	ctx, cancel := context.WithCancel(conn.Context())
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	var streams sync.WaitGroup
	for {
		s, err := conn.AcceptStream(ctx)
		if err != nil {
			break
		}
		streams.Go(func() { n.take(conn, s) }) // ends with the kind's byte, or the connection
	}
	_ = conn.CloseWithError(quic.ApplicationErrorCode(wire.CodeShutdown), "closing")
	streams.Wait()
}

// take hands a stream to whoever accepts its kind.
func (n *Nodes) take(conn *quic.Conn, s *quic.Stream) {
	var kind [1]byte
	out := newNodeStream(s, conn, n.e.Addr())
	if _, err := io.ReadFull(s, kind[:]); err != nil || kind[0] == 0 || Kind(kind[0]) >= kindEnd {
		_ = out.Close()
		return
	}
	out.kind = Kind(kind[0])
	select {
	case n.accept[out.kind] <- out:
	default:
		_ = out.Close()
	}
}

// end closes every connection, and the streams that nobody took up.
func (n *Nodes) end() {
	n.stop()
	n.dialing.Wait()
	n.mu.Lock()
	for _, d := range n.conns {
		if d.err == nil {
			_ = d.conn.CloseWithError(quic.ApplicationErrorCode(wire.CodeShutdown), "closing")
		}
	}
	n.mu.Unlock()
	n.serving.Wait()
	for _, queue := range n.accept {
		for len(queue) > 0 {
			_ = (<-queue).Close()
		}
	}
}

// Listen returns the streams of a kind that other nodes open, as a listener.
// Several listeners of a kind share them. Closing one ends its own Accept only.
func (n *Nodes) Listen(kind Kind) net.Listener {
	return &nodeListener{n: n, kind: kind, closed: make(chan struct{})}
}

type nodeListener struct {
	n      *Nodes
	kind   Kind
	once   sync.Once
	closed chan struct{}
}

// Accept implements [net.Listener].
func (l *nodeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.n.accept[l.kind]:
		return c, nil
	case <-l.closed:
	case <-l.n.e.closed:
	}
	return nil, net.ErrClosed
}

// Close implements [net.Listener].
func (l *nodeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements [net.Listener].
func (l *nodeListener) Addr() net.Addr { return l.n.e.Addr() }

// nodeStream is a stream as a [net.Conn].
type nodeStream struct {
	*quic.Stream
	kind          Kind
	protocol      int
	local, remote net.Addr
}

func newNodeStream(s *quic.Stream, conn *quic.Conn, local net.Addr) *nodeStream {
	out := &nodeStream{Stream: s, protocol: 2, local: local, remote: conn.RemoteAddr()}
	if conn.ConnectionState().TLS.NegotiatedProtocol == alpnUnnumbered {
		out.protocol = 1
	}
	return out
}

// Protocol returns the version of the protocol that both nodes speak: 1, or 2 where
// both know of the site's format.
func (s *nodeStream) Protocol() int { return s.protocol }

// Read implements [net.Conn]. A stream that the other end closed is at its end.
func (s *nodeStream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	var closed *quic.StreamError
	if errors.As(err, &closed) && s.kind == KindRaft {
		err = io.EOF
	}
	return n, err
}

// Close ends both directions. What was written still arrives, except on Raft's
// streams: there nobody waits for it any more, and a peer that does not read
// must not keep it.
func (s *nodeStream) Close() error {
	s.CancelRead(0)
	if s.kind == KindAPI {
		return s.Stream.Close()
	}
	s.CancelWrite(0)
	return nil
}

// LocalAddr implements [net.Conn].
func (s *nodeStream) LocalAddr() net.Addr { return s.local }

// RemoteAddr implements [net.Conn].
func (s *nodeStream) RemoteAddr() net.Addr { return s.remote }
