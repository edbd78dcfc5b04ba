package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/quic-go/quic-go"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/identity"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// Link is one connection to a peer.
type Link struct {
	conn *quic.Conn
	peer identity.ID
	out  [tiers.LaneCount]outLane
	in   [tiers.LaneCount]*inLane
	some chan struct{} // capacity 1: a message was queued
	read sync.WaitGroup
	idle time.Duration // how long a silent link lives
	held held
	met  atomic.Bool // the first message of lane 0 was taken up

	watch *watch
	small bool // its packets stay small, since the path shrank again and again

	mu     sync.Mutex // guards the fields below
	opened [tiers.LaneCount]bool
	why    error
}

// outLane is a lane's stream, opened at its first message.
type outLane struct {
	mu     sync.Mutex // held while a frame is written: frames of a lane do not mix
	stream *quic.SendStream
	buf    []byte
}

type message struct {
	m    wire.Message
	size int // of the frame
	room int // that it takes in its lane
}

// Stats are a link's counters, in UDP payload bytes.
type Stats struct {
	SentBytes, ReceivedBytes uint64
}

func newLink(e *Endpoint, conn *quic.Conn) (*Link, error) {
	certs := conn.ConnectionState().TLS.PeerCertificates
	if len(certs) == 0 {
		return nil, errors.Join(identity.ErrNoIdentity, conn.CloseWithError(quic.ApplicationErrorCode(wire.CodeFederation), "no certificate"))
	}
	id, err := identity.FromCertificate(certs[0])
	if err != nil {
		return nil, errors.Join(err, conn.CloseWithError(quic.ApplicationErrorCode(wire.CodeFederation), err.Error()))
	}
	l := &Link{conn: conn, peer: id, some: make(chan struct{}, 1), idle: e.cfg.Idle, small: e.paths.flaps(conn.RemoteAddr(), time.Now())}
	l.watch = newWatch(e, conn, func(why string) { l.end(&ClosedError{Code: wire.CodeStalled, Reason: why}) })
	for i := range l.in {
		l.in[i] = newInLane()
	}
	l.read.Go(l.accept) // ends with the connection
	l.read.Go(func() {  // likewise
		if _, err := conn.AcceptStream(conn.Context()); err == nil {
			l.end(&ClosedError{Code: wire.CodeProtocol, Reason: "links carry one-way streams only"})
		}
	})
	return l, nil
}

// Peer returns whose certificate the peer showed.
func (l *Link) Peer() identity.ID { return l.peer }

// RemoteAddr returns the peer's address.
func (l *Link) RemoteAddr() net.Addr { return l.conn.RemoteAddr() }

// Done is closed when the link is.
func (l *Link) Done() <-chan struct{} { return l.conn.Context().Done() }

// RTT returns the smoothed round-trip time.
func (l *Link) RTT() time.Duration { return l.conn.ConnectionStats().SmoothedRTT }

// Stats returns the link's counters.
func (l *Link) Stats() Stats {
	s := l.conn.ConnectionStats()
	return Stats{SentBytes: s.BytesSent, ReceivedBytes: s.BytesReceived}
}

// Close ends the link and tells the peer why. The first close counts. It waits
// until nothing of the link runs any more.
func (l *Link) Close(code wire.Code, reason string) error {
	l.end(&ClosedError{Code: code, Reason: reason})
	l.read.Wait()
	return nil
}

// farewellTime is how long a peer has to read a goodbye before the link closes.
const farewellTime = time.Second

// Farewell sends a goodbye, gives the peer a second to read it and to close, and
// closes the link.
func (l *Link) Farewell(ctx context.Context, bye *wire.Bye) error {
	ctx, cancel := context.WithTimeout(ctx, farewellTime)
	defer cancel()
	_, err := l.Send(ctx, 0, bye)
	if err == nil {
		select {
		case <-l.Done():
		case <-ctx.Done():
		}
	}
	return errors.Join(err, l.Close(bye.Code, bye.Reason))
}

// end closes the connection with the first reason given.
func (l *Link) end(why *ClosedError) {
	l.mu.Lock()
	first := l.why == nil && l.conn.Context().Err() == nil
	if first {
		l.why = why
	}
	l.mu.Unlock()
	if first {
		_ = l.conn.CloseWithError(quic.ApplicationErrorCode(why.Code), clip(why.Reason))
	}
}

// reasonBytesMax keeps a reason, with its frame, within one packet: a longer one never
// reaches the peer.
const reasonBytesMax = 512

// clip cuts a reason to [reasonBytesMax] where a character begins.
func clip(s string) string {
	if len(s) <= reasonBytesMax {
		return s
	}
	end := reasonBytesMax
	for end > reasonBytesMax-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// reason returns why the link is closed, as a ClosedError where either end
// said.
func (l *Link) reason(err error) error {
	l.mu.Lock()
	why := l.why
	l.mu.Unlock()
	if why != nil {
		return why
	}
	if cause := context.Cause(l.conn.Context()); cause != nil {
		err = cause
	}
	var app *quic.ApplicationError
	if errors.As(err, &app) {
		return &ClosedError{Code: wire.Code(app.ErrorCode), Reason: app.ErrorMessage, Remote: app.Remote}
	}
	if refusedBy(err) {
		return fmt.Errorf("%w: %s: its log says why (%w)", ErrRefused, l.peer.Site, err)
	}
	return fmt.Errorf("link to %s: %w", l.peer.Site, err)
}

// Send writes one message on a lane and returns its size. It blocks while the
// lane's flow control does; ctx does not interrupt a frame that is half
// written other than by ending the link.
func (l *Link) Send(ctx context.Context, lane tiers.Lane, m wire.Message) (int, error) {
	if lane >= tiers.LaneCount {
		return 0, fmt.Errorf("%w: lane %d", ErrConfig, lane)
	}
	o := &l.out[lane]
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stream == nil {
		s, err := l.conn.OpenUniStreamSync(ctx)
		if err != nil {
			return 0, l.reason(err)
		}
		o.stream = s
		if _, err := s.Write([]byte{byte(lane)}); err != nil {
			return 0, l.reason(err)
		}
	}
	var err error
	if o.buf, err = wire.Append(o.buf[:0], m); err != nil {
		return 0, err
	}
	n := len(o.buf)
	stop := context.AfterFunc(ctx, func() { l.end(&ClosedError{Code: wire.CodeShutdown, Reason: "closing"}) })
	defer stop()
	if _, err := o.stream.Write(o.buf); err != nil {
		return 0, l.reason(err)
	}
	if cap(o.buf) > 256<<10 {
		o.buf = nil // a rare large frame does not stay with the link
	}
	return n, nil
}

// Err returns why the link ended, nil while it is up; see [Link.Recv].
func (l *Link) Err() error {
	select {
	case <-l.Done():
		return l.reason(ErrClosed)
	default:
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.why
	}
}

// Recv returns the next message and the size of its frame; of several waiting
// ones, that of the most urgent lane. What comes on another lane before the first
// message of lane 0, which says who speaks, waits for that: lanes do not keep
// step. After the link ended it returns a [ClosedError] where either end said why.
func (l *Link) Recv(ctx context.Context) (wire.Message, int, error) {
	for {
		for i := range l.in {
			if i > 0 && !l.met.Load() {
				break
			}
			select {
			case m := <-l.in[i].queue:
				l.met.Store(true)
				l.in[i].release(m.room)
				mark(l.some) // more may be queued, for the next Recv
				return m.m, m.size, nil
			default:
			}
		}
		select {
		case <-l.some:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-l.Done():
			return nil, 0, l.reason(ErrClosed)
		}
	}
}
