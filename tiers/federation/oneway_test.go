package federation_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
)

// moves are topologies that follow tree: t1 and t2 go from district to district.
var moves = []string{
	"c\nd1 c\nd2 c\nt1 x d2\nt2 x d1\nt3 x d2",
	"c\nd1 c\nd2 c\nt1 x d1\nt2 x d1\nt3 x d2",
	"c\nd1 c\nd2 c\nt1 x d2\nt2 x d2\nt3 x d2",
	"c\nd1 c\nd2 c\nt1 x c\nt2 x d2\nt3 x d1",
	"c\nd1 c\nd2 c\nt1 x c\nt2 x c\nt3 x c",
}

// history are the topologies that a federation goes through.
func history(t *rapid.T, w *world) []*tiers.Topology {
	all := []*tiers.Topology{w.topology}
	for i := range rapid.IntRange(1, 3).Draw(t, "moves") {
		next, err := all[i].Succeed(w.parse(rapid.SampledFrom(moves).Draw(t, "next"), uint64(i+2)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, next)
	}
	return all
}

// learnNext gives a site the topology that follows its own; its links end.
func (w *world) learnNext(id tiers.SiteID, all []*tiers.Topology) {
	if v := w.of(id).Version(); int(v) < len(all) {
		w.newer[id] = all[v]
		w.cutAll(id)
	}
}

// TestWritesOfFormerParents: townships get one district after the other, sites learn
// of it one by one and some are of an older build, links come and go; everybody
// writes wherever it may by what it knows. In the end every record is at its whole
// audience, also those that a former parent could not send before, by a link or by
// bundles; and nobody receives a record of a stream of whose audience it is not by
// the topology that it knows.
func TestWritesOfFormerParents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := newWorld(tree)
		if err != nil {
			t.Fatal(err)
		}
		w.cfg.HelloHeads = rapid.SampledFrom([]int{-1, 3, 64}).Draw(t, "hello")
		w.cfg.BatchBytes = rapid.SampledFrom([]int{1, 60, 1 << 18}).Draw(t, "batch")
		all := history(t, w)
		w.old = map[tiers.SiteID]bool{rapid.SampledFrom([]tiers.SiteID{"", "c", "d1", "d2"}).Draw(t, "old"): true}
		had := w.received()
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.IntRange(0, 9).Draw(t, "learn") == 0 {
				w.learnNext(rapid.SampledFrom(w.topology.Sites()).Draw(t, "site").ID, all)
			} else {
				reparentingStep(t, w, anyLinks, nil, i)
			}
			had = w.checkReceived(t, had)
		}
		w.old, w.closed = nil, nil
		for _, s := range w.topology.Sites() {
			for range all {
				w.learnNext(s.ID, all)
			}
			w.cutAll(s.ID)
		}
		w.topology = all[len(all)-1]
		if rapid.Bool().Draw(t, "bundles") {
			w.carryAll(t)
		}
		for _, s := range w.topology.Sites() {
			if s.Parent != "" {
				w.connect(s.ID, s.Parent)
			}
		}
		w.run()
		w.tick(3)
		w.checkReceived(t, had)
		w.checkAudiences(t)
	})
}

// anyLinks are the links that some topology of moves has, and those of sites that
// missed it.
var anyLinks = [][2]tiers.SiteID{
	{"d1", "c"}, {"d2", "c"}, {"t1", "d1"}, {"t1", "d2"}, {"t1", "c"}, {"t2", "d1"}, {"t2", "d2"}, {"t2", "c"}, {"t3", "d1"}, {"t3", "d2"}, {"t3", "c"},
}

// carryAll takes a bundle of each former parent's to each township.
func (w *world) carryAll(t *rapid.T) {
	for _, from := range []tiers.SiteID{"d1", "d2"} {
		for _, to := range []tiers.SiteID{"t1", "t2", "t3"} {
			b, err := w.bundle(from, to, w.sites[to].heads(), 2)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := w.take(to, b); err != nil || len(r.Gaps)+len(r.Refused) > 0 {
				t.Fatalf("from %s to %s: %+v, %v", from, to, r, err)
			}
		}
	}
}

// received counts by site the records of others.
func (w *world) received() map[tiers.SiteID]map[crdt.ChainID]int {
	out := map[tiers.SiteID]map[crdt.ChainID]int{}
	for id, s := range w.sites {
		out[id] = map[crdt.ChainID]int{}
		for c, records := range s.records {
			if c.Author.Site != id {
				out[id][c] = len(records)
			}
		}
	}
	return out
}

// checkReceived fails when a site got a record of a stream of whose audience it is
// not by the topology that it knows.
func (w *world) checkReceived(t *rapid.T, had map[tiers.SiteID]map[crdt.ChainID]int) map[tiers.SiteID]map[crdt.ChainID]int {
	now := w.received()
	for id, chains := range now {
		for c, n := range chains {
			if n > had[id][c] && !w.of(id).InAudience(c.Stream, id) {
				t.Fatalf("%s received %d records of %s, which it is not in the audience of in version %d", id, n-had[id][c], c, w.of(id).Version())
			}
		}
	}
	return now
}

