package document_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication/document"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

var (
	self     = crdt.Author{Site: "500101001", Incarnation: 1}
	district = crdt.Author{Site: "500101", Incarnation: 1}
	city     = crdt.Author{Site: "500000", Incarnation: 1}
	stream   = tiers.StreamID{Site: "500101001", Class: tiers.ClassRoutine}
)

func actorOf(a crdt.Author) crdt.Actor { return crdt.NewActor(a, [8]byte{1}) }

func key(doc tiers.DocID) store.DocKey { return store.DocKey{Stream: stream, Doc: doc} }

type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// world is a store with documents, and what other sites wrote that it may not have.
type world struct {
	tester
	dir     string
	s       *store.Store
	cache   *document.Cache
	kept    int // bytes
	library *engine.Engine
	index   uint64
	// written are what an author wrote, in the order of its chain.
	written map[crdt.Author][]crdt.Record
}

func newWorld(t tester, dir string, kept int) *world {
	w := &world{tester: t, dir: dir, kept: kept, library: engine.New(), written: map[crdt.Author][]crdt.Record{}}
	w.open()
	return w
}

// open opens the store, and begins with nothing kept.
func (w *world) open() {
	w.Helper()
	var err error
	if w.s, err = store.Open(store.Config{Dir: w.dir, Federation: "cq", Site: self.Site}); err != nil {
		w.Fatal(err)
	}
	w.cache = document.New(document.Config{Store: w.s, BytesMax: w.kept, HistoryBytesMax: 1 << 20, OpsMax: 100_000})
}

func (w *world) commit(tx *store.Tx) {
	w.Helper()
	w.index++
	if err := tx.Commit(w.index); err != nil {
		w.Fatal(err)
	}
}

func firstOps() []crdt.Op {
	return []crdt.Op{
		{Kind: crdt.OpPut, Key: "report", Value: "{}"},
		{Kind: crdt.OpMakeList, Key: "actions"}, {Kind: crdt.OpMakeMap, Key: "corrections"},
	}
}

func editOps(n int) []crdt.Op {
	return []crdt.Op{
		{Kind: crdt.OpPut, In: "corrections", Key: "place", Value: fmt.Sprint("p", n)},
		{Kind: crdt.OpPut, In: "corrections", Key: "title", Value: fmt.Sprint("edit ", n)},
	}
}

// edit writes at this site, and requires the bytes that the library makes.
func (w *world) edit(doc tiers.DocID, n int, ops []crdt.Op) {
	w.Helper()
	base, err := w.s.Heads(key(doc))
	there := err == nil
	var raw []byte
	if there && len(base) > 0 {
		raw, err = w.cache.Edit(key(doc), base, actorOf(self), int64(n), ops)
		h, _ := w.s.Changes(key(doc))
		want, wantErr := w.library.Build(h.Raw, actorOf(self), int64(n), ops)
		switch {
		case errors.Is(wantErr, engine.ErrUnchanged) && raw == nil && err == nil:
			return
		case errors.Is(err, document.ErrWhole) && wantErr == nil:
			raw = want.Raw // as of a key that is written twice
		case err != nil || wantErr != nil || string(raw) != string(want.Raw):
			w.Fatalf("an edit makes\n%x, want\n%x (%v, %v)", raw, want.Raw, err, wantErr)
		}
	} else {
		b, err := w.library.Build(nil, actorOf(self), int64(n), firstOps())
		if err != nil {
			w.Fatal(err)
		}
		raw = b.Raw
	}
	at := crdt.HybridTime(n + 1)
	tx := w.s.Begin()
	if _, err := tx.Append(self, []store.Item{{Stream: stream, Doc: doc, Base: base, Time: at, Change: raw}}); errors.Is(err, store.ErrMoved) {
		_ = tx.Discard() // what it wrote before is held back
		return
	} else if err != nil {
		w.Fatal(err)
	}
	w.commit(tx)
	w.written[self] = append(w.written[self], crdt.Record{Kind: crdt.RecordChange, Time: at, Doc: doc, Body: raw})
}

// foreign has another author write on what it knows: the first records of each chain.
func (w *world) foreign(a crdt.Author, doc tiers.DocID, n int, seen map[crdt.Author]int, ops []crdt.Op) {
	w.Helper()
	var known [][]byte
	for _, by := range []crdt.Author{self, district, city} {
		for i, r := range w.written[by] {
			if r.Doc == doc && (by == a || i < seen[by]) {
				known = append(known, r.Body)
			}
		}
	}
	known = causal(known)
	if len(known) == 0 {
		return
	}
	b, err := w.library.Build(known, actorOf(a), int64(n), ops)
	if err != nil {
		return // nothing changes, or it lacks what its containers are made in
	}
	w.written[a] = append(w.written[a], crdt.Record{Kind: crdt.RecordChange, Time: crdt.HybridTime(n + 1), Doc: doc, Body: b.Raw})
}

// causal returns those changes that follow only each other, in order.
func causal(raw [][]byte) (out [][]byte) {
	in := map[crdt.Hash]bool{}
	for more := true; more; {
		more = false
		for i := 0; i < len(raw); i++ {
			c := decode(raw[i])
			if slices.ContainsFunc(c.Deps, func(h crdt.Hash) bool { return !in[h] }) {
				continue
			}
			in[c.Hash], more = true, true
			out, raw = append(out, raw[i]), slices.Delete(slices.Clone(raw), i, i+1)
			i--
		}
	}
	return out
}

// head is where a chain ends in the store.
func (w *world) head(c crdt.ChainID) crdt.Head {
	if h, ok := w.s.Vector(stream)[c.Author]; ok {
		return h
	}
	return c.Origin()
}

