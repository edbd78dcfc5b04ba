package fault_test

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/testbed/fault"
)

func gate(t *testing.T) *fault.Gate {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return fault.NewGate(conn)
}

// TestGate: a cut at either end drops datagrams silently, both ways for that
// peer only, and a heal lets them through again.
func TestGate(t *testing.T) {
	a, b, c := gate(t), gate(t), gate(t)
	arrives := func(from, to *fault.Gate) bool {
		t.Helper()
		n, err := from.PacketConn().WriteTo([]byte("hello"), to.LocalAddr())
		if err != nil || n != 5 {
			t.Fatalf("a dropped datagram shows: %d, %v", n, err)
		}
		if err := to.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, _, err = to.PacketConn().ReadFrom(make([]byte, 16))
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		return err == nil
	}
	if !arrives(a, b) || !arrives(b, a) {
		t.Fatal("nothing passes an open gate")
	}
	a.Cut(b.Port())
	if arrives(a, b) || arrives(b, a) || !arrives(a, c) || !arrives(c, b) {
		t.Error("a cut is not between the two")
	}
	a.Heal(b.Port())
	if !arrives(a, b) || !arrives(b, a) {
		t.Error("a heal does not heal")
	}
	for most, want := range map[int]bool{4: false, 5: true, 0: true} {
		if err := a.Shape(b.Port(), fault.Out{PayloadMax: most}); err != nil {
			t.Fatal(err)
		}
		if got := arrives(a, b); got != want {
			t.Errorf("5 bytes over a path that carries %d: %v", most, got)
		}
	}
	if sent, received := a.Bytes(); sent != 25 || received != 10 {
		t.Errorf("%d bytes out, %d in", sent, received)
	}
}