// checkAudiences holds every site against what the authors wrote.
func (w *world) checkAudiences(t *rapid.T) {
	for _, l := range w.sortedLinks() {
		for i := range l.s {
			if st := l.s[i].Status(); !st.Equal || st.OwedIn+st.OwedOut > 0 || len(st.Apart) > 0 {
				t.Fatalf("link of %v, end %d: %+v", l.ends, i, st)
			}
		}
	}
	if len(w.links) != 5 || len(w.closed) > 0 {
		t.Fatalf("%d links: %q", len(w.links), w.closed)
	}
	for author, s := range w.sites {
		for c, records := range s.records {
			if c.Author.Site != author {
				continue
			}
			for _, id := range w.topology.Audience(c.Stream) {
				if got := len(w.sites[id].records[c]); got != len(records) {
					t.Fatalf("%s holds %d of %d records of %s", id, got, len(records), c)
				}
			}
		}
	}
}

// formerWorld is a city, two districts and a township that went from the first to
// the second, where the first holds a record that nobody else does.
func formerWorld(t *testing.T) *world {
	t.Helper()
	w, err := newWorld("c\nd1 c\nd2 c\nt1 x d1")
	if err != nil {
		t.Fatal(err)
	}
	w.connect("t1", "d1")
	w.connect("d1", "c")
	command := tiers.StreamID{Site: "t1", Class: tiers.ClassCommand}
	w.write("t1", command, "task")
	w.write("d1", command, "sent")
	w.run()
	w.cutAll("d1")
	w.write("d1", command, "unsent")
	w.write("t1", command, "later")
	next, err := w.topology.Succeed(w.parse("c\nd1 c\nd2 c\nt1 x d2", 2))
	if err != nil {
		t.Fatal(err)
	}
	w.topology = next
	return w
}

// TestProveToFormerParent: a former parent and the city get a certificate of what
// they exchange when both hold it, which names no chain of anybody else's; until
// then the answer says what is missing, and nothing else.
func TestProveToFormerParent(t *testing.T) {
	w := formerWorld(t)
	q, a, c, err := w.prove("d1", "c")
	if err != nil || c != nil || len(a.Differ) != 1 || len(a.Differ[0].Heads) != 1 || a.Differ[0].Heads[0].Author != "d1" {
		t.Fatalf("%+v, %+v, %v", q, a, err)
	}
	w.connect("d1", "c")
	w.run()
	if _, _, c, err = w.prove("d1", "c"); err != nil || c == nil {
		t.Fatalf("equal ends get no certificate: %v", err)
	}
	if _, _, back, err := w.prove("c", "d1"); err != nil || back == nil || back.Verify(w.topology) != nil {
		t.Errorf("asked by the city: %v", err)
	}
	command := tiers.StreamID{Site: "t1", Class: tiers.ClassCommand}
	if got := slices.Collect(maps.Keys(c.Vectors[command])); len(c.Vectors) != 1 || len(got) != 1 || got[0].Site != "d1" {
		t.Errorf("the certificate is of %v", c.Vectors)
	}
	// One of another author's chain would prove what the two do not exchange.
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	c.Vectors[command][crdt.Author{Site: "t1", Incarnation: 1}] = crdt.Head{Seq: 1}
	if err := c.Verify(w.topology); !errors.Is(err, federation.ErrCertificate) || !strings.Contains(err.Error(), "do not share") {
		t.Errorf("with a chain of the township's: %v", err)
	}
	if again, err := federation.ParseCertificate(text); err != nil || again.Verify(w.topology) != nil {
		t.Errorf("read again: %v", err)
	}
}

