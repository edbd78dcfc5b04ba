package federation_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
)

var update = flag.Bool("update", false, "write the golden bytes; only ever of a new format")

// Head implements [federation.Target].
func (s *naiveSite) Head(c crdt.ChainID) crdt.Head { return s.head(c) }

// HashAt implements [federation.Target].
func (s *naiveSite) HashAt(c crdt.ChainID, seq uint64) (crdt.Hash, error) {
	h := c.Origin()
	for _, r := range s.records[c][:seq] {
		h = h.Next(r)
	}
	return h.Hash, nil
}

// Ingest implements [federation.Target].
func (s *naiveSite) Ingest(r federation.Range) (int, error) {
	have := uint64(len(s.records[r.Chain]))
	end := r.First + uint64(len(r.Records)) - 1
	if r.First > have+1 || end <= have {
		return 0, fmt.Errorf("ingest %s from %d to %d after %d", r.Chain, r.First, end, have)
	}
	s.records[r.Chain] = append(s.records[r.Chain], r.Records[have+1-r.First:]...)
	s.ends[r.Chain] = append(s.ends[r.Chain], end)
	return int(end - have), nil
}

func (w *world) signer(site tiers.SiteID) crdt.Signer { return crdt.Ed25519Signer(w.keys[site]) }

// bundle writes what one site holds and another is said to lack; batches end
// after n records, or where the author signed.
func (w *world) bundle(from, to tiers.SiteID, has map[crdt.ChainID]crdt.Head, n int) ([]byte, error) {
	s := w.sites[from]
	m := federation.Manifest{Federation: "cq", From: from, For: to, TimeMS: 1_700_000_000_000, TopologyVersion: w.topology.Version()}
	for _, l := range federation.Difference(w.topology, from, to, s.vectors(), has) {
		r := federation.BundleRange{From: l.After, End: w.checkpoint(l.Chain, l.To)}
		for _, rec := range s.records[l.Chain][l.After.Seq:] {
			r.Bytes += uint64(len(rec))
		}
		m.Ranges = append(m.Ranges, r)
	}
	var b bytes.Buffer
	out, err := federation.NewBundleWriter(&b, m, w.signer(from))
	if err != nil {
		return nil, err
	}
	for _, r := range m.Ranges {
		c := r.End.Chain
		own := c.Author.Site == from
		for head := r.From; head.Seq < r.End.Head.Seq; {
			prev, first, all := head, head.Seq+1, s.records[c]
			for k := 0; head.Seq < r.End.Head.Seq && (k < n || !own && !slices.Contains(s.ends[c], head.Seq)); k++ {
				head = head.Next(all[head.Seq])
			}
			err := out.Put(federation.Range{Chain: c, First: first, Records: all[first-1 : head.Seq], Checkpoint: w.checkpoint(c, head)}, prev.Hash)
			if err != nil {
				return nil, err
			}
		}
	}
	return b.Bytes(), out.Close()
}

func (w *world) take(site tiers.SiteID, bundle []byte) (federation.ImportResult, error) {
	return federation.Import(w.topology, site, bytes.NewReader(bundle), w.sites[site])
}

// heads are what a site holds, by chain.
func (s *naiveSite) heads() map[crdt.ChainID]crdt.Head {
	out := map[crdt.ChainID]crdt.Head{}
	for c := range s.records {
		out[c] = s.head(c)
	}
	return out
}

