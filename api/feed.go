package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// FeedMax is how many reports of one feed are under way at once: the next message
	// is taken up when one of them is answered.
	FeedMax = 64
	// feedsMax is how many feeds a node serves at once.
	feedsMax = 1024
	// feedProtocol is the WebSocket subprotocol of a feed.
	feedProtocol = "tiermesh.reports.v1"
	feedPath     = "/v1/events:feed"
	reportPath   = "/v1/events"
)

// FeedMessage is one report of a feed.
type FeedMessage struct {
	// N is the client's number for it, which the answer has, too.
	N uint64 `json:"n"`
	ReportRequest
}

// FeedAnswer is the answer to one report of a feed: its result, or an error as the
// same report in a request of its own would get it.
type FeedAnswer struct {
	// N is the message's number; zero if it had none that could be read.
	N      uint64       `json:"n"`
	Result *WriteResult `json:"result,omitempty"`
	Error  *Refusal     `json:"error,omitempty"`
}

// feedWire is one end of a feed's connection.
type feedWire struct {
	ws *websocket.Conn
	// writing holds a token while a message is written.
	writing chan struct{}
	// stalled breaks the connection when a message cannot be written for so long.
	stalled *time.Timer
	patient time.Duration
}

func newFeedWire(ws *websocket.Conn, patient time.Duration, sever func()) feedWire {
	w := feedWire{ws: ws, writing: make(chan struct{}, 1), stalled: time.AfterFunc(patient, sever), patient: patient}
	w.stalled.Stop()
	return w
}

// write writes a message; the caller holds the token. It knows no context: one that
// ends while a message is written breaks the connection for everybody.
func (w *feedWire) write(b []byte) error {
	w.stalled.Reset(w.patient)
	defer w.stalled.Stop()
	return w.ws.Write(context.Background(), websocket.MessageText, b)
}

// read returns the next message. It knows no context, either: what is under way could
// not be answered.
func (w *feedWire) read(room *bytes.Buffer) (string, error) {
	_, message, err := w.ws.Reader(context.Background())
	if err != nil {
		return "", err
	}
	room.Reset()
	_, err = room.ReadFrom(message)
	return room.String(), err
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
	wire feedWire // its ws is nil until the connection is a feed
	conn net.Conn // below it
	// work hands a message to a worker. They are kept, and so are their stacks, which
	// have grown.
	work   chan string
	ending chan struct{} // closed when no other report is taken up

	mu      sync.Mutex // held to set wire, to start a worker and to close ending
	workers sync.WaitGroup
}

// connKey marks a request's connection.
type connKey struct{}

var errStops = fmt.Errorf("%w: the node stops", ErrUnavailable)

// enter adds a feed, unless the server ends or has too many.
func (f *feeds) enter(one *feed) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ending {
		return errStops
	}
	if len(f.open) >= feedsMax {
		return fmt.Errorf("%w: %d feeds are open", ErrUnavailable, len(f.open))
	}
	if f.open == nil {
		f.open = map[*feed]struct{}{}
	}
	f.open[one] = struct{}{}
	f.all.Add(1)
	return nil
}

func (f *feeds) leave(one *feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, one)
	f.all.Done()
}

// end lets the reports under way be answered, until ctx ends, and returns when every
// feed has ended, or soon after ctx where a backend does not return.
func (f *feeds) end(ctx context.Context) {
	f.mu.Lock()
	f.ending = true
	for one := range f.open {
		go one.end(ctx) // ends with the feed's workers
	}
	f.mu.Unlock()
	done := make(chan struct{})
	go func() { f.all.Wait(); close(done) }() // ends with the last feed
	select {
	case <-done:
		return
	case <-ctx.Done(): // which severs them
	}
	select {
	case <-done:
	case <-time.After(shutdownTimeout / 5):
	}
}

// end closes a feed when its reports are answered.
func (f *feed) end(ctx context.Context) {
	stop := context.AfterFunc(ctx, f.sever)
	defer stop()
	f.mu.Lock()
	close(f.ending)
	ws := f.wire.ws
	f.mu.Unlock()
	if ws == nil {
		f.sever()
		return
	}
	f.workers.Wait()
	_ = ws.Close(websocket.StatusGoingAway, "the node stops") // or the client went away
}

// sever ends the connection at once, also while it is being closed in order.
func (f *feed) sever() { _ = f.conn.Close() }

