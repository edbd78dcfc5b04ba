package view_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/replication/view"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

var (
	self   = crdt.Author{Site: "500101001", Incarnation: 1}
	actor  = crdt.NewActor(self, [8]byte{1})
	stream = tiers.StreamID{Site: "500101001", Class: tiers.ClassRoutine}
)

// TestMain is also the worker process of the benchmark.
func TestMain(m *testing.M) {
	if os.Getenv("TIERMESH_TEST_ENGINE") != "" {
		if err := engine.Work(engine.WorkerConfig{}, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

type fixture struct {
	t     testing.TB
	s     *store.Store
	index uint64
	bases map[tiers.DocID][][]byte
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	s, err := store.Open(store.Config{Dir: t.TempDir(), Federation: "cq", Site: self.Site})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &fixture{t: t, s: s, bases: map[tiers.DocID][][]byte{}}
}

func key(doc tiers.DocID) store.DocKey { return store.DocKey{Stream: stream, Doc: doc} }

// put writes one field of a document.
func (f *fixture) put(doc tiers.DocID, name, value string) {
	f.t.Helper()
	f.build(doc, []crdt.Op{{Kind: crdt.OpPut, Key: name, Value: value}})
}

// build writes one change of a document.
func (f *fixture) build(doc tiers.DocID, ops []crdt.Op) {
	f.t.Helper()
	b, err := engine.New().Build(f.bases[doc], actor, 1, ops)
	if err != nil {
		f.t.Fatal(err)
	}
	var base []crdt.Hash
	if len(f.bases[doc]) > 0 {
		c, err := f.s.Changes(key(doc))
		if err != nil {
			f.t.Fatal(err)
		}
		base = c.Heads
	}
	tx := f.s.Begin()
	if _, err := tx.Append(self, []store.Item{{Stream: stream, Doc: doc, Base: base, Time: 1, Change: b.Raw}}); err != nil {
		f.t.Fatal(err)
	}
	f.index++
	if err := tx.Commit(f.index); err != nil {
		f.t.Fatal(err)
	}
	f.bases[doc] = append(f.bases[doc], b.Raw)
}

// run materialises until nothing is dirty.
func run(t testing.TB, m *view.Materialiser, s *store.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	changed := m.Subscribe()
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }() // ends with ctx
	for s.Counts().Dirty > 0 {
		<-changed
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// fold is the rules of a kind whose documents are bad in each way there is.
func fold(s *crdt.Source) (crdt.View, error) {
	switch bad := s.Document.Root.String("bad"); bad {
	case "error":
		return crdt.View{}, errors.New("no rule for this")
	case "json":
		return crdt.View{JSON: []byte("{")}, nil
	case "index":
		return crdt.View{JSON: []byte("{}"), Index: []crdt.IndexEntry{{Name: "n", Value: "a\x00b"}}}, nil
	case "long":
		return crdt.View{JSON: []byte("{}"), Index: []crdt.IndexEntry{{Name: "n", Value: strings.Repeat("x", 513)}}}, nil
	default:
		return s.FieldView()
	}
}

// TestQuarantine: a document that cannot be materialised stops only itself, is
// listed, and is out of quarantine when a later change mends it.
func TestQuarantine(t *testing.T) {
	f := newFixture(t)
	m := view.New(view.Config{Store: f.s, Engine: engine.New(), Folds: map[string]view.Fold{"event": fold}})
	kinds := []string{"error", "json", "index", "long"}
	for _, bad := range kinds {
		f.put(tiers.NewDocID("event", bad), "bad", bad)
	}
	for i := range 20 {
		f.put(tiers.DocID(fmt.Sprintf("event:good-%d", i)), "name", "x")
	}
	run(t, m, f.s)
	hits, err := f.s.Index(store.IndexQuery{Name: view.IndexQuarantine})
	if err != nil || len(hits) != len(kinds) {
		t.Fatalf("%v in quarantine, %v", hits, err)
	}
	for _, bad := range kinds {
		v, err := m.View(key(tiers.NewDocID("event", bad)))
		if err != nil || !strings.Contains(string(v.JSON), `"quarantined":`) {
			t.Errorf("%s: %s, %v", bad, v.JSON, err)
		}
	}
	if hits, err = f.s.Index(store.IndexQuery{Name: "event"}); err != nil || len(hits) != 20 {
		t.Errorf("%d good documents, %v", len(hits), err)
	}
	f.put("event:error", "bad", "mended")
	if v, err := m.View(key("event:error")); err != nil || !strings.Contains(string(v.JSON), "mended") {
		t.Errorf("mended: %s, %v", v.JSON, err)
	}
	if hits, err = f.s.Index(store.IndexQuery{Name: view.IndexQuarantine}); err != nil || len(hits) != len(kinds)-1 {
		t.Errorf("%v in quarantine, %v", hits, err)
	}
}

// failing is an engine that reads nothing.
type failing struct{ changes int }

func (e failing) Read([][]byte, ...*change.Change) (*crdt.Document, error) {
	if e.changes < 0 {
		return nil, errors.New("engine down")
	}
	return &crdt.Document{Changes: make([]crdt.ChangeInfo, e.changes)}, nil
}

// TestEngineFailureIsTheDocuments: an engine that fails, or that silently
// reads less than it was given, puts the document into quarantine.
func TestEngineFailureIsTheDocuments(t *testing.T) {
	for name, e := range map[string]failing{"fails": {-1}, "reads less": {0}} {
		f := newFixture(t)
		f.put("event:a", "k", "v")
		m := view.New(view.Config{Store: f.s, Engine: e, Folds: map[string]view.Fold{"event": fold}})
		if v, err := m.View(key("event:a")); err != nil || !strings.Contains(string(v.JSON), "quarantined") {
			t.Errorf("%s: %s, %v", name, v.JSON, err)
		}
	}
}

// TestReadYourWrite: a dirty document is materialised on the spot, and what
// has no rules of its own is shown as plain fields.
func TestReadYourWrite(t *testing.T) {
	f := newFixture(t)
	m := view.New(view.Config{Store: f.s, Engine: engine.New()})
	for _, value := range []string{"1", "2", "3"} {
		f.put("later:a", "k", value)
		if v, err := m.View(key("later:a")); err != nil || !strings.Contains(string(v.JSON), `"k":"`+value+`"`) {
			t.Errorf("%s: %s, %v", value, v.JSON, err)
		}
		if n := f.s.Counts().Dirty; n != 0 {
			t.Errorf("%d documents dirty", n)
		}
	}
	if _, err := m.View(key("later:b")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a document that is not there: %v", err)
	}
}

// TestStaleViewStaysDirty: a view that was made from an older history does not
// pass for the present one.
func TestStaleViewStaysDirty(t *testing.T) {
	f := newFixture(t)
	f.put("later:a", "k", "1")
	old, err := f.s.Changes(key("later:a"))
	if err != nil {
		t.Fatal(err)
	}
	f.put("later:a", "k", "2")
	if err := f.s.PutViews(store.Made{Key: key("later:a"), View: crdt.View{JSON: []byte("{}")}, Version: old.Version}); err != nil {
		t.Fatal(err)
	}
	if dirty, err := f.s.IsDirty(key("later:a")); err != nil || !dirty {
		t.Errorf("dirty %v, %v", dirty, err)
	}
}

// TestOldViewDoesNotReplaceNewer: of two workers that fold one document at
// different times, the one that is late does not undo the other.
func TestOldViewDoesNotReplaceNewer(t *testing.T) {
	f := newFixture(t)
	entry := func(v string) []crdt.IndexEntry { return []crdt.IndexEntry{{Name: "n", Value: v}} }
	f.put("later:a", "k", "1")
	f.put("later:a", "k", "2")
	for _, v := range []struct {
		version uint64
		text    string
	}{{2, "new"}, {1, "old"}} {
		if err := f.s.PutViews(store.Made{Key: key("later:a"), View: crdt.View{JSON: []byte(`"` + v.text + `"`), Index: entry(v.text)}, Version: v.version}); err != nil {
			t.Fatal(err)
		}
	}
	v, err := f.s.View(key("later:a"))
	if err != nil || string(v.JSON) != `"new"` {
		t.Errorf("%s, %v", v.JSON, err)
	}
	if hits, err := f.s.Index(store.IndexQuery{Name: "n"}); err != nil || len(hits) != 1 || hits[0].Value != "new" {
		t.Errorf("%v, %v", hits, err)
	}
}

// TestDocumentLeftBehind: a document that was handed out, and is not in the
// database that took the place of the one that had it, has no view and stops
// nobody.
func TestDocumentLeftBehind(t *testing.T) {
	f := newFixture(t)
	m := view.New(view.Config{Store: f.s, Engine: engine.New(), Folds: map[string]view.Fold{"event": fold}})
	f.put("event:kept", "k", "1")
	copied := t.TempDir() + "/copy"
	if err := f.s.Checkpoint(copied); err != nil {
		t.Fatal(err)
	}
	f.put("event:lost", "k", "1")
	if err := f.s.Replace(copied); err != nil {
		t.Fatal(err)
	}
	f.s.Requeue(key("event:lost")) // as if there had been no engine when it was taken
	run(t, m, f.s)
	if hits, err := f.s.Index(store.IndexQuery{Name: "event"}); err != nil || len(hits) != 1 {
		t.Errorf("%v, %v", hits, err)
	}
	if _, err := m.View(key("event:lost")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a document that is not there: %v", err)
	}
}

// BenchmarkMaterialise makes the views of events with two changes, with the
// engine in this process and in a worker of its own.
func BenchmarkMaterialise(b *testing.B) {
	w := engine.NewWorkers(engine.WorkersConfig{Command: []string{"env", "TIERMESH_TEST_ENGINE=1", os.Args[0]}})
	defer func() { _ = w.Close() }()
	for name, isolated := range map[string]view.Engine{"direct": nil, "isolated": engine.NewIsolated(w)} {
		b.Run(name, func(b *testing.B) {
			f := newFixture(b)
			for i := range b.N {
				f.putEvent(tiers.DocID(fmt.Sprintf("event:%08d", i)))
			}
			m := view.New(view.Config{
				Store: f.s, Site: "elsewhere", Engine: engine.New(), Isolated: isolated,
				Folds: map[string]view.Fold{"event": event.Fold},
			})
			b.ResetTimer()
			run(b, m, f.s)
		})
	}
}

// putEvent reports an event and acts on it.
func (f *fixture) putEvent(doc tiers.DocID) {
	f.t.Helper()
	ops, err := event.CreateOps(event.Report{Type: "01001", Title: "供水井盖异常", Text: strings.Repeat("井盖破损,请尽快处置。", 8), Priority: 3, ReportedAtMS: 1})
	if err != nil {
		f.t.Fatal(err)
	}
	f.build(doc, ops)
	action, err := event.ActionOp(event.Action{At: 1, By: self.Site, Kind: event.KindDispatch, Task: "task:x"})
	if err != nil {
		f.t.Fatal(err)
	}
	f.build(doc, []crdt.Op{action})
}
