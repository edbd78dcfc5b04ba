package relay_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tiermesh/tiermesh/testbed/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestLine: in virtual time, datagrams come out in order, after the delay, no
// faster than the rate, and what the queue cannot hold is dropped.
func TestLine(t *testing.T) {
	start := time.Unix(0, 0)
	for _, tt := range []struct {
		name  string
		shape relay.Shape
		sends []int    // milliseconds at which 1,000 bytes enter
		want  []string // milliseconds at which they come out
	}{
		{"no bound", relay.Shape{}, []int{0, 0, 5}, []string{"0", "0", "5"}},
		{"delay", relay.Shape{Delay: 30 * time.Millisecond}, []int{0, 1}, []string{"30", "31"}},
		{"rate", relay.Shape{BytesPerS: 100_000}, []int{0, 0, 0, 100}, []string{"10", "20", "30", "110"}},
		{"rate and delay", relay.Shape{BytesPerS: 100_000, Delay: time.Second}, []int{0, 0}, []string{"1010", "1020"}},
		{"full queue", relay.Shape{BytesPerS: 100_000, QueueBytes: 2000}, []int{0, 0, 0, 9, 10, 11}, []string{"10", "20", "-", "-", "30", "-"}},
		{"idle time is not saved", relay.Shape{BytesPerS: 100_000}, []int{1000, 1000}, []string{"1010", "1020"}},
		{"the least queue", relay.Shape{BytesPerS: 1000}, []int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []string{"1000", "2000", "3000", "4000", "5000", "6000", "7000", "8000", "9000", "10000", "11000", "12000", "-"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := relay.NewLine(tt.shape)
			for i, at := range tt.sends {
				got := "-"
				if out, ok := l.Enter(start.Add(time.Duration(at)*time.Millisecond), 1000); ok {
					got = fmt.Sprint(out.Sub(start).Milliseconds())
				}
				if got != tt.want[i] {
					t.Errorf("datagram %d comes out at %s, want %s", i, got, tt.want[i])
				}
			}
		})
	}
}

func TestShapeRefusals(t *testing.T) {
	for _, s := range []relay.Shape{{Delay: -1}, {Delay: time.Hour}, {BytesPerS: -1}, {BytesPerS: 3}, {QueueBytes: -1}, {QueueBytes: 10}} {
		if _, err := relay.Open(s); !errors.Is(err, relay.ErrShape) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// long is a long-header packet: kind 0 is Initial (with a token), 2 Handshake.
func long(kind byte, payload int) []byte {
	b := []byte{0xc0 | kind<<4, 0, 0, 0, 1, 4, 1, 2, 3, 4, 2, 5, 6}
	if kind == 0 {
		b = append(b, 3, 7, 7, 7)
	}
	return append(append(b, 0x40|byte(payload>>8), byte(payload)), make([]byte, payload)...)
}

func TestHandshakeBytes(t *testing.T) {
	short := append([]byte{0x41}, make([]byte, 99)...)
	initial, handshake := long(0, 500), long(2, 300)
	for _, tt := range []struct {
		name     string
		datagram []byte
		want     int
	}{
		{"nothing", nil, 0},
		{"short header", short, 0},
		{"initial", initial, len(initial)},
		{"initial and handshake", append(append([]byte(nil), initial...), handshake...), len(initial) + len(handshake)},
		{"handshake and data", append(append([]byte(nil), handshake...), short...), len(handshake)},
		{"version negotiation", []byte{0x80, 0, 0, 0, 0, 1, 2}, 7},
		{"retry", long(3, 20), len(long(3, 20))},
		{"cut short", initial[:100], 100},
		{"length past the end", append(append([]byte(nil), handshake[:13]...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), 21},
	} {
		if got := relay.HandshakeBytes(tt.datagram); got != tt.want {
			t.Errorf("%s: %d of %d bytes, want %d", tt.name, got, len(tt.datagram), tt.want)
		}
	}
}

func FuzzHandshakeBytes(f *testing.F) {
	f.Add(long(0, 50))
	f.Add(append(long(2, 9), 0x41, 1, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := relay.HandshakeBytes(b); n < 0 || n > len(b) {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
	})
}

func listen(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func addr(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// take returns the next datagram and who sent it, "" when none comes.
func take(t *testing.T, c *net.UDPConn, within time.Duration) (string, netip.AddrPort) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	n, from, err := c.ReadFromUDPAddrPort(buf)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return string(buf[:n]), from
}

const (
	soon  = 10 * time.Second
	never = 100 * time.Millisecond
)

// TestRelay: datagrams of several clients pass both ways and are counted; a cut
// drops them and does not count; a new target takes over.
func TestRelay(t *testing.T) {
	r, err := relay.Open(relay.Shape{Delay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	})
	target, second, a, b := listen(t), listen(t), listen(t), listen(t)
	send := func(c *net.UDPConn, text string, to netip.AddrPort) {
		t.Helper()
		if _, err := c.WriteToUDPAddrPort([]byte(text), to); err != nil {
			t.Fatal(err)
		}
	}
	r.SetTarget(addr(target))
	for _, c := range []*net.UDPConn{a, b} {
		text := "from " + addr(c).String()
		send(c, text, r.Addr())
		got, from := take(t, target, soon)
		if got != text {
			t.Fatalf("the target got %q, want %q", got, text)
		}
		send(target, "back", from)
		if got, _ := take(t, c, soon); got != "back" {
			t.Fatalf("the client got %q", got)
		}
	}
	n := uint64(len("from "+addr(a).String()) + len("from "+addr(b).String()))
	if c := r.Counts(); c.Up.Bytes != n || c.Down.Bytes != 8 || c.Total() != n+8 || c.Up.Datagrams != 2 || c.Down.Datagrams != 2 || c.Handshake() != 0 {
		t.Errorf("%+v", c)
	}
	before := r.Counts()
	r.Cut()
	send(a, "lost", r.Addr())
	if got, _ := take(t, target, never); got != "" {
		t.Errorf("%q passed a cut", got)
	}
	r.Heal()
	r.SetTarget(addr(second))
	send(a, "again", r.Addr())
	if got, _ := take(t, second, soon); got != "again" {
		t.Errorf("the new target got %q", got)
	}
	if d := r.Counts().Minus(before); d.Up.Bytes != 5 || d.Down.Bytes != 0 {
		t.Errorf("after the cut: %+v", d)
	}
}
