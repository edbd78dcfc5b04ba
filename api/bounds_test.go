package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tiermesh/tiermesh/api"
)

// crowd is a server in a bubble of virtual time, which clients reach through pipes:
// what is not read is not taken.
type crowd struct {
	t     *testing.T
	inner *pipes
	reg   *prometheus.Registry
}

func newCrowd(t *testing.T, b api.Backend, bounds api.Bounds) *crowd {
	t.Helper()
	c := &crowd{t: t, inner: newPipes(), reg: prometheus.NewRegistry()}
	s, err := api.Open(api.Config{
		Inner: c.inner, Backend: b, Site: &backend{}, Logger: slog.New(slog.DiscardHandler), Gatherer: c.reg, Registerer: c.reg, Bounds: bounds,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }() // ends with Close
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

// ask sends a request on a connection of its own and returns that: nothing is read.
func (c *crowd) ask(method, target, body string) net.Conn {
	c.t.Helper()
	here, there := net.Pipe()
	c.inner.conns <- there
	if _, err := fmt.Fprintf(here, "%s %s HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		method, target, len(body), body); err != nil {
		c.t.Fatal(err)
	}
	return here
}

// end reads what is left of an answer: its status, whether all of it came, and when
// to try again.
func (c *crowd) end(conn net.Conn) (status int, whole bool, after string) {
	c.t.Helper()
	defer func() { _ = conn.Close() }()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, false, ""
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err == nil && resp.Body.Close() == nil, resp.Header.Get("Retry-After")
}

// metric returns the value of one of the server's metrics.
func (c *crowd) metric(name string) float64 {
	all, err := c.reg.Gather()
	if err != nil {
		c.t.Error(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	c.t.Errorf("no metric %s", name)
	return 0
}

// large answers with large pages, and notes the most that was under way at once.
type large struct {
	backend
	bytes int
	held  func() float64
	most  atomic.Int64
	made  atomic.Int64
}

func (l *large) List(context.Context, api.ListQuery) (api.Page, error) {
	l.most.Store(max(l.most.Load(), int64(l.held())))
	l.made.Add(1)
	return api.Page{Items: []json.RawMessage{[]byte(`"` + strings.Repeat("x", l.bytes) + `"`)}}, nil
}

// TestUnreadAnswers: 300 connections ask for a list of a thousand and never read. The
// answers under way stay below the bound, meanwhile others get theirs and writes go
// on; who finds no room is told when to try again; and all are closed when nobody
// took a byte for the time limit.
func TestUnreadAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, most = 300, 16 << 20
		b := &large{bytes: 1 << 20}
		bounds := api.Bounds{Stall: 20 * time.Second, AnswerBytes: most, Wait: 2 * time.Second}
		c := newCrowd(t, b, bounds)
		b.held = func() float64 { return c.metric("tiermesh_api_answers_bytes") }
		conns := make([]net.Conn, n)
		for i := range conns {
			conns[i] = c.ask("GET", "/v1/boards?limit=1000", "")
		}
		synctest.Wait()
		if held := b.held(); held > most || b.made.Load() == 0 || b.made.Load() > most/int64(b.bytes) {
			t.Errorf("%d answers of %d bytes were made, %.0f bytes are held: want %d at most", b.made.Load(), b.bytes, held, most)
		}
		for method, target := range map[string]string{"GET": "/v1/status", "POST": "/v1/events"} {
			conn := c.ask(method, target, `{"key":"k","report":{"title":"t","type":"01001","priority":3}}`)
			if status, whole, _ := c.end(conn); status != http.StatusOK || !whole {
				t.Errorf("%s %s meanwhile: %d", method, target, status)
			}
		}
		// Nobody reads until every connection has to be closed.
		time.Sleep(bounds.Wait + bounds.Stall + time.Second)
		synctest.Wait()
		for i, conn := range conns {
			if status, whole, _ := c.end(conn); status != 0 || whole {
				t.Fatalf("connection %d is open: %d", i, status)
			}
		}
		if stalled := c.metric("tiermesh_api_stalled_total"); stalled != n {
			t.Errorf("%.0f of %d connections were closed as stalled", stalled, n)
		}
		if held := b.held(); held != 0 || b.most.Load() > most {
			t.Errorf("%.0f bytes are held at the end, %d at most: want 0, %d", held, b.most.Load(), most)
		}
	})
}

// TestNoRoom: who finds no room for an answer is told when to try again, and gets it
// when there is room.
func TestNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &large{bytes: 1 << 20, held: func() float64 { return 0 }}
		c := newCrowd(t, b, api.Bounds{AnswerBytes: 4 << 20, Wait: time.Second, Stall: time.Minute})
		unread := c.ask("GET", "/v1/boards?limit=1000", "")
		synctest.Wait()
		if status, whole, after := c.end(c.ask("GET", "/v1/boards?limit=1000", "")); status != http.StatusServiceUnavailable || !whole || after != "5" {
			t.Errorf("%d, whole %v, again after %q", status, whole, after)
		}
		if refused := c.metric("tiermesh_api_refused_busy_total"); refused != 1 {
			t.Errorf("%.0f refused", refused)
		}
		waits := c.ask("GET", "/v1/boards?limit=1000", "")
		if status, whole, _ := c.end(unread); status != http.StatusOK || !whole {
			t.Errorf("read late: %d, whole %v", status, whole)
		}
		if status, whole, _ := c.end(waits); status != http.StatusOK || !whole {
			t.Errorf("after that: %d, whole %v", status, whole)
		}
	})
}

