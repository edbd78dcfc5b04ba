package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
)

// Bounds are what readers may cost that take their time. Zero values mean the
// defaults, which suit a node of any size.
type Bounds struct {
	// Stall is how long a connection may take no byte of its answer, or send no
	// byte of a large body, before it is closed; 20 s by default. One that takes
	// bytes, however few, goes on.
	Stall time.Duration
	// AnswerBytes bounds the answers under way, each from before it is made until it
	// was taken; 64 MiB by default. Large ones have three quarters of it, and half of
	// that when they are for other nodes of the site.
	AnswerBytes int64
	// Wait is how long a request waits for its place below AnswerBytes, 2 s by
	// default; then it is refused.
	Wait time.Duration
	// Long bounds the requests under way that take as long as the site is large:
	// backups, scrubs, repairs, bundles; 8 by default, and half for other nodes.
	Long int64
}

func (b Bounds) withDefaults() Bounds {
	if b.Stall == 0 {
		b.Stall = 20 * time.Second
	}
	if b.AnswerBytes == 0 {
		b.AnswerBytes = 64 << 20
	}
	if b.Wait == 0 {
		b.Wait = 2 * time.Second
	}
	if b.Long == 0 {
		b.Long = 8
	}
	return b
}

const (
	// viewBytes is what a row of a list is taken for before it is made.
	viewBytes = 2 << 10
	// answerBytesSmall is up to what an answer counts as small; others leave a part of
	// the room to these.
	answerBytesSmall = limitDefault * viewBytes
	// retryAfter is what a request is told that found no room.
	retryAfter = 5 * time.Second
)

// bounds keeps to [Bounds].
type bounds struct {
	Bounds
	answers, large, inner *semaphore.Weighted
	long, longInner       *semaphore.Weighted

	bytes   prometheus.Gauge
	refused prometheus.Counter
	stalled prometheus.Counter
}

func newBounds(b Bounds, reg prometheus.Registerer) *bounds {
	b = b.withDefaults()
	out := &bounds{
		Bounds: b, answers: semaphore.NewWeighted(b.AnswerBytes), large: semaphore.NewWeighted(b.AnswerBytes * 3 / 4),
		inner: semaphore.NewWeighted(b.AnswerBytes * 3 / 8), long: semaphore.NewWeighted(b.Long), longInner: semaphore.NewWeighted(max(b.Long/2, 1)),
		bytes:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "tiermesh_api_answers_bytes", Help: "Bytes of answers under way, as reserved."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "tiermesh_api_refused_busy_total", Help: "Requests refused because too many answers were under way."}),
		stalled: prometheus.NewCounter(prometheus.CounterOpts{Name: "tiermesh_api_stalled_total", Help: "Connections closed because no byte of an answer was taken."}),
	}
	if reg != nil {
		reg.MustRegister(out.bytes, out.refused, out.stalled)
	}
	return out
}

var errNoRoom = fmt.Errorf("%w: too many answers wait for readers that do not take them: try again in %s, or ask for fewer rows", ErrUnavailable, retryAfter)

// room is a share of the bytes of answers under way.
type room struct {
	b     *bounds
	of    []*semaphore.Weighted
	bytes int64
}

// weigh is what the answer to a request is taken for before it is made.
func weigh(r *http.Request) int64 {
	n, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil || n < 1 || n > limitMax {
		n = limitDefault
	}
	return int64(n) * viewBytes
}

// enter waits a little for room. The error wraps [ErrUnavailable].
func (b *bounds) enter(r *http.Request) (*room, error) {
	bytes := min(weigh(r), b.AnswerBytes/4)
	held := &room{b: b}
	var of []*semaphore.Weighted
	if bytes > answerBytesSmall {
		if r.Context().Value(innerKey{}) != nil {
			of = append(of, b.inner)
		}
		of = append(of, b.large)
	}
	ctx, cancel := context.WithTimeout(r.Context(), b.Wait)
	defer cancel()
	for _, s := range append(of, b.answers) {
		if err := s.Acquire(ctx, bytes); err != nil {
			for _, had := range held.of {
				had.Release(bytes)
			}
			b.refused.Inc()
			return nil, errNoRoom
		}
		held.of = append(held.of, s)
	}
	held.bytes = bytes
	b.bytes.Add(float64(bytes))
	return held, nil
}

// fit makes the room as large as the answer is, and reports whether there is that much.
// One answer counts for a quarter of all at most.
func (h *room) fit(bytes int64) bool {
	more := min(bytes, h.b.AnswerBytes/4) - h.bytes
	if more <= 0 {
		h.give(-more)
		return true
	}
	for i, s := range h.of {
		if !s.TryAcquire(more) {
			for _, had := range h.of[:i] {
				had.Release(more)
			}
			h.b.refused.Inc()
			return false
		}
	}
	h.bytes += more
	h.b.bytes.Add(float64(more))
	return true
}

