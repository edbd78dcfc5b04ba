package store_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
)

// evict sets aside what an author wrote behind record keep, and commits.
func evict(t tester, s *store.Store, a crdt.Author, keep uint64, proof crdt.Checkpoint) (int, error) {
	t.Helper()
	c := crdt.ChainID{Stream: stream, Author: a}
	h, err := s.HashAt(c, keep+1)
	if err != nil {
		t.Fatal(err)
	}
	tx := s.Begin()
	n, err := tx.SetAside(store.Evict{Chain: c, Keep: keep, Hash: h, Proof: proof})
	if err != nil {
		return 0, errors.Join(err, tx.Discard())
	}
	if !tx.Evicted() {
		t.Fatal("it does not say what it did")
	}
	return n, tx.Commit(s.AppliedIndex() + 1)
}

// TestSetAside: after the end of a chain was set aside, chains and documents are
// what they would be if it had never come; it is kept as evidence; the chain goes
// on with other records; and all of it survives a restart.
func TestSetAside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		authors := []crdt.Author{self, district, city}
		writers := map[crdt.Author]*writer{}
		for _, a := range authors {
			writers[a] = newWriter(a)
		}
		chains := randomChains(t, authors, writers)
		var able []crdt.Author
		for _, a := range authors {
			if len(chains[a]) > 0 {
				able = append(able, a)
			}
		}
		loser := rapid.SampledFrom(able).Draw(t, "loser")
		keep := rapid.IntRange(0, len(chains[loser])-1).Draw(t, "keep")
		fs := vfs.NewMem()
		s := open(t, fs)
		fill(t, s, authors, chains)
		gone := chains[loser][keep:]
		if n, err := evict(t, s, loser, uint64(keep), span(t, loser, chains[loser], 1, 1).Checkpoint); err != nil || n != len(gone) {
			t.Fatalf("%d set aside, %v; want %d", n, err, len(gone))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, fs)
		defer func() { _ = s.Close() }()
		whole := chains[loser]
		chains[loser] = whole[:keep]
		checkSetAside(t, s, authors, chains, store.Aside{
			Chain: crdt.ChainID{Stream: stream, Author: loser}, No: 1, Kept: uint64(keep), Records: uint64(len(gone)),
		}, gone)
		// The same records may come again, as those of any author.
		again := span(t, loser, whole, keep+1, len(whole))
		tx := s.Begin()
		if _, err := tx.Ingest(again); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(s.AppliedIndex() + 1); err != nil {
			t.Fatal(err)
		}
		chains[loser] = whole
		want, heads := arrive(t, authors, chains)
		if got, gotHeads := become(t, s); got != want || !slices.Equal(heads, gotHeads) {
			t.Fatalf("taken back:\n%s\nwant\n%s", got, want)
		}
	})
}

