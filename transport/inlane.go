package transport

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

const (
	// laneBuffer is how many messages of a lane wait to be taken up.
	laneBuffer = 4
	// laneBytes bounds the unfolded bytes of these; a larger one waits alone. A
	// link so holds at most the larger of laneBytes and a frame, and one frame that
	// comes in, for each lane.
	laneBytes = 1 << 20
	// floorBytes of a frame, or all that is left of it, must come in within the
	// time that a silent link lives.
	floorBytes = 16 << 10
)

// errStream reports a stream that the protocol has no place for.
var errStream = errors.New("transport: unexpected stream for lane")

// errSlow reports a frame that began and does not come in.
var errSlow = errors.New("transport: a frame does not come in")

// inLane is what the peer sent on a lane and nobody took up yet.
type inLane struct {
	queue chan message
	mu    sync.Mutex    // guards bytes
	bytes int           // unfolded, queued
	taken chan struct{} // capacity 1: bytes fell
}

func newInLane() *inLane {
	return &inLane{queue: make(chan message, laneBuffer), taken: make(chan struct{}, 1)}
}

// reserve takes room for a message, if there is some.
func (l *inLane) reserve(size int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bytes > 0 && l.bytes+size > laneBytes {
		return false
	}
	l.bytes += size
	return true
}

// release gives the room of a message back that was taken up.
func (l *inLane) release(size int) {
	l.mu.Lock()
	l.bytes -= size
	l.mu.Unlock()
	mark(l.taken)
}

func mark(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// held notes how long lanes wait to be taken up: meanwhile QUIC's flow control may
// keep the rest of a frame on another lane from coming in.
type held struct {
	mu    sync.Mutex // guards the fields below
	lanes int
	until time.Time
}

// while runs a wait of a lane for this end.
func (h *held) while(wait func()) {
	h.mu.Lock()
	h.lanes++
	h.mu.Unlock()
	wait()
	h.mu.Lock()
	h.lanes, h.until = h.lanes-1, time.Now()
	h.mu.Unlock()
}

// since reports whether this end held the peer up at any time after t.
func (h *held) since(t time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lanes > 0 || h.until.After(t)
}

// frameReader reads a lane's stream and bounds the time of each frame, from its
// first byte on. Between frames a lane may be silent.
type frameReader struct {
	s     *quic.ReceiveStream
	held  *held
	limit time.Duration

	armed  time.Time // when the deadline was set; zero for none
	recent int       // bytes since then
	err    error     // the stream's last error
}

// begin says that a new frame is read next.
func (r *frameReader) begin() {
	if !r.armed.IsZero() {
		r.armed = time.Time{}
		_ = r.s.SetReadDeadline(time.Time{}) // never fails
	}
}

func (r *frameReader) arm() {
	r.armed, r.recent = time.Now(), 0
	_ = r.s.SetReadDeadline(r.armed.Add(r.limit)) // never fails
}

// Read implements [io.Reader].
func (r *frameReader) Read(p []byte) (int, error) {
	for {
		n, err := r.s.Read(p)
		r.recent += n
		switch {
		case n > 0 && (r.armed.IsZero() || r.recent >= floorBytes):
			r.arm()
		case n == 0 && errors.Is(err, os.ErrDeadlineExceeded):
			if r.held.since(r.armed) {
				r.arm()
				continue
			}
			err = errSlow
		}
		if err != nil {
			r.err = err
		}
		return n, err
	}
}

// ended reports whether the peer ended the lane, which it may not while the link
// lives.
func (r *frameReader) ended() bool {
	var reset *quic.StreamError
	return errors.Is(r.err, io.EOF) || errors.As(r.err, &reset)
}

// accept takes up the peer's streams until the connection ends.
func (l *Link) accept() {
	for {
		s, err := l.conn.AcceptUniStream(l.conn.Context())
		if err != nil {
			return
		}
		l.read.Go(func() { // ends with the stream
			in := &frameReader{s: s, held: &l.held, limit: l.idle}
			// Other errors are the connection's own end, which has its reason.
			switch err := l.receive(in); {
			case errors.Is(err, wire.ErrMalformed), errors.Is(err, wire.ErrTooLarge), errors.Is(err, errStream):
				l.end(&ClosedError{Code: wire.CodeProtocol, Reason: err.Error()})
			case errors.Is(err, errSlow):
				l.end(&ClosedError{Code: wire.CodeStalled, Reason: err.Error()})
			case in.ended():
				l.end(&ClosedError{Code: wire.CodeProtocol, Reason: "a lane ended before the link"})
			}
		})
	}
}

// receive reads one lane's stream.
func (l *Link) receive(in *frameReader) error {
	var first [1]byte
	if _, err := io.ReadFull(in, first[:]); err != nil {
		return err
	}
	lane := first[0]
	if lane >= tiers.LaneCount || !l.claim(lane) {
		return fmt.Errorf("%w %d", errStream, lane)
	}
	r := wire.NewReader(in)
	for {
		in.begin()
		frame, err := r.Frame()
		if err != nil {
			return err
		}
		in.begin()
		size := wire.Unfolded(frame)
		if !l.room(l.in[lane], size) {
			return nil
		}
		m, err := wire.Decode(frame)
		if err != nil {
			return err
		}
		if !l.queue(l.in[lane], message{m, frameBytes(frame), size}) {
			return nil
		}
	}
}

// frameBytes is the size of a frame with its length.
func frameBytes(frame []byte) int { return 4 + len(frame) }

// room waits until a lane has room for a message; false when the link ended.
func (l *Link) room(in *inLane, size int) (ok bool) {
	if in.reserve(size) {
		return true
	}
	l.held.while(func() {
		for !ok {
			select {
			case <-in.taken:
				ok = in.reserve(size)
			case <-l.Done():
				return
			}
		}
	})
	return ok
}

// queue hands a message over; false when the link ended.
func (l *Link) queue(in *inLane, m message) (ok bool) {
	select {
	case in.queue <- m:
		ok = true
	default:
		l.held.while(func() {
			select {
			case in.queue <- m:
				ok = true
			case <-l.Done():
			}
		})
	}
	mark(l.some)
	return ok
}

// claim notes that a lane's stream is open; a second one is refused.
func (l *Link) claim(lane byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.opened[lane]
	l.opened[lane] = true
	return !was
}
