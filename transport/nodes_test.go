package transport_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/transport"
)

// siblings are two nodes of one site.
func siblings(t *testing.T) (one, two *transport.Endpoint) {
	t.Helper()
	f := newFederation(t, "cq")
	return f.open(f.credentials("500101", 1), "127.0.0.1:0"), f.open(f.credentials("500101", 2), "127.0.0.1:0")
}

// stream opens a stream from node 1 to node 2 and returns both ends. An end
// that is accepted has read the kind only.
func stream(t *testing.T, one, two *transport.Endpoint, kind transport.Kind) (from, to net.Conn) {
	t.Helper()
	ln := two.Nodes().Listen(kind)
	defer func() { _ = ln.Close() }()
	from, err := one.Nodes().Dial(limited(t), kind, 2, two.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	to, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{from, to} {
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return from, to
}

// TestNodeStreams: streams carry bytes both ways, by kind.
func TestNodeStreams(t *testing.T) {
	one, two := siblings(t)
	for _, kind := range []transport.Kind{transport.KindAPI, transport.KindRaft} {
		a, b := stream(t, one, two, kind)
		for _, c := range [][2]net.Conn{{a, b}, {b, a}} {
			if _, err := c[0].Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 5)
			if _, err := io.ReadFull(c[1], got); err != nil || string(got) != "hello" {
				t.Errorf("%q, %v", got, err)
			}
		}
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	}
}

// TestNodeStreamCloseCancelsBoth: a closed Raft stream ends the other end's
// reads and writes, also one that flow control holds up.
func TestNodeStreamCloseCancelsBoth(t *testing.T) {
	one, two := siblings(t)
	a, b := stream(t, one, two, transport.KindRaft)
	blocked := make(chan error, 1)
	go func() { // ends when the stream does
		_, err := b.Write(make([]byte, 64<<20))
		blocked <- err
	}()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-blocked; err == nil {
		t.Error("64 MiB were written to nobody")
	}
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Error("read from a closed stream")
	}
	_ = b.Close()
}

// TestNodeDialRefusals: only the node that is meant gets a stream, and only
// from its own site.
func TestNodeDialRefusals(t *testing.T) {
	f := newFederation(t, "cq")
	one, two := f.open(f.credentials("500101", 1), "127.0.0.1:0"), f.open(f.credentials("500101", 2), "127.0.0.1:0")
	foreign := f.endpoint("500102")
	if _, err := one.Nodes().Dial(limited(t), transport.KindRaft, 3, two.Addr().String()); !errors.Is(err, transport.ErrPeerNode) {
		t.Errorf("another node: %v", err)
	}
	if _, err := one.Nodes().Dial(limited(t), transport.KindRaft, 1, foreign.Addr().String()); !errors.Is(err, transport.ErrPeerSite) {
		t.Errorf("another site: %v", err)
	}
	twin := f.open(f.credentials("500101", 1), "127.0.0.1:0")
	if _, err := one.Nodes().Dial(limited(t), transport.KindRaft, 1, twin.Addr().String()); !errors.Is(err, transport.ErrPeerNode) {
		t.Errorf("the same number: %v", err)
	}
	if _, err := one.Nodes().Dial(limited(t), transport.KindRaft, 2, "nowhere"); err == nil {
		t.Error("a bad address: dialled")
	}
	// A link's listener never sees these.
	if _, err := foreign.Dial(limited(t), two.Addr().String(), "500101"); err != nil {
		t.Errorf("a link beside them: %v", err)
	}
}

// TestNodeRestarts: a node that was killed and came back on its address is
// reached again.
func TestNodeRestarts(t *testing.T) {
	f := newFederation(t, "cq")
	creds := f.credentials("500101", 2)
	one, two := f.open(f.credentials("500101", 1), "127.0.0.1:0"), f.open(creds, "127.0.0.1:0")
	stream(t, one, two, transport.KindRaft)
	addr := two.Addr().String()
	if err := two.Abandon(); err != nil {
		t.Fatal(err)
	}
	two = f.open(creds, addr)
	ln := two.Nodes().Listen(transport.KindRaft)
	defer func() { _ = ln.Close() }()
	reached := make(chan struct{})
	go func() { // ends with the first stream, or the endpoint
		if _, err := ln.Accept(); err == nil {
			close(reached)
		}
	}()
	// The old connection is gone when a packet on it is answered by a reset.
	for ctx := limited(t); ; {
		if _, err := one.Nodes().Dial(ctx, transport.KindRaft, 2, addr); err != nil && ctx.Err() != nil {
			t.Fatal(err)
		}
		select {
		case <-reached:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}
