package netns_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/testbed/netns"
	"github.com/tiermesh/tiermesh/testbed/scenario"
)

// needs skips a test on a machine without what a world needs.
func needs(t *testing.T) {
	t.Helper()
	if err := netns.Check(); err != nil {
		t.Skip(err)
	}
}

// TestCheck hides one tool after the other: one line says which is missing.
func TestCheck(t *testing.T) {
	needs(t)
	var here []string
	for _, name := range []string{"ip", "tc", "nft"} {
		t.Setenv("PATH", tools(t, here...))
		err := netns.Check()
		if !errors.Is(err, netns.ErrMissing) || !strings.Contains(fmt.Sprint(err), "the command "+name+" is missing") || strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("without %s: %v", name, err)
		}
		here = append(here, name)
	}
	dir := tools(t, "ip", "tc")
	if err := os.WriteFile(filepath.Join(dir, "nft"), []byte("#!/bin/sh\necho no such thing >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/bin")
	if err := netns.Check(); !errors.Is(err, netns.ErrMissing) || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("with an nft that does not work: %v", err)
	}
	if err := netns.New(netns.Config{Dir: "/nowhere", Command: "/nowhere"}).Open(t.Context(), &scenario.Script{}, nil); !errors.Is(err, netns.ErrMissing) {
		t.Errorf("open: %v", err)
	}
}

