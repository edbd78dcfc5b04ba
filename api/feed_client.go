package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

const (
	// answerBytesMax bounds an answer of a feed.
	answerBytesMax = 1 << 20
	// sendTimeout is how long a node may take no more bytes before the connection is
	// given up.
	sendTimeout = 5 * time.Second
)

// Feed reports events over one connection, each acknowledged on its own, up to
// [FeedMax] of them at once: what a gateway uses that takes in reports all day. A
// request of HTTP for each costs several times as much. A connection that broke is
// opened again with the next report. It is safe for concurrent use.
type Feed struct {
	c       *Client
	opening chan struct{} // holds a token while a connection is opened

	mu     sync.Mutex
	conn   *fedConn // nil before the first, or when the last one broke
	closed bool
}

// fedConn is one connection of a feed.
type fedConn struct {
	feedWire
	client *Client
	// slots holds a token for each report that was sent and not answered, though
	// nobody may wait for it any longer: the node takes so many.
	slots chan struct{}
	ended chan struct{} // closed when the connection ended
	err   error         // why, then

	mu      sync.Mutex
	last    uint64                // the number of the newest report
	waiting map[uint64]*FedReport // by number
	keys    map[string]*FedReport // the same, by key
}

// FedReport is a report that was sent.
type FedReport struct {
	conn   *fedConn
	n      uint64
	key    string
	answer FeedAnswer
	done   chan struct{} // closed when the answer stands, or nothing was sent
}

// Feed returns a feed to the node. It does not connect yet.
func (c *Client) Feed() *Feed { return &Feed{c: c, opening: make(chan struct{}, 1)} }

// Close ends the feed and its connection, and returns when nothing of it runs.
// Reports under way end in [ErrUnknownOutcome].
func (f *Feed) Close() {
	f.mu.Lock()
	f.closed = true
	conn := f.conn
	f.mu.Unlock()
	if conn != nil {
		_ = conn.ws.CloseNow()
		<-conn.ended
	}
}

// Report reports an event and waits for its result. The error is as
// [Client.Report]'s. One that wraps [ErrUnknownOutcome] was perhaps taken in: the same
// report again tells.
func (f *Feed) Report(ctx context.Context, r ReportRequest) (WriteResult, error) {
	sent, err := f.Send(ctx, r)
	if err != nil {
		return WriteResult{}, err
	}
	return sent.Result(ctx)
}

// Send sends a report. It waits while as many are under way as may be, and for one
// with the same key: of those the first that was sent counts. With an error nothing
// was sent.
func (f *Feed) Send(ctx context.Context, r ReportRequest) (*FedReport, error) {
	conn, err := f.connected(ctx)
	if err != nil {
		return nil, err
	}
	sent, err := conn.enter(ctx, r.Key)
	if err != nil {
		return nil, f.c.failed(err, http.MethodGet)
	}
	message, err := encodeRequest(FeedMessage{N: sent.n, ReportRequest: r})
	switch {
	case err != nil:
	case len(message) > bodyBytesMax:
		err = fmt.Errorf("%w: a report of %d bytes: at most %d", ErrInvalid, len(message), bodyBytesMax)
	default:
		if err = conn.send(ctx, message); err != nil {
			err = f.c.failed(err, http.MethodGet)
		}
	}
	if err != nil {
		conn.leave(sent.n, FeedAnswer{})
		return nil, err
	}
	return sent, nil
}

// Result waits for what became of the report; its error is as [Feed.Report]'s. It may
// be called again.
func (r *FedReport) Result(ctx context.Context) (WriteResult, error) {
	var err error
	select {
	case <-r.done:
	case <-r.conn.ended:
		err = r.conn.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	select {
	case <-r.done: // perhaps just before the end
	default:
		return WriteResult{}, r.conn.client.failed(err, http.MethodPost)
	}
	switch {
	case r.answer.Error != nil:
		return WriteResult{}, r.answer.Error.err()
	case r.answer.Result == nil:
		return WriteResult{}, fmt.Errorf("%w: %s answered neither with a result nor with an error", ErrUnknownOutcome, r.conn.client.addr)
	}
	if w := r.answer.Result.Waits; w != nil && r.conn.client.note != nil {
		r.conn.client.note(*w)
	}
	return *r.answer.Result, nil
}

// connected returns the connection, a new one if need be.
func (f *Feed) connected(ctx context.Context) (*fedConn, error) {
	if conn, err := f.current(); conn != nil || err != nil {
		return conn, err
	}
	select {
	case f.opening <- struct{}{}:
		defer func() { <-f.opening }()
	case <-ctx.Done():
		return nil, f.c.failed(context.Cause(ctx), http.MethodGet)
	}
	if conn, err := f.current(); conn != nil || err != nil {
		return conn, err
	}
	ws, resp, err := websocket.Dial(ctx, f.c.base+feedPath, &websocket.DialOptions{HTTPClient: f.c.http, Subprotocols: []string{feedProtocol}}) //nolint:bodyclose // Dial sees to it
	if err != nil && resp != nil {
		return nil, fmt.Errorf("%w: %s answered %s to a feed: is it of this version?", ErrUnavailable, f.c.addr, resp.Status)
	}
	if err != nil {
		return nil, f.c.failed(err, http.MethodGet)
	}
	ws.SetReadLimit(answerBytesMax)
	conn := &fedConn{
		feedWire: newFeedWire(ws, sendTimeout, func() { _ = ws.CloseNow() }), client: f.c,
		slots: make(chan struct{}, FeedMax), ended: make(chan struct{}), waiting: map[uint64]*FedReport{}, keys: map[string]*FedReport{},
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		_ = ws.CloseNow()
		return nil, errFeedClosed
	}
	f.conn = conn
	go conn.run() // ends with the connection
	return conn, nil
}

var errFeedClosed = fmt.Errorf("%w: the feed is closed", ErrUnreachable)

// current returns the connection that stands; nil for none.
func (f *Feed) current() (*fedConn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errFeedClosed
	}
	if f.conn != nil {
		select {
		case <-f.conn.ended:
			f.conn = nil
		default:
		}
	}
	return f.conn, nil
}

