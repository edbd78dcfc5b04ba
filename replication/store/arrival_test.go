package store_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// TestArrivals: whatever ranges come in when, with restarts in between and a clock
// that goes back, the store says of each record when it came in to within a second,
// and never that it held something before it did.
func TestArrivals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewMem()
		s := open(t, fs)
		defer func() { _ = s.Close() }()
		authors := []crdt.Author{district, city}
		records, came := map[crdt.Author][][]byte{}, map[crdt.Author][]int64{}
		now, high := int64(1_000_000), map[crdt.Author]int64{}
		for range rapid.IntRange(1, 20).Draw(t, "ranges") {
			now += rapid.Int64Range(-300, 2500).Draw(t, "later")
			a := rapid.SampledFrom(authors).Draw(t, "author")
			first := len(records[a]) + 1
			high[a] = max(high[a], now)
			for range rapid.IntRange(1, 4).Draw(t, "records") {
				records[a] = append(records[a], record(tiers.DocID("event:x"), 1, []byte("no change")))
				came[a] = append(came[a], high[a])
			}
			r := span(t, a, records[a], first, len(records[a]))
			r.Arrived = crdt.HybridTime(now << 16)
			ingest(t, s, r)
			ingest(t, s, r) // what is held came in before
			if rapid.IntRange(0, 4).Draw(t, "restart") == 0 {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, fs)
			}
		}
		for a, times := range came {
			for i, at := range times {
				got, ok, err := s.ArrivalOf(crdt.ChainID{Stream: stream, Author: a}, uint64(i+1))
				if err != nil || !ok || got.From.Millis() > at || got.To.Millis() < at || got.To.Millis()-got.From.Millis() >= 1000 {
					t.Fatalf("record %d of %s came in at %d: %+v, %v", i+1, a, at, got, err)
				}
			}
		}
		at := now - rapid.Int64Range(-500, 20_000).Draw(t, "back")
		held, err := s.HeldAt(crdt.HybridTime(at<<16 | 0xffff))
		if err != nil || len(held) != len(came) {
			t.Fatal(held, err)
		}
		for _, h := range held {
			least, most := uint64(0), uint64(0)
			for _, c := range came[h.Chain.Author] {
				if c <= at-1000 {
					least++
				}
				if c <= at {
					most++
				}
			}
			if h.Then < least || h.Then > most || h.Now != uint64(len(came[h.Chain.Author])) || h.Unknown != 0 {
				t.Fatalf("at %d: %+v, want %d to %d", at, h, least, most)
			}
		}
	})
}

// TestArrivalsUnknownAndForgotten: of records of which nobody noted when they came in
// nothing is claimed; of those that were set aside, what is noted is forgotten, and
// what comes in their place is noted anew.
func TestArrivalsUnknownAndForgotten(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	all := [][]byte{record("event:x", 1, []byte("1")), record("event:x", 2, []byte("2")), record("event:x", 3, []byte("3"))}
	chain := crdt.ChainID{Stream: stream, Author: district}
	ingest(t, s, span(t, district, all, 1, 1)) // proposed by an earlier build
	r := span(t, district, all, 2, 3)
	r.Arrived = 5_000 << 16
	ingest(t, s, r)
	if _, ok, err := s.ArrivalOf(chain, 1); ok || err != nil {
		t.Error("a time is made up", err)
	}
	if held, err := s.HeldAt(6_000 << 16); err != nil || len(held) != 1 || held[0].Then != 2 || held[0].Unknown != 1 || held[0].Now != 3 {
		t.Errorf("%+v, %v", held, err)
	}
	if n, err := evict(t, s, district, 2, span(t, district, all, 1, 2).Checkpoint); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if a, ok, err := s.ArrivalOf(chain, 2); !ok || err != nil || a.Last != 2 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, ok, err := s.ArrivalOf(chain, 3); ok || err != nil {
		t.Error("what is set aside came in", err)
	}
	other := append(append([][]byte{}, all[:2]...), record("event:x", 3, []byte("other")))
	r = span(t, district, other, 3, 3)
	r.Arrived = 9_000 << 16
	ingest(t, s, r)
	if a, ok, err := s.ArrivalOf(chain, 3); !ok || err != nil || a.To != 9_000<<16 {
		t.Errorf("%+v, %v", a, err)
	}
	newest, err := s.Newest()
	if err != nil || newest[district.Site] != 3<<16 {
		t.Errorf("%v, %v", newest, err)
	}
}
