package store_test

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/corpus"
	"github.com/tiermesh/tiermesh/tiers"
)

// appendPut writes the next change of a document.
func appendPut(t *testing.T, s *store.Store, w *writer, key store.DocKey, value string) {
	t.Helper()
	base := heads(t, w.base)
	tx := s.Begin()
	if _, err := tx.Append(self, []store.Item{{Stream: key.Stream, Doc: key.Doc, Base: base, Time: 1, Change: w.put(t, "k", value)}}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(s.AppliedIndex() + 1); err != nil {
		t.Fatal(err)
	}
}

// materialise makes the views of what is handed out, and reports whether that was
// anything.
func materialise(t *testing.T, s *store.Store) bool {
	t.Helper()
	docs, err := s.TakeDirty(8)
	if err != nil {
		t.Error(err)
	}
	for _, d := range docs {
		h := d.History
		if h == nil {
			if h, err = s.Changes(d.Key); err != nil {
				t.Error(err)
				continue
			}
		}
		if err := s.PutViews(store.Made{Key: d.Key, View: crdt.View{JSON: []byte("{}")}, Version: h.Version, Database: h.Database}); err != nil {
			t.Error(err)
		}
	}
	return len(docs) > 0
}

// TestDirtyAcrossExchange: while another database takes the store's place, views
// are made; each document that is dirty there has its view in the end.
func TestDirtyAcrossExchange(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	key := store.DocKey{Stream: stream, Doc: "event:a"}
	appendPut(t, s, newWriter(self), key, "v")
	if err := s.Checkpoint("copy"); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() { // ends with stop
			defer close(stopped)
			for {
				materialise(t, s)
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		if err := s.Replace("copy"); err != nil {
			t.Fatal(err)
		}
		close(stop)
		<-stopped
		for materialise(t, s) {
		}
		if n := s.Counts().Dirty; n != 0 {
			t.Fatalf("%d documents dirty that nobody is told of", n)
		}
	}
}

// TestViewOfAnotherDatabase: a view that was made of the database whose place
// another one took is not put into that: it may hold other things.
func TestViewOfAnotherDatabase(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	kept, lost := store.DocKey{Stream: stream, Doc: "event:kept"}, store.DocKey{Stream: stream, Doc: "event:lost"}
	appendPut(t, s, newWriter(self), kept, "of the copy")
	if err := s.Checkpoint("copy"); err != nil {
		t.Fatal(err)
	}
	appendPut(t, s, newWriter(self), lost, "v")
	docs, err := s.TakeDirty(8)
	if err != nil || len(docs) != 2 {
		t.Fatalf("%v, %v", docs, err)
	}
	if err := s.Replace("copy"); err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		v := crdt.View{JSON: []byte(`"old"`), Index: []crdt.IndexEntry{{Name: "n", Value: "old"}}}
		if err := s.PutViews(store.Made{Key: d.Key, View: v, Version: d.History.Version, Database: d.History.Database}); err != nil {
			t.Fatal(err)
		}
	}
	if hits, err := s.Index(store.IndexQuery{Name: "n"}); err != nil || len(hits) != 0 {
		t.Errorf("%v, %v", hits, err)
	}
	if n := s.Counts().Dirty; n != 1 {
		t.Errorf("%d dirty, want 1", n)
	}
	for materialise(t, s) {
	}
	if n := s.Counts().Dirty; n != 0 {
		t.Errorf("%d dirty", n)
	}
}

// TestFreshBounded: short changes of many operations do not fill memory while
// their documents wait for their views.
func TestFreshBounded(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	const ops, docs = 50_000, 40
	raw := repeated(newWriter(self).put(t, "k", "v"), ops)
	if len(raw) > 300 {
		t.Fatalf("%d bytes", len(raw))
	}
	tx := s.Begin()
	for i := range docs {
		if _, err := tx.Append(self, []store.Item{{Stream: stream, Doc: tiers.DocID(fmt.Sprint("event:", i)), Time: 1, Change: raw}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(1); err != nil {
		t.Fatal(err)
	}
	taken, err := s.TakeDirty(2 * docs)
	if err != nil || len(taken) != docs {
		t.Fatalf("%d documents, %v", len(taken), err)
	}
	kept := uint64(0)
	for _, d := range taken {
		if d.History != nil {
			kept += d.History.Decoded[0].Ops
		}
	}
	if kept > docs*ops/10 {
		t.Errorf("%d decoded operations are kept in memory", kept)
	}
}

// repeated is a first change that writes nothing to a key n times.
func repeated(raw []byte, n int64) []byte {
	p := corpus.Apart(raw)
	run := func(value ...byte) []byte { return append(corpus.SLEB(nil, n), value...) }
	p.Columns = []corpus.Column{
		{Spec: 0x15, Data: run(1, 'k')}, {Spec: 0x34, Data: corpus.ULEB(nil, uint64(n))}, {Spec: 0x42, Data: run(1)},
		{Spec: 0x56, Data: run(0)}, {Spec: 0x70, Data: run(0)},
	}
	return p.Together()
}

// TestDirtyCount: the number of dirty documents is right at any moment, also
// between the commit of a change and what follows it.
func TestDirtyCount(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	key := store.DocKey{Stream: stream, Doc: "event:a"}
	w := newWriter(self)
	appendPut(t, s, w, key, "0")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			h, err := s.Changes(key)
			if err == nil {
				err = s.PutViews(store.Made{Key: key, Version: h.Version, Database: h.Database})
			}
			if n := s.Counts().Dirty; err != nil || n > 1 {
				t.Errorf("%d dirty, %v", n, err)
				return
			}
		}
	}()
	for i := range 100 {
		appendPut(t, s, w, key, string(rune('a'+i%26)))
	}
	close(stop)
	<-stopped
}
