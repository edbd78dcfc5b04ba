package document_test

import (
	"fmt"
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/replication/document"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

func decode(raw []byte) *change.Change {
	c, err := change.Decode(raw, change.DefaultLimits())
	if err != nil {
		panic(err)
	}
	return c
}

// append edits a document as a site does, without the library's opinion.
func (w *world) append(doc tiers.DocID, n int) {
	w.Helper()
	base, err := w.s.Heads(key(doc))
	if err != nil {
		w.Fatal(err)
	}
	raw, err := w.cache.Edit(key(doc), base, actorOf(self), int64(n), editOps(n))
	if err != nil {
		w.Fatal(err)
	}
	tx := w.s.Begin()
	if _, err := tx.Append(self, []store.Item{{Stream: stream, Doc: doc, Base: base, Time: crdt.HybridTime(n + 1), Change: raw}}); err != nil {
		w.Fatal(err)
	}
	w.commit(tx)
}

// TestEditCostsWhatIsNew: of a document with a thousand edits, each edit and each view
// decodes and reads from the store what came since the last one, and no more; after a
// restart the first one reads all, once.
func TestEditCostsWhatIsNew(t *testing.T) {
	w := newWorld(t, t.TempDir(), 0)
	defer func() { _ = w.s.Close() }()
	const doc, edits = tiers.DocID("event:a"), 1000
	w.edit(doc, 0, nil)
	for n := 1; n <= edits; n++ {
		w.append(doc, n)
		r, err := w.cache.Read(key(doc), 1)
		if err != nil || r.Document == nil || len(r.Document.Changes) != n+1 || len(r.History.Raw) > 1 {
			t.Fatalf("edit %d: %d changes were read anew (%v)", n, len(r.History.Raw), err)
		}
		if got := w.cache.Decoded(); got != uint64(n)+1 {
			t.Fatalf("after %d edits %d changes were decoded, want each once", n, got)
		}
	}
	if err := w.s.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	for range 3 {
		if _, err := w.cache.Read(key(doc), 1); err != nil {
			t.Fatal(err)
		}
		if got := w.cache.Decoded(); got != edits+1 {
			t.Fatalf("after a restart %d changes were decoded, want %d once", got, edits+1)
		}
	}
}

// TestKeptBytesAreBounded: however many documents there are, what is kept stays within
// its bound, and the one that was used last is kept.
func TestKeptBytesAreBounded(t *testing.T) {
	const bytesMax = 64 << 10
	w := newWorld(t, t.TempDir(), bytesMax)
	defer func() { _ = w.s.Close() }()
	most := 0
	for i := range 60 {
		doc := tiers.DocID(fmt.Sprintf("event:%d", i))
		w.edit(doc, 0, nil)
		for n := 1; n < 8; n++ {
			w.append(doc, n)
			if most = max(most, w.cache.Bytes()); most > bytesMax {
				t.Fatalf("%d bytes are kept, at most %d are allowed", most, bytesMax)
			}
		}
		before := w.cache.Decoded()
		if _, err := w.cache.Read(key(doc), 1); err != nil || w.cache.Decoded() != before+1 {
			t.Fatalf("the document that was just edited was not kept (%v)", err)
		}
	}
	if most < bytesMax/2 {
		t.Errorf("%d bytes are kept at most: the bound was not reached", most)
	}
	before := w.cache.Decoded()
	if _, err := w.cache.Read(key("event:0"), 1); err != nil || w.cache.Decoded() != before+8 {
		t.Errorf("the document that was used first was kept all the time (%v)", err)
	}
}

// TestMovedUnderAnEdit: an edit is refused whose maker saw other heads.
func TestMovedUnderAnEdit(t *testing.T) {
	w := newWorld(t, t.TempDir(), 0)
	defer func() { _ = w.s.Close() }()
	w.edit("event:a", 0, nil)
	base, err := w.s.Heads(key("event:a"))
	if err != nil {
		t.Fatal(err)
	}
	w.append("event:a", 1)
	if raw, err := w.cache.Edit(key("event:a"), base, actorOf(self), 2, editOps(2)); raw != nil || err == nil {
		t.Fatalf("%x, %v", raw, err)
	}
}

// TestPastTheLimits: a document that is past the engine's limits is not kept.
func TestPastTheLimits(t *testing.T) {
	w := newWorld(t, t.TempDir(), 0)
	defer func() { _ = w.s.Close() }()
	w.edit("event:a", 0, nil)
	w.append("event:a", 1)
	for _, cfg := range []document.Config{{HistoryBytesMax: 1 << 20, OpsMax: 4}, {HistoryBytesMax: 100, OpsMax: 100}} {
		cfg.Store = w.s
		c := document.New(cfg)
		if r, err := c.Read(key("event:a"), 1); err == nil || c.Bytes() != 0 {
			t.Errorf("%+v was kept", r.Document)
		}
	}
}

// TestSetAsideIsSeen: after records of a document were set aside and as many others
// came, it is read from the beginning, and is what they make of it.
func TestSetAsideIsSeen(t *testing.T) {
	w := newWorld(t, t.TempDir(), 0)
	defer func() { _ = w.s.Close() }()
	const doc = tiers.DocID("event:a")
	w.edit(doc, 0, nil)
	seen := map[crdt.Author]int{self: 1}
	w.foreign(district, doc, 1, seen, editOps(1))
	w.arrive(district, 1)
	w.check(doc)
	w.setAside(district, 0)
	w.foreign(district, doc, 2, seen, editOps(2))
	w.arrive(district, 1)
	before := w.cache.Decoded()
	w.check(doc)
	if got := w.cache.Decoded() - before; got != 2 {
		t.Errorf("%d changes were decoded, want both", got)
	}
}
