package store_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// TestSpan: what lies behind a record is counted exactly, from the sizes of the
// records; of a long run it is the mean, and says so.
func TestSpan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := open(t, vfs.NewMem())
		defer func() { _ = s.Close() }()
		n := rapid.SampledFrom([]int{1, 2, 40, 1100}).Draw(t, "records")
		chain := crdt.ChainID{Stream: stream, Author: district}
		var all [][]byte
		head := chain.Origin()
		for i := range n {
			body := make([]byte, rapid.IntRange(0, 20).Draw(t, "size"))
			// Kinds that this version does not know are stored as they are.
			all = append(all, crdt.Record{Kind: 9, Time: crdt.HybridTime(i+1) << 16, Doc: "event:e", Body: body}.AppendTo(nil))
			head = head.Next(all[i])
		}
		cp, err := crdt.SignCheckpoint(crdt.Ed25519Signer(key), chain, head, 1)
		if err != nil {
			t.Fatal(err)
		}
		tx := s.Begin()
		if _, err := tx.Ingest(store.Range{Chain: chain, First: 1, Records: all, Checkpoint: cp}); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(1); err != nil {
			t.Fatal(err)
		}
		sum := func(records [][]byte) (out uint64) {
			for _, r := range records {
				out += uint64(len(r))
			}
			return out
		}
		if records, size := s.Size(chain); records != uint64(n) || size != sum(all) {
			t.Fatalf("size %d, %d", records, size)
		}
		if v := s.Vectors(); len(v) != 1 || v[stream][district] != head {
			t.Fatalf("vectors %v", v)
		}
		after := rapid.IntRange(0, n+1).Draw(t, "after")
		got, err := s.Span(chain, uint64(after))
		want := store.Span{}
		if after < n {
			want = store.Span{Records: uint64(n - after), Bytes: sum(all[after:]), Oldest: crdt.HybridTime(after+1) << 16}
		}
		if want.Records > 1024 && after > 0 {
			mean := uint64(float64(sum(all)) / float64(n) * float64(want.Records))
			want.Bytes, want.Estimated = mean, true
		}
		if err != nil || got != want {
			t.Fatalf("after %d of %d: %+v, %v; want %+v", after, n, got, err, want)
		}
	})
}

// TestSpanOfNothing: a chain that is not held has nothing behind any record.
func TestSpanOfNothing(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	chain := crdt.ChainID{Stream: tiers.StreamID{Site: "x", Class: tiers.ClassBulk}, Author: city}
	if got, err := s.Span(chain, 0); err != nil || got != (store.Span{}) {
		t.Errorf("%+v, %v", got, err)
	}
}