// TestBundleEqualsLink: after any history, bundles between two sites, each made
// from the other's request, bring both to exactly what a link between them does;
// taken in again they change nothing.
func TestBundleEqualsLink(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := newWorld(tree)
		if err != nil {
			t.Fatal(err)
		}
		w.cfg = federation.Config{BatchBytes: rapid.SampledFrom([]int{1, 60, 1 << 18}).Draw(t, "batch")}
		written := map[crdt.ChainID][]string{}
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			step(t, w, written, i)
		}
		for _, l := range w.sortedLinks() {
			w.cut(l)
		}
		ends := rapid.SampledFrom([][2]tiers.SiteID{{"t1", "d1"}, {"d1", "c"}, {"t3", "c"}, {"t1", "t2"}}).Draw(t, "ends")
		by := copyWorld(t, w)
		n := rapid.IntRange(1, 5).Draw(t, "records in a batch")
		for i, to := range ends {
			from := ends[1-i]
			has := request(t, by, to, from)
			if rapid.IntRange(0, 3).Draw(t, "full") == 0 {
				has = nil
			}
			bundle, err := by.bundle(from, to, has, n)
			if err != nil {
				t.Fatal(err)
			}
			for again := range 2 {
				r, err := by.take(to, bundle)
				records, _ := r.Manifest.Totals()
				if err != nil || len(r.Gaps)+len(r.Refused) > 0 || r.New+r.Held != records || again == 1 && r.New > 0 {
					t.Fatalf("taken in %d times: %+v, %v", again+1, r, err)
				}
			}
			checkAudience(t, by)
		}
		if ends != [2]tiers.SiteID{"t1", "t2"} { // which have no link
			w.connect(ends[0], ends[1])
			w.run()
			for _, site := range ends {
				if a, b := fmt.Sprint(w.sites[site].vectors()), fmt.Sprint(by.sites[site].vectors()); a != b {
					t.Fatalf("site %s by link\n%s\nby bundle\n%s", site, a, b)
				}
			}
		}
		a := federation.Shared(by.topology, ends[0], ends[1], by.sites[ends[0]].vectors())
		if b := federation.Shared(by.topology, ends[0], ends[1], by.sites[ends[1]].vectors()); fmt.Sprint(a) != fmt.Sprint(b) {
			t.Fatalf("%s\n%v\n%s\n%v", ends[0], a, ends[1], b)
		}
	})
}

// request sends what a site holds to another one, as a file.
func request(t *rapid.T, w *world, site, from tiers.SiteID) map[crdt.ChainID]crdt.Head {
	var b bytes.Buffer
	err := federation.WriteRequest(&b, federation.Request{
		Federation: "cq", Site: site, From: from, TimeMS: 1, TopologyVersion: 1,
		Vectors: federation.Shared(w.topology, site, from, w.sites[site].vectors()),
	}, w.signer(site))
	if err != nil {
		t.Fatal(err)
	}
	r, err := federation.ReadRequest(&b, w.topology)
	if err != nil || r.Site != site || r.From != from {
		t.Fatalf("%+v, %v", r, err)
	}
	return r.Heads()
}

// copyWorld copies what the sites hold; the copy has no links.
func copyWorld(t interface{ Fatal(...any) }, w *world) *world {
	out, err := newWorld(tree)
	if err != nil {
		t.Fatal(err)
	}
	for id, s := range w.sites {
		for c := range s.records {
			out.sites[id].records[c], out.sites[id].ends[c] = slices.Clone(s.records[c]), slices.Clone(s.ends[c])
		}
	}
	return out
}

// fixture is a district with records of its own and of a township, and the
// bundle that it makes for the city.
func fixture(t testing.TB) (*world, []byte) {
	t.Helper()
	w, err := newWorld(tree)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		w.write("t1", tiers.StreamID{Site: "t1", Class: tiers.ClassUrgent}, fmt.Sprint("urgent ", i))
	}
	w.write("d1", tiers.StreamID{Site: "d1", Class: tiers.ClassRoutine}, strings.Repeat("routine ", 100))
	w.write("d1", tiers.StreamID{Site: "d1", Class: tiers.ClassRoutine}, "two")
	w.connect("t1", "d1")
	w.run()
	bundle, err := w.bundle("d1", "c", nil, 2)
	if err != nil {
		t.Fatal(err)
	}
	return w, bundle
}

