package api_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// crowded counts how many reports are under way at once.
type crowded struct {
	backend
	now, most, ended atomic.Int64

	wait func(ctx context.Context, key string) error
	took func(r api.ReportRequest)
}

func (b *crowded) Report(ctx context.Context, r api.ReportRequest) (api.WriteResult, error) {
	for n := b.now.Add(1); ; {
		if most := b.most.Load(); n <= most || b.most.CompareAndSwap(most, n) {
			break
		}
	}
	defer b.ended.Add(1)
	defer b.now.Add(-1)
	if b.took != nil {
		b.took(r)
	}
	err := b.wait(ctx, r.Key)
	return api.WriteResult{ID: "event:x", Stream: r.Key, Seq: 7}, err
}

// running starts a server at a path and returns what stops it.
func running(t *testing.T, path string, b api.Backend, site api.Site) (stop func()) {
	t.Helper()
	s, err := api.Open(api.Config{Listen: "unix:" + path, Inner: newPipes(), Backend: b, Site: site, Logger: slog.New(slog.DiscardHandler), Gatherer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- s.Run(ctx) }() // ends with ctx
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// slow has reports with the key slow wait for a channel.
func slow(until *chan struct{}) func(context.Context, string) error {
	return func(_ context.Context, key string) error {
		if key == "slow" {
			<-*until
		}
		return nil
	}
}

// feedTo returns a feed to a node that does what b does.
func feedTo(t *testing.T, b *crowded) *api.Feed {
	t.Helper()
	path := filepath.Join(t.TempDir(), "api.sock")
	t.Cleanup(running(t, path, b, b))
	c := api.NewClient("unix:" + path)
	t.Cleanup(c.Close)
	feed := c.Feed()
	t.Cleanup(feed.Close)
	return feed
}

// TestFeed: many report over one connection, each is told what became of its own,
// and no more are under way at once than may be.
func TestFeed(t *testing.T) {
	b := &crowded{wait: func(_ context.Context, key string) error {
		<-time.After(time.Millisecond)
		if strings.HasSuffix(key, "3") {
			return fmt.Errorf("%w: %s may not be", api.ErrRejected, key)
		}
		return nil
	}}
	feed := feedTo(t, b)
	var all sync.WaitGroup
	for i := range 4 * api.FeedMax {
		all.Go(func() {
			key := fmt.Sprint(i)
			w, err := feed.Report(limited(t), api.ReportRequest{Key: key})
			switch refused := strings.HasSuffix(key, "3"); {
			case refused && (!errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), key+" may not be")):
				t.Errorf("%s: %v", key, err)
			case !refused && (err != nil || w.Stream != key || w.Seq != 7):
				t.Errorf("%s: %+v, %v", key, w, err)
			}
		})
	}
	all.Wait()
	if n := b.most.Load(); n < 2 || n > api.FeedMax {
		t.Errorf("%d were under way at once, want 2 to %d", n, api.FeedMax)
	}
	if _, err := feed.Report(limited(t), api.ReportRequest{}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("without a key: %v", err)
	}
	feed.Close()
	if _, err := feed.Report(limited(t), api.ReportRequest{Key: "k"}); !errors.Is(err, api.ErrUnreachable) {
		t.Errorf("after the end: %v", err)
	}
}

// TestFeedOrder: of reports with one key the first that was sent is taken in first.
func TestFeedOrder(t *testing.T) {
	var mu sync.Mutex
	var titles []string
	b := &crowded{wait: func(context.Context, string) error { return nil }}
	b.took = func(r api.ReportRequest) {
		mu.Lock()
		defer mu.Unlock()
		titles = append(titles, r.Report.Title)
	}
	feed := feedTo(t, b)
	var sent []*api.FedReport
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint(i))
		r, err := feed.Send(limited(t), api.ReportRequest{Key: "k", Report: event.Report{Title: want[i]}})
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, r)
	}
	for _, r := range sent {
		if _, err := r.Result(limited(t)); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(titles, want) {
		t.Errorf("taken in %v", titles)
	}
}

