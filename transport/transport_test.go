package transport_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/quic-go/quic-go"
	"go.uber.org/goleak"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/identity"
	"github.com/tiermesh/tiermesh/transport/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type federation struct {
	t  *testing.T
	ca *identity.CA
}

func newFederation(t *testing.T, name string) federation {
	t.Helper()
	dir := t.TempDir()
	if err := identity.InitCA(dir, name, time.Now()); err != nil {
		t.Fatal(err)
	}
	ca, err := identity.OpenCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	return federation{t, ca}
}

func (f federation) credentials(site tiers.SiteID, node uint32) *identity.Credentials {
	f.t.Helper()
	dir := f.t.TempDir()
	if err := f.ca.Issue(identity.IssueConfig{ID: identity.ID{Federation: f.ca.Federation, Site: site, Node: node}, OutDir: dir, Now: time.Now()}); err != nil {
		f.t.Fatal(err)
	}
	c, err := identity.Load(dir)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func (f federation) endpoint(site tiers.SiteID) *transport.Endpoint {
	f.t.Helper()
	return f.open(f.credentials(site, 1), "127.0.0.1:0")
}

func (f federation) open(c *identity.Credentials, addr string) *transport.Endpoint {
	f.t.Helper()
	conn, err := transport.ListenUDP(addr)
	if err != nil {
		f.t.Fatal(err)
	}
	e, err := transport.Open(transport.Config{Conn: conn, Credentials: c})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = e.Close() })
	return e
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// pair links a child to its parent.
func pair(t *testing.T) (child, parent *transport.Link) {
	t.Helper()
	f := newFederation(t, "cq")
	up, down := f.endpoint("500000"), f.endpoint("500101")
	accepted := make(chan *transport.Link, 1)
	go func() { // ends with the accept
		l, err := up.Accept(limited(t))
		if err != nil {
			t.Error(err)
		}
		accepted <- l
	}()
	child, err := down.Dial(limited(t), up.Addr().String(), "500000")
	if err != nil {
		t.Fatal(err)
	}
	// The parent sees the link when the child first says something.
	if _, err := child.Send(limited(t), 0, &wire.Proof{}); err != nil {
		t.Fatal(err)
	}
	parent = <-accepted
	if _, _, err := parent.Recv(limited(t)); err != nil {
		t.Fatal(err)
	}
	return child, parent
}

func TestIdentitiesAndCounts(t *testing.T) {
	child, parent := pair(t)
	if child.Peer().Site != "500000" || parent.Peer().Site != "500101" {
		t.Errorf("peers %s and %s", child.Peer(), parent.Peer())
	}
	const n = 200
	for i := range n {
		if _, err := parent.Send(limited(t), tiers.Lane(i%tiers.LaneCount), &wire.Proof{Streams: uint64(i)}); err != nil {
			t.Fatal(err)
		}
		if i%3 != 0 {
			continue
		}
		if _, _, err := child.Recv(limited(t)); err != nil {
			t.Fatal(err)
		}
	}
	if s := child.Stats(); s.SentBytes == 0 || s.ReceivedBytes == 0 || child.RTT() <= 0 {
		t.Errorf("%+v, round trip %s", s, child.RTT())
	}
}

