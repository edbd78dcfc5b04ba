package store_test

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// TestDirtyNeverForgotten: every document that became dirty is handed out,
// also when there are more than the queue holds, and after a restart.
func TestDirtyNeverForgotten(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	const docs = 20_000 // more than the queue names
	change := newWriter(self).put(t, "k", "v")
	for i := 0; i < docs; i += 100 {
		tx := s.Begin()
		for j := i; j < i+100; j++ {
			if _, err := tx.Append(self, []store.Item{{Stream: stream, Doc: tiers.DocID(fmt.Sprintf("event:%d", j)), Time: 1, Change: change}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(uint64(i + 1)); err != nil {
			t.Fatal(err)
		}
	}
	drain := func(half bool) {
		seen := map[store.DocKey]bool{}
		for {
			docs, err := s.TakeDirty(512)
			if err != nil {
				t.Fatal(err)
			}
			if len(docs) == 0 {
				break
			}
			for i, d := range docs {
				k := d.Key
				if seen[k] || half && i%2 == 0 {
					continue
				}
				seen[k] = true
				if err := s.PutViews(store.Made{Key: k, View: crdt.View{JSON: []byte("{}")}, Version: 1}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	drain(true)
	left := s.Counts().Dirty
	if left == 0 || left > docs*3/4 {
		t.Fatalf("%d dirty after every other one was made clean", left)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, fs)
	defer func() { _ = s.Close() }()
	if got := s.Counts().Dirty; got < left { // until a mark is due, it counts whole
		t.Errorf("%d dirty after a restart, want at least %d", got, left)
	}
	drain(false)
	if got := s.Counts().Dirty; got != 0 {
		t.Errorf("%d documents were never handed out", got)
	}
}

// BenchmarkApply applies appends of one new document each, 64 to a commit.
func BenchmarkApply(b *testing.B) {
	s := open(b, vfs.NewMem())
	defer func() { _ = s.Close() }()
	change := newWriter(self).put(b, "k", "a value of some length, as a report has")
	for i := 0; b.Loop(); i++ {
		tx := s.Begin()
		for j := range 64 {
			if _, err := tx.Append(self, []store.Item{{Stream: stream, Doc: tiers.DocID(fmt.Sprintf("event:%d-%d", i, j)), Time: 1, Change: change}}); err != nil {
				b.Fatal(err)
			}
		}
		if err := tx.Commit(uint64(i + 1)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/record")
}
