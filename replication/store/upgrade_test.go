package store_test

import (
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
)

// TestUpgradeFromVersion1: a version-1 store opens as it was: the document whose
// view is behind is handed out, the other one shows its view and its change, and
// takes further ones.
func TestUpgradeFromVersion1(t *testing.T) {
	fs := vfs.NewMem()
	writeGolden(t, fs, "testdata/v1/keyspace.txt")
	s := open(t, fs)
	defer func() { _ = s.Close() }()
	a, b := store.DocKey{Stream: stream, Doc: "event:a"}, store.DocKey{Stream: stream, Doc: "event:b"}
	if v, err := s.View(a); err != nil || string(v.JSON) != `{"id":"event:a"}` {
		t.Errorf("view %q, %v", v.JSON, err)
	}
	if dirty, err := s.IsDirty(a); err != nil || dirty {
		t.Errorf("a is dirty: %v, %v", dirty, err)
	}
	docs, err := s.TakeDirty(8)
	if err != nil || len(docs) != 1 || docs[0].Key != b || s.Counts().Dirty != 1 {
		t.Fatalf("%v, %v, %d dirty", docs, err, s.Counts().Dirty)
	}
	h, err := s.Changes(a)
	if err != nil || len(h.Raw) != 1 {
		t.Fatalf("%d changes, %v", len(h.Raw), err)
	}
	w := newWriter(crdt.Author{Site: self.Site, Incarnation: 1})
	w.base = h.Raw
	tx := s.Begin()
	if _, err := tx.Append(self, []store.Item{{Stream: stream, Doc: "event:a", Base: h.Heads, Time: 2 << 16, Change: w.put(t, "k", "2")}}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(8); err != nil {
		t.Fatal(err)
	}
	if h, err = s.Changes(a); err != nil || len(h.Raw) != 2 {
		t.Errorf("%d changes, %v", len(h.Raw), err)
	}
}

// writeGolden makes a database of a dump, as an earlier version left it.
func writeGolden(t *testing.T, fs vfs.FS, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	db, err := pebble.Open("store", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		table, rest, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		key, value, _ := strings.Cut(rest, " = ")
		k, err := hex.DecodeString(key)
		v, also := hex.DecodeString(value)
		if err := errors.Join(err, also, db.Set(append([]byte(table), k...), v, pebble.Sync)); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
