package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// Sizes of packets are UDP payloads: IPv4 adds 28 bytes on the wire, IPv6 48.
const (
	// packetMin is what every path of QUIC must carry (RFC 9000, section 14).
	packetMin = 1200
	// packetUsual is about the least that a path carries whose tunnels are set up well.
	packetUsual = 1300
	// packetBeside is what a packet holds beside a full datagram frame, as quic-go
	// reckons: type, the longest connection ID, tag.
	packetBeside = 1 + 20 + 16
)

// ErrPath reports a path that does not carry QUIC's smallest packets.
var ErrPath = errors.New("transport: path too small")

// pathMemory is for how long a path that shrank is remembered, and pathFlaps how often
// it must shrink meanwhile until its packets stay small: the first time, discovery
// finds what still passes.
const (
	pathMemory = 10 * time.Minute
	pathFlaps  = 2
	pathsMax   = 4096
)

// paths remembers those that shrank, by the peer's address. Safe for concurrent use.
type paths struct {
	mu sync.Mutex // guards of
	of map[netip.AddrPort]shrunk
}

// shrunk is what is known of a path that did.
type shrunk struct {
	at    time.Time
	bytes int // of the packets that did not pass any more
	times int
}

// note remembers that packets of a size do not pass any more.
func (p *paths) note(addr net.Addr, bytes int, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.of) >= pathsMax {
		clear(p.of) // what matters comes again
	}
	last := p.of[addrPortOf(addr)]
	if now.Sub(last.at) >= pathMemory {
		last.times = 0
	}
	p.of[addrPortOf(addr)] = shrunk{now, bytes, last.times + 1}
}

// recall returns what is remembered of a path; the zero value for nothing.
func (p *paths) recall(addr net.Addr, now time.Time) shrunk {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.of[addrPortOf(addr)]
	if ok && now.Sub(s.at) >= pathMemory {
		delete(p.of, addrPortOf(addr))
		return shrunk{}
	}
	return s
}

// flaps reports whether packets to an address are to stay small.
func (p *paths) flaps(addr net.Addr, now time.Time) bool {
	return p.recall(addr, now).times >= pathFlaps
}

