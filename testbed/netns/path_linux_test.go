package netns_test

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// TestMTU: what a line's MTU holds passes, what is a byte larger vanishes, and the
// sender, whose own interface takes it, hears nothing of it; also on a line with a
// delay. Other lines, and the other direction, are as before.
func TestMTU(t *testing.T) {
	w := newWire(t)
	passes := func(from, to string, packet int) bool {
		t.Helper()
		n := w.send(from, to, 3, packet-scenario.HeaderBytes)
		got := w.receivedMax(to, 3)
		if len(got) > 0 && got[0] != n {
			t.Errorf("from %s to %s came %v, want %d on", from, to, got, n)
		}
		return len(got) == 3
	}
	for _, l := range []scenario.Line{{MTU: 1280}, {MTU: 1280, Delay: time.Millisecond}, {MTU: 1400}, {MTU: 1227}} {
		w.set("a", "b", l)
		if !passes("a", "b", l.MTU) || passes("a", "b", l.MTU+1) || passes("a", "b", 1500) {
			t.Errorf("%s: packets of that size pass: %t; a byte more: %t; 1500: %t", l, passes("a", "b", l.MTU), passes("a", "b", l.MTU+1), passes("a", "b", 1500))
		}
		if !passes("b", "a", 1500) || !passes("a", "c", 1500) {
			t.Errorf("%s: it holds of other lines too", l)
		}
	}
	w.set("a", "b", scenario.Line{})
	if !passes("a", "b", 1500) {
		t.Error("a line that was mended does not carry 1500 bytes")
	}
}

