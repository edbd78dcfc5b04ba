package sim_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/testbed/sim"
	"github.com/tiermesh/tiermesh/tiers"
)

// TestLine: a line delays, keeps order, sends no faster than its rate, drops what
// its queue cannot hold, and loses about its share.
func TestLine(t *testing.T) {
	for _, tt := range []struct {
		name     string
		line     scenario.Line
		n        int           // datagrams of 1,250 bytes at once
		min, max int           // of them that arrive
		after    time.Duration // when the first arrives
		within   time.Duration // when the last does at the latest
	}{
		{"as it is", scenario.Line{}, 100, 100, 100, time.Millisecond, time.Millisecond},
		{"delay", scenario.Line{Delay: 300 * time.Millisecond}, 100, 100, 100, 300 * time.Millisecond, 300 * time.Millisecond},
		{"rate", scenario.Line{BitsPerSecond: 1e6}, 20, 20, 20, 11 * time.Millisecond, 201 * time.Millisecond},
		{"queue", scenario.Line{BitsPerSecond: 1e6}, 1000, 20, 22, 11 * time.Millisecond, 221 * time.Millisecond},
		{"loss", scenario.Line{Loss: 0.3}, 1000, 620, 780, time.Millisecond, time.Millisecond},
		{"fits", scenario.Line{MTU: 1278}, 10, 10, 10, time.Millisecond, time.Millisecond},
		{"too large", scenario.Line{MTU: 1277}, 10, 0, 0, 0, 0},
		{"cut", scenario.Line{Cut: true}, 10, 0, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sim.Bubble(t, func(t *testing.T) {
				got := crossing(t, tt.line, tt.n)
				if len(got) < tt.min || len(got) > tt.max {
					t.Fatalf("%d of %d arrived, want %d to %d", len(got), tt.n, tt.min, tt.max)
				}
				if len(got) == 0 {
					return
				}
				if got[0].after != tt.after || got[len(got)-1].after > tt.within {
					t.Errorf("arrived after %v to %v, want %v to %v", got[0].after, got[len(got)-1].after, tt.after, tt.within)
				}
				for i := 1; i < len(got); i++ {
					if got[i].number <= got[i-1].number {
						t.Fatalf("datagram %d came after %d", got[i].number, got[i-1].number)
					}
				}
			})
		})
	}
}

// arrival is a datagram that came across.
type arrival struct {
	number int
	after  time.Duration
}

// crossing sends n datagrams over a line at once and returns those that arrive.
func crossing(t *testing.T, line scenario.Line, n int) (got []arrival) {
	t.Helper()
	net := sim.NewNetwork(1, scenario.Line{})
	from, to := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.1.1:1")
	a, b := net.Open("a", from), net.Open("b", to)
	net.SetLine("a", "b", line)
	began := time.Now()
	done := make(chan struct{})
	go func() { // ends when b is closed
		defer close(done)
		buf := make([]byte, 2000)
		for {
			if _, _, err := b.ReadFrom(buf); err != nil {
				return
			}
			got = append(got, arrival{int(buf[0])<<8 | int(buf[1]), time.Since(began)})
		}
	}()
	for i := range n {
		datagram := make([]byte, 1250)
		datagram[0], datagram[1] = byte(i>>8), byte(i)
		if _, err := a.WriteTo(datagram, b.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	if sent := net.Bytes(); sent != uint64(1250*n) {
		t.Errorf("%d bytes sent, want %d", sent, 1250*n)
	}
	pass(10 * time.Second)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	return got
}

// TestSlowLine: a backlog crosses a slow line no faster than that, and whole.
func TestSlowLine(t *testing.T) {
	in(t, nil, func(w *world) {
		w.report(township, 1)
		w.everywhere(1)
		w.line(district, city, cut)
		w.line(city, district, cut)
		before := w.Usage().WireBytes
		w.report(township, 300)
		w.wait("records at the district", func() bool { return w.held(district) == 301 })
		slow := scenario.Line{BitsPerSecond: 20_000, Delay: 300 * time.Millisecond, Loss: 0.01}
		w.line(district, city, slow)
		w.line(city, district, slow)
		began := time.Now()
		w.everywhere(301)
		if took := time.Since(began); took < 3*time.Second {
			t.Errorf("took %v over 20 kbit/s; %d bytes were sent since the cut", took, w.Usage().WireBytes-before)
		}
	})
}

// TestIsolate: an isolated site is cut from every other, and its lines are as they
// were when it is not any more.
func TestIsolate(t *testing.T) {
	in(t, map[tiers.SiteID]int{district: 3}, func(w *world) {
		w.report(township, 1)
		w.everywhere(1)
		w.line(district, city, cut)
		if err := w.Isolate(district, true); err != nil {
			t.Fatal(err)
		}
		pass(20 * time.Second)
		w.report(township, 1)
		w.report(district, 1) // it is one site still
		if w.held(district) != 1 {
			t.Error("an isolated site hears")
		}
		if err := w.Isolate(district, false); err != nil {
			t.Fatal(err)
		}
		w.wait("records at the district", func() bool { return w.held(district) == 2 })
		w.line(district, city, scenario.Line{})
		w.everywhere(2)
	})
}
