package store_test

import (
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// TestRelayFindsCheckpoint: whatever is retained, a relay can serve a chain
// from any place in stretches that end in a checkpoint, to its end.
func TestRelayFindsCheckpoint(t *testing.T) {
	var all [][]byte
	for i := range 600 {
		w := newWriter(district)
		all = append(all, record(tiers.DocID(fmt.Sprintf("event:%d", i)), i, w.put(t, "k", "v")))
	}
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	r := rand.New(rand.NewPCG(1, 1))
	for at, index := 0, uint64(1); at < len(all); index++ {
		to := min(at+1+r.IntN(40), len(all))
		tx := s.Begin()
		if _, err := tx.Ingest(span(t, district, all, at+1, to)); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(index); err != nil {
			t.Fatal(err)
		}
		at = to
	}
	chain := crdt.ChainID{Stream: stream, Author: district}
	batches := 0
	for first := uint64(1); first <= 600; batches++ {
		run, err := s.ReadRun(chain, first, 600, 4096)
		if err != nil {
			t.Fatal(err)
		}
		cp, err := s.CheckpointFrom(chain, first, run.End.Seq)
		if err != nil || cp.Head.Seq < first {
			t.Fatalf("from %d: %v, %v", first, cp.Head.Seq, err)
		}
		if err := cp.Verify(key.Public().(ed25519.PublicKey)); err != nil {
			t.Fatal(err)
		}
		if h, err := s.HashAt(chain, cp.Head.Seq); err != nil || h != cp.Head.Hash {
			t.Fatalf("checkpoint at %d does not fit the chain (%v)", cp.Head.Seq, err)
		}
		if cp.Head.Seq-first >= 256 {
			t.Errorf("a batch of %d records", cp.Head.Seq-first+1)
		}
		first = cp.Head.Seq + 1
	}
	if batches < 3 {
		t.Errorf("%d batches", batches)
	}
}

func TestIndex(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	put := func(doc tiers.DocID, entries ...crdt.IndexEntry) {
		if err := s.PutViews(store.Made{Key: store.DocKey{Stream: stream, Doc: doc}, View: crdt.View{JSON: []byte("{}"), Index: entries}, Version: 0}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		put(tiers.DocID(fmt.Sprintf("event:%d", i)), crdt.IndexEntry{Name: "n", Value: fmt.Sprint(i / 2)}, crdt.IndexEntry{Name: "nn", Value: "x"})
	}
	list := func(q store.IndexQuery) string {
		hits, err := s.Index(q)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, h := range hits {
			out = append(out, h.Value+h.Key.Doc.Name())
		}
		return strings.Join(out, " ")
	}
	after := func(value string, doc tiers.DocID) *store.IndexHit {
		return &store.IndexHit{Value: value, Key: store.DocKey{Stream: stream, Doc: doc}}
	}
	for _, row := range []struct {
		q    store.IndexQuery
		want string
	}{
		{store.IndexQuery{Name: "n"}, "00 01 12 13 24"},
		{store.IndexQuery{Name: "n", Descending: true}, "24 13 12 01 00"},
		{store.IndexQuery{Name: "n", Limit: 2}, "00 01"},
		{store.IndexQuery{Name: "n", Prefix: "1"}, "12 13"},
		{store.IndexQuery{Name: "n", After: after("0", "event:1"), Limit: 2}, "12 13"},
		{store.IndexQuery{Name: "n", After: after("1", "event:2"), Descending: true}, "01 00"},
		{store.IndexQuery{Name: "n", Prefix: "9"}, ""},
		{store.IndexQuery{Name: "m"}, ""},
	} {
		if got := list(row.q); got != row.want {
			t.Errorf("%+v: %q, want %q", row.q, got, row.want)
		}
	}
	put("event:0") // its entries go with the old view
	if got := list(store.IndexQuery{Name: "n"}); got != "01 12 13 24" {
		t.Errorf("after an entry went: %q", got)
	}
}