func checkSetAside(t *rapid.T, s *store.Store, authors []crdt.Author, chains map[crdt.Author][][]byte, want store.Aside, gone [][]byte) {
	never, heads := arriveOrNothing(t, authors, chains)
	if got, gotHeads := become(t, s); got != never || !slices.Equal(heads, gotHeads) {
		t.Fatalf("the document is\n%s\nand would be\n%s", got, never)
	}
	records := 0
	for _, a := range authors {
		records += len(chains[a])
		if got := s.Vector(stream)[a].Seq; got != uint64(len(chains[a])) {
			t.Fatalf("%s goes to %d, want %d", a, got, len(chains[a]))
		}
	}
	if c := s.Counts(); c.Records != uint64(records) {
		t.Fatalf("%d records are counted, %d are there", c.Records, records)
	}
	if r, err := s.Scrub(context.Background()); err != nil || len(r.Findings) > 0 {
		t.Fatalf("%+v, %v", r.Findings, err)
	}
	all, err := s.Asides()
	if err != nil || len(all) != 1 || all[0].Chain != want.Chain || all[0].No != want.No || all[0].Kept != want.Kept || all[0].Records != want.Records {
		t.Fatalf("evidence %+v, %v; want %+v", all, err, want)
	}
	if err := all[0].Proof.Verify(key.Public().(ed25519.PublicKey)); err != nil {
		t.Fatal(err)
	}
	if all[0].Own.Head.Seq > 0 {
		if err := all[0].Own.Verify(key.Public().(ed25519.PublicKey)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.AsideRecords(all[0], 0, 1000)
	if err != nil || !slices.EqualFunc(got, gone, slices.Equal[[]byte]) {
		t.Fatalf("the evidence holds %d records, %v; want %d", len(got), err, len(gone))
	}
}

// arriveOrNothing is arrive, where there may be nothing.
func arriveOrNothing(t *rapid.T, authors []crdt.Author, chains map[crdt.Author][][]byte) (string, []crdt.Hash) {
	for _, a := range authors {
		if len(chains[a]) > 0 {
			return arrive(t, authors, chains)
		}
	}
	return "nothing", nil
}

// TestSetAsideOnce: what the chain no longer holds is not set aside again, and a
// document of which nothing is left can be written anew.
func TestSetAsideOnce(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	w := newWriter(self)
	first := w.put(t, "k", "1")
	put := func(change []byte) error {
		tx := s.Begin()
		_, err := tx.Append(self, []store.Item{{Stream: stream, Doc: "event:a", Time: 1, Change: change}})
		if err != nil {
			return errors.Join(err, tx.Discard())
		}
		return tx.Commit(s.AppliedIndex() + 1)
	}
	if err := put(first); err != nil {
		t.Fatal(err)
	}
	doc := store.DocKey{Stream: stream, Doc: "event:a"}
	if err := s.PutViews(store.Made{Key: doc, View: crdt.View{JSON: []byte("{}"), Index: []crdt.IndexEntry{{Name: "event", Value: "1"}}}, Version: 1}); err != nil {
		t.Fatal(err)
	}
	c := crdt.ChainID{Stream: stream, Author: self}
	h, err := s.HashAt(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := evict(t, s, self, 0, crdt.Checkpoint{}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	tx := s.Begin()
	if _, err := tx.SetAside(store.Evict{Chain: c, Hash: h}); !errors.Is(err, store.ErrMoved) {
		t.Errorf("set aside twice: %v", err)
	}
	if err := tx.Discard(); err != nil {
		t.Fatal(err)
	}
	made, gone, err := s.Gone(doc)
	if dirty, derr := s.IsDirty(doc); err != nil || derr != nil || !gone || !dirty {
		t.Fatalf("gone %v, dirty %v, %v %v", gone, dirty, err, derr)
	}
	if err := s.PutViews(made); err != nil {
		t.Fatal(err)
	}
	if _, err := s.View(doc); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("its view: %v", err)
	}
	if hits, err := s.Index(store.IndexQuery{Name: "event"}); err != nil || len(hits) != 0 {
		t.Errorf("it is still found: %v, %v", hits, err)
	}
	if len(s.Streams()) != 0 {
		t.Errorf("streams %v hold nothing", s.Streams())
	}
	if err := put(first); err != nil {
		t.Errorf("written anew: %v", err)
	}
	if v, gone, err := s.Gone(doc); gone || v.Version <= made.Version || err != nil {
		t.Errorf("version %d after %d, gone %v, %v", v.Version, made.Version, gone, err)
	}
}

// TestGoldenAside holds the version-1 bytes of evidence, and of a document that
// lost a record, for good.
func TestGoldenAside(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	theirs := newWriter(district)
	all := [][]byte{record("event:a", 1, theirs.put(t, "k", "1")), record("event:a", 2, theirs.put(t, "k", "2"))}
	tx := s.Begin()
	if _, err := tx.Ingest(span(t, district, all, 1, 2)); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(1); err != nil {
		t.Fatal(err)
	}
	if n, err := evict(t, s, district, 1, span(t, district, all, 1, 1).Checkpoint); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	var b strings.Builder
	for line := range strings.Lines(dump(t, s)) {
		if line[0] == 'f' || line[0] == 'd' {
			b.WriteString(line)
		}
	}
	const file = "testdata/v3/aside.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || b.String() != string(want) {
		t.Errorf("version 3 changed, %v:\n%s\nwant:\n%s", err, b.String(), want)
	}
}
