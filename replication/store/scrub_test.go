package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// filled makes a store on disk with chains of two authors.
func filled(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(store.Config{Dir: dir, Federation: "cq", Site: self.Site})
	if err != nil {
		t.Fatal(err)
	}
	var theirs [][]byte
	for i := range 50 {
		tx := s.Begin()
		if _, err := tx.Append(self, []store.Item{{
			Stream: stream, Doc: tiers.DocID(fmt.Sprintf("event:%d", i)), Time: 1, Change: newWriter(self).put(t, "k", "my value"),
		}}); err != nil {
			t.Fatal(err)
		}
		theirs = append(theirs, record(tiers.DocID(fmt.Sprintf("task:%d", i)), i, newWriter(district).put(t, "k", "their value")))
		if _, err := tx.Ingest(span(t, district, theirs, i+1, i+1)); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(uint64(i + 1)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestScrub: a store in order has no finding; a record, a head, a checkpoint or
// a document that is not what it was is named.
func TestScrub(t *testing.T) {
	for name, row := range map[string]struct {
		damage func(s *store.Store) error
		want   string
	}{
		"nothing":     {func(*store.Store) error { return nil }, ""},
		"record":      {func(s *store.Store) error { return s.Damage('r', 20) }, "does not hash"},
		"no record":   {func(s *store.Store) error { return s.Remove('r', 20) }, "missing"},
		"head":        {func(s *store.Store) error { return s.Remove('r', 49) }, "ends here"},
		"checkpoint":  {func(s *store.Store) error { return s.Damage('k', 0) }, "checkpoint"},
		"only change": {func(s *store.Store) error { return s.Damage('d', 3) }, "document"},
		"change ref":  {func(s *store.Store) error { return errors.Join(editTwice(s), s.Remove('x', 2)) }, "heads"},
		"lost root":   {func(s *store.Store) error { return errors.Join(editTwice(s), s.Remove('x', 0)) }, "builds"},
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t, filepath.Join(t.TempDir(), "store"))
			defer func() { _ = s.Close() }()
			if err := row.damage(s); err != nil {
				t.Fatal(err)
			}
			r, err := s.Scrub(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if row.want == "" {
				if len(r.Findings) != 0 || r.Records != 100 || r.Chains != 2 || r.Documents != 100 || r.Checkpoints == 0 {
					t.Errorf("%+v", r)
				}
				return
			}
			if len(r.Findings) == 0 || !strings.Contains(fmt.Sprint(r.Findings), row.want) {
				t.Errorf("%+v, want %q", r.Findings, row.want)
			}
		})
	}
}

// editTwice gives a document two more changes.
func editTwice(s *store.Store) error {
	k := store.DocKey{Stream: stream, Doc: "event:7"}
	for i := range 2 {
		h, err := s.Changes(k)
		if err != nil {
			return err
		}
		c, err := engine.New().Build(h.Raw, crdt.NewActor(self, [8]byte{1}), int64(i), []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: fmt.Sprint(i)}})
		if err != nil {
			return err
		}
		tx := s.Begin()
		if _, err := tx.Append(self, []store.Item{{Stream: stream, Doc: k.Doc, Base: h.Heads, Time: 2, Change: c.Raw}}); err != nil {
			return err
		}
		if err := tx.Commit(uint64(100 + i)); err != nil {
			return err
		}
	}
	return nil
}

// TestScrubFindsBitRot: a bit that flipped in a table on disk is found and the
// table is named: by the scrub, or by a compaction, which ends the process.
func TestScrubFindsBitRot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := filled(t, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%v, %v", tables, err)
	}
	found := 0
	for _, table := range tables {
		b, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		clean := append([]byte(nil), b...)
		b[len(b)/3] ^= 8
		if err := os.WriteFile(table, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var ended atomic.Pointer[error]
		s, err := store.Open(store.Config{
			Dir: dir, Federation: "cq", Site: self.Site, Fatal: func(err error) { ended.Store(&err) },
		})
		if err != nil {
			found++ // it cannot even be opened, and says so
		} else {
			r, err := s.Scrub(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Findings) > 0 {
				found++
				if f := r.Findings[len(r.Findings)-1]; filepath.Base(f.File) != filepath.Base(table) {
					t.Errorf("%s is damaged, found %+v", table, f)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if end := ended.Load(); end != nil && !errors.Is(*end, store.ErrCorrupt) {
				t.Errorf("ended by %v", *end)
			}
		}
		if err := os.WriteFile(table, clean, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found == 0 {
		t.Errorf("a flipped bit in each of %d tables, none found", len(tables))
	}
}
