package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// salvaged salvages sources into a new store, which must check, and opens it.
func salvaged(t *testing.T, sources ...string) (*store.Store, store.SalvageResult) {
	t.Helper()
	into := store.Config{Dir: filepath.Join(t.TempDir(), "new"), Federation: "cq", Site: self.Site}
	r, err := store.Salvage(store.SalvageConfig{Sources: sources, Into: into})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(into)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if found, err := s.Scrub(context.Background()); err != nil || len(found.Findings) != 0 {
		t.Errorf("the salvaged store: %+v, %v", found, err)
	}
	return s, r
}

// claims grants, takes away and releases, so that several versions are there.
func claims(t *testing.T, s *store.Store) {
	t.Helper()
	tx := s.Begin()
	_, err := tx.Grant("engine-1", "task:a", false)
	_, err2 := tx.Grant("engine-1", "task:b", true)
	c, err3 := tx.Grant("engine-2", "task:c", false)
	_, err4 := tx.Release("engine-2", c.Epoch)
	if err := errors.Join(err, err2, err3, err4, tx.SetOutcome("key", []byte("outcome")), tx.Commit(60)); err != nil {
		t.Fatal(err)
	}
}

// TestSalvage: of a store in order everything is salvaged; behind a record that
// is not what it was, nothing of its chain, and both are named; all else is kept,
// in an incarnation above.
func TestSalvage(t *testing.T) {
	for name, row := range map[string]struct {
		damage       func(s *store.Store) error
		own, foreign uint64
		gaps         []store.Gap
	}{
		"nothing": {func(*store.Store) error { return nil }, 50, 50, []store.Gap{}},
		"record": {func(s *store.Store) error { return s.Damage('r', 20) }, 50, 20, []store.Gap{
			{First: 21, Last: 21, What: "does not hash to what was stored"},
			{First: 22, Last: 50, Kept: true, What: "stands behind a record that cannot be verified"},
		}},
		"no record": {func(s *store.Store) error { return s.Remove('r', 20) }, 50, 20, []store.Gap{
			{First: 21, Last: 21, What: "cannot be read"},
			{First: 22, Last: 50, Kept: true, What: "stands behind a record that cannot be verified"},
		}},
		"last record": {func(s *store.Store) error { return s.Remove('r', 49) }, 50, 49, []store.Gap{{First: 50, Last: 50, What: "cannot be read"}}},
		"head":        {func(s *store.Store) error { return s.Remove('c', 0) }, 50, 50, []store.Gap{}},
		"checkpoint":  {func(s *store.Store) error { return s.Damage('k', 0) }, 50, 50, []store.Gap{}},
		"document":    {func(s *store.Store) error { return s.Remove('d', 3) }, 50, 50, []store.Gap{}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			old := filled(t, dir)
			claims(t, old)
			want, err := old.Claim("engine-1")
			if err := errors.Join(err, row.damage(old), old.Close()); err != nil {
				t.Fatal(err)
			}
			s, r := salvaged(t, dir)
			v := s.Vector(stream)
			if v[self].Seq != row.own || v[district].Seq != row.foreign || r.Incarnation != 2 || s.AppliedIndex() != store.RebasedIndex {
				t.Errorf("%v, %+v", v, r)
			}
			if len(r.Gaps) != len(row.gaps) {
				t.Fatalf("%+v", r.Gaps)
			}
			for i, g := range row.gaps {
				g.Stream, g.Author = stream.String(), district.String()
				if r.Gaps[i] != g {
					t.Errorf("%+v, want %+v", r.Gaps[i], g)
				}
			}
			if c, err := s.Claim("engine-1"); err != nil || c != want || c.Holder != "task:b" {
				t.Errorf("%+v, %v; want %+v", c, err, want)
			}
			if c, err := s.Claim("engine-2"); err != nil || c.Holder != "" || c.Epoch == 0 {
				t.Errorf("released: %+v, %v", c, err)
			}
			if o, err := s.Outcome("key"); err != nil || string(o) != "outcome" {
				t.Errorf("%q, %v", o, err)
			}
			tx := s.Begin()
			if c, err := tx.Grant("engine-1", "task:d", true); err != nil || c.Epoch <= want.Epoch {
				t.Errorf("epoch %d after %d, %v", c.Epoch, want.Epoch, err)
			}
			_ = tx.Discard()
		})
	}
}

// TestSalvageFollows: what stood behind a lost record follows when another source
// has that one.
func TestSalvageFollows(t *testing.T) {
	first, second := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "store")
	for dir, n := range map[string]int{first: 20, second: 60} {
		s := filled(t, dir)
		if err := errors.Join(s.Remove('r', n), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	s, r := salvaged(t, first, second, filepath.Join(t.TempDir(), "missing"))
	if n := s.Counts().Records; n != 100 || len(r.Gaps) != 0 {
		t.Errorf("%d records, %+v", n, r)
	}
}

// TestSalvageFlippedBits flips a bit in every 512 bytes of every file of a store,
// one after the other, also of those that say which tables there are. What is
// salvaged is a part of what was, and what is missing is named.
func TestSalvageFlippedBits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	old := filled(t, dir)
	claims(t, old)
	was := old.Vector(stream)
	hashes := map[crdt.ChainID][]crdt.Hash{}
	for _, a := range []crdt.Author{self, district} {
		for seq := range was[a].Seq + 1 {
			h, err := old.HashAt(crdt.ChainID{Stream: stream, Author: a}, seq)
			if err != nil {
				t.Fatal(err)
			}
			hashes[crdt.ChainID{Stream: stream, Author: a}] = append(hashes[crdt.ChainID{Stream: stream, Author: a}], h)
		}
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	whole, cut := 0, 0
	for _, path := range files {
		clean, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := 100; at < len(clean); at += 512 {
			b := append([]byte(nil), clean...)
			b[at] ^= 16
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			s, r := salvaged(t, dir)
			missing := uint64(0)
			for _, a := range []crdt.Author{self, district} {
				h := s.Vector(stream)[a]
				if h.Seq > 0 && h.Hash != hashes[crdt.ChainID{Stream: stream, Author: a}][h.Seq] {
					t.Errorf("%s at %d: another chain of %s", path, at, a)
				}
				missing += was[a].Seq - h.Seq
			}
			for _, g := range r.Gaps {
				missing -= g.Last - g.First + 1
			}
			if missing != 0 && len(r.Damaged) == 0 {
				t.Errorf("%s at %d: %d records are missing and not named: %+v", path, at, missing, r)
			}
			if len(r.Gaps) == 0 && s.Counts().Records == 100 {
				whole++
			} else {
				cut++
			}
			if r.Incarnation < 2 {
				t.Errorf("%s at %d: incarnation %d", path, at, r.Incarnation)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, clean, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d times whole, %d times a part", whole, cut)
	if whole == 0 || cut == 0 {
		t.Errorf("the flips did not reach what they should")
	}
}

// TestSalvageForeign: tables of another site are refused.
func TestSalvageForeign(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if err := filled(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	into := store.Config{Dir: filepath.Join(t.TempDir(), "new"), Federation: "cq", Site: tiers.SiteID("500102")}
	if r, err := store.Salvage(store.SalvageConfig{Sources: []string{dir}, Into: into}); !errors.Is(err, store.ErrForeign) {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := os.Stat(into.Dir); err == nil {
		t.Error(fmt.Errorf("%s was made", into.Dir))
	}
}