func (h *room) give(bytes int64) {
	for _, s := range h.of {
		s.Release(bytes)
	}
	h.bytes -= bytes
	h.b.bytes.Sub(float64(bytes))
}

// release ends the answer.
func (h *room) release() { h.give(h.bytes) }

// crowded refuses a request for which there is no room, and says when to try again.
func (s *Server) crowded(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	s.fail(w, r, err)
}

// within makes room for what reads answer before they are made. Writes are never held
// up by readers.
func (s *Server) within(h func(w http.ResponseWriter, r *http.Request, held *room)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			h(w, r, nil)
			return
		}
		held, err := s.bounds.enter(r)
		if err != nil {
			s.crowded(w, r, err)
			return
		}
		defer held.release()
		h(w, r, held)
	})
}

// send answers with bytes, for which room is held if the request was a read.
func (s *Server) send(w http.ResponseWriter, r *http.Request, held *room, status int, kind string, b []byte) {
	if held != nil && !held.fit(int64(len(b))) {
		s.crowded(w, r, errNoRoom)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) //nolint:gosec // JSON, or bytes to be saved, never a page; a client that went away is not told
}

// unhurried lifts the time limits of bodies and answers that take as long as the
// site is large. As many of them as [Bounds.Long] says are under way at once, and each
// ends when nothing of it moves any more.
func (s *Server) unhurried(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		of := []*semaphore.Weighted{s.bounds.long}
		if r.Context().Value(innerKey{}) != nil {
			of = append(of, s.bounds.longInner)
		}
		for i, sem := range of {
			if !sem.TryAcquire(1) {
				for _, had := range of[:i] {
					had.Release(1)
				}
				s.bounds.refused.Inc()
				s.crowded(w, r, fmt.Errorf("%w: %d backups, scrubs, repairs or bundles are under way: try again in %s", ErrUnavailable, s.bounds.Long, retryAfter))
				return
			}
			defer sem.Release(1)
		}
		c := http.NewResponseController(w)
		_ = errors.Join(c.SetWriteDeadline(time.Time{}), c.SetReadDeadline(time.Time{}))
		if r.ContentLength != 0 {
			body := &steadyBody{ReadCloser: r.Body, c: c, stall: s.bounds.Stall}
			body.extend() // also for what the handler leaves unread
			r.Body = body
		}
		h.ServeHTTP(w, r)
	})
}

// steadyBody is a body that may take any time, but has to move.
type steadyBody struct {
	io.ReadCloser
	c     *http.ResponseController
	stall time.Duration
}

// extend gives the next byte its time.
func (b *steadyBody) extend() { _ = b.c.SetReadDeadline(time.Now().Add(b.stall)) } // every connection has one

// Read implements [io.Reader].
func (b *steadyBody) Read(p []byte) (int, error) {
	b.extend()
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.c.SetReadDeadline(time.Time{}) // from here on the client may be silent
	}
	return n, err
}

// steadyListener gives its connections a [steadyConn].
type steadyListener struct {
	net.Listener
	b *bounds
}

// Accept implements [net.Listener].
func (l steadyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &steadyConn{Conn: c, b: l.b}, nil
}

// steadyConn is a connection whose writes fail when the other end takes no byte for
// [Bounds.Stall], whatever other deadline it has.
type steadyConn struct {
	net.Conn
	b *bounds

	mu  sync.Mutex // guards end
	end time.Time  // the deadline that was asked for; zero for none
}

// SetDeadline implements [net.Conn].
func (c *steadyConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetWriteDeadline implements [net.Conn].
func (c *steadyConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = t
	return c.Conn.SetWriteDeadline(t)
}

// stallLooks is how often within [Bounds.Stall] it is looked whether bytes moved.
const stallLooks = 4

// next sets the deadline for the next look, and reports whether it is the whole
// answer's.
func (c *steadyConn) next() (last bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	by := time.Now().Add(c.b.Stall / stallLooks)
	if last = !c.end.IsZero() && c.end.Before(by); last {
		by = c.end
	}
	return last, c.Conn.SetWriteDeadline(by)
}

// Write implements [net.Conn].
func (c *steadyConn) Write(p []byte) (int, error) {
	for at, quiet := 0, 0; ; {
		last, err := c.next()
		if err != nil {
			return at, err
		}
		n, err := c.Conn.Write(p[at:])
		at += n
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return at, err
		}
		if quiet++; n > 0 {
			quiet = 0
		}
		if last || quiet == stallLooks {
			c.b.stalled.Inc()
			return at, err
		}
	}
}
