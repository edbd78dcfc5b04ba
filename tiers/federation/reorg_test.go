package federation_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

const moved = `
c
d1 c
d2 c
t1 x d2
t2 x d1
t3 x d2
`

// foreign returns how many records of t1's streams a site holds that others wrote.
func foreign(w *world, site tiers.SiteID) (n int) {
	for c, records := range w.sites[site].records {
		if c.Stream.Site == "t1" && c.Author.Site != site {
			n += len(records)
		}
	}
	return n
}

// TestReparenting: a township moves; sites learn of it one by one while links come
// and go. From the moment on at which the former parent or whoever it talks to
// knows, it receives nothing of the township's; it keeps what it had. In the end
// everybody in the new audience holds everything, history included, and every
// link proves it.
func TestReparenting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := newWorld(tree)
		if err != nil {
			t.Fatal(err)
		}
		next, err := w.topology.Succeed(w.parse(moved, 2))
		if err != nil {
			t.Fatal(err)
		}
		both := append(slices.Clone(links), [2]tiers.SiteID{"t1", "d2"})
		written := map[crdt.ChainID][]string{}
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			had, aware := foreign(w, "d1"), w.newer["d1"] != nil
			if rapid.IntRange(0, 9).Draw(t, "learn") == 0 {
				id := rapid.SampledFrom(next.Sites()).Draw(t, "site").ID
				w.newer[id] = next
				for _, l := range w.sortedLinks() {
					if l.ends[0] == id || l.ends[1] == id {
						w.cut(l)
					}
				}
			} else {
				reparentingStep(t, w, both, written, i)
			}
			if got := foreign(w, "d1"); got < had || aware && got > had {
				t.Fatalf("the former parent, aware %v, held %d records of the township and holds %d", aware, had, got)
			}
		}
		for _, s := range next.Sites() {
			w.newer[s.ID] = next
		}
		for _, l := range w.sortedLinks() {
			w.cut(l)
		}
		had := foreign(w, "d1")
		for _, ends := range [][2]tiers.SiteID{{"d1", "c"}, {"d2", "c"}, {"t1", "d2"}, {"t2", "d1"}, {"t3", "d2"}} {
			w.connect(ends[0], ends[1])
		}
		w.run()
		w.tick(3)
		for _, l := range w.sortedLinks() {
			for i := range l.s {
				if st := l.s[i].Status(); !st.Equal || st.OwedIn+st.OwedOut > 0 {
					t.Fatalf("link of %v, end %d: %+v", l.ends, i, st)
				}
			}
		}
		if got := foreign(w, "d1"); got != had || len(w.links) != 5 {
			t.Fatalf("%d links; the former parent got %d records more: %q", len(w.links), got-had, w.closed)
		}
		for _, ends := range [][2]tiers.SiteID{{"t1", "d2"}, {"t1", "c"}} {
			for c := range w.sites["t1"].records {
				// Of its former parent's catalogs the township keeps what it had, and gets no more.
				shared := next.InAudience(c.Stream, ends[0]) && next.InAudience(c.Stream, ends[1])
				if have := len(w.sites[ends[1]].records[c]); shared && have != len(w.sites["t1"].records[c]) {
					t.Fatalf("%s holds %d records of %s, the township %d", ends[1], have, c, len(w.sites["t1"].records[c]))
				}
			}
		}
	})
}

// reparentingStep writes, connects, cuts or lets things flow.
func reparentingStep(t *rapid.T, w *world, all [][2]tiers.SiteID, written map[crdt.ChainID][]string, i int) {
	switch rapid.IntRange(0, 4).Draw(t, "what") {
	case 0, 1:
		author := rapid.SampledFrom(w.topology.Sites()).Draw(t, "author").ID
		stream := tiers.StreamID{Site: rapid.SampledFrom(w.topology.Sites()).Draw(t, "owner").ID, Class: rapid.SampledFrom(tiers.Classes()).Draw(t, "class")}
		if w.of(author).MayWrite(stream, author) {
			w.write(author, stream, fmt.Sprint(i))
		}
	case 2:
		ends := rapid.SampledFrom(all).Draw(t, "connect")
		if l := w.links[ends]; l != nil {
			w.cut(l)
		}
		w.connect(ends[0], ends[1])
	case 3:
		if l := w.links[rapid.SampledFrom(all).Draw(t, "cut")]; l != nil {
			w.cut(l)
		}
	default:
		w.run()
		w.tick(rapid.IntRange(0, 3).Draw(t, "ticks"))
	}
}

