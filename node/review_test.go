package node_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/replication/view"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/review"
)

// arrived is a record that came in at the city at some time.
type arrived struct {
	author crdt.Author
	record []byte
	at     int64
}

// cityStore is a store of the city's.
type cityStore struct {
	t      *rapid.T
	s      *store.Store
	stream tiers.StreamID
	chain  map[crdt.Author][][]byte
}

// storeKey signs what comes into a cityStore.
var storeKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(store.Config{Dir: t.TempDir(), Federation: "cq", Site: city})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// take lets a record in.
func (c *cityStore) take(a arrived) {
	chain := crdt.ChainID{Stream: c.stream, Author: a.author}
	c.chain[a.author] = append(c.chain[a.author], a.record)
	head := chain.Origin()
	for _, r := range c.chain[a.author] {
		head = head.Next(r)
	}
	cp, err := crdt.SignCheckpoint(crdt.Ed25519Signer(storeKey), chain, head, 1)
	if err != nil {
		c.t.Fatal(err)
	}
	tx := c.s.Begin()
	_, err = tx.Ingest(store.Range{Chain: chain, First: head.Seq, Records: [][]byte{a.record}, Checkpoint: cp, Arrived: crdt.HybridTime(a.at << 16)})
	if err := errors.Join(err, tx.Commit(c.s.AppliedIndex()+1)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cityStore) views() *view.Materialiser {
	return view.New(view.Config{Store: c.s, Site: city, Engine: engine.New(), Folds: node.Folds()})
}

// drawHistory draws what a township and its district did to one event, each on what
// it saw of the other, in the order in which it was done.
func drawHistory(t *rapid.T) []arrived {
	e := engine.New()
	by := []crdt.Author{{Site: township, Incarnation: 1}, {Site: district, Incarnation: 1}}
	ops, err := event.CreateOps(event.Report{Type: "01001", Title: "井盖", Priority: 3, ReportedAtMS: 1})
	if err != nil {
		t.Fatal(err)
	}
	var out []arrived
	var all [][]byte
	seen := map[crdt.Author][]int{}
	write := func(a crdt.Author, at int, ops []crdt.Op) {
		var base [][]byte
		for _, i := range seen[a] {
			base = append(base, all[i])
		}
		b, err := e.Build(base, crdt.NewActor(a, [8]byte{1}), int64(at), ops)
		if err != nil {
			t.Fatal(err)
		}
		seen[a] = append(seen[a], len(all))
		all = append(all, b.Raw)
		out = append(out, arrived{a, crdt.Record{Kind: crdt.RecordChange, Time: crdt.HybridTime(at) << 16, Doc: "event:x", Body: b.Raw}.AppendTo(nil), 0})
	}
	write(by[0], 1, ops)
	seen[by[1]] = []int{0}
	for i := range rapid.IntRange(0, 7).Draw(t, "actions") {
		w := rapid.IntRange(0, 1).Draw(t, "by")
		if rapid.Bool().Draw(t, "synced") { // it hears of all that was done
			seen[by[w]] = seen[by[w]][:0]
			for j := range all {
				seen[by[w]] = append(seen[by[w]], j)
			}
		}
		op, err := event.ActionOp(event.Action{At: crdt.HybridTime(i+2) << 16, By: by[w].Site, Kind: rapid.SampledFrom([]string{"accept", "dispatch", "close", "reopen"}).Draw(t, "kind")})
		if err != nil {
			t.Fatal(err)
		}
		write(by[w], i+2, []crdt.Op{op})
	}
	return out
}

// TestAsOfIsReplay: what a site is said to have known at a time is, byte for byte, the
// view that a store has into which the records that had come in by then were put, in
// the order in which they came: also when the chains overtook each other.
func TestAsOfIsReplay(t *testing.T) {
	whole, part, n := openStore(t), openStore(t), 0
	rapid.Check(t, func(t *rapid.T) {
		// Each time in another stream, so that a store is opened but once.
		n++
		stream := tiers.StreamID{Site: tiers.SiteID(fmt.Sprintf("5%08d", n)), Class: tiers.ClassRoutine}
		k := store.DocKey{Stream: stream, Doc: "event:x"}
		// Each author's records keep their order, the two chains mix as they like.
		queues := map[tiers.SiteID][]arrived{}
		for _, a := range drawHistory(t) {
			queues[a.author.Site] = append(queues[a.author.Site], a)
		}
		full := &cityStore{t, whole, stream, map[crdt.Author][][]byte{}}
		var in []arrived
		for now := int64(10_000); len(queues[township])+len(queues[district]) > 0; now += 2_000 {
			site := rapid.SampledFrom([]tiers.SiteID{township, district}).Draw(t, "comes in")
			if len(queues[site]) == 0 {
				site = map[tiers.SiteID]tiers.SiteID{township: district, district: township}[site]
			}
			a := queues[site][0]
			queues[site], a.at = queues[site][1:], now
			in = append(in, a)
			full.take(a)
		}
		cut := rapid.Int64Range(9_000, 10_000+2_000*int64(len(in))).Draw(t, "cut")
		then := &cityStore{t, part, stream, map[crdt.Author][][]byte{}}
		for _, a := range in {
			if a.at <= cut {
				then.take(a)
			}
		}
		want, err := then.views().View(k)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		h, changes, err := node.Reviewed(full.s, city, k)
		if err != nil {
			t.Fatal(err)
		}
		had, waiting, unsure := review.Had(changes, crdt.HybridTime(cut<<16|0xffff))
		if unsure != 0 {
			t.Fatal("unsure of", unsure)
		}
		if len(had) == 0 {
			var v event.View
			if err := json.Unmarshal(want.JSON, &v); len(want.JSON) > 0 && (err != nil || v.Report.Title != "") {
				t.Fatalf("nothing was known at %d, the replay shows %s", cut, want.JSON)
			}
			return
		}
		got, err := full.views().Fold(k, node.Subset(h, had, waiting))
		if err != nil {
			t.Fatal(err)
		}
		if string(got.JSON) != string(want.JSON) || fmt.Sprint(got.Index) != fmt.Sprint(want.Index) {
			t.Fatalf("at %d:\n%s\nreplayed:\n%s", cut, got.JSON, want.JSON)
		}
	})
}