// TestLaneOrder: messages of one lane arrive in order, whatever the others do.
func TestLaneOrder(t *testing.T) {
	child, parent := pair(t)
	const n = 100
	for lane := range tiers.Lane(tiers.LaneCount) {
		go func() { // ends when all is sent
			for i := range n {
				if _, err := child.Send(limited(t), lane, &wire.Bye{Code: wire.Code(lane), Reason: fmt.Sprint(i)}); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	next := [tiers.LaneCount]int{}
	for range n * tiers.LaneCount {
		m, _, err := parent.Recv(limited(t))
		if err != nil {
			t.Fatal(err)
		}
		b := m.(*wire.Bye)
		if b.Reason != fmt.Sprint(next[b.Code]) {
			t.Fatalf("lane %d: %s after %d", b.Code, b.Reason, next[b.Code]-1)
		}
		next[b.Code]++
	}
}

// meet takes the first message over lane 0, before which nothing else is.
func meet(t *testing.T, from, to *transport.Link) {
	t.Helper()
	if _, err := from.Send(limited(t), 0, &wire.Proof{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := to.Recv(limited(t)); err != nil {
		t.Fatal(err)
	}
}

// TestHelloFirst: what overtakes the first message of lane 0 waits for it, or a
// batch could come before the hello that says whose it is.
func TestHelloFirst(t *testing.T) {
	f := newFederation(t, "cq")
	child, parent := link(t, f.endpoint("500101"), f.endpoint("500000"))
	if _, err := child.Send(limited(t), 3, &wire.Proof{Streams: 3}); err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if m, _, err := parent.Recv(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%+v, %v came before the hello", m, err)
	}
	if _, err := child.Send(limited(t), 0, &wire.Hello{Site: "500101", VersionMin: 1, VersionMax: 1}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []wire.Type{wire.TypeHello, wire.TypeProof} {
		if m, _, err := parent.Recv(limited(t)); err != nil || m.Type() != want {
			t.Errorf("message %d: %+v, %v", i, m, err)
		}
	}
}

// TestUrgentOvertakes: a bulk lane that nobody reads is held back by flow
// control; an urgent message passes it.
func TestUrgentOvertakes(t *testing.T) {
	child, parent := pair(t)
	ctx, stop := context.WithCancel(limited(t))
	done := make(chan int, 1)
	go func() { // ends with the link
		sent := 0
		for ; sent < 1000; sent++ {
			big := &wire.Unknown{FrameType: 200, Payload: noise(sent, 256<<10)}
			if _, err := child.Send(ctx, 5, big); err != nil {
				break
			}
		}
		done <- sent
	}()
	if _, _, err := parent.Recv(limited(t)); err != nil { // bulk flows
		t.Fatal(err)
	}
	if _, err := child.Send(limited(t), 0, &wire.Proof{Streams: 7}); err != nil {
		t.Fatal(err)
	}
	before := 0
	for {
		m, _, err := parent.Recv(limited(t))
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := m.(*wire.Proof); ok && p.Streams == 7 {
			break
		}
		before++
	}
	if before > 64 {
		t.Errorf("%d bulk messages came first", before)
	}
	stop()
	if sent := <-done; sent == 1000 {
		t.Error("250 MB were sent to a peer that read a few")
	}
}

// noise does not compress.
func noise(seed, n int) []byte {
	b := make([]byte, n)
	x := uint64(seed)*2862933555777941757 + 3037000493
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

func TestCloseSaysWhy(t *testing.T) {
	child, parent := pair(t)
	if err := parent.Close(wire.CodeAudience, "not for "+strings.Repeat("you ", 300)); err != nil {
		t.Fatal(err)
	}
	_, _, err := child.Recv(limited(t))
	var closed *transport.ClosedError
	if !errors.As(err, &closed) || !closed.Remote || closed.Code != wire.CodeAudience || !strings.HasPrefix(closed.Reason, "not for you") {
		t.Fatalf("child: %v", err)
	}
	if !errors.Is(err, transport.ErrClosed) || !strings.Contains(err.Error(), "the peer: audience") {
		t.Errorf("child: %v", err)
	}
	_, err = parent.Send(limited(t), 0, &wire.Proof{})
	if !errors.As(err, &closed) || closed.Remote || closed.Code != wire.CodeAudience {
		t.Errorf("parent: %v", err)
	}
	if err := parent.Close(wire.CodeOK, "again"); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// TestFarewell: a goodbye that says more than a code is read before the link
// closes, and a peer that does not close is not waited for.
func TestFarewell(t *testing.T) {
	child, parent := pair(t)
	bye := &wire.Bye{Code: wire.CodeBusy, Reason: "later", RetryAfterMS: 1500, Redirect: &wire.Redirect{Parent: "500102", Addrs: []string{"h:1"}}}
	done := make(chan error, 1)
	go func() { done <- parent.Farewell(limited(t), bye) }() // ends within its time limit
	m, _, err := child.Recv(limited(t))
	got, ok := m.(*wire.Bye)
	if err != nil || !ok || got.RetryAfterMS != 1500 || got.Redirect == nil || got.Redirect.Parent != "500102" {
		t.Fatalf("%+v, %v", m, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	var closed *transport.ClosedError
	if _, _, err := child.Recv(limited(t)); !errors.As(err, &closed) || closed.Code != wire.CodeBusy {
		t.Errorf("after the goodbye: %v", err)
	}
	if err := parent.Farewell(limited(t), bye); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("a second one: %v", err)
	}
}

func TestDialRefusals(t *testing.T) {
	f := newFederation(t, "cq")
	up, down := f.endpoint("500000"), f.endpoint("500101")
	go func() { // ends with the endpoint
		for {
			l, err := up.Accept(context.Background())
			if errors.Is(err, transport.ErrClosed) {
				return
			}
			if err == nil {
				_ = l.Close(wire.CodeOK, "")
			}
		}
	}()
	if _, err := down.Dial(limited(t), up.Addr().String(), "500102"); !errors.Is(err, transport.ErrPeerSite) || !strings.Contains(err.Error(), "500102") {
		t.Errorf("another site answers: %v", err)
	}
	if _, err := newFederation(t, "other").endpoint("500101").Dial(limited(t), up.Addr().String(), "500000"); !errors.Is(err, identity.ErrFederation) {
		t.Errorf("another federation: %v", err)
	}
	if _, err := newFederation(t, "cq").endpoint("500101").Dial(limited(t), up.Addr().String(), "500000"); !errors.Is(err, identity.ErrUntrusted) {
		t.Errorf("another authority: %v", err)
	}
	if _, err := down.Dial(limited(t), "nowhere", "500000"); err == nil {
		t.Error("an address without a port passes")
	}
	if err := up.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := up.Accept(limited(t)); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}

func TestListenRefusals(t *testing.T) {
	conn, err := transport.ListenUDP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	addr := conn.LocalAddr().String()
	if _, err := transport.ListenUDP(addr); !errors.Is(err, transport.ErrBusyPort) || !strings.Contains(err.Error(), addr) {
		t.Errorf("port in use: %v", err)
	}
	if _, err := transport.ListenUDP("127.0.0.1:http:1"); !errors.Is(err, transport.ErrConfig) {
		t.Errorf("no address: %v", err)
	}
	for name, cfg := range map[string]transport.Config{
		"no socket":         {Credentials: &identity.Credentials{}},
		"no credentials":    {Conn: conn},
		"negative time-out": {Conn: conn, Credentials: &identity.Credentials{}, Idle: -1},
	} {
		if _, err := transport.Open(cfg); !errors.Is(err, transport.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestGarbageClosesLink: a peer with a valid certificate that does not keep to
// the protocol loses the link, is told why, and harms nobody else.
func TestGarbageClosesLink(t *testing.T) {
	frame, err := wire.Append(nil, &wire.Proof{})
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		streams [][]byte
		want    string
	}{
		"unknown lane":      {[][]byte{{9}}, "lane 9"},
		"lane opened twice": {[][]byte{append([]byte{1}, frame...), append([]byte{1}, frame...)}, "lane 1"},
		"random bytes":      {[][]byte{append([]byte{0}, noise(1, 4096)...)}, "wire"},
		"huge frame":        {[][]byte{{0, 0xff, 0xff, 0xff, 0xff}}, "too large"},
		"no CBOR":           {[][]byte{{0, 0, 0, 0, 3, 4, 0, 0xff}}, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFederation(t, "cq")
			up := f.endpoint("500000")
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			raw := &quic.Transport{Conn: conn}
			defer func() { _ = raw.Close() }()
			peer, err := raw.Dial(limited(t), up.Addr(), f.credentials("500101", 1).TLS("tiermesh/1"), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range row.streams {
				s, err := peer.OpenUniStream()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Write(b); err != nil {
					t.Fatal(err)
				}
			}
			l, err := up.Accept(limited(t))
			if err != nil {
				t.Fatal(err)
			}
			for err == nil {
				_, _, err = l.Recv(limited(t))
			}
			var closed *transport.ClosedError
			if !errors.As(err, &closed) || closed.Remote || closed.Code != wire.CodeProtocol || !strings.Contains(closed.Reason, row.want) {
				t.Errorf("%v, want a protocol error with %q", err, row.want)
			}
			select {
			case <-peer.Context().Done():
			case <-limited(t).Done():
				t.Fatal("the peer is not told")
			}
			var app *quic.ApplicationError
			if !errors.As(context.Cause(peer.Context()), &app) || wire.Code(app.ErrorCode) != wire.CodeProtocol {
				t.Errorf("the peer hears %v", context.Cause(peer.Context()))
			}
		})
	}
}

// TestAbandonTellsNobody: an endpoint that ends as a killed process does sends
// no goodbye.
func TestAbandonTellsNobody(t *testing.T) {
	f := newFederation(t, "cq")
	up, down := f.endpoint("500000"), f.endpoint("500101")
	go func() { _, _ = up.Accept(limited(t)) }() // ends with the link
	l, err := down.Dial(limited(t), up.Addr().String(), "500000")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Send(limited(t), 0, &wire.Proof{}); err != nil {
		t.Fatal(err)
	}
	if err := up.Abandon(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(limited(t), 300*time.Millisecond)
	defer cancel()
	if _, _, err := l.Recv(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the peer of an abandoned endpoint heard %v", err)
	}
}

// TestErr: what ended a link can be asked afterwards, at both ends, whatever the
// one that asks was waiting for.
func TestErr(t *testing.T) {
	child, parent := pair(t)
	meet(t, child, parent)
	if err := errors.Join(child.Err(), parent.Err()); err != nil {
		t.Fatalf("of links that are up: %v", err)
	}
	if err := parent.Close(wire.CodeProtocol, "a frame that is none"); err != nil {
		t.Fatal(err)
	}
	<-child.Done()
	for name, row := range map[string]struct {
		link   *transport.Link
		remote bool
	}{"who closed it": {parent, false}, "the other end": {child, true}} {
		var why *transport.ClosedError
		if !errors.As(row.link.Err(), &why) || why.Code != wire.CodeProtocol || why.Remote != row.remote {
			t.Errorf("%s: %v", name, row.link.Err())
		}
	}
}

// TestReasonEndsAtACharacter: a reason that is too long for a packet is cut where a
// character begins.
func TestReasonEndsAtACharacter(t *testing.T) {
	for _, lead := range []string{"", "a", "ab"} {
		for _, c := range []string{"渝", "é", "😀", "x"} {
			in := lead + strings.Repeat(c, 700)
			out := transport.Clip(in)
			if !utf8.ValidString(out) || len(out) > 512 || len(out) < 509 || !strings.HasPrefix(in, out) {
				t.Errorf("%q…: %d bytes", lead+c, len(out))
			}
		}
	}
	if s := "拓扑已过期"; transport.Clip(s) != s {
		t.Error(transport.Clip(s))
	}
	if got := transport.Clip(strings.Repeat("\x80", 600)); len(got) > 512 || len(got) < 508 {
		t.Error("bytes that are no text:", len(got))
	}
}