// TestClones: disks are cloned and go on by themselves, whoever meets whom first.
// In the end all sites of the audience hold the same records of every chain, no
// link is left in dispute, and every record that anybody ever wrote is in a chain
// or set aside.
func TestClones(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := newWorld(tree)
		if err != nil {
			t.Fatal(err)
		}
		w.restarts = true
		stream := tiers.StreamID{Site: "t1", Class: tiers.ClassRoutine}
		written := map[string]bool{}
		var disks []naiveSite
		for i := range rapid.IntRange(1, 50).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				body := fmt.Sprint(i)
				written[body] = true
				w.write("t1", stream, body)
			case 2:
				disks = append(disks, w.sites["t1"].clone())
			case 3: // another disk comes up instead of this one, which stays off
				if len(disks) > 0 {
					at := rapid.IntRange(0, len(disks)-1).Draw(t, "disk")
					disks[at], *w.sites["t1"] = w.sites["t1"].clone(), disks[at]
					w.cutAll("t1")
				}
			default:
				ends := rapid.SampledFrom([][2]tiers.SiteID{{"t1", "d1"}, {"t1", "c"}, {"d1", "c"}}).Draw(t, "connect")
				if w.links[ends] == nil {
					w.connect(ends[0], ends[1])
				}
				w.run()
			}
		}
		// Every disk comes up once more, and last of all the one that was up.
		for _, d := range append(disks, w.sites["t1"].clone()) {
			*w.sites["t1"] = d
			w.cutAll("t1")
			w.meet()
			for id, aside := range w.sites["t1"].evidence { // for the check below
				aside = append(slices.Clone(aside), w.sites["c"].evidence[id]...)
				w.sites["c"].evidence[id] = aside
			}
		}
		checkClones(t, w, written)
	})
}

// meet connects the three sites of a road until nothing is in dispute.
func (w *world) meet() {
	for range 12 {
		for _, ends := range [][2]tiers.SiteID{{"d1", "c"}, {"t1", "d1"}} {
			if w.links[ends] == nil {
				w.connect(ends[0], ends[1])
			}
			w.run()
		}
	}
	w.tick(3)
}

func (w *world) cutAll(id tiers.SiteID) {
	for _, l := range w.sortedLinks() {
		if l.ends[0] == id || l.ends[1] == id {
			w.cut(l)
		}
	}
}

func (s *naiveSite) clone() naiveSite {
	c := naiveSite{id: s.id, incarnation: s.incarnation, records: map[crdt.ChainID][][]byte{}, ends: map[crdt.ChainID][]uint64{}, evidence: map[crdt.ChainID][][]byte{}}
	for id := range s.records {
		c.records[id], c.ends[id] = slices.Clone(s.records[id]), slices.Clone(s.ends[id])
	}
	for id := range s.evidence {
		c.evidence[id] = slices.Clone(s.evidence[id])
	}
	return c
}

func checkClones(t *rapid.T, w *world, written map[string]bool) {
	for _, l := range w.sortedLinks() {
		for i := range l.s {
			if st := l.s[i].Status(); !st.Equal || len(st.Disputed) > 0 {
				t.Fatalf("link of %v, end %d: %+v", l.ends, i, st)
			}
		}
	}
	found := map[string]bool{}
	for _, s := range w.sites {
		for _, kept := range []map[crdt.ChainID][][]byte{s.records, s.evidence} {
			for _, records := range kept {
				for _, enc := range records {
					rec, err := crdt.DecodeRecord(enc)
					if err != nil {
						t.Fatal(err)
					}
					found[string(rec.Body)] = true
				}
			}
		}
	}
	for body := range written {
		if !found[body] {
			t.Fatalf("record %s is nowhere", body)
		}
	}
	for c, records := range w.sites["t1"].records {
		for _, id := range []tiers.SiteID{"d1", "c"} {
			if !slices.EqualFunc(records, w.sites[id].records[c], slices.Equal[[]byte]) {
				t.Fatalf("%s holds other records of %s than the township", id, c)
			}
		}
	}
}

// TestTwoWaysOnce: over a mesh with two ways between sites, every record is stored
// once, and none goes round in circles: it crosses each link at most once a
// direction.
func TestTwoWaysOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := newWorld(tree)
		if err != nil {
			t.Fatal(err)
		}
		for _, ends := range links {
			w.connect(ends[0], ends[1]).slow = rapid.Bool().Draw(t, "slow disk")
		}
		n := rapid.IntRange(1, 20).Draw(t, "records")
		for i := range n {
			w.write("t1", tiers.StreamID{Site: "t1", Class: tiers.ClassRoutine}, fmt.Sprint(i))
			for range rapid.IntRange(0, 4).Draw(t, "flow") {
				w.run()
				for _, l := range w.sortedLinks() {
					w.store(l, rapid.IntRange(0, 1).Draw(t, "end"))
					w.drain(l)
				}
			}
		}
		for range 8 {
			w.run()
			for _, l := range w.sortedLinks() {
				w.store(l, 0)
				w.store(l, 1)
				w.drain(l)
			}
		}
		// t1 is linked to d1 and c, and these to each other: three links.
		if w.sent > 2*3*n {
			t.Fatalf("%d records crossed three links %d times", n, w.sent)
		}
		for _, id := range []tiers.SiteID{"d1", "c"} {
			if got := foreign(w, id); got != n {
				t.Fatalf("%s stores %d records of %d", id, got, n)
			}
		}
	})
}