// tools makes a directory of some of this machine's tools.
func tools(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		for _, place := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
			if _, err := os.Stat(filepath.Join(place, name)); err == nil {
				if err := os.Symlink(filepath.Join(place, name), filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
	}
	return dir
}

// wire is a network with a socket at each of three sites.
type wire struct {
	*netns.Net
	t    *testing.T
	at   map[string]*net.UDPConn
	sent int
}

func newWire(t *testing.T) *wire {
	t.Helper()
	needs(t)
	n, err := netns.OpenNet("/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Net: n, t: t, at: map[string]*net.UDPConn{}}
	t.Cleanup(func() {
		for _, c := range w.at {
			_ = c.Close()
		}
		if left, err := n.Close(); err != nil || len(left) > 0 {
			t.Errorf("close: %v, left %v", err, left)
		}
	})
	for _, id := range []string{"a", "b", "c"} {
		if w.at[id], err = n.Listen(tiersID(id)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *wire) set(from, to string, l scenario.Line) {
	w.t.Helper()
	if err := w.Set(tiersID(from), tiersID(to), l); err != nil {
		w.t.Fatal(err)
	}
}

// send sends datagrams and returns the number of the first.
func (w *wire) send(from, to string, n, size int) (first int) {
	w.t.Helper()
	first = w.sent
	for range n {
		b := make([]byte, size)
		copy(b, fmt.Sprintf("%08d", w.sent))
		w.sent++
		if _, err := w.at[from].WriteTo(b, w.at[to].LocalAddr()); err != nil {
			w.t.Fatalf("send from %s to %s: %v", from, to, err)
		}
	}
	return first
}

// quiet is for how long nothing must come for a line to be taken for empty.
const quiet = 200 * time.Millisecond

// received returns the numbers that come to a socket until it is quiet.
func (w *wire) received(at string) (got []int) { return w.receivedMax(at, 1<<30) }

// receivedMax is received that ends when that many came.
func (w *wire) receivedMax(at string, most int) (got []int) {
	w.t.Helper()
	b := make([]byte, 2000)
	for len(got) < most {
		if err := w.at[at].SetReadDeadline(time.Now().Add(quiet)); err != nil {
			w.t.Fatal(err)
		}
		if _, err := w.at[at].Read(b); err != nil {
			return got
		}
		var number int
		if _, err := fmt.Sscanf(string(b[:8]), "%d", &number); err != nil {
			w.t.Fatal(err)
		}
		got = append(got, number)
	}
	return got
}

// passes says whether datagrams get from one site to another.
func (w *wire) passes(from, to string) bool {
	w.t.Helper()
	first := w.send(from, to, 3, 100)
	got := w.receivedMax(to, 3)
	if len(got) > 0 && got[0] != first {
		w.t.Errorf("from %s to %s: %v, want from %d on", from, to, got, first)
	}
	return len(got) == 3
}

func TestCutsAndIsolation(t *testing.T) {
	w := newWire(t)
	matrix := func() (open []string) {
		for _, from := range []string{"a", "b", "c"} {
			for _, to := range []string{"a", "b", "c"} {
				if from != to && w.passes(from, to) {
					open = append(open, from+to)
				}
			}
		}
		return open
	}
	for _, row := range []struct {
		name string
		do   func() error
		want string
	}{
		{"nothing", func() error { return nil }, "[ab ac ba bc ca cb]"},
		{"cut one way", func() error { return w.Set("a", "b", scenario.Line{Cut: true}) }, "[ac ba bc ca cb]"},
		{"isolated", func() error { return w.Isolate("c", true) }, "[ba]"},
		{"cut mended under the isolation", func() error { return w.Set("a", "b", scenario.Line{}) }, "[ab ba]"},
		{"rejoined", func() error { return w.Isolate("c", false) }, "[ab ac ba bc ca cb]"},
	} {
		if err := row.do(); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(matrix()); got != row.want {
			t.Errorf("%s: open are %s, want %s", row.name, got, row.want)
		}
	}
}

func TestLoss(t *testing.T) {
	w := newWire(t)
	w.set("a", "b", scenario.Line{Loss: 0.3})
	came := 0
	for range 20 { // no more at once than a socket holds
		w.send("a", "b", 100, 20)
		came += len(w.received("b"))
	}
	// Further from 1,400 than twelve standard deviations.
	if came < 1150 || came > 1650 {
		t.Errorf("at a loss of 30 %%, %d of 2000 came", came)
	}
	w.send("b", "a", 200, 20)
	if got := len(w.received("a")); got != 200 {
		t.Errorf("the other way %d of 200 came", got)
	}
	w.set("a", "b", scenario.Line{Loss: 1})
	if w.passes("a", "b") {
		t.Error("something came at a loss of 100 %")
	}
}

// TestRateAndDelay does not measure time: a burst that is larger than what a slow
// line holds loses some, and a delayed datagram is overtaken by one that was sent
// later, on a line that was mended meanwhile.
func TestRateAndDelay(t *testing.T) {
	w := newWire(t)
	w.set("a", "b", scenario.Line{BitsPerSecond: 400_000})
	w.send("a", "b", 100, 1000)
	if got := len(w.received("b")); got < 10 || got > 60 {
		t.Errorf("of a burst of 100 kB into a line of 50 kB/s, %d of 100 came", got)
	}
	w.set("a", "b", scenario.Line{BitsPerSecond: 100_000_000, Delay: time.Second})
	early := w.send("a", "b", 1, 1000)
	w.set("a", "b", scenario.Line{})
	late := w.send("a", "b", 1, 1000)
	var got []int
	for len(got) < 2 {
		got = append(got, w.received("b")...)
	}
	if got[0] != late || got[1] != early {
		t.Errorf("came %v, want %d before %d", got, late, early)
	}
	w.set("a", "b", scenario.Line{Delay: time.Second})
	w.send("a", "b", 1, 1000)
	w.set("a", "b", scenario.Line{Cut: true})
	w.send("b", "a", 1, 1000)
	if got := len(w.received("a")); got != 1 {
		t.Errorf("the other way came %d of 1", got)
	}
	for range 5 {
		if got := w.received("b"); len(got) > 0 {
			t.Errorf("%v came, under way when the line was cut", got)
		}
	}
}

func TestSentBytes(t *testing.T) {
	w := newWire(t)
	w.set("a", "b", scenario.Line{Cut: true, Delay: time.Millisecond})
	w.send("a", "b", 10, 1000)
	w.send("b", "a", 5, 100)
	if len(w.received("a")) != 5 {
		t.Error("not all came")
	}
	if n, err := w.SentBytes(); n != 10_500 || err != nil {
		t.Errorf("sent %d bytes, %v; want 10500", n, err)
	}
}
