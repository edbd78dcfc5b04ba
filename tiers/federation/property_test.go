package federation_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
)

// tree is a city, two districts and three townships.
const tree = `
c
d1 c
d2 c
t1 x d1
t2 x d1
t3 x d2
`

// links are the tree's links, and the stand-ins of townships for a silent
// district.
var links = [][2]tiers.SiteID{{"d1", "c"}, {"d2", "c"}, {"t1", "d1"}, {"t2", "d1"}, {"t3", "d2"}, {"t1", "c"}, {"t3", "c"}}

// TestConvergence: whatever is written while links come, go, stall half-way and
// lose what is under way, in the end every site holds exactly the records of
// its audience, each once and in order, and both ends of each link prove it.
func TestConvergence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := newWorld(tree)
		if err != nil {
			t.Fatal(err)
		}
		w.cfg = federation.Config{
			BatchBytes: rapid.SampledFrom([]int{1, 60, 1 << 18}).Draw(t, "batch"), FlightsMax: rapid.IntRange(1, 4).Draw(t, "flights"),
			WindowBytes: rapid.SampledFrom([]int{1, 100, 1 << 19}).Draw(t, "window"),
			HelloHeads:  rapid.SampledFrom([]int{-1, 3, 64}).Draw(t, "hello"),
		}
		written := map[crdt.ChainID][]string{} // the oracle
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			step(t, w, written, i)
			checkAudience(t, w)
			if len(w.closed) > 0 {
				t.Fatalf("honest sites closed a link: %q", w.closed)
			}
		}
		for _, l := range w.sortedLinks() {
			w.cut(l)
		}
		for _, ends := range links[:5] {
			w.connect(ends[0], ends[1])
		}
		checkConverged(t, w, written)
		for _, s := range w.topology.Sites() { // and what is written from then on flows
			c := crdt.ChainID{Stream: tiers.StreamID{Site: s.ID, Class: tiers.ClassCatalog}, Author: crdt.Author{Site: s.ID, Incarnation: 1}}
			written[c] = append(written[c], "live")
			w.write(s.ID, c.Stream, "live")
		}
		for _, l := range w.links {
			for i := range l.s {
				if l.s[i].Status().Equal {
					t.Fatalf("link of %v, end %d: equal although both ends wrote", l.ends, i)
				}
			}
		}
		checkConverged(t, w, written)
	})
}

// checkConverged lets everything flow and holds every site against the oracle.
func checkConverged(t *rapid.T, w *world, written map[crdt.ChainID][]string) {
	w.run()
	w.tick(3)
	if len(w.links) != 5 {
		t.Fatalf("%d of 5 links are left: %q", len(w.links), w.closed)
	}
	for _, l := range w.links {
		for i := range l.s {
			if st := l.s[i].Status(); !st.Equal || st.OwedOut != 0 || st.OwedIn != 0 || st.Digest != st.PeerDigest {
				t.Fatalf("link of %v, end %d: %+v", l.ends, i, st)
			}
			if !l.s[i].Quiet() {
				t.Fatalf("link of %v, end %d is not quiet", l.ends, i)
			}
		}
	}
	checkHolds(t, w, written)
}

// step does one random thing to the world.
func step(t *rapid.T, w *world, written map[crdt.ChainID][]string, i int) {
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0, 1, 2:
		var streams []crdt.ChainID
		for _, owner := range w.topology.Sites() {
			for _, class := range tiers.Classes() {
				for _, s := range w.topology.Sites() {
					if stream := (tiers.StreamID{Site: owner.ID, Class: class}); w.topology.MayWrite(stream, s.ID) {
						streams = append(streams, crdt.ChainID{Stream: stream, Author: crdt.Author{Site: s.ID, Incarnation: 1}})
					}
				}
			}
		}
		c := rapid.SampledFrom(streams).Draw(t, "chain")
		body := fmt.Sprintf("%d", i)
		written[c] = append(written[c], body)
		w.write(c.Author.Site, c.Stream, body)
	case 3, 4:
		ends := rapid.SampledFrom(links).Draw(t, "connect")
		if l := w.links[ends]; l != nil {
			w.cut(l) // a new link replaces the old one
		}
		w.connect(ends[0], ends[1]).slow = rapid.Bool().Draw(t, "slow disk")
	case 5:
		if l := w.links[rapid.SampledFrom(links).Draw(t, "cut")]; l != nil {
			w.cut(l)
		}
	case 6:
		w.tick(1)
	case 7:
		for _, l := range w.sortedLinks() {
			for i := range l.ends {
				w.store(l, i)
			}
			w.drain(l)
		}
	default:
		if l := w.links[rapid.SampledFrom(links).Draw(t, "deliver")]; l != nil {
			for range rapid.IntRange(1, 5).Draw(t, "messages") {
				if w.links[l.ends] == l {
					w.deliver(l, rapid.IntRange(0, 1).Draw(t, "end"))
				}
			}
		}
	}
}

func checkAudience(t *rapid.T, w *world) {
	for id, s := range w.sites {
		for c := range s.records {
			if !w.topology.InAudience(c.Stream, id) || !w.topology.MayWrite(c.Stream, c.Author.Site) {
				t.Fatalf("site %s holds %s", id, c)
			}
		}
	}
}

func checkHolds(t *rapid.T, w *world, written map[crdt.ChainID][]string) {
	for id, s := range w.sites {
		for c, want := range written {
			var got []string
			for _, enc := range s.records[c] {
				rec, err := crdt.DecodeRecord(enc)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(rec.Body))
			}
			if !w.topology.InAudience(c.Stream, id) {
				want = nil
			}
			if !slices.Equal(got, want) {
				t.Fatalf("site %s holds %v of %s, want %v", id, got, c, want)
			}
		}
	}
}

// TestNothingTwice: after a cut in the middle of a transfer only what was not
// acknowledged is sent again.
func TestNothingTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := newWorld(tree)
		if err != nil {
			t.Fatal(err)
		}
		w.cfg = federation.Config{BatchBytes: 100, FlightsMax: 2}
		size := 0
		for i := range 40 {
			w.write("t1", tiers.StreamID{Site: "t1", Class: tiers.ClassRoutine}, fmt.Sprintf("record %02d", i))
		}
		for _, r := range w.sites["t1"].records[crdt.ChainID{Stream: tiers.StreamID{Site: "t1", Class: tiers.ClassRoutine}, Author: crdt.Author{Site: "t1", Incarnation: 1}}] {
			size += len(r)
		}
		sent, cuts := 0, rapid.IntRange(0, 5).Draw(t, "cuts")
		for range cuts {
			l := w.connect("t1", "d1")
			for range rapid.IntRange(0, 30).Draw(t, "messages") {
				w.deliver(l, rapid.IntRange(0, 1).Draw(t, "end"))
			}
			sent += l.batchB
			w.cut(l)
		}
		l := w.connect("t1", "d1")
		w.run()
		sent += l.batchB
		// A batch may be 100 bytes and one record more; two are in flight.
		if most := size + cuts*2*(100+40); sent > most {
			t.Fatalf("%d bytes sent for %d over %d cuts: at most %d", sent, size, cuts, most)
		}
	})
}