// narrow sets a line's MTU in both directions.
func (w *world) narrow(a, b tiers.SiteID, mtu int) {
	w.t.Helper()
	for _, ends := range [][2]tiers.SiteID{{a, b}, {b, a}} {
		if err := w.Line(ends[0], ends[1], scenario.Line{MTU: mtu}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// restart kills a site and starts it, so that it links anew.
func (w *world) restart(id tiers.SiteID) {
	w.t.Helper()
	w.act(scenario.ActKill, id, 0)
	w.act(scenario.ActStart, id, 0)
}

// reportLong reports n events that fill packets: their texts do not compress.
func (w *world) reportLong(id tiers.SiteID, name string, n int) (acked []store.DocKey) {
	w.t.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range n {
		b := make([]byte, 1500)
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		r := request(fmt.Sprint(name, "-", i))
		r.Report.Text = hex.EncodeToString(b)
		w.until("a report to be acknowledged: "+r.Key, func() bool {
			done, err := w.site(id).Report(w.ctx, r)
			if err == nil {
				acked = append(acked, store.DocKey{Stream: tiers.StreamID{Site: id, Class: event.Class(r.Report.Priority)}, Doc: done.ID})
			}
			return err == nil
		})
	}
	return acked
}

// arrive waits until a site holds every event, and returns how many it holds.
func (w *world) arrive(at tiers.SiteID, acked []store.DocKey) (held int) {
	w.t.Helper()
	for held < len(acked) {
		w.until(fmt.Sprintf("event %d of %d at %s", held+1, len(acked), at), func() bool {
			_, err := w.site(at).View(w.ctx, "event", acked[held].Doc.Name())
			return err == nil
		})
		held++
	}
	return held
}

// TestPathSizes: over a hop that carries less than the ends' own interfaces, links
// come up, their packets grow to what passes and no further, and every event arrives.
func TestPathSizes(t *testing.T) {
	mtus := []int{1500, 1400, 1308, 1300, 1280, 1228}
	text, ids := "site 500000 city\n", []tiers.SiteID{}
	for i := range mtus {
		ids = append(ids, tiers.SiteID(fmt.Sprint(500101+i)))
		text += fmt.Sprintf("site %s district under 500000\n", ids[i])
	}
	w := open(t, text)
	for i, mtu := range mtus {
		w.narrow(ids[i], city, mtu)
		w.restart(ids[i])
	}
	for i, mtu := range mtus {
		began := time.Now()
		acked := w.reportLong(ids[i], "sizes", 20)
		held := w.arrive(city, acked)
		small, large := 1200, mtu-scenario.HeaderBytes
		for more := 0; large > small && w.link(ids[i], city).PacketBytes <= small; more++ {
			acked = append(acked, w.reportLong(ids[i], fmt.Sprint("more-", more), 20)...)
			held = w.arrive(city, acked)
		}
		l := w.link(ids[i], city)
		if l.State != "connected" || l.PacketBytes < small || l.PacketBytes > large || strings.Contains(l.Path, "shrank") {
			t.Errorf("MTU %d: the link is %s, with packets of %d bytes, %q; want connected, %d to %d", mtu, l.State, l.PacketBytes, l.Path, small, large)
		}
		t.Logf("MTU %d: %d events at the city after %.1f s, packets of %d bytes, %q", mtu, held, time.Since(began).Seconds(), l.PacketBytes, l.Path)
	}
}

// TestPathShrinks: a hop that shrinks in silence while much is owed: all of it
// arrives over smaller packets, and the status says what happened.
func TestPathShrinks(t *testing.T) {
	w := open(t, federation)
	acked := w.reportLong(district, "before", 20)
	for more := 0; w.link(district, city).PacketBytes <= 1300; more++ {
		acked = append(acked, w.reportLong(district, fmt.Sprint("grow-", more), 20)...)
		w.arrive(city, acked)
	}
	before := w.link(district, city)
	if before.Path != "" {
		t.Errorf("before: %q", before.Path)
	}
	began := time.Now()
	w.narrow(district, city, 1280)
	var owed []store.DocKey
	most := uint64(0)
	for i := range 6 {
		owed = append(owed, w.reportLong(district, fmt.Sprint("shrunk-", i), 10)...)
		most = max(most, w.link(district, city).OwedOut)
	}
	held := w.arrive(city, append(acked, owed...))
	took := time.Since(began)
	w.until("the district to owe nothing", func() bool { l := w.link(district, city); return l.Equal && l.OwedOut == 0 })
	l := w.link(district, city)
	t.Logf("packets of %d bytes, then an MTU of 1280: %d owed at the most seen, all %d events at the city after %.1f s, packets of %d bytes, %q",
		before.PacketBytes, most, held, took.Seconds(), l.PacketBytes, l.Path)
	if l.State != "connected" || l.PacketBytes > 1280-scenario.HeaderBytes || !strings.Contains(l.Path, "path shrank at ") {
		t.Errorf("the link is %s, with packets of %d bytes, %q", l.State, l.PacketBytes, l.Path)
	}
	w.same(append(acked, owed...), district, city)
}

// TestPathTooSmall: over a hop that carries no packet of QUIC's smallest size there is
// no link, the status says why, the site works on, and what it took arrives once the
// hop carries them.
func TestPathTooSmall(t *testing.T) {
	w := open(t, federation)
	w.narrow(district, city, 1227)
	w.restart(district)
	acked := w.reportLong(district, "alone", 10)
	w.until("the status to name the path", func() bool {
		return strings.Contains(w.link(district, city).LastError, "none of 1200 bytes, which links need (1228 with IPv4's headers")
	})
	l := w.link(district, city)
	if l.State == "connected" {
		t.Errorf("the link is %+v", l)
	}
	if v, err := w.site(city).View(w.ctx, "event", acked[0].Doc.Name()); err == nil {
		t.Errorf("the city has %s over a path too small", v)
	}
	began := time.Now()
	w.narrow(district, city, 1228)
	held := w.arrive(city, acked)
	t.Logf("MTU 1227: %s, %q; then 1228: all %d events at the city after %.1f s", l.State, l.LastError, held, time.Since(began).Seconds())
	w.same(acked, district, city)
}