// arrive takes in up to n more records of an author's.
func (w *world) arrive(a crdt.Author, n int) {
	w.Helper()
	chain := crdt.ChainID{Stream: stream, Author: a}
	head := w.head(chain)
	r := store.Range{Chain: chain, First: head.Seq + 1}
	for _, rec := range w.written[a][min(int(head.Seq), len(w.written[a])):] {
		if len(r.Records) == n {
			break
		}
		enc := rec.AppendTo(nil)
		head = head.Next(enc)
		r.Records = append(r.Records, enc)
	}
	if len(r.Records) == 0 {
		return
	}
	r.Checkpoint = crdt.Checkpoint{Chain: chain, Head: head}
	tx := w.s.Begin()
	if _, err := tx.Ingest(r); err != nil {
		w.Fatal(err)
	}
	w.commit(tx)
}

// setAside takes the end of an author's chain away; another history of it may follow.
func (w *world) setAside(a crdt.Author, keep int) {
	w.Helper()
	chain := crdt.ChainID{Stream: stream, Author: a}
	if w.head(chain).Seq <= uint64(keep) {
		return
	}
	h, err := w.s.HashAt(chain, uint64(keep)+1)
	if err != nil {
		w.Fatal(err)
	}
	tx := w.s.Begin()
	if _, err := tx.SetAside(store.Evict{Chain: chain, Keep: uint64(keep), Hash: h}); err != nil {
		w.Fatal(err)
	}
	w.commit(tx)
	w.written[a] = w.written[a][:keep]
}

// check requires that a document reads as its whole history does.
func (w *world) check(doc tiers.DocID) {
	w.Helper()
	h, err := w.s.Changes(key(doc))
	got, gotErr := w.cache.Read(key(doc), 1)
	if errors.Is(err, store.ErrNotFound) {
		if !errors.Is(gotErr, store.ErrNotFound) {
			w.Fatalf("%s is gone, and reads as %+v, %v", doc, got, gotErr)
		}
		return
	}
	if len(h.Raw) == 0 {
		if got.Document != nil {
			w.Fatalf("%s has no change, and reads as %+v", doc, got.Document)
		}
		return
	}
	if err != nil || gotErr != nil {
		w.Fatal(err, gotErr)
	}
	want, err := w.library.Read(h.Raw)
	if err != nil {
		w.Fatal(err)
	}
	want.Heads, got.Document.Heads = h.Heads, slices.Clone(got.Document.Heads)
	if !reflect.DeepEqual(got.Document, want) {
		w.Fatalf("%s reads as\n%+v, want\n%+v", doc, got.Document, want)
	}
	authors := map[crdt.Actor]crdt.Author{}
	for i, c := range want.Changes {
		authors[c.Actor] = h.Authors[i]
	}
	n := got.History
	if !reflect.DeepEqual(got.Authors, authors) || n.Pending != h.Pending || n.Refused != h.Refused || n.Version != h.Version || n.From+len(n.Raw) != len(h.Raw) {
		w.Fatalf("%s: %v and %+v, want %v and %+v", doc, got.Authors, n, authors, h)
	}
}

// TestKeptEqualsHistory: whatever is written here and elsewhere, in whichever order it
// arrives, waits for what it follows, is set aside or written anew, and whatever is
// let go of or lost in a restart, a document reads as its whole history does, and an
// edit makes the bytes that the library makes of that.
func TestKeptEqualsHistory(t *testing.T) {
	dir, runs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		w := newWorld(t, filepath.Join(dir, strconv.Itoa(runs)), rapid.SampledFrom([]int{1, 8 << 10, 1 << 20}).Draw(t, "kept"))
		defer func() { _ = w.s.Close() }()
		docs := []tiers.DocID{"event:a", "event:b", "event:c"}
		for i, d := range docs {
			w.edit(d, i, nil)
		}
		for i := range rapid.IntRange(1, 20).Draw(t, "steps") {
			n := i + len(docs)
			doc := rapid.SampledFrom(docs).Draw(t, "doc")
			other := rapid.SampledFrom([]crdt.Author{district, city}).Draw(t, "author")
			ops := rapid.SampledFrom([][]crdt.Op{
				editOps(n), editOps(0), {{Kind: crdt.OpAppend, In: "actions", Value: fmt.Sprint(n)}}, {{Kind: crdt.OpPut, Key: "report", Value: int64(n)}},
				{{Kind: crdt.OpDelete, In: "corrections", Key: "title"}}, {{Kind: crdt.OpPut, Key: "x", Value: true}, {Kind: crdt.OpPut, Key: "x", Value: int64(n)}},
			}).Draw(t, "ops")
			switch rapid.SampledFrom([]string{"edit", "edit", "foreign", "foreign", "arrive", "arrive", "aside", "restart"}).Draw(t, "step") {
			case "edit":
				w.edit(doc, n, ops)
			case "foreign":
				w.foreign(other, doc, n, map[crdt.Author]int{
					self: rapid.IntRange(0, n).Draw(t, "self"), district: rapid.IntRange(0, n).Draw(t, "district"), city: rapid.IntRange(0, n).Draw(t, "city"),
				}, ops)
			case "arrive":
				w.arrive(other, rapid.IntRange(1, 4).Draw(t, "records"))
			case "aside":
				w.setAside(other, rapid.IntRange(0, len(w.written[other])).Draw(t, "keep"))
			case "restart":
				if err := w.s.Flush(); err != nil {
					t.Fatal(err)
				}
				if err := w.s.Close(); err != nil {
					t.Fatal(err)
				}
				w.open()
			}
			w.check(doc)
		}
	})
}