func addrPortOf(a net.Addr) netip.AddrPort {
	if u, ok := a.(*net.UDPAddr); ok {
		p := u.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}

// sized returns a configuration for connections to an address.
func (e *Endpoint) sized(conf *quic.Config, addr net.Addr) *quic.Config {
	if !e.paths.flaps(addr, time.Now()) {
		return conf
	}
	conf = conf.Clone()
	conf.DisablePathMTUDiscovery = true
	return conf
}

// Path is what a link's path carries.
type Path struct {
	// PacketBytes is the size of the packets that go out now, as UDP payload; 0 when
	// the peer's build does not let this one know.
	PacketBytes int
	// Note says in words what is wrong with the path; empty for nothing.
	Note string
}

// packetBytes returns the size of a connection's packets.
func packetBytes(conn *quic.Conn) int {
	var most *quic.DatagramTooLargeError
	if errors.As(conn.SendDatagram(tooLong[:]), &most) {
		return int(most.MaxDatagramPayloadSize) + packetBeside
	}
	return 0
}

// tooLong is a datagram that no packet holds: it is never sent.
var tooLong [1 << 14]byte

// discoveredAfter is how much a connection has sent when its discovery is over.
const discoveredAfter = 64 << 10

// Path returns the state of the link's path.
func (l *Link) Path() Path {
	p := Path{PacketBytes: packetBytes(l.conn)}
	last := l.watch.e.paths.recall(l.RemoteAddr(), time.Now())
	switch {
	case last.times > 0:
		p.Note = fmt.Sprintf("path shrank at %s: packets of %d bytes do not arrive any more, now %d: check the MTU of tunnels on it",
			last.at.UTC().Format(time.RFC3339), last.bytes, p.PacketBytes)
	case p.PacketBytes > 0 && p.PacketBytes < packetUsual && l.conn.ConnectionStats().BytesSent > discoveredAfter:
		p.Note = fmt.Sprintf("path carries only packets of %d bytes: check the MTU of tunnels on it", p.PacketBytes)
	}
	return p
}

// Watch looks after the link's path; owing says that something is owed to the peer.
// It is cheap, and to be called a few times a second while that is so. A path that
// carries small packets and no full ones any more ends the link with
// [wire.CodeStalled]; the next one to this peer starts small again.
func (l *Link) Watch(owing bool) { l.watch.look(time.Now(), owing) }

// Grown reports whether the link's packets were to stay small, and need not any more.
func (l *Link) Grown() bool { return l.small && !l.watch.e.paths.flaps(l.RemoteAddr(), time.Now()) }

// How a path comes under suspicion: when nothing was acknowledged for suspectAfter
// though something was sent, or when a quarter of what is sent is lost. The next
// measurement waits, longer and longer, when one finds nothing.
const (
	suspectAfter = time.Second
	lostShare    = 4
	watchPause   = 2 * time.Second
	watchMax     = 16 * time.Second
)

// watch finds out when a path shrinks, which quic-go does not: its packets keep their
// size for good, and vanish. A suspicion costs a few packets and is proven by
// measuring. Safe for concurrent use.
type watch struct {
	e    *Endpoint
	conn *quic.Conn
	end  func(why string)

	mu       sync.Mutex // guards the fields below
	good     time.Time  // when the path was last seen to be in order
	last     quic.ConnectionStats
	checking bool
	next     time.Time // no measurement before
	pause    time.Duration
}

func newWatch(e *Endpoint, conn *quic.Conn, end func(why string)) *watch {
	return &watch{e: e, conn: conn, end: end, good: time.Now(), pause: watchPause}
}

// look samples the connection's counters and measures the path when they are odd.
func (w *watch) look(now time.Time, owing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.checking {
		return
	}
	s := w.conn.ConnectionStats()
	sent, lost := s.BytesSent-w.last.BytesSent, max(s.BytesLost, w.last.BytesLost)-w.last.BytesLost
	acked := s.LatestRTT != w.last.LatestRTT && lost*lostShare <= sent
	if !owing || acked || s.PacketsSent == w.last.PacketsSent {
		if acked {
			w.pause = watchPause
		}
		w.good, w.last = now, s
		return
	}
	if now.Sub(w.good) < suspectAfter || now.Before(w.next) {
		return
	}
	size := packetBytes(w.conn)
	if size <= packetMin {
		return
	}
	w.checking = true
	if !w.e.aside.begin(func() { w.check(size) }) {
		w.checking = false
	}
}

// check measures the path; it ends with the measurement, the connection or the endpoint.
func (w *watch) check(size int) {
	ctx, cancel := context.WithCancel(w.conn.Context())
	defer cancel()
	defer context.AfterFunc(w.e.aside.life, cancel)()
	found := w.e.knocks.measure(ctx, w.conn.RemoteAddr(), size)
	now := time.Now()
	if found == no {
		w.e.paths.note(w.conn.RemoteAddr(), size, now)
		w.end(fmt.Sprintf("packets of %d bytes do not arrive any more, small ones do: the path shrank", size))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checking, w.good, w.last = false, now, w.conn.ConnectionStats()
	w.next, w.pause = now.Add(w.pause), min(w.pause*2, watchMax)
}

// run looks after a connection that nobody else does, until it ends.
func (w *watch) run() {
	tick := time.NewTicker(suspectAfter / 2)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			w.look(now, true)
		case <-w.conn.Context().Done():
			return
		case <-w.e.aside.life.Done():
			return
		}
	}
}

// aside is what an endpoint does beside its connections.
type aside struct {
	life    context.Context //nolint:containedctx // ends with the endpoint
	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex // guards ending
	ending bool
}

// begin starts a goroutine that end waits for, unless that has begun.
func (a *aside) begin(f func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ending {
		return false
	}
	a.running.Go(f)
	return true
}

func (a *aside) end() {
	a.mu.Lock()
	a.ending = true
	a.mu.Unlock()
	a.stop()
	a.running.Wait()
}

// patience is the share of the handshake's time-out after which a dial that nobody
// answers lets the path be measured.
const patience = 5

// dial opens a connection; the error of one that nobody answers says what the path has
// to do with it.
func (e *Endpoint) dial(ctx context.Context, to net.Addr, conf *tls.Config, sizes *quic.Config) (*quic.Conn, error) {
	measuring, stop := context.WithCancel(ctx)
	defer stop()
	found := make(chan passes, 1)
	begun := e.aside.begin(func() { // ends with the dial
		select {
		case <-time.After(sizes.HandshakeIdleTimeout / patience):
			found <- e.knocks.measure(measuring, to, packetMin)
		case <-measuring.Done():
			found <- unknown
		}
	})
	conn, err := e.quic.Dial(ctx, to, conf, e.sized(sizes, to))
	stop()
	if begun && <-found == no && err != nil {
		err = fmt.Errorf("%w: it carries small packets and none of %d bytes, which links need (%d with IPv4's headers, %d with IPv6's): check the MTU of tunnels on it",
			ErrPath, packetMin, packetMin+28, packetMin+48)
	}
	if refusedBy(err) {
		err = fmt.Errorf("%w: its log says why (%w)", ErrRefused, err)
	}
	return conn, err
}

// refusedBy reports whether the other end refused this one's certificate.
func refusedBy(err error) bool {
	var alert *quic.TransportError
	return errors.As(err, &alert) && alert.Remote && alert.ErrorCode.IsCryptoError()
}
