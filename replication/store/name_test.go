package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// checkNamed compares what the index of names has of a document with what the streams
// have.
func checkNamed(t *testing.T, s *store.Store, when string, doc tiers.DocID, want ...tiers.StreamID) {
	t.Helper()
	keys, err := s.Named(doc)
	var got []tiers.StreamID
	for _, k := range keys {
		if got = append(got, k.Stream); k.Doc != doc {
			t.Errorf("%s: %s for %s", when, k, doc)
		}
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s: %s stands in %v, %v; want %v", when, doc, got, err, want)
	}
	for _, stream := range s.Streams() {
		_, err := s.Changes(store.DocKey{Stream: stream, Doc: doc})
		if held := err == nil; held != slices.Contains(want, stream) || err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %s in %s: %v", when, doc, stream, err)
		}
	}
}

// TestNamed: all streams that hold an identifier are found, and nothing else: after a
// write, an orderly end, a crash, a fork whose records are set aside, a store that takes the
// place of another, and in one that a build before left or wrote to.
func TestNamed(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := open(t, fs)
	urgent := tiers.StreamID{Site: stream.Site, Class: tiers.ClassUrgent}
	other := tiers.StreamID{Site: "500101002", Class: tiers.ClassRoutine}
	put := func(stream tiers.StreamID, doc tiers.DocID) {
		t.Helper()
		appendPut(t, s, newWriter(self), store.DocKey{Stream: stream, Doc: doc}, "v")
	}
	reopen := func(on vfs.FS, end func() error) {
		t.Helper()
		if err := end(); err != nil {
			t.Fatal(err)
		}
		s = open(t, on)
	}
	for _, x := range []tiers.StreamID{stream, urgent, other} {
		put(x, "event:a")
	}
	put(stream, "event:ba")
	put(stream, "task:a")
	check := func(when string) {
		t.Helper()
		checkNamed(t, s, when, "event:a", urgent, stream, other)
		checkNamed(t, s, when, "event:ba", stream)
		checkNamed(t, s, when, "event:b")
		dump(t, s)
	}
	check("written")
	if err := errors.Join(s.Flush(), s.Checkpoint("copy")); err != nil {
		t.Fatal(err)
	}
	put(stream, "event:late")
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	reopen(crashed, s.Abandon)
	check("crashed")
	checkNamed(t, s, "crashed", "event:late")
	put(stream, "event:late")
	reopen(crashed, s.Close)
	checkNamed(t, s, "opened", "event:late", stream)
	if err := s.Replace("copy"); err != nil {
		t.Fatal(err)
	}
	check("replaced")
	checkNamed(t, s, "replaced", "event:late")

	if err := s.DropNames(); err != nil {
		t.Fatal(err)
	}
	reopen(crashed, s.Close)
	check("written by a build before")
	put(stream, "event:last")
	checkNamed(t, s, "goes on", "event:last", stream)
	if n, err := evict(t, s, self, 0, crdt.Checkpoint{}); err != nil || n == 0 {
		t.Fatalf("%d set aside, %v", n, err)
	}
	checkNamed(t, s, "set aside", "event:a", urgent, other)
	checkNamed(t, s, "set aside", "event:last")
	dump(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNamedOfVersion2: a store of the keyspace before is indexed when it is opened.
func TestNamedOfVersion2(t *testing.T) {
	fs := vfs.NewMem()
	writeGolden(t, fs, "testdata/v2/keyspace.txt")
	s := open(t, fs)
	defer func() { _ = s.Close() }()
	checkNamed(t, s, "upgraded", "event:a", stream)
	checkNamed(t, s, "upgraded", "event:b", stream)
	dump(t, s)
}

// TestEnding: what ends in some text is found, of the kinds that are wanted, up to a
// limit; and it is said when there is more.
func TestEnding(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	other := tiers.StreamID{Site: "500101002", Class: tiers.ClassRoutine}
	for _, k := range []store.DocKey{
		{Stream: stream, Doc: "event:0190-aa11"}, {Stream: stream, Doc: "event:0190-bb11"}, {Stream: other, Doc: "event:0190-bb11"},
		{Stream: stream, Doc: "task:0190-cc11"}, {Stream: stream, Doc: "event:0190-dd22"},
	} {
		appendPut(t, s, newWriter(self), k, "v")
	}
	for _, tt := range []struct {
		name, ending string
		kinds        []string
		limit        int
		want         []string
		all          bool
	}{
		{"one", "dd22", []string{"event"}, 8, []string{"500101001/routine/event:0190-dd22"}, true},
		{"whole name", "0190-aa11", []string{"event"}, 8, []string{"500101001/routine/event:0190-aa11"}, true},
		{"of two streams", "bb11", []string{"event"}, 8, []string{"500101001/routine/event:0190-bb11", "500101002/routine/event:0190-bb11"}, true},
		{"of another kind", "11", []string{"task"}, 8, []string{"500101001/routine/task:0190-cc11"}, true},
		{"none", "33", []string{"event", "task"}, 8, nil, true},
		{"beginning of a name", "0190", []string{"event"}, 8, nil, true},
		{"as many as asked for", "11", []string{"event"}, 3, []string{
			"500101001/routine/event:0190-aa11", "500101001/routine/event:0190-bb11", "500101002/routine/event:0190-bb11",
		}, true},
		{"too many", "11", []string{"event"}, 2, []string{"500101001/routine/event:0190-aa11", "500101001/routine/event:0190-bb11"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys, all, err := s.Ending(tt.ending, tt.kinds, tt.limit)
			var got []string
			for _, k := range keys {
				got = append(got, k.String())
			}
			if err != nil || all != tt.all || !slices.Equal(got, tt.want) {
				t.Errorf("%v, all %v, %v; want %v, %v", got, all, err, tt.want, tt.all)
			}
		})
	}
}

// TestNamedAtManySites: what it takes to find a document does not grow with the
// streams that a store holds: at 1,070 sites with three classes each it reads as few
// blocks as at ten sites.
func TestNamedAtManySites(t *testing.T) {
	reads := func(sites int) (found, missing int64) {
		s := manySites(t, sites)
		defer func() { _ = s.Close() }()
		const looks = 64
		for i := range looks {
			before := s.BlocksRead()
			site := sites * i / looks
			if keys, err := s.Named(siteDoc(site, 0)); err != nil || len(keys) != 1 {
				t.Fatalf("site %d of %d: %v, %v", site, sites, keys, err)
			}
			found = max(found, s.BlocksRead()-before)
			before = s.BlocksRead()
			if keys, err := s.Named(siteDoc(site, 9)); err != nil || len(keys) != 0 {
				t.Fatalf("%v, %v of what is not there", keys, err)
			}
			missing = max(missing, s.BlocksRead()-before)
		}
		return found, missing
	}
	few, none := reads(10)
	found, missing := reads(1070)
	t.Logf("blocks read: %d (%d for nothing) at 10 sites, %d (%d) at 1,070", few, none, found, missing)
	if found > few+2 || missing > none+2 || found == 0 { // a level more of index blocks
		t.Errorf("%d blocks (%d for nothing) at 1,070 sites, %d (%d) at 10", found, missing, few, none)
	}
}

// manySites is a flushed store with a document in each of three streams of so many
// sites.
func manySites(t testing.TB, sites int) *store.Store {
	t.Helper()
	s := open(t, vfs.NewMem())
	body := newWriter(self).put(t, "k", "v")
	tx := s.Begin()
	for i := range sites {
		for c, class := range []tiers.Class{tiers.ClassUrgent, tiers.ClassRoutine, tiers.ClassCommand} {
			x := tiers.StreamID{Site: tiers.SiteID(fmt.Sprintf("5%08d", i)), Class: class}
			if _, err := tx.Append(self, []store.Item{{Stream: x, Doc: siteDoc(i, c), Time: 1 << 16, Change: body}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(tx.Commit(1), s.Flush()); err != nil {
		t.Fatal(err)
	}
	return s
}

// siteDoc is a document of a site.
func siteDoc(site, no int) tiers.DocID {
	return tiers.NewDocID("event", fmt.Sprintf("0190f1c2-%04d-7000-8000-%012x", no, uint64(site*7919+no+1)*0x9e3779b97f4a7c15>>16))
}

// BenchmarkNamed compares a look into the index of names with one into each stream.
func BenchmarkNamed(b *testing.B) {
	for _, sites := range []int{10, 1070} {
		s := manySites(b, sites)
		streams := s.Streams()
		b.Run(fmt.Sprintf("index/%d", sites), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if keys, err := s.Named(siteDoc(i%sites, 0)); err != nil || len(keys) != 1 {
					b.Fatal(keys, err)
				}
			}
		})
		b.Run(fmt.Sprintf("streams/%d", sites), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				found := 0
				for _, x := range streams {
					if _, err := s.Changes(store.DocKey{Stream: x, Doc: siteDoc(i%sites, 0)}); err == nil {
						found++
					}
				}
				if found != 1 {
					b.Fatal(found)
				}
			}
		})
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
