package transport_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// impatient is an endpoint that gives up on what does not come in for a while.
func (f federation) impatient(site tiers.SiteID, idle time.Duration) *transport.Endpoint {
	f.t.Helper()
	conn, err := transport.ListenUDP("127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	e, err := transport.Open(transport.Config{Conn: conn, Credentials: f.credentials(site, 1), Idle: idle})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = e.Close() })
	return e
}

// link dials up and returns both ends.
func link(t *testing.T, down, up *transport.Endpoint) (child, parent *transport.Link) {
	t.Helper()
	child, err := down.Dial(limited(t), up.Addr().String(), "500000")
	if err != nil {
		t.Fatal(err)
	}
	if parent, err = up.Accept(limited(t)); err != nil {
		t.Fatal(err)
	}
	return child, parent
}

// TestBrokenLanes: a lane that ends, or a frame that does not come in, ends the link
// with a reason that the peer hears.
func TestBrokenLanes(t *testing.T) {
	started := append(binary.BigEndian.AppendUint32([]byte{3}, wire.FrameBytesMax), 1)
	for name, row := range map[string]struct {
		attack func(transport.Raw) error
		code   wire.Code
		want   string
	}{
		"ended in a frame":      {func(r transport.Raw) error { _, err := r.Write(started); return errors.Join(err, r.Close()) }, wire.CodeProtocol, "lane ended"},
		"ended between frames":  {func(r transport.Raw) error { _, err := r.Write([]byte{3}); return errors.Join(err, r.Close()) }, wire.CodeProtocol, "lane ended"},
		"reset":                 {func(r transport.Raw) error { _, err := r.Write(started); r.Reset(); return err }, wire.CodeProtocol, "lane ended"},
		"4 MiB announced, five": {func(r transport.Raw) error { _, err := r.Write(started); return err }, wire.CodeStalled, "does not come in"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFederation(t, "cq")
			child, parent := link(t, f.endpoint("500101"), f.impatient("500000", 1500*time.Millisecond))
			raw, err := child.OpenRaw(limited(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := row.attack(raw); err != nil {
				t.Fatal(err)
			}
			_, _, err = parent.Recv(limited(t))
			var closed *transport.ClosedError
			if !errors.As(err, &closed) || closed.Code != row.code || !strings.Contains(closed.Reason, row.want) {
				t.Errorf("%v, want %s with %q", err, row.code, row.want)
			}
			if _, _, err = child.Recv(limited(t)); !errors.As(err, &closed) || !closed.Remote || closed.Code != row.code {
				t.Errorf("the peer hears %v", err)
			}
		})
	}
}

// TestFrameWaitsForReceiver: a frame that does not come in because this end does not
// read is not held against the peer.
func TestFrameWaitsForReceiver(t *testing.T) {
	f := newFederation(t, "cq")
	const idle = 6 * time.Second // a busy machine may stand still for one or two
	child, parent := link(t, f.endpoint("500101"), f.impatient("500000", idle))
	meet(t, child, parent)
	const n = 40 // of 1 MiB: more than the windows and buffers hold
	sent := make(chan error, 1)
	go func() { // ends when all is sent, or with the link
		for range n {
			if _, err := child.Send(limited(t), 4, &wire.Unknown{FrameType: 200, Payload: noise(1, 1<<20)}); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	select {
	case err := <-sent:
		t.Fatalf("nothing held the peer back: %v", err)
	case <-parent.Done():
		t.Fatal("the link ended")
	case <-time.After(2 * idle): // what must not happen takes half of that
	}
	for i := range n {
		if _, _, err := parent.Recv(limited(t)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// TestHandshakeFlood: handshakes that do not go on take up a bounded number of
// places for one address, and keep nobody at another address out.
func TestHandshakeFlood(t *testing.T) {
	h := transport.NewHandshakes()
	ctx, cut := context.WithCancel(context.Background())
	flood := func(host string) (began int) {
		for range 1000 {
			if _, err := h.Begin(ctx, host); err == nil {
				began++
			}
		}
		return began
	}
	if h.Suspicious() {
		t.Error("an address is to be proven at rest")
	}
	if n := flood("10.0.0.1"); n != 128 || !h.Suspicious() {
		t.Errorf("%d of one address under way, suspicious %v", n, h.Suspicious())
	}
	done, err := h.Begin(context.Background(), "10.0.0.2")
	if err != nil {
		t.Fatalf("another address: %v", err)
	}
	done()
	for _, host := range []string{"10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"} {
		flood(host)
	}
	if s, n := h.Stats(); n != 512 || s.Failed != 0 || s.Refused != 5000-512 {
		t.Errorf("%d under way, %+v", n, s)
	}
	cut()
	for s, n := h.Stats(); n > 0 || s.Failed != 512; s, n = h.Stats() {
		select {
		case <-limited(t).Done():
			t.Fatalf("%d under way, %+v", n, s)
		case <-time.After(time.Millisecond):
		}
	}
}

// TestHandshakeWithoutCertificate: it leads to no link, is counted, and takes up no
// place afterwards.
func TestHandshakeWithoutCertificate(t *testing.T) {
	f := newFederation(t, "cq")
	up := f.endpoint("500000")
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	raw := &quic.Transport{Conn: conn}
	bare := f.credentials("500101", 1).TLS("tiermesh/1")
	bare.Certificates = nil
	if c, err := raw.Dial(limited(t), up.Addr(), bare, nil); err == nil {
		<-c.Context().Done() // a client is done before the server has judged it
	}
	for up.Handshakes().Failed == 0 {
		select {
		case <-limited(t).Done():
			t.Fatal("it is not counted")
		case <-time.After(time.Millisecond):
		}
	}
	if _, err := f.endpoint("500102").Dial(limited(t), up.Addr().String(), "500000"); err != nil {
		t.Errorf("an honest peer: %v", err)
	}
	if err := errors.Join(raw.Close(), conn.Close()); err != nil {
		t.Error(err)
	}
}
