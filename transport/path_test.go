package transport_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// narrow is a relay between a dialer and an endpoint that drops datagrams over a
// size in silence, as a tunnel whose router sends no ICMP.
type narrow struct {
	in      *net.UDPConn
	limit   atomic.Int64 // bytes of UDP payload; 0 drops everything
	dropped atomic.Int64

	mu   sync.Mutex // guards outs
	outs map[string]*net.UDPConn
	wg   sync.WaitGroup
}

func newNarrow(t *testing.T, to net.Addr, limit int) *narrow {
	t.Helper()
	in, err := net.ListenUDP("udp", &net.UDPAddr{IP: to.(*net.UDPAddr).IP})
	if err != nil {
		t.Skipf("no such address here: %v", err)
	}
	r := &narrow{in: in, outs: map[string]*net.UDPConn{}}
	r.limit.Store(int64(limit))
	r.wg.Go(func() { // ends with the socket
		b := make([]byte, 4096)
		for {
			n, from, err := in.ReadFromUDP(b)
			if err != nil {
				return
			}
			if out := r.out(from, to.(*net.UDPAddr)); out != nil && r.passes(n) {
				_, _ = out.Write(b[:n])
			}
		}
	})
	t.Cleanup(func() {
		_ = in.Close()
		r.mu.Lock()
		for _, out := range r.outs {
			_ = out.Close()
		}
		r.mu.Unlock()
		r.wg.Wait()
	})
	return r
}

func (r *narrow) passes(n int) bool {
	if n <= int(r.limit.Load()) {
		return true
	}
	r.dropped.Add(1)
	return false
}

// out returns the socket that stands for a dialer on the far side.
func (r *narrow) out(from, to *net.UDPAddr) *net.UDPConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if out := r.outs[from.String()]; out != nil {
		return out
	}
	out, err := net.DialUDP("udp", nil, to)
	if err != nil {
		return nil
	}
	r.outs[from.String()] = out
	r.wg.Go(func() { // ends with the socket
		b := make([]byte, 4096)
		for {
			n, err := out.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil && r.passes(n) {
				_, _ = r.in.WriteToUDP(b[:n], from)
			}
		}
	})
	return out
}

// soon bounds a test.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// throughNarrow links a child to its parent through a relay.
func throughNarrow(t *testing.T, host string, limit int) (r *narrow, child, parent *transport.Endpoint) {
	t.Helper()
	f := newFederation(t, "cq")
	child = f.open(f.credentials("500101", 1), net.JoinHostPort(host, "0"))
	parent = f.open(f.credentials("500000", 1), net.JoinHostPort(host, "0"))
	return newNarrow(t, parent.Addr(), limit), child, parent
}

func dialThrough(t *testing.T, r *narrow, child, parent *transport.Endpoint) (down, up *transport.Link) {
	t.Helper()
	ctx := soon(t)
	down, err := child.Dial(ctx, r.in.LocalAddr().String(), "500000")
	if err != nil {
		t.Fatal(err)
	}
	if up, err = parent.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	return down, up
}

// flow sends batches on a link until ctx ends.
func flow(ctx context.Context, l *transport.Link) {
	body := "" // random, since frames are compressed
	for len(body) < 4000 {
		body += rand.Text()
	}
	if _, err := l.Send(ctx, 0, &wire.Bye{Reason: "who speaks"}); err != nil {
		return
	}
	for ctx.Err() == nil {
		if _, err := l.Send(ctx, tiers.LaneCount-1, &wire.Bye{Reason: body}); err != nil {
			return
		}
	}
}

// take takes what comes until the link ends.
func take(ctx context.Context, l *transport.Link, got *atomic.Int64) {
	for {
		_, n, err := l.Recv(ctx)
		if err != nil {
			return
		}
		got.Add(int64(n))
	}
}

// until waits for something that happens soon.
func until(ctx context.Context, t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within the test's time", what)
		}
	}
}

