package store_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

var update = flag.Bool("update", false, "write the golden keyspace; only ever to add to it")

var (
	self     = crdt.Author{Site: "500101001", Incarnation: 1}
	district = crdt.Author{Site: "500101", Incarnation: 1}
	city     = crdt.Author{Site: "500000", Incarnation: 1}
	stream   = tiers.StreamID{Site: "500101001", Class: tiers.ClassRoutine}
	key      = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
)

type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func open(t tester, fs vfs.FS) *store.Store {
	t.Helper()
	s, err := store.Open(store.Config{Dir: "store", FS: fs, Federation: "cq", Site: self.Site})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func dump(t tester, s *store.Store) string {
	t.Helper()
	d, err := s.Dump()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// replicated leaves out of a dump what is a node's own matter: the marks of commits
// whose documents have no view yet.
func replicated(dump string) string {
	var b strings.Builder
	for line := range strings.Lines(dump) {
		if line[0] != 'y' {
			b.WriteString(line)
		}
	}
	return b.String()
}

// writer makes the changes of one author to one document.
type writer struct {
	author crdt.Author
	actor  crdt.Actor
	base   [][]byte
}

func newWriter(a crdt.Author) *writer {
	return &writer{author: a, actor: crdt.NewActor(a, [8]byte{1})}
}

func (w *writer) put(t tester, key, value string) []byte {
	t.Helper()
	b, err := engine.New().Build(w.base, w.actor, int64(len(w.base)), []crdt.Op{{Kind: crdt.OpPut, Key: key, Value: value}})
	if err != nil {
		t.Fatal(err)
	}
	w.base = append(w.base, b.Raw)
	return b.Raw
}

func heads(t tester, changes [][]byte) []crdt.Hash {
	t.Helper()
	if len(changes) == 0 {
		return nil
	}
	d, err := engine.New().Read(changes)
	if err != nil {
		t.Fatal(err)
	}
	return d.Heads
}

func record(doc tiers.DocID, at int, change []byte) []byte {
	return crdt.Record{Kind: crdt.RecordChange, Time: crdt.HybridTime(at) << 16, Doc: doc, Body: change}.AppendTo(nil)
}

// span is a range of a chain, from its full list of records.
func span(t tester, a crdt.Author, all [][]byte, first, last int) store.Range {
	t.Helper()
	chain := crdt.ChainID{Stream: stream, Author: a}
	head := chain.Origin()
	for _, r := range all[:last] {
		head = head.Next(r)
	}
	cp, err := crdt.SignCheckpoint(crdt.Ed25519Signer(key), chain, head, 1)
	if err != nil {
		t.Fatal(err)
	}
	return store.Range{Chain: chain, First: uint64(first), Records: all[first-1 : last], Checkpoint: cp}
}

// command is one Apply: an append or an ingest.
type command struct {
	items  []store.Item
	ingest *store.Range
	key    string
}

func (c command) apply(tx *store.Tx) error {
	if c.ingest != nil {
		_, err := tx.Ingest(*c.ingest)
		return err
	}
	_, err := tx.Append(self, c.items)
	if err == nil && c.key != "" {
		err = tx.SetOutcome(c.key, []byte("done"))
	}
	return err
}

// randomCommands mixes good appends and ranges with some that are rejected.
func randomCommands(t *rapid.T) []command {
	mine, theirs := newWriter(self), newWriter(district)
	var foreign [][]byte
	ingested := 0
	var out []command
	for i := range rapid.IntRange(1, 30).Draw(t, "commands") {
		doc := tiers.DocID(fmt.Sprintf("event:%d", i%3))
		switch rapid.IntRange(0, 3).Draw(t, "what") {
		case 0: // a document of its own
			w := newWriter(self)
			out = append(out, command{key: fmt.Sprint(i), items: []store.Item{{
				Stream: stream, Doc: tiers.DocID(fmt.Sprintf("task:%d", i)), Time: crdt.HybridTime(i), Change: w.put(t, "k", fmt.Sprint(i)),
			}}})
		case 1: // the shared document, perhaps on a stale base
			base := heads(t, mine.base)
			if rapid.IntRange(0, 4).Draw(t, "stale") == 0 {
				base = []crdt.Hash{{9}}
			}
			out = append(out, command{items: []store.Item{{Stream: stream, Doc: "track:x", Base: base, Time: crdt.HybridTime(i), Change: mine.put(t, "k", fmt.Sprint(i))}}})
		default: // a stretch of the district's chain, perhaps with a gap or again
			for range rapid.IntRange(1, 5).Draw(t, "records") {
				theirs.base = nil
				foreign = append(foreign, record(doc, i, theirs.put(t, "f", fmt.Sprint(i, len(foreign)))))
			}
			first := ingested + 1 + rapid.SampledFrom([]int{0, 0, 0, 1, -1}).Draw(t, "shift")
			first = min(max(first, 1), len(foreign))
			r := span(t, district, foreign, first, len(foreign))
			if first <= ingested+1 {
				ingested = len(foreign)
			}
			out = append(out, command{ingest: &r})
		}
	}
	return out
}

// TestApplyDeterministic: the same log gives the same store, byte for byte,
// however Raft groups its entries and wherever the process restarts.
func TestApplyDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		commands := randomCommands(t)
		play := func(group func() int, reopen bool) string {
			fs := vfs.NewMem()
			s := open(t, fs)
			var verdicts []string
			for at := 0; at < len(commands); {
				tx := s.Begin()
				n := min(group(), len(commands)-at)
				for _, c := range commands[at : at+n] {
					verdicts = append(verdicts, fmt.Sprint(c.apply(tx)))
				}
				at += n
				if err := tx.Commit(uint64(at)); err != nil {
					t.Fatal(err)
				}
				if reopen {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = open(t, fs)
				}
			}
			defer func() { _ = s.Close() }()
			return replicated(dump(t, s)) + strings.Join(verdicts, "\n")
		}
		one := play(func() int { return 1 }, false)
		for name, other := range map[string]string{
			"in groups":       play(func() int { return rapid.IntRange(1, 6).Draw(t, "group") }, false),
			"all at once":     play(func() int { return len(commands) }, false),
			"with restarts":   play(func() int { return 1 }, true),
			"groups+restarts": play(func() int { return 3 }, true),
		} {
			if other != one {
				t.Fatalf("%s differs:\n%s\n---\n%s", name, other, one)
			}
		}
	})
}