// TestBundleDamage: a bundle with any byte changed, or cut off anywhere, is
// refused, and what it brings in before that is what the sound one would have.
func TestBundleDamage(t *testing.T) {
	w, bundle := fixture(t)
	sound := copyWorld(t, w)
	if _, err := sound.take("c", bundle); err != nil {
		t.Fatal(err)
	}
	want := sound.sites["c"].records
	check := func(what string, damaged []byte) {
		by := copyWorld(t, w)
		r, err := by.take("c", damaged)
		whole := len(by.sites["c"].records) == len(want)
		for c, records := range by.sites["c"].records {
			if len(records) > len(want[c]) || !slices.EqualFunc(records, want[c][:len(records)], bytes.Equal) {
				t.Fatalf("%s: %s came in as %q", what, c, records)
			}
			whole = whole && len(records) == len(want[c])
		}
		if err == nil && !whole {
			t.Fatalf("%s: no error and not all of it came in: %+v", what, r)
		}
		if err != nil && !errors.Is(err, federation.ErrBundle) && !errors.Is(err, federation.ErrForeign) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for i := range bundle {
		for _, bit := range []byte{1, 0x80} {
			damaged := bytes.Clone(bundle)
			damaged[i] ^= bit
			check(fmt.Sprintf("byte %d ^ %#x", i, bit), damaged)
		}
		by := copyWorld(t, w)
		if _, err := by.take("c", bundle[:i]); !errors.Is(err, federation.ErrBundle) {
			t.Fatalf("cut off at %d: %v", i, err)
		}
	}
}

// TestBundleRefusals: each bundle that does not fit is refused with the reason.
func TestBundleRefusals(t *testing.T) {
	w, bundle := fixture(t)
	none := func(name string, err error, want error, text string) {
		t.Helper()
		if !errors.Is(err, want) || !strings.Contains(err.Error(), text) || len(w.sites["c"].records) > 0 {
			t.Errorf("%s: %v with %v held; want %v with %q", name, err, w.sites["c"].records, want, text)
		}
	}
	_, err := w.take("d2", bundle)
	none("another site", err, federation.ErrForeign, "for site c, this is d2")
	other, err := tiers.NewTopology(tiers.TopologyDoc{Federation: "bj", Sites: []tiers.Site{{ID: "c", Tier: tiers.TierCity}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = federation.Import(other, "c", bytes.NewReader(bundle), w.sites["c"])
	none("another federation", err, federation.ErrForeign, `"cq"`)
	_, err = w.take("c", append(bytes.Clone(bundle), 'x'))
	if !errors.Is(err, federation.ErrBundle) {
		t.Errorf("bytes after the end: %v", err)
	}
	w.sites["c"].records = map[crdt.ChainID][][]byte{}

	w.keys["d1"] = w.keys["d2"] // a thief without d1's key
	forged, err := w.bundle("d1", "c", nil, 2)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.take("c", forged)
	none("a forged signature", err, federation.ErrBundle, "not that of site d1")
}

// TestBundleGap: what is missing is named, and everything else comes in.
func TestBundleGap(t *testing.T) {
	w, _ := fixture(t)
	urgent := crdt.ChainID{Stream: tiers.StreamID{Site: "t1", Class: tiers.ClassUrgent}, Author: crdt.Author{Site: "t1", Incarnation: 1}}
	at := urgent.Origin()
	for _, r := range w.sites["d1"].records[urgent][:2] {
		at = at.Next(r)
	}
	bundle, err := w.bundle("d1", "c", map[crdt.ChainID]crdt.Head{urgent: at}, 2)
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.take("c", bundle)
	want := []federation.ImportGap{{Chain: urgent, Holds: 0, Starts: 3}}
	if err != nil || !slices.Equal(r.Gaps, want) || r.New != 2 || r.Skipped != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	whole, err := w.bundle("d1", "c", w.sites["c"].heads(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := w.take("c", whole); err != nil || r.New != 3 || r.Held != 0 || len(r.Gaps) != 0 {
		t.Errorf("the gap filled: %+v, %v", r, err)
	}
}

// TestBundleFork: a chain that forks is left out and reported; the rest comes in.
func TestBundleFork(t *testing.T) {
	for name, held := range map[string]int{"the end differs": 3, "an earlier record differs": 2, "more is held": 4} {
		w, bundle := fixture(t)
		urgent := crdt.ChainID{Stream: tiers.StreamID{Site: "t1", Class: tiers.ClassUrgent}, Author: crdt.Author{Site: "t1", Incarnation: 1}}
		for range held {
			w.sites["c"].records[urgent] = append(w.sites["c"].records[urgent], crdt.Record{Kind: 1, Doc: "event:clone"}.AppendTo(nil))
		}
		r, err := w.take("c", bundle)
		if err != nil || len(r.Refused) != 1 || !r.Refused[0].Fork || r.Refused[0].Chain != urgent || r.New != 2 || r.Skipped != 3 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// TestBundleOtherTopology: what may not be taken in under another version of the
// topology is left out; under the same one it is a forgery.
func TestBundleOtherTopology(t *testing.T) {
	w, bundle := fixture(t)
	moved := func(version uint64) *tiers.Topology {
		doc := tiers.TopologyDoc{Federation: "cq", Version: version}
		for _, s := range w.topology.Sites() {
			if s.ID == "t1" {
				s.Parent = "d2"
			}
			doc.Sites = append(doc.Sites, s)
		}
		out, err := tiers.NewTopology(doc)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	r, err := federation.Import(moved(2), "c", bytes.NewReader(bundle), w.sites["c"])
	if err != nil || r.New != 2 || r.Skipped != 3 || len(r.Refused) != 1 || !strings.Contains(r.Refused[0].Reason, "site d1 is not in the audience of t1/urgent") {
		t.Errorf("%+v, %v", r, err)
	}
	w.sites["c"].records = map[crdt.ChainID][][]byte{}
	if _, err := federation.Import(moved(1), "c", bytes.NewReader(bundle), w.sites["c"]); !errors.Is(err, federation.ErrBundle) || len(w.sites["c"].records) > 0 {
		t.Errorf("under the same version: %v", err)
	}
}

// TestGoldenBundle holds the version-1 bytes of a bundle and of a request for
// good.
func TestGoldenBundle(t *testing.T) {
	w, bundle := fixture(t)
	var ask bytes.Buffer
	err := federation.WriteRequest(&ask, federation.Request{
		Federation: "cq", Site: "d1", From: "c", TimeMS: 1_700_000_000_000, TopologyVersion: 1, Vectors: w.sites["d1"].vectors(),
	}, w.signer("d1"))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("bundle %s\nrequest %s\n", hex.EncodeToString(bundle), hex.EncodeToString(ask.Bytes()))
	const file = "testdata/v1/bundle.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("version 1 changed:\n%s\nwant:\n%s", got, want)
	}
}

// FuzzBundle: no bytes make the reader or an import fail other than with its
// sentinels, or bring in what the sound bundle does not hold.
func FuzzBundle(f *testing.F) {
	w, bundle := fixture(f)
	f.Add(bundle)
	f.Add(bundle[:len(bundle)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		by := copyWorld(t, w)
		_, err := by.take("c", b)
		if err != nil && !errors.Is(err, federation.ErrBundle) && !errors.Is(err, federation.ErrForeign) {
			t.Fatal(err)
		}
		for c, records := range by.sites["c"].records {
			held := w.sites["d1"].records[c]
			if len(records) > len(held) || !slices.EqualFunc(records, held[:len(records)], bytes.Equal) {
				t.Fatalf("%s came in as %q", c, records)
			}
		}
		if r, err := federation.ReadBundle(bytes.NewReader(b)); err == nil {
			if err := r.Check(nil); err == nil {
				_ = r.Manifest()
			}
		}
	})
}

// FuzzRequest: no bytes make a request that its site did not sign.
func FuzzRequest(f *testing.F) {
	w, _ := fixture(f)
	var b bytes.Buffer
	err := federation.WriteRequest(&b, federation.Request{
		Federation: "cq", Site: "d1", From: "c", TimeMS: 1, TopologyVersion: 1, Vectors: w.sites["d1"].vectors(),
	}, w.signer("d1"))
	if err != nil {
		f.Fatal(err)
	}
	sound, err := federation.ReadRequest(bytes.NewReader(b.Bytes()), w.topology)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := federation.ReadRequest(bytes.NewReader(in), w.topology)
		if err != nil {
			if !errors.Is(err, federation.ErrBundle) && !errors.Is(err, federation.ErrForeign) {
				t.Fatal(err)
			}
			return
		}
		if fmt.Sprint(r) != fmt.Sprint(sound) {
			t.Fatalf("read %+v, signed was %+v", r, sound)
		}
	})
}

// TestBundleWriterHolds: a writer refuses what its manifest does not list, and an
// early end.
func TestBundleWriterHolds(t *testing.T) {
	w, _ := fixture(t)
	c := crdt.ChainID{Stream: tiers.StreamID{Site: "d1", Class: tiers.ClassRoutine}, Author: crdt.Author{Site: "d1", Incarnation: 1}}
	all := w.sites["d1"].records[c]
	end := w.sites["d1"].head(c)
	m := federation.Manifest{Federation: "cq", From: "d1", For: "c", Ranges: []federation.BundleRange{{From: c.Origin(), End: w.checkpoint(c, end)}}}
	b, err := federation.NewBundleWriter(io.Discard, m, w.signer("d1"))
	if err != nil {
		t.Fatal(err)
	}
	second := federation.Range{Chain: c, First: 2, Records: all[1:], Checkpoint: w.checkpoint(c, end)}
	if err := b.Put(second, c.Origin().Hash); !errors.Is(err, federation.ErrBundle) {
		t.Errorf("the second record first: %v", err)
	}
	if err := b.Close(); !errors.Is(err, federation.ErrBundle) {
		t.Errorf("an early end: %v", err)
	}
	whole := federation.Range{Chain: c, First: 1, Records: all, Checkpoint: w.checkpoint(c, end)}
	if err := errors.Join(b.Put(whole, c.Origin().Hash), b.Close()); err != nil {
		t.Error(err)
	}
	if err := b.Put(whole, c.Origin().Hash); !errors.Is(err, federation.ErrBundle) {
		t.Errorf("a range too many: %v", err)
	}
}