// TestPathSizes: a link comes up over any path that carries 1,200 bytes, by both
// versions of IP, and its packets grow to what passes and not beyond.
func TestPathSizes(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1"} {
		header := 28
		if host == "::1" {
			header = 48
		}
		for _, mtu := range []int{1500, 1400, 1308, 1300, 1280, 1200 + header} {
			t.Run(fmt.Sprint(host, " ", mtu), func(t *testing.T) {
				t.Parallel()
				r, child, parent := throughNarrow(t, host, mtu-header)
				down, up := dialThrough(t, r, child, parent)
				ctx, cancel := context.WithCancel(soon(t))
				defer cancel()
				var got atomic.Int64
				go flow(ctx, down) // ends with ctx
				go take(ctx, up, &got)
				most := min(mtu-header, 1452)
				until(ctx, t, "the packets grow", func() bool { return got.Load() > 1<<20 && down.Path().PacketBytes >= most-25 })
				if n := down.Path().PacketBytes; n > most {
					t.Errorf("packets of %d bytes over a path that carries %d", n, most)
				}
				if note := down.Path().Note; (note != "") != (most < 1300) || note != "" && !strings.Contains(note, "path carries only packets of 1") {
					t.Errorf("note %q", note)
				}
			})
		}
	}
}

// TestPathTooSmall: where not even 1,200 bytes pass, the error says so and not only
// that nobody answers; a peer that is off is not accused of it.
func TestPathTooSmall(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		limit int
		small bool
	}{{1199, true}, {0, false}} {
		f := newFederation(t, "cq")
		parent := f.endpoint("500000")
		conn, err := transport.ListenUDP("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		child, err := transport.Open(transport.Config{Conn: conn, Credentials: f.credentials("500101", 1), Handshake: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = child.Close() })
		r := newNarrow(t, parent.Addr(), row.limit)
		_, err = child.Dial(soon(t), r.in.LocalAddr().String(), "500000")
		if err == nil || errors.Is(err, transport.ErrPath) != row.small {
			t.Errorf("limit %d: %v", row.limit, err)
		}
	}
}

// TestPathShrinks: a link over a path that shrinks in silence ends soon, in either
// direction, and says why; the next one carries what the old one could not. A path
// that shrinks again is not trusted any more.
func TestPathShrinks(t *testing.T) {
	t.Parallel()
	r, child, parent := throughNarrow(t, "127.0.0.1", 1472)
	for round, fromParent := range []bool{false, true, false} {
		r.limit.Store(1472)
		down, up := dialThrough(t, r, child, parent)
		from, to := down, up
		if fromParent {
			from, to = up, down
		}
		ctx, cancel := context.WithCancel(soon(t))
		defer cancel()
		var got atomic.Int64
		go flow(ctx, from) // ends with ctx or the link
		go take(ctx, to, &got)
		until(ctx, t, "the packets grow", func() bool { return from.Path().PacketBytes > 1400 })
		r.limit.Store(1252)
		watched(ctx, from)
		var closed *transport.ClosedError
		if !errors.As(from.Err(), &closed) || closed.Code != wire.CodeStalled || !strings.Contains(closed.Reason, "the path shrank") {
			t.Fatalf("round %d: %v", round, from.Err())
		}
		select {
		case <-to.Done():
		case <-ctx.Done():
			t.Fatal("the other end does not learn of it")
		}
	}
	r.limit.Store(1472)
	down, up := dialThrough(t, r, child, parent)
	ctx, cancel := context.WithCancel(soon(t))
	defer cancel()
	var got atomic.Int64
	go flow(ctx, down) // ends with ctx
	go take(ctx, up, &got)
	until(ctx, t, "1 MB", func() bool { return got.Load() > 1<<20 })
	if n := down.Path().PacketBytes; n != 1200 || down.Grown() || !strings.Contains(down.Path().Note, "path shrank at ") {
		t.Errorf("packets of %d bytes, may grow: %t, %q", n, down.Grown(), down.Path().Note)
	}
}