// enter makes a report the one with its key, when no other is.
func (c *fedConn) enter(ctx context.Context, key string) (*FedReport, error) {
	for {
		c.mu.Lock()
		other := c.keys[key]
		if other == nil {
			c.last++
			r := &FedReport{conn: c, n: c.last, key: key, done: make(chan struct{})}
			c.waiting[r.n], c.keys[key] = r, r
			c.mu.Unlock()
			return r, nil
		}
		c.mu.Unlock()
		select {
		case <-other.done:
		case <-c.ended:
			return nil, c.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// leave ends a report and reports whether there was one of the number.
func (c *fedConn) leave(n uint64, answer FeedAnswer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.waiting[n]
	if r == nil {
		return false
	}
	delete(c.waiting, n)
	delete(c.keys, r.key)
	r.answer = answer
	close(r.done)
	return true
}

// send sends a message when the node takes another one. With an error it was not sent.
func (c *fedConn) send(ctx context.Context, message []byte) error {
	if err := c.take(ctx, c.slots); err != nil {
		return err
	}
	err := c.take(ctx, c.writing)
	if err == nil {
		defer func() { <-c.writing }()
		err = context.Cause(ctx) // take may have had the choice
	}
	if err != nil {
		<-c.slots
		return err
	}
	if err := c.write(message); err != nil {
		_ = c.ws.CloseNow() // perhaps it was sent: run ends the connection
	}
	return nil
}

// take takes a token.
func (c *fedConn) take(ctx context.Context, tokens chan<- struct{}) error {
	select {
	case tokens <- struct{}{}:
		return nil
	case <-c.ended:
		return c.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run hands out answers until the connection ends.
func (c *fedConn) run() {
	var err error
	var room bytes.Buffer
	for err == nil {
		var text string
		if text, err = c.read(&room); err != nil {
			break
		}
		a, ok := plainAnswer(text)
		if !ok {
			if err = json.Unmarshal([]byte(text), &a); err != nil {
				break
			}
		}
		if !c.leave(a.N, a) {
			err = fmt.Errorf("an answer to report %d, which was not sent: %+v", a.N, a.Error)
			break
		}
		<-c.slots
	}
	var closed websocket.CloseError
	if errors.As(err, &closed) {
		err = fmt.Errorf("the node closed the feed: %s", closed.Reason)
	}
	_ = c.ws.CloseNow()
	c.err = err
	close(c.ended)
}

// plainAnswer reads the answer to a report that was taken in, as a node writes it, and
// reports whether it could; all others are left to encoding/json.
func plainAnswer(text string) (FeedAnswer, bool) {
	w := &WriteResult{}
	rest, ok := strings.CutPrefix(text, `{"n":`)
	number, rest, begun := strings.Cut(rest, `,"result":{"id":`)
	n, whole := plainNumber(number)
	if !ok || !begun || !whole {
		return FeedAnswer{}, false
	}
	var id string
	if id, rest, ok = event.PlainString(rest); !ok {
		return FeedAnswer{}, false
	}
	if rest, ok = strings.CutPrefix(rest, `,"stream":`); !ok {
		return FeedAnswer{}, false
	}
	if w.Stream, rest, ok = event.PlainString(rest); !ok {
		return FeedAnswer{}, false
	}
	rest, begun = strings.CutPrefix(rest, `,"seq":`)
	rest, ended := strings.CutSuffix(rest, "}}")
	w.ID = tiers.DocID(id)
	w.Seq, ok = plainNumber(rest)
	return FeedAnswer{N: n, Result: w}, ok && begun && ended
}

// plainNumber reads a positive number as JSON has it.
func plainNumber(digits string) (uint64, bool) {
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && digits[0] != '0'
}
