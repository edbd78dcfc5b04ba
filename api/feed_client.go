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

	"github.com/coder/websocket"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// answerBytesMax bounds an answer of a feed.
const answerBytesMax = 1 << 20

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
	ws *websocket.Conn
	// slots holds a token for each report that was sent and not answered, though
	// nobody may wait for it any longer: the node takes so many.
	slots chan struct{}
	ended chan struct{} // closed when the connection ended
	err   error         // why, then

	mu      sync.Mutex
	waiting map[string]*fedReport // by key
}

// fedReport is a report under way.
type fedReport struct {
	answer FeedAnswer
	done   chan struct{} // closed when the answer stands, or the report was not sent
}

// Feed returns a feed to the node. It does not connect yet.
func (c *Client) Feed() *Feed { return &Feed{c: c, opening: make(chan struct{}, 1)} }

// Close ends the feed and its connection, and returns when nothing of it runs.
// Reports under way are answered with [ErrUnknownOutcome].
func (f *Feed) Close() {
	f.mu.Lock()
	f.closed = true
	conn := f.conn
	f.mu.Unlock()
	if conn != nil {
		_ = conn.ws.Close(websocket.StatusNormalClosure, "") // or the node went away
		<-conn.ended
	}
}

// Report reports an event. Its error is as [Client.Report]'s. One that wraps
// [ErrUnknownOutcome] was perhaps taken in: the same report again tells. A report waits
// for one before it on this feed that has the same key.
func (f *Feed) Report(ctx context.Context, r ReportRequest) (WriteResult, error) {
	message, err := json.Marshal(r)
	if err != nil {
		return WriteResult{}, fmt.Errorf("encode request: %w", err)
	}
	conn, err := f.connected(ctx)
	if err != nil {
		return WriteResult{}, err
	}
	report, err := conn.begin(ctx, r.Key)
	if err != nil {
		return WriteResult{}, f.c.failed(err, http.MethodGet) // nothing was sent
	}
	answer, err := conn.send(ctx, report, message)
	switch {
	case err != nil:
		return WriteResult{}, f.c.failed(err, http.MethodPost)
	case answer.Error != nil:
		return WriteResult{}, answer.Error.err()
	case answer.Result == nil:
		return WriteResult{}, fmt.Errorf("%w: %s answered neither with a result nor with an error", ErrUnknownOutcome, f.c.addr)
	}
	return *answer.Result, nil
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
	ws, resp, err := websocket.Dial(ctx, f.c.base+feedPath, &websocket.DialOptions{HTTPClient: f.c.http, Subprotocols: []string{feedProtocol}})
	if err != nil && resp != nil {
		return nil, fmt.Errorf("%s answered %s: does it know feeds?", f.c.addr, resp.Status)
	}
	if err != nil {
		return nil, f.c.failed(err, http.MethodGet)
	}
	ws.SetReadLimit(answerBytesMax)
	conn := &fedConn{ws: ws, slots: make(chan struct{}, FeedMax), ended: make(chan struct{}), waiting: map[string]*fedReport{}}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		_ = ws.CloseNow()
		return nil, errFeedClosed
	}
	f.conn = conn
	go conn.read() // ends with the connection
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
	if f.conn != nil && f.conn.broken() {
		f.conn = nil
	}
	return f.conn, nil
}

func (c *fedConn) broken() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// begin waits until a report with a key may be sent.
func (c *fedConn) begin(ctx context.Context, key string) (*fedReport, error) {
	r, err := c.enter(ctx, key)
	if err != nil {
		return nil, err
	}
	select {
	case c.slots <- struct{}{}:
		return r, nil
	case <-c.ended:
		err = c.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	c.leave(key, FeedAnswer{})
	return nil, err
}

// enter makes a report the one with its key, when no other is.
func (c *fedConn) enter(ctx context.Context, key string) (*fedReport, error) {
	for {
		c.mu.Lock()
		other := c.waiting[key]
		if other == nil {
			r := &fedReport{done: make(chan struct{})}
			c.waiting[key] = r
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

// leave ends a report and reports whether there was one with the key.
func (c *fedConn) leave(key string, answer FeedAnswer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.waiting[key]
	if r == nil {
		return false
	}
	delete(c.waiting, key)
	r.answer = answer
	close(r.done)
	return true
}

// send sends a report and waits for its answer.
func (c *fedConn) send(ctx context.Context, r *fedReport, message []byte) (FeedAnswer, error) {
	if err := c.ws.Write(ctx, websocket.MessageText, message); err != nil {
		_ = c.ws.CloseNow() // read says why
	}
	select {
	case <-r.done:
		return r.answer, nil
	case <-c.ended:
	case <-ctx.Done():
		return FeedAnswer{}, context.Cause(ctx)
	}
	select {
	case <-r.done: // it came before the end
		return r.answer, nil
	default:
		return FeedAnswer{}, c.err
	}
}

// read hands out answers until the connection ends.
func (c *fedConn) read() {
	var err error
	var room bytes.Buffer
	for err == nil {
		var text string
		if text, err = readMessage(c.ws, &room); err != nil {
			break
		}
		a, ok := plainAnswer(text)
		if !ok {
			if err = json.Unmarshal([]byte(text), &a); err != nil {
				break
			}
		}
		if !c.leave(a.Key, a) {
			err = fmt.Errorf("an answer to %q, which was not sent: %+v", a.Key, a.Error)
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
	var a FeedAnswer
	var id string
	w := &WriteResult{}
	for _, f := range []struct {
		before string
		into   *string
	}{{`{"key":`, &a.Key}, {`,"result":{"id":`, &id}, {`,"stream":`, &w.Stream}} {
		rest, ok := strings.CutPrefix(text, f.before)
		if ok {
			*f.into, text, ok = event.PlainString(rest)
		}
		if !ok {
			return FeedAnswer{}, false
		}
	}
	digits, begun := strings.CutPrefix(text, `,"seq":`)
	digits, ended := strings.CutSuffix(digits, "}}")
	seq, err := strconv.ParseUint(digits, 10, 64)
	if !begun || !ended || err != nil || digits[0] == '0' {
		return FeedAnswer{}, false
	}
	w.ID, w.Seq, a.Result = tiers.DocID(id), seq, w
	return a, true
}
