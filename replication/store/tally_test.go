package store_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// checkTallies holds every counter against a scan of all views.
func checkTallies(t tester, s *store.Store, docs []store.DocKey) {
	t.Helper()
	want := map[string]int64{}
	all := map[string]map[string]int64{"state": {}, "type": {}}
	for _, k := range docs {
		v, err := s.View(k)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range v.Counts {
			want[fmt.Sprint(c.Cube, k.Stream.Site, c.Cell)]++
			all[c.Cube][c.Cell]++
		}
	}
	got := map[string]int64{}
	for cube, cells := range all {
		s.EachTally(cube, nil, func(site tiers.SiteID, cell string, n int64) { got[fmt.Sprint(cube, site, cell)] = n })
		if sum := s.Tally(cube); !maps.Equal(sum, cells) {
			t.Fatalf("cube %s: %v, the views say %v", cube, sum, cells)
		}
		if sites := s.TallySites(cube); len(sites) > 2 || len(cells) > 0 && len(sites) == 0 {
			t.Fatalf("cube %s is of sites %v", cube, sites)
		}
	}
	if !maps.Equal(got, want) {
		t.Fatalf("counters %v, the views say %v", got, want)
	}
}

// TestTallies: under any views, of documents that change, go in forks and come back,
// and through restarts and power cuts, counters are what a scan of all views counts.
func TestTallies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewCrashableMem()
		s := open(t, fs)
		defer func() { _ = s.Close() }()
		var docs []store.DocKey
		for _, site := range []tiers.SiteID{self.Site, "500101002"} {
			for i := range 3 {
				docs = append(docs, store.DocKey{Stream: tiers.StreamID{Site: site, Class: tiers.ClassRoutine}, Doc: tiers.DocID(fmt.Sprintf("event:%d", i))})
			}
		}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"write", "write", "view", "view", "view", "aside", "restart", "crash"}).Draw(t, "step") {
			case "write":
				k := rapid.SampledFrom(docs).Draw(t, "doc")
				w := newWriter(self)
				h, err := s.Changes(k)
				it := store.Item{Stream: k.Stream, Doc: k.Doc, Time: 1}
				if err == nil {
					w.base, it.Base = h.Raw, h.Heads
				}
				it.Change = w.put(t, "k", fmt.Sprint(len(w.base)))
				commit(t, s, func(tx *store.Tx) error { _, err := tx.Append(self, []store.Item{it}); return err })
			case "view":
				putSomeViews(t, s, docs)
			case "aside":
				k := rapid.SampledFrom(docs).Draw(t, "doc")
				chain := crdt.ChainID{Stream: k.Stream, Author: self}
				hash, err := s.HashAt(chain, 1)
				if err != nil {
					continue
				}
				commit(t, s, func(tx *store.Tx) error { _, err := tx.SetAside(store.Evict{Chain: chain, Hash: hash}); return err })
			case "restart":
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, fs)
			case "crash":
				if rapid.Bool().Draw(t, "flushed") {
					if err := s.Flush(); err != nil {
						t.Fatal(err)
					}
				}
				clone := fs.CrashClone(vfs.CrashCloneCfg{})
				if err := s.Abandon(); err != nil {
					t.Fatal(err)
				}
				fs = clone
				s = open(t, fs)
			}
			checkTallies(t, s, docs)
		}
	})
}

// putSomeViews writes views of some documents, which count somewhere.
func putSomeViews(t *rapid.T, s *store.Store, docs []store.DocKey) {
	var made []store.Made
	for _, k := range docs {
		if !rapid.Bool().Draw(t, "this") {
			continue
		}
		h, err := s.Changes(k)
		if errors.Is(err, store.ErrNotFound) {
			gone, ok, err := s.Gone(k)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				made = append(made, gone)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		v := crdt.View{JSON: []byte("{}"), Index: []crdt.IndexEntry{{Name: "event", Value: "1"}}}
		for _, cube := range []string{"state", "type"} {
			if cell := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, cube); cell != "" {
				v.Counts = append(v.Counts, crdt.Count{Cube: cube, Cell: cell})
			}
		}
		// A view of an earlier history comes late, and counts for nothing.
		late := uint64(rapid.IntRange(0, 1).Draw(t, "late"))
		made = append(made, store.Made{Key: k, View: v, Version: max(h.Version-late, 1), Database: h.Database})
	}
	if err := s.PutViews(made...); err != nil {
		t.Fatal(err)
	}
}

// TestRecount: a store of the version before counts nothing at first; a recount gives
// out each document once, goes on where it was after a restart, and is over then,
// until other rules are asked for.
func TestRecount(t *testing.T) {
	fs := vfs.NewMem()
	writeGolden(t, fs, "testdata/v2/keyspace.txt")
	s := open(t, fs)
	defer func() { _ = s.Close() }()
	again := func(rules string, want ...tiers.DocID) {
		t.Helper()
		if err := s.Recount(rules); err != nil {
			t.Fatal(err)
		}
		for _, doc := range want {
			if on, err := s.Recounting(); !on || err != nil {
				t.Fatal("no recount", err)
			}
			docs, err := s.ToRecount(1)
			if err != nil || len(docs) != 1 || docs[0].Doc != doc {
				t.Fatalf("%v, %v, want %s", docs, err, doc)
			}
			h, err := s.Changes(docs[0])
			if err != nil {
				t.Fatal(err)
			}
			v := crdt.View{JSON: []byte("{}"), Counts: []crdt.Count{{Cube: "event", Cell: rules}}}
			if err := errors.Join(s.PutViews(store.Made{Key: docs[0], View: v, Version: h.Version, Database: h.Database}), s.Recounted(docs), s.Close()); err != nil {
				t.Fatal(err)
			}
			s = open(t, fs)
		}
		if docs, err := s.ToRecount(1); err != nil || len(docs) != 0 {
			t.Fatal(docs, err)
		}
		if on, err := s.Recounting(); on || err != nil {
			t.Fatal("the recount goes on", err)
		}
	}
	again("1", "event:a", "event:b")
	again("1")
	again("2", "event:a", "event:b")
	if got := s.Tally("event"); !maps.Equal(got, map[string]int64{"2": 2}) {
		t.Errorf("%v", got)
	}
}
