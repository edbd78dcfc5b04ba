package sim_test

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// recovery is how long a path that shrinks may hold up what is owed over it.
const recovery = 5 * time.Second

// narrow sets a line's MTU in both directions.
func (w *world) narrow(a, b tiers.SiteID, mtu int) {
	w.t.Helper()
	w.line(a, b, scenario.Line{MTU: mtu})
	w.line(b, a, scenario.Line{MTU: mtu})
}

// reportLong reports n events at the township that fill packets: their texts do not
// compress.
func (w *world) reportLong(n int) {
	w.t.Helper()
	s, err := w.Site(township)
	if err != nil {
		w.t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, uint64(w.n)))
	for range n {
		w.n++
		r, b := request(w.n), make([]byte, 1500)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		r.Report.Text = hex.EncodeToString(b)
		ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
		_, err := s.Report(ctx, r)
		cancel()
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// up returns the township's link to the district.
func (w *world) up() (link api.LinkStatus) {
	w.t.Helper()
	s, err := w.Site(township)
	if err != nil {
		w.t.Fatal(err)
	}
	st, err := s.Status(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range st.Links {
		if l.Peer == district {
			link = l
		}
	}
	return link
}

// TestPathShrinks: packets grow to what a path carries; one that shrinks in silence
// holds up what is owed for five seconds at most, and the status says what happened.
func TestPathShrinks(t *testing.T) {
	for _, mtu := range []int{1400, 1308, 1300, 1280, 1228} {
		in(t, nil, func(w *world) {
			w.wait("packets that have grown", func() bool {
				w.reportLong(5)
				return w.up().PacketBytes > 1400
			})
			w.everywhere(uint64(w.n))
			w.narrow(township, district, mtu)
			began := time.Now()
			w.reportLong(50)
			w.everywhere(uint64(w.n))
			took, l := time.Since(began), w.up()
			t.Logf("MTU %d: all %d events at the city after %v, packets of %d bytes, %q", mtu, w.n, took, l.PacketBytes, l.Path)
			if took > recovery || l.PacketBytes > mtu-scenario.HeaderBytes || !strings.Contains(l.Path, "path shrank at ") {
				t.Errorf("MTU %d: took %v, packets of %d bytes, %q", mtu, took, l.PacketBytes, l.Path)
			}
		})
	}
}