// TestBundleOfFormerParent: a former parent's bundles hold its own chains of the
// township's streams and no other, for everybody in the audience; a bundle for it
// holds nothing of them, and one that did would be refused.
func TestBundleOfFormerParent(t *testing.T) {
	for _, to := range []tiers.SiteID{"c", "d2", "t1"} {
		w := formerWorld(t)
		b, err := w.bundle("d1", to, w.sites[to].heads(), 1)
		if err != nil {
			t.Fatal(err)
		}
		r, err := w.take(to, b)
		want := uint64(1)
		if to == "d2" {
			want = 2 // it was never in the audience before
		}
		if err != nil || r.New != want || len(r.Refused) > 0 {
			t.Errorf("for %s: %+v, %v", to, r, err)
		}
		if again, err := w.take(to, b); err != nil || again.New != 0 || again.Held != want {
			t.Errorf("again for %s: %+v, %v", to, again, err)
		}
	}
	w := formerWorld(t)
	if d := federation.Difference(w.topology, "c", "d1", w.sites["c"].vectors(), nil); len(d) != 0 {
		t.Errorf("the city would give a former parent %v", d)
	}
	own := crdt.ChainID{Stream: tiers.StreamID{Site: "t1", Class: tiers.ClassCommand}, Author: crdt.Author{Site: "d1", Incarnation: 1}}
	others, reading := own, own
	others.Author.Site, reading.Stream.Class = "t1", tiers.ClassReading
	for name, row := range map[string]struct {
		self, peer tiers.SiteID
		chain      crdt.ChainID
		ok         bool
	}{
		"its own to the city":                 {"c", "d1", own, true},
		"its own to the new parent":           {"d2", "d1", own, true},
		"its own to the township":             {"t1", "d1", own, true},
		"its own back from the city":          {"d1", "c", own, false},
		"another's":                           {"c", "d1", others, false},
		"a class that it could not write":     {"c", "d1", reading, false},
		"its own, by who never had the site":  {"c", "d3", own, false},
		"its own, relayed by the new parent":  {"c", "d2", own, true},
		"its own, to who was never in it":     {"d3", "d1", own, false},
		"the township's, by the former to d2": {"d2", "d1", others, false},
	} {
		err := federation.Verifier{Topology: w.topology, Self: row.self, Peer: row.peer}.Authorise(row.chain)
		if (err == nil) != row.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Once it has ended itself, it hands over nothing.
	gone, err := w.topology.Succeed(w.parse("c\nd2 c\nt1 x d2", 3))
	if err != nil {
		t.Fatal(err)
	}
	if err := (federation.Verifier{Topology: gone, Self: "c", Peer: "d1"}).Authorise(own); err == nil {
		t.Error("a retired site hands over")
	}
	if author, ok := federation.Exchanged(w.topology, own.Stream, "c", "d1"); author != "d1" || !ok {
		t.Errorf("exchanged: %q, %v", author, ok)
	}
	if s := fmt.Sprint(federation.Shared(w.topology, "c", "d1", w.sites["c"].vectors())); strings.Contains(s, "t1@") {
		t.Errorf("the city shares %s with a former parent", s)
	}
}

// TestRolledBackFormerParents: as above, while the districts come back from old
// copies of their disks and write on. In the end all who are in the audience hold the
// same, every link is equal, with the chains that stay apart for a former parent, and
// nobody received what is not for it.
func TestRolledBackFormerParents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := newWorld(tree)
		if err != nil {
			t.Fatal(err)
		}
		w.restarts = true
		all := history(t, w)
		disks := map[tiers.SiteID]naiveSite{}
		had := w.received()
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			id := rapid.SampledFrom([]tiers.SiteID{"d1", "d2"}).Draw(t, "district")
			switch rapid.IntRange(0, 11).Draw(t, "what") {
			case 0:
				w.learnNext(rapid.SampledFrom(w.topology.Sites()).Draw(t, "site").ID, all)
			case 1:
				disks[id] = w.sites[id].clone()
			case 2:
				if d, ok := disks[id]; ok {
					w.cutAll(id)
					*w.sites[id] = d.clone()
					had = w.received()
				}
			default:
				reparentingStep(t, w, anyLinks, nil, i)
			}
			had = w.checkReceived(t, had)
		}
		for _, s := range w.topology.Sites() {
			for range all {
				w.learnNext(s.ID, all)
			}
			w.cutAll(s.ID)
		}
		w.topology = all[len(all)-1]
		for range 12 { // a fork that is found, or a new incarnation, ends links
			for _, s := range w.topology.Sites() {
				if s.Parent != "" && w.links[[2]tiers.SiteID{s.ID, s.Parent}] == nil {
					w.connect(s.ID, s.Parent)
				}
				w.run()
			}
		}
		w.closed = nil
		w.tick(3)
		w.checkReceived(t, had)
		w.checkAgreed(t)
	})
}

// checkAgreed holds the sites of each audience against each other.
func (w *world) checkAgreed(t *rapid.T) {
	for _, l := range w.sortedLinks() {
		for i := range l.s {
			if st := l.s[i].Status(); !st.Equal || st.OwedIn+st.OwedOut > 0 {
				t.Fatalf("link of %v, end %d: %+v", l.ends, i, st)
			}
		}
	}
	if len(w.links) != 5 || len(w.closed) > 0 {
		t.Fatalf("%d links: %q", len(w.links), w.closed)
	}
	for _, s := range w.sites {
		for c := range s.records {
			audience := w.topology.Audience(c.Stream)
			for _, id := range audience[1:] {
				if !slices.EqualFunc(w.sites[id].records[c], w.sites[audience[0]].records[c], slices.Equal[[]byte]) {
					t.Fatalf("%s and %s hold other records of %s", id, audience[0], c)
				}
			}
		}
	}
}