// TestArrivalOrder: what a document becomes, and which records are refused,
// follows from the records alone, in whatever order and stretches the chains
// of its authors arrive.
func TestArrivalOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		authors := []crdt.Author{self, district, city}
		writers := map[crdt.Author]*writer{}
		for _, a := range authors {
			writers[a] = newWriter(a)
		}
		chains := randomChains(t, authors, writers)
		one, oneHeads := arrive(t, authors, chains)
		two, twoHeads := arrive(t, authors, chains)
		if one != two || !slices.Equal(oneHeads, twoHeads) {
			t.Fatalf("order of arrival matters:\n%s\n%s", one, two)
		}
	})
}

// randomChains are chains of several authors that write to one document, some of
// it damaged.
func randomChains(t *rapid.T, authors []crdt.Author, writers map[crdt.Author]*writer) map[crdt.Author][][]byte {
	chains := map[crdt.Author][][]byte{}
	var all [][]byte
	for i := range rapid.IntRange(1, 12).Draw(t, "changes") {
		a := rapid.SampledFrom(authors).Draw(t, "author")
		w := writers[a]
		if rapid.Bool().Draw(t, "sees all") {
			w.base = slices.Clone(all)
		}
		var body []byte
		switch rapid.IntRange(0, 9).Draw(t, "damage") {
		case 0:
			body = []byte("no change")
		case 1: // another author's change under this name
			body = newWriter(crdt.Author{Site: "9", Incarnation: 1}).put(t, "z", fmt.Sprint(i))
		default:
			body = w.put(t, "k", fmt.Sprint(i))
			all = append(all, body)
		}
		chains[a] = append(chains[a], record("track:x", i, body))
	}
	return chains
}