// watched looks after a link, as its driver does, until it ends.
func watched(ctx context.Context, l *transport.Link) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.Watch(true)
		case <-l.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// TestPathCut: a path that carries nothing for a while is not taken for a small one:
// the link lives on when it is back.
func TestPathCut(t *testing.T) {
	t.Parallel()
	r, child, parent := throughNarrow(t, "127.0.0.1", 1472)
	down, up := dialThrough(t, r, child, parent)
	ctx, cancel := context.WithCancel(soon(t))
	defer cancel()
	var got atomic.Int64
	go flow(ctx, down) // ends with ctx
	go take(ctx, up, &got)
	until(ctx, t, "the packets grow", func() bool { return down.Path().PacketBytes > 1400 })
	r.limit.Store(0)
	cut, end := context.WithTimeout(ctx, 5*time.Second)
	defer end()
	watched(cut, down)
	before := got.Load()
	r.limit.Store(1472)
	until(ctx, t, "it goes on", func() bool { return got.Load() > before+1<<20 })
	if err := down.Err(); err != nil {
		t.Errorf("the link ended: %v", err)
	}
}

// TestNodePathShrinks: the streams between the nodes of a site break when full packets
// do not pass any more, and new ones carry.
func TestNodePathShrinks(t *testing.T) {
	t.Parallel()
	one, two := siblings(t)
	r := newNarrow(t, two.Addr(), 1472)
	ln := two.Nodes().Listen(transport.KindRaft)
	ctx := soon(t)
	carry := func() (from net.Conn, got *atomic.Int64) {
		until(ctx, t, "a stream", func() bool { // the old connection may still be on its way down
			var err error
			from, err = one.Nodes().Dial(ctx, transport.KindRaft, 2, r.in.LocalAddr().String())
			return err == nil
		})
		to, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got = &atomic.Int64{}
		go func() { // ends with the stream
			b := make([]byte, 64<<10)
			for n, err := to.Read(b); err == nil; n, err = to.Read(b) {
				got.Add(int64(n))
			}
		}()
		return from, got
	}
	from, got := carry()
	for body := make([]byte, 64<<10); got.Load() < 4<<20; {
		if _, err := from.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	r.limit.Store(1252)
	var err error
	for body := make([]byte, 64<<10); err == nil; {
		_, err = from.Write(body)
	}
	if !strings.Contains(err.Error(), "the path shrank") {
		t.Errorf("the stream ends with %v", err)
	}
	from, got = carry()
	defer func() { _ = from.Close() }()
	for body := make([]byte, 64<<10); got.Load() < 1<<20; {
		if _, err := from.Write(body); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKnocks: what is no knock is not answered, an answer is no longer than the
// question, and a flood of questions gets few answers.
func TestKnocks(t *testing.T) {
	t.Parallel()
	f := newFederation(t, "cq")
	e := f.endpoint("500000")
	c, err := net.Dial("udp", e.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ask := append([]byte{0x01, 't', 'M', 'K', 1, 0, 0, 0}, "12345678"...)
	other := append([]byte{0x01, 't', 'M', 'X', 1, 0, 0, 0}, "12345678"...)
	got, n := make([]byte, 100), 0
	until(soon(t), t, "an answer", func() bool {
		for _, b := range [][]byte{other, ask[:15], append([]byte{0x01, 't', 'M', 'K', 2, 0, 0, 0}, "12345678"...), ask} {
			if _, err := c.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err = c.Read(got)
		return err == nil
	})
	if n != 16 || got[4] != 2 || string(got[8:16]) != "12345678" {
		t.Fatalf("%x", got[:n])
	}
	for range 4000 {
		if _, err := c.Write(ask); err != nil {
			t.Fatal(err)
		}
	}
	answers := 0
	for {
		if err := c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(got); err != nil {
			break
		}
		answers++
	}
	if answers == 0 || answers > 4*256 {
		t.Errorf("%d answers to 4000 questions", answers)
	}
}
