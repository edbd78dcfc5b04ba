package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/coder/websocket"
)

const (
	// FeedMax is how many reports of one feed are under way at once: the next message
	// is taken up when one of them is answered.
	FeedMax = 64
	// feedProtocol is the WebSocket subprotocol of a feed.
	feedProtocol = "tiermesh.reports.v1"
	feedPath     = "/v1/events:feed"
	reportPath   = "/v1/events"
)

// FeedAnswer is the answer to one report of a feed: its result, or an error as the
// same report in a request of its own would get it.
type FeedAnswer struct {
	// Key is the report's; empty if the message was no report.
	Key    string       `json:"key"`
	Result *WriteResult `json:"result,omitempty"`
	Error  *Refusal     `json:"error,omitempty"`
}

// feeds are the feeds that a server has open.
type feeds struct {
	mu     sync.Mutex
	ending bool
	open   map[*feed]struct{}
	all    sync.WaitGroup
}

// feed is one connection on which reports come.
type feed struct {
	conn *websocket.Conn
	// work hands a message to a worker. They are kept, and so are their stacks, which
	// have grown.
	work   chan string
	ending chan struct{} // closed when no other report is taken up

	mu      sync.Mutex // held to start a worker or to close ending
	workers sync.WaitGroup
}

// enter adds a feed, unless the server ends.
func (f *feeds) enter(one *feed) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ending {
		return false
	}
	if f.open == nil {
		f.open = map[*feed]struct{}{}
	}
	f.open[one] = struct{}{}
	f.all.Add(1)
	return true
}

func (f *feeds) leave(one *feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, one)
	f.all.Done()
}

// end lets the reports under way be answered, until ctx ends, and returns when
// every feed has ended.
func (f *feeds) end(ctx context.Context) {
	f.mu.Lock()
	f.ending = true
	for one := range f.open {
		go one.end(ctx) // ends with the feed, or ctx
	}
	f.mu.Unlock()
	f.all.Wait()
}

// end closes a feed when its reports are answered.
func (f *feed) end(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = f.conn.CloseNow() })
	defer stop()
	f.mu.Lock()
	close(f.ending)
	f.mu.Unlock()
	f.workers.Wait()
	_ = f.conn.Close(websocket.StatusGoingAway, "the node stops") // or the client went away
}

// start starts a worker, unless the feed is ending.
func (f *feed) start(run func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.ending: // whoever sent the report is told by the end of the connection
	default:
		f.workers.Go(run)
	}
}

// feed serves a connection on which each message is a report, as the body of POST
// /v1/events is, and gets an answer, in the order in which they are taken in.
func (s *Server) feed(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{feedProtocol}})
	if err != nil {
		return // Accept has answered
	}
	conn.SetReadLimit(bodyBytesMax)
	f := &feed{conn: conn, work: make(chan string), ending: make(chan struct{})}
	if !s.feeds.enter(f) {
		_ = conn.Close(websocket.StatusGoingAway, "the node stops")
		return
	}
	// A request that became a connection has no end of its own.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer func() {
		cancel()
		close(f.work)
		_ = conn.CloseNow()
		f.workers.Wait()
		s.feeds.leave(f)
	}()
	var room bytes.Buffer
	for workers := 0; ; {
		message, err := readMessage(conn, &room)
		if err != nil {
			return
		}
		select {
		case f.work <- message:
			continue
		default:
		}
		if workers < FeedMax {
			workers++
			f.start(func() { s.feedWorker(ctx, f, message) }) // ends with work, or when the server ends
			continue
		}
		select {
		case f.work <- message:
		case <-f.ending:
		}
	}
}

// readMessage returns the next message. It reads without a context: when one ends, the
// connection is closed at once, and what is under way could not be answered.
func readMessage(conn *websocket.Conn, room *bytes.Buffer) (string, error) {
	_, message, err := conn.Reader(context.Background())
	if err != nil {
		return "", err
	}
	room.Reset()
	_, err = room.ReadFrom(message)
	return room.String(), err
}

// feedWorker takes in reports, one after the other.
func (s *Server) feedWorker(ctx context.Context, f *feed, message string) {
	for more := true; more; {
		b, err := json.Marshal(s.fed(ctx, message))
		if err == nil {
			err = f.conn.Write(context.Background(), websocket.MessageText, b)
		}
		if err != nil {
			_ = f.conn.CloseNow() // whoever waits for this answer is told that there is none
		}
		select {
		case <-f.ending:
			return
		default:
		}
		select {
		case message, more = <-f.work:
		case <-f.ending:
			return
		}
	}
}

// fed takes in a report of a feed, here or at the member that leads.
func (s *Server) fed(ctx context.Context, message string) FeedAnswer {
	req, err := reportRequest(message)
	if err != nil {
		return s.refused("", err)
	}
	id, self, err := s.cfg.Site.Leader(ctx)
	if err == nil && !self {
		return s.fedElsewhere(ctx, req.Key, message, id)
	}
	var out WriteResult
	if err == nil {
		out, err = s.takeIn(ctx, req)
	}
	if err != nil {
		return s.refused(req.Key, err)
	}
	return FeedAnswer{Key: req.Key, Result: &out}
}

// refused is the answer to a report that failed.
func (s *Server) refused(key string, err error) FeedAnswer {
	refusal, _ := s.refusal(feedPath, err)
	return FeedAnswer{Key: key, Error: &refusal}
}

// fedElsewhere passes a report on, as a request of its own would be.
func (s *Server) fedElsewhere(ctx context.Context, key string, message string, id string) FeedAnswer {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, reportPath, strings.NewReader(message))
	if err != nil {
		return s.refused(key, err)
	}
	r.Header.Set("Content-Type", "application/json")
	w := answered{header: http.Header{}}
	s.forward(&w, r, s.handle(s.report), id)
	a := FeedAnswer{Key: key}
	into := any(&a.Result)
	if w.status != http.StatusOK && w.status != http.StatusAccepted {
		into = &struct {
			Error **Refusal `json:"error"`
		}{&a.Error}
	}
	if err := json.Unmarshal(w.body.Bytes(), into); err != nil || (a.Result == nil) == (a.Error == nil) {
		return s.refused(key, fmt.Errorf("%w: leader %s answered %d", ErrUnknownOutcome, id, w.status))
	}
	return a
}

// answered holds what a handler answers.
type answered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

var _ http.ResponseWriter = (*answered)(nil)

// Header implements [http.ResponseWriter].
func (a *answered) Header() http.Header { return a.header }

// WriteHeader implements [http.ResponseWriter].
func (a *answered) WriteHeader(status int) { a.status = status }

// Write implements [http.ResponseWriter].
func (a *answered) Write(b []byte) (int, error) { return a.body.Write(b) }