// arrive plays the chains in stretches of random length and order, and returns
// what the document became.
func arrive(t *rapid.T, authors []crdt.Author, chains map[crdt.Author][][]byte) (string, []crdt.Hash) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	fill(t, s, authors, chains)
	return become(t, s)
}

// fill plays the chains in stretches of random length and order.
func fill(t *rapid.T, s *store.Store, authors []crdt.Author, chains map[crdt.Author][][]byte) {
	at := map[crdt.Author]int{}
	for index := uint64(1); ; index++ {
		var open []crdt.Author
		for _, a := range authors {
			if at[a] < len(chains[a]) {
				open = append(open, a)
			}
		}
		if len(open) == 0 {
			break
		}
		a := rapid.SampledFrom(open).Draw(t, "next")
		last := rapid.IntRange(at[a]+1, len(chains[a])).Draw(t, "up to")
		tx := s.Begin()
		if _, err := tx.Ingest(span(t, a, chains[a], at[a]+1, last)); err != nil {
			t.Fatal(err)
		}
		at[a] = last
		if err := tx.Commit(index); err != nil {
			t.Fatal(err)
		}
	}
}

// become returns what the document became.
func become(t *rapid.T, s *store.Store) (string, []crdt.Hash) {
	c, err := s.Changes(store.DocKey{Stream: stream, Doc: "track:x"})
	if errors.Is(err, store.ErrNotFound) {
		return "nothing", nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var set []string
	for _, raw := range c.Raw {
		set = append(set, string(raw))
	}
	slices.Sort(set)
	slices.SortFunc(c.Heads, func(a, b crdt.Hash) int { return bytes.Compare(a[:], b[:]) })
	return fmt.Sprintf("%x pending %d refused %d", set, c.Pending, c.Refused), c.Heads
}

func TestIngestRejections(t *testing.T) {
	w := newWriter(district)
	var all [][]byte
	for i := range 5 {
		all = append(all, record("track:x", i, w.put(t, "k", fmt.Sprint(i))))
	}
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	commit := func(r store.Range, index uint64) error {
		tx := s.Begin()
		_, err := tx.Ingest(r)
		if err != nil {
			return errors.Join(err, tx.Discard())
		}
		return tx.Commit(index)
	}
	if err := commit(span(t, district, all, 1, 2), 1); err != nil {
		t.Fatal(err)
	}
	before := dump(t, s)
	for name, row := range map[string]struct {
		damage func(r *store.Range)
		want   error
	}{
		"gap":               {func(r *store.Range) { *r = span(t, district, all, 4, 5) }, store.ErrGap},
		"from 0":            {func(r *store.Range) { r.First = 0 }, store.ErrGap},
		"ends elsewhere":    {func(r *store.Range) { r.Checkpoint.Head.Seq++ }, store.ErrGap},
		"other hash":        {func(r *store.Range) { r.Checkpoint.Head.Hash[0]++ }, store.ErrFork},
		"other record":      {func(r *store.Range) { r.Records = slices.Clone(r.Records); r.Records[0] = all[4] }, store.ErrFork},
		"order":             {func(r *store.Range) { r.Records = [][]byte{all[3], all[2]} }, store.ErrFork},
		"no record":         {func(r *store.Range) { r.Records = [][]byte{[]byte("x"), all[3]} }, store.ErrBadChange},
		"fork of what held": {func(r *store.Range) { *r = span(t, district, all, 1, 2); r.Checkpoint.Head.Hash[0]++ }, store.ErrFork},
	} {
		r := span(t, district, all, 3, 4)
		row.damage(&r)
		if err := commit(r, 2); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
		if dump(t, s) != before {
			t.Fatalf("%s: a rejected range left something behind", name)
		}
	}
	// What is held already is skipped, what follows is taken.
	tx := s.Begin()
	if n, err := tx.Ingest(span(t, district, all, 1, 4)); n != 2 || err != nil {
		t.Errorf("overlapping range: %d new, %v", n, err)
	}
	if err := tx.Commit(3); err != nil {
		t.Fatal(err)
	}
	if h := s.Vector(stream)[district]; h.Seq != 4 {
		t.Errorf("chain ends at %d", h.Seq)
	}
}

func TestAppendRejections(t *testing.T) {
	mine := newWriter(self)
	first := mine.put(t, "k", "1")
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	item := func(base []crdt.Hash, change []byte) store.Item {
		return store.Item{Stream: stream, Doc: "track:x", Base: base, Time: 1, Change: change}
	}
	tx := s.Begin()
	if _, err := tx.Append(self, []store.Item{item(nil, first)}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(1); err != nil {
		t.Fatal(err)
	}
	before := dump(t, s)
	good := item(heads(t, mine.base), nil)
	good.Change = mine.put(t, "k", "2")
	for name, row := range map[string]struct {
		items []store.Item
		want  error
	}{
		"created twice":     {[]store.Item{item(nil, newWriter(self).put(t, "k", "x"))}, store.ErrMoved},
		"stale base":        {[]store.Item{item([]crdt.Hash{{1}}, good.Change)}, store.ErrMoved},
		"no change":         {[]store.Item{item(good.Base, []byte("x"))}, store.ErrBadChange},
		"twice in one":      {[]store.Item{good, good}, store.ErrBadChange},
		"good and bad":      {[]store.Item{good, {Stream: stream, Doc: "track:y", Base: []crdt.Hash{{1}}, Change: first}}, store.ErrMoved},
		"another's actor":   {[]store.Item{item(good.Base, (&writer{district, crdt.NewActor(district, [8]byte{}), [][]byte{first}}).put(t, "k", "2"))}, store.ErrBadChange},
		"base it left out":  {[]store.Item{item(good.Base, (&writer{self, crdt.NewActor(self, [8]byte{5}), nil}).put(t, "k", "2"))}, store.ErrBadChange},
		"change seen again": {[]store.Item{item(good.Base, first)}, store.ErrBadChange},
	} {
		tx := s.Begin()
		if _, err := tx.Append(self, row.items); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
		if err := tx.Discard(); err != nil {
			t.Fatal(err)
		}
		if dump(t, s) != before {
			t.Fatalf("%s: a rejected append left something behind", name)
		}
	}
}

func TestOpenRefusals(t *testing.T) {
	dir := t.TempDir()
	cfg := store.Config{Dir: dir, Federation: "cq", Site: "500101"}
	s, err := store.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(cfg); !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("held by another: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		change func(*store.Config)
		want   error
		text   string
	}{
		{func(c *store.Config) { c.Site = "500102" }, store.ErrForeign, "500101"},
		{func(c *store.Config) { c.Federation = "other" }, store.ErrForeign, "cq"},
	} {
		c := cfg
		row.change(&c)
		if _, err := store.Open(c); !errors.Is(err, row.want) || !strings.Contains(err.Error(), row.text) {
			t.Errorf("%v, want %v with %q", err, row.want, row.text)
		}
	}
	if s, err = store.Open(cfg); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.ForceFormat(4), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(cfg); !errors.Is(err, store.ErrFormat) {
		t.Errorf("a later version: %v", err)
	}
}

// TestReplaceRefusals: a replacement that fails leaves a store that can be
// closed, and one that cannot begin leaves it as it was.
func TestReplaceRefusals(t *testing.T) {
	dir := t.TempDir()
	foreign, err := store.Open(store.Config{Dir: filepath.Join(dir, "foreign"), Federation: "cq", Site: "500102"})
	if err != nil {
		t.Fatal(err)
	}
	checkpoint := filepath.Join(dir, "checkpoint")
	if err := errors.Join(foreign.Checkpoint(checkpoint), foreign.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(store.Config{Dir: filepath.Join(dir, "store"), Federation: "cq", Site: "500101"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Replace(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("from nowhere")
	}
	if _, err := s.TakeDirty(1); err != nil {
		t.Errorf("after a replacement that did not begin: %v", err)
	}
	if err := s.Replace(checkpoint); !errors.Is(err, store.ErrForeign) {
		t.Errorf("another site's: %v", err)
	}
	if _, err := s.Outcome("k"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after a replacement that went wrong: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestGoldenKeyspace holds the version-3 keys and values for good.
func TestGoldenKeyspace(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	mine, theirs := newWriter(self), newWriter(district)
	tx := s.Begin()
	if _, err := tx.Append(self, []store.Item{{Stream: stream, Doc: "event:a", Time: 1 << 16, Change: mine.put(t, "k", "1")}}); err != nil {
		t.Fatal(err)
	}
	if err := tx.SetOutcome("client-1", []byte("done")); err != nil {
		t.Fatal(err)
	}
	_ = theirs.put(t, "k", "not sent") // so that the next one waits
	waiting := record("event:b", 2, theirs.put(t, "k", "2"))
	refused := record("event:b", 3, []byte("no change"))
	in := []store.Range{span(t, district, [][]byte{waiting}, 1, 1), span(t, city, [][]byte{refused}, 1, 1)}
	in[0].Arrived = 5 << 16
	for _, r := range in {
		if _, err := tx.Ingest(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.SetIncarnation(2); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(7); err != nil {
		t.Fatal(err)
	}
	view := crdt.View{JSON: []byte(`{"id":"event:a"}`), Index: []crdt.IndexEntry{{Name: "event", Value: "0001"}}, Counts: []crdt.Count{{Cube: "event", Cell: "reported/r"}}}
	if err := s.PutViews(store.Made{Key: store.DocKey{Stream: stream, Doc: "event:a"}, View: view, Version: 1}); err != nil {
		t.Fatal(err)
	}
	const file = "testdata/v3/keyspace.txt"
	got := dump(t, s)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("version 3 changed:\n%s\nwant:\n%s", got, want)
	}
}

// TestCrashKeepsFlushed: after a power cut the store is exactly the state at
// some index, not before the last flush.
func TestCrashKeepsFlushed(t *testing.T) {
	for seed := range uint64(20) {
		fs := vfs.NewCrashableMem()
		s := open(t, fs)
		states := []string{dump(t, s)}
		r := rand.New(rand.NewPCG(seed, 1))
		flushed := uint64(0)
		for i := uint64(1); i <= 40; i++ {
			tx := s.Begin()
			if _, err := tx.Append(self, []store.Item{{
				Stream: stream, Doc: tiers.DocID(fmt.Sprintf("event:%d", i)), Time: crdt.HybridTime(i), Change: newWriter(self).put(t, "k", "v"),
			}}); err != nil {
				t.Fatal(err)
			}
			if err := tx.Commit(i); err != nil {
				t.Fatal(err)
			}
			states = append(states, dump(t, s))
			if r.IntN(8) == 0 {
				if err := s.Flush(); err != nil {
					t.Fatal(err)
				}
				flushed = i
			}
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: r})
		if err := s.Abandon(); err != nil {
			t.Fatal(err)
		}
		again := open(t, crashed)
		at := again.AppliedIndex()
		if at < flushed {
			t.Fatalf("seed %d: state at %d, flushed at %d", seed, at, flushed)
		}
		if got := dump(t, again); got != states[at] {
			t.Fatalf("seed %d: after the crash the store is not what it was at %d", seed, at)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