// TestFeedStalled: a client that reads no answers does not keep a server from ending.
func TestFeedStalled(t *testing.T) {
	b := &crowded{wait: func(context.Context, string) error {
		return fmt.Errorf("%w: %s", api.ErrRejected, strings.Repeat("x", 1<<19))
	}}
	path := filepath.Join(t.TempDir(), "api.sock")
	stop := running(t, path, b, b)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	ws, _, err := websocket.Dial(limited(t), "ws://node/v1/events:feed", &websocket.DialOptions{HTTPClient: client}) //nolint:bodyclose // Dial sees to it
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	for i := range 4 {
		if err := ws.Write(limited(t), websocket.MessageText, fmt.Appendf(nil, `{"n":1,"key":"%d"}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	for ctx := limited(t); b.ended.Load() < 4 && ctx.Err() == nil; {
		<-time.After(time.Millisecond)
	}
	stop()
}

// TestFeedForward: a node that does not lead passes a feed's reports on to the one
// that does, hands on what that answers, and takes them in when it leads meanwhile.
func TestFeedForward(t *testing.T) {
	inner := newPipes()
	leader, follower := &backend{}, &backend{leader: "2-x", other: inner}
	serveInner(t, leader, inner)
	c, _ := serve(t, follower)
	feed := c.Feed()
	defer feed.Close()
	if w, err := feed.Report(limited(t), api.ReportRequest{Key: "k"}); err != nil || w.Stream != "k" || w.Seq != 7 {
		t.Errorf("passed on: %+v, %v", w, err)
	}
	leader.events.held = "why"
	if w, err := feed.Report(limited(t), api.ReportRequest{Key: "k"}); err != nil || w.Held != "why" {
		t.Errorf("held: %+v, %v", w, err)
	}
	leader.err = fmt.Errorf("%w: not so", api.ErrRejected)
	if _, err := feed.Report(limited(t), api.ReportRequest{Key: "k"}); !errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), "not so") {
		t.Errorf("refused there: %v", err)
	}
	if _, err := feed.Report(limited(t), api.ReportRequest{}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("without a key: %v", err)
	}
	follower.other, follower.moves = nil, []string{"3-x", ""} // nobody, and then this node
	if w, err := feed.Report(limited(t), api.ReportRequest{Key: "moved"}); err != nil || w.Stream != "moved" || w.Held != "" {
		t.Errorf("the leadership came here: %+v, %v", w, err)
	}
}

// TestFeedEnds: when a node stops, the reports under way are answered, and the feed
// goes on with the one that is started in its place.
func TestFeedEnds(t *testing.T) {
	taken, goOn := make(chan struct{}), make(chan struct{})
	b := &crowded{wait: func(context.Context, string) error {
		taken <- struct{}{}
		<-goOn
		return nil
	}}
	path := filepath.Join(t.TempDir(), "api.sock")
	stop := running(t, path, b, b)
	c := api.NewClient("unix:" + path)
	defer c.Close()
	feed := c.Feed()
	defer feed.Close()
	answered, stopped := make(chan error, 1), make(chan struct{})
	go func() { // ends with its report
		_, err := feed.Report(limited(t), api.ReportRequest{Key: "before"})
		answered <- err
	}()
	<-taken
	go func() { stop(); close(stopped) }() // ends when the server has
	<-time.After(10 * time.Millisecond)    // so that it mostly has begun to
	close(goOn)
	if err := <-answered; err != nil {
		t.Errorf("a report under way: %v", err)
	}
	<-stopped
	for ctx := limited(t); ; { // the end of the connection is heard of at some time
		_, err := feed.Report(ctx, api.ReportRequest{Key: "between"})
		if errors.Is(err, api.ErrUnreachable) {
			break
		}
		if !errors.Is(err, api.ErrUnknownOutcome) {
			t.Fatalf("while it is down: %v", err)
		}
	}
	defer running(t, path, &backend{}, &backend{})()
	if w, err := feed.Report(limited(t), api.ReportRequest{Key: "after"}); err != nil || w.Stream != "after" {
		t.Errorf("started again: %+v, %v", w, err)
	}
}

// TestFeedBroken: a report whose answer is lost, or takes too long, has an unknown
// outcome; one with its key waits for it, and all others go on.
func TestFeedBroken(t *testing.T) {
	goOn := make(chan struct{})
	b := &crowded{wait: slow(&goOn)}
	path := filepath.Join(t.TempDir(), "api.sock")
	defer running(t, path, b, b)()
	var mu sync.Mutex
	var conns []net.Conn
	c := api.NewNodeClient("node", func(ctx context.Context) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, conn)
		return conn, err
	})
	defer c.Close()
	feed := c.Feed()
	defer feed.Close()
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(limited(t), 20*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	if _, err := feed.Report(soon(), api.ReportRequest{Key: "slow"}); !errors.Is(err, api.ErrUnknownOutcome) {
		t.Errorf("too slow: %v", err)
	}
	if _, err := feed.Report(soon(), api.ReportRequest{Key: "slow"}); !errors.Is(err, api.ErrUnreachable) {
		t.Errorf("the same again, which was not sent: %v", err)
	}
	if w, err := feed.Report(limited(t), api.ReportRequest{Key: "quick"}); err != nil || w.Stream != "quick" {
		t.Errorf("meanwhile: %+v, %v", w, err)
	}
	if n := len(conns); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	lost := make(chan error, 1)
	go func() { // ends with its report
		_, err := feed.Report(limited(t), api.ReportRequest{Key: "slow"})
		lost <- err
	}()
	close(goOn)
	if err := <-lost; err != nil {
		t.Errorf("after the first was answered: %v", err)
	}
	goOn = make(chan struct{})
	go func() { // ends with its report
		_, err := feed.Report(limited(t), api.ReportRequest{Key: "slow"})
		lost <- err
	}()
	for b.now.Load() == 0 {
		<-time.After(time.Millisecond)
	}
	mu.Lock()
	_ = conns[0].Close()
	mu.Unlock()
	if err := <-lost; !errors.Is(err, api.ErrUnknownOutcome) {
		t.Errorf("the connection broke: %v", err)
	}
	close(goOn)
	if w, err := feed.Report(limited(t), api.ReportRequest{Key: "quick"}); err != nil || w.Stream != "quick" || len(conns) != 2 {
		t.Errorf("connected again: %+v, %v, %d connections", w, err, len(conns))
	}
}

// TestFeedBadReports: a report that cannot be sent, or not as it is, disturbs no other.
func TestFeedBadReports(t *testing.T) {
	goOn := make(chan struct{})
	b := &crowded{wait: slow(&goOn)}
	feed := feedTo(t, b)
	slow, err := feed.Send(limited(t), api.ReportRequest{Key: "slow"})
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(limited(t))
	cancel()
	for i := range 20 {
		if _, err := feed.Report(ended, api.ReportRequest{Key: fmt.Sprint(i)}); !errors.Is(err, api.ErrUnreachable) {
			t.Errorf("with a context that has ended: %v", err)
		}
	}
	large := api.ReportRequest{Key: "large", Report: event.Report{Text: strings.Repeat("<", 200_000)}} // each takes six bytes
	if _, err := feed.Report(limited(t), large); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("too large: %v", err)
	}
	if w, err := feed.Report(limited(t), api.ReportRequest{Key: "a\xff"}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a key that is no text: %+v, %v", w, err)
	}
	close(goOn)
	if w, err := slow.Result(limited(t)); err != nil || w.Stream != "slow" {
		t.Errorf("one that was under way: %+v, %v", w, err)
	}
}

// TestFeedMessages: what is no report is answered as such; what is too large ends the
// feed, and a web page of elsewhere gets none.
func TestFeedMessages(t *testing.T) {
	_, path := serve(t, &backend{})
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	dial := func(header http.Header) (*websocket.Conn, *http.Response, error) {
		return websocket.Dial(limited(t), "ws://node/v1/events:feed", &websocket.DialOptions{HTTPClient: client, HTTPHeader: header})
	}
	ws, _, err := dial(nil) //nolint:bodyclose // Dial sees to it
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	for _, m := range []struct{ message, want string }{
		{`{"n":3,"key":"k"}`, `{"n":3,"result":{"id":"event:x","stream":"k","seq":7}}`},
		{`{"key":"k"}`, `{"n":0,"result":{"id":"event:x","stream":"k","seq":7}}`},
		{`[]`, `{"n":0,"error":{"code":"invalid","message":"invalid request: body: it is a JSON array: want an object"}}`},
		{`{"n":4,"key":"k","colour":1}`, `{"n":4,"error":{"code":"invalid","message":"invalid request: body: json: unknown field \"colour\""}}`},
		{``, `{"n":0,"error":{"code":"invalid","message":"invalid request: body: EOF"}}`},
		{`{"n":5,"key":""}`, `{"n":5,"error":{"code":"invalid","message":"invalid request: key of 0 bytes: want 1 to 128; it makes a retry safe"}}`},
	} {
		if err := ws.Write(limited(t), websocket.MessageText, []byte(m.message)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.Read(limited(t)); err != nil || string(got) != m.want {
			t.Errorf("%s: %s, %v; want %s", m.message, got, err, m.want)
		}
	}
	if err := ws.Write(limited(t), websocket.MessageText, make([]byte, 1<<20+1)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.Read(limited(t)); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("a message of over 1 MiB: %v", err)
	}
	_, resp, err := dial(http.Header{"Origin": {"https://elsewhere.example"}}) //nolint:bodyclose // Dial sees to it
	if err == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a web page of elsewhere: %v, %v", resp, err)
	}
	if status, body := raw(t, path, "GET", "/v1/events:feed", ""); status != http.StatusUpgradeRequired {
		t.Errorf("a request that is none for a feed: %d %s", status, body)
	}
}