// start starts a worker and reports whether it did: a feed that ends has no more.
func (f *feed) start(run func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.ending:
		return false
	default:
		f.workers.Go(run)
		return true
	}
}

// answer writes an answer. Whoever waits for one that cannot be written is told so by
// the end of the connection.
func (f *feed) answer(a FeedAnswer) {
	b, err := json.Marshal(a)
	if err == nil {
		f.wire.writing <- struct{}{}
		err = f.wire.write(b)
		<-f.wire.writing
	}
	if err != nil {
		f.sever()
	}
}

// feed serves a connection on which each message is a report and gets an answer, in
// the order in which they are taken in.
func (s *Server) feed(w http.ResponseWriter, r *http.Request) {
	conn, ok := r.Context().Value(connKey{}).(net.Conn)
	if !ok {
		s.fail(w, r, fmt.Errorf("%w: a connection that can be no feed", ErrInvalid))
		return
	}
	f := &feed{conn: conn, work: make(chan string), ending: make(chan struct{})}
	if err := s.feeds.enter(f); err != nil {
		s.fail(w, r, err)
		return
	}
	defer s.feeds.leave(f)
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{feedProtocol}})
	if err != nil {
		return // Accept has answered
	}
	ws.SetReadLimit(bodyBytesMax)
	f.mu.Lock()
	f.wire = newFeedWire(ws, writeTimeout, f.sever)
	f.mu.Unlock()
	// A request that became a connection has no end of its own.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer func() {
		cancel()
		close(f.work)
		_ = ws.CloseNow()
		f.workers.Wait()
	}()
	var room bytes.Buffer
	for workers := 0; ; {
		message, err := f.wire.read(&room)
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
			if !f.start(func() { s.feedWorker(ctx, f, message) }) { // ends with work, or when the server ends
				f.answer(s.refused(numberOf(message), errStops))
			}
			continue
		}
		select {
		case f.work <- message:
		case <-f.ending:
			f.answer(s.refused(numberOf(message), errStops))
		}
	}
}

// feedWorker takes in reports, one after the other.
func (s *Server) feedWorker(ctx context.Context, f *feed, message string) {
	for more := true; more; {
		f.answer(s.fed(ctx, message))
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
	m, err := feedMessage(message)
	if err != nil {
		return s.refused(numberOf(message), err)
	}
	id, self, err := s.cfg.Site.Leader(ctx)
	var out WriteResult
	switch {
	case err != nil:
	case self:
		up := s.cfg.Site.Upward()
		if err = up.retired(); err == nil {
			out, err = s.takeIn(ctx, m.ReportRequest)
			out.Waits = up.Waits
		}
	default:
		return s.fedElsewhere(ctx, m, id)
	}
	if err != nil {
		return s.refused(m.N, err)
	}
	return FeedAnswer{N: m.N, Result: &out}
}

// refused is the answer to a message that led to an error.
func (s *Server) refused(n uint64, err error) FeedAnswer {
	refusal, _ := s.refusal(feedPath, err)
	return FeedAnswer{N: n, Error: &refusal}
}

// numberOf returns a message's number, whatever else is wrong with it.
func numberOf(message string) uint64 {
	var m struct {
		N uint64 `json:"n"`
	}
	_ = json.Unmarshal([]byte(message), &m) // zero, then
	return m.N
}

// fedElsewhere passes a report on, as a request of its own would be.
func (s *Server) fedElsewhere(ctx context.Context, m FeedMessage, id string) FeedAnswer {
	w := answered{header: http.Header{}}
	b, err := json.Marshal(m.sent())
	var r *http.Request
	if err == nil {
		r, err = http.NewRequestWithContext(ctx, http.MethodPost, reportPath, bytes.NewReader(b))
	}
	if err != nil {
		return s.refused(m.N, err)
	}
	r.Header.Set("Content-Type", "application/json")
	s.forward(&w, r, s.handle(s.report), id)
	a := FeedAnswer{N: m.N}
	into := any(&a.Result)
	if w.status != http.StatusOK && w.status != http.StatusAccepted {
		into = &struct {
			Error **Refusal `json:"error"`
		}{&a.Error}
	}
	if err := json.Unmarshal(w.body.Bytes(), into); err != nil || (a.Result == nil) == (a.Error == nil) {
		return s.refused(m.N, fmt.Errorf("%w: leader %s answered %d", ErrUnknownOutcome, id, w.status))
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