// TestLargeAnswerNeedsRoom: an answer that turns out larger than its request let
// expect is not sent when there is no room for it.
func TestLargeAnswerNeedsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &large{bytes: 3 << 19, held: func() float64 { return 0 }}
		c := newCrowd(t, b, api.Bounds{AnswerBytes: 6 << 20, Stall: time.Minute})
		conns := make([]net.Conn, 8)
		for i := range conns {
			conns[i] = c.ask("GET", "/v1/boards?limit=1", "")
		}
		synctest.Wait()
		if held := c.metric("tiermesh_api_answers_bytes"); held > 6<<20 {
			t.Errorf("%.0f bytes are held", held)
		}
		got := map[int]int{}
		for _, conn := range conns {
			status, whole, _ := c.end(conn)
			if got[status]++; !whole {
				t.Errorf("%d: cut off", status)
			}
		}
		if got[http.StatusOK] != 4 || got[http.StatusServiceUnavailable] != 4 {
			t.Errorf("%v: want 4 answers and 4 refusals", got)
		}
	})
}

// unending is a node whose backups never end by themselves.
type unending struct {
	backend
	mu        sync.Mutex
	now, most int
}

func (e *unending) add(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now += n
	e.most = max(e.most, e.now)
}

// counts returns how many are under way, and the most that were.
func (e *unending) counts() (now, most int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now, e.most
}

func (e *unending) Backup(_ context.Context, w io.Writer) error {
	e.add(1)
	defer e.add(-1)
	for {
		if _, err := w.Write(bytes.Repeat([]byte{1}, 64<<10)); err != nil {
			return nil // the client went away
		}
	}
}

// TestUnreadBackups: of 20 backups that nobody reads, as many as may be are under
// way at once; the others are told when to try again, and all of them end when
// nobody took a byte for the time limit. One that is read slowly goes on.
func TestUnreadBackups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &unending{}
		bounds := api.Bounds{Stall: 20 * time.Second, Long: 8}
		c := newCrowd(t, b, bounds)
		slow := c.ask("GET", "/v1/backup", "")
		conns := make([]net.Conn, 20)
		for i := range conns {
			conns[i] = c.ask("GET", "/v1/backup", "")
		}
		synctest.Wait()
		if now, most := b.counts(); now != 4 || most != 4 {
			t.Errorf("%d backups for other nodes are under way: want half of 8", now)
		}
		one := make([]byte, 1)
		for range 40 { // ten minutes, a byte at a time
			time.Sleep(bounds.Stall * 3 / 4)
			if _, err := slow.Read(one); err != nil {
				t.Fatalf("a slow reader is cut off: %v", err)
			}
		}
		synctest.Wait()
		if now, _ := b.counts(); now != 1 {
			t.Errorf("%d backups are under way, beside the one that is read", now-1)
		}
		for i, conn := range conns {
			if status, _, _ := c.end(conn); status != 0 {
				t.Errorf("connection %d is open: %d", i, status)
			}
		}
		if err := slow.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if now, _ := b.counts(); now != 0 {
			t.Errorf("%d backups go on without a reader", now)
		}
	})
}

// TestStalledUpload: a large body that stops coming is given up, and its place with
// it.
func TestStalledUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bounds := api.Bounds{Stall: 20 * time.Second, Long: 1}
		c := newCrowd(t, &backend{}, bounds)
		here, there := net.Pipe()
		c.inner.conns <- there
		if _, err := io.WriteString(here, "POST /v1/bundle/import HTTP/1.1\r\nHost: node\r\nContent-Length: 1000000\r\n\r\nhalf"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if status, _, after := c.end(c.ask("POST", "/v1/bundle/import", "x")); status != http.StatusServiceUnavailable || after == "" {
			t.Errorf("a second one: %d, again after %q", status, after)
		}
		time.Sleep(2 * bounds.Stall)
		synctest.Wait()
		c.end(here)
		if status, _, _ := c.end(c.ask("POST", "/v1/bundle/import", "x")); status != http.StatusOK {
			t.Errorf("after that: %d", status)
		}
	})
}
