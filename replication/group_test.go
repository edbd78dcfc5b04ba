package replication_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

var stream = tiers.StreamID{Site: "500101001", Class: tiers.ClassRoutine}

func config(t *testing.T, dir string) replication.Config {
	t.Helper()
	return replication.Config{
		Dir: dir, Federation: "cq", Site: "500101001", Node: 1, Now: time.Now, Random: rand.Reader,
		Fatal: func(err error) { t.Errorf("fatal: %v", err) }, Bootstrap: true,
	}
}

func open(t *testing.T, dir string) *replication.Group {
	t.Helper()
	g, err := replication.Open(config(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Lead(limited(t)); err != nil {
		t.Fatal(err)
	}
	return g
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// item is one change to a document on the given history.
func item(t *testing.T, g *replication.Group, doc tiers.DocID, base *store.Changes, value string) store.Item {
	t.Helper()
	_, actor, err := g.Actor()
	if err != nil {
		t.Fatal(err)
	}
	b, err := engine.New().Build(base.Raw, actor, 1, []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: value}})
	if err != nil {
		t.Fatal(err)
	}
	return store.Item{Stream: stream, Doc: doc, Base: base.Heads, Time: g.Clock().Now(), Change: b.Raw}
}

// TestIdempotentAppend: a retry, before or after a restart, returns the first
// result and writes nothing, also when its own items are different.
func TestIdempotentAppend(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	first, err := g.Append(limited(t), "key-1", []store.Item{item(t, g, "event:a", &store.Changes{}, "1")})
	if err != nil {
		t.Fatal(err)
	}
	if earlier, err := g.Earlier("key-2"); err != nil || earlier != nil {
		t.Errorf("a key never used: %v, %v", earlier, err)
	}
	for round := range 3 {
		again, err := g.Append(limited(t), "key-1", []store.Item{item(t, g, tiers.DocID(fmt.Sprintf("event:b%d", round)), &store.Changes{}, "2")})
		if err != nil || len(again) != 1 || again[0] != first[0] {
			t.Errorf("retry %d: %v, %v; want %v", round, again, err, first)
		}
		if earlier, err := g.Earlier("key-1"); err != nil || len(earlier) != 1 || earlier[0] != first[0] {
			t.Errorf("earlier: %v, %v", earlier, err)
		}
		if n := g.Store().Counts().Records; n != 1 {
			t.Errorf("%d records", n)
		}
		if round == 0 {
			err = g.Abandon()
		} else {
			err = g.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		g = open(t, dir)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRejectionHasNoEffect: a rejected write says why, leaves nothing, and does
// not use up its key.
func TestRejectionHasNoEffect(t *testing.T) {
	g := open(t, t.TempDir())
	defer func() { _ = g.Close() }()
	if _, err := g.Append(limited(t), "", []store.Item{item(t, g, "event:a", &store.Changes{}, "1")}); err != nil {
		t.Fatal(err)
	}
	stale := item(t, g, "event:a", &store.Changes{}, "2")
	if _, err := g.Append(limited(t), "key", []store.Item{stale}); !errors.Is(err, store.ErrMoved) {
		t.Errorf("stale base: %v", err)
	}
	bad := stale
	bad.Doc, bad.Change = "event:b", []byte("x")
	if _, err := g.Append(limited(t), "key", []store.Item{bad}); !errors.Is(err, store.ErrBadChange) {
		t.Errorf("no change: %v", err)
	}
	bad = stale
	bad.Doc = "Event b"
	if _, err := g.Append(limited(t), "key", []store.Item{bad}); !errors.Is(err, replication.ErrBadCommand) {
		t.Errorf("bad document: %v", err)
	}
	bad = stale
	bad.Change = make([]byte, 9<<20)
	if _, err := g.Append(limited(t), "key", []store.Item{bad}); !errors.Is(err, replication.ErrTooLarge) {
		t.Errorf("9 MiB: %v", err)
	}
	if n := g.Store().Counts().Records; n != 1 {
		t.Errorf("%d records", n)
	}
	if _, err := g.Append(limited(t), "key", []store.Item{item(t, g, "event:b", &store.Changes{}, "1")}); err != nil {
		t.Errorf("the key after rejections: %v", err)
	}
}

// TestCrashKeepsAcknowledged: writers go on while the node is killed without a
// flush, again and again; every acknowledged write is there afterwards, once.
func TestCrashKeepsAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acked := map[tiers.DocID]replication.Written{}
	unknown := map[tiers.DocID]bool{}
	for round := range 6 {
		writeUntilAbandoned(t, open(t, dir), round, acked, unknown)
	}
	g := open(t, dir)
	defer func() { _ = g.Close() }()
	seen := places(t, g)
	for doc, w := range acked {
		if seen[doc] != w.Seq {
			t.Errorf("acknowledged %s at %d, found at %d", doc, w.Seq, seen[doc])
		}
	}
	for doc := range seen {
		if _, ok := acked[doc]; !ok && !unknown[doc] {
			t.Errorf("%s was never written", doc)
		}
	}
	t.Logf("%d acknowledged, %d unknown, %d records", len(acked), len(unknown), len(seen))
}

// writeUntilAbandoned writes from several goroutines, ends the node under them,
// and notes which writes were acknowledged.
func writeUntilAbandoned(t *testing.T, g *replication.Group, round int, acked map[tiers.DocID]replication.Written, unknown map[tiers.DocID]bool) {
	t.Helper()
	var mu sync.Mutex
	var writers sync.WaitGroup
	var count atomic.Int64
	for w := range 8 {
		writers.Go(func() {
			for i := 0; ; i++ {
				doc := tiers.DocID(fmt.Sprintf("event:%d-%d-%d", round, w, i))
				_, actor, err := g.Actor()
				if err != nil {
					return
				}
				b, err := engine.New().Build(nil, actor, 1, []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: "v"}})
				if err != nil {
					t.Error(err)
					return
				}
				done, err := g.Append(context.Background(), string(doc), []store.Item{{Stream: stream, Doc: doc, Time: 1, Change: b.Raw}})
				mu.Lock()
				if err == nil {
					acked[doc] = done[0]
					count.Add(1)
				} else {
					unknown[doc] = true
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	for count.Load() < int64(50*(round+1)) {
		<-time.After(time.Millisecond)
	}
	if round == 3 { // a flush in between moves the index that is replayed from
		if err := g.Store().Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Abandon(); err != nil {
		t.Fatal(err)
	}
	writers.Wait()
}

// places reads the site's own chain back, checks its hashes, and returns where
// each document stands.
func places(t *testing.T, g *replication.Group) map[tiers.DocID]uint64 {
	t.Helper()
	author, _, err := g.Actor()
	if err != nil {
		t.Fatal(err)
	}
	chain := crdt.ChainID{Stream: stream, Author: author}
	head := g.Store().Vector(stream)[author]
	run, err := g.Store().ReadRun(chain, 1, head.Seq, 1<<30)
	if err != nil || uint64(len(run.Records)) != head.Seq {
		t.Fatalf("%d of %d records, %v", len(run.Records), head.Seq, err)
	}
	at, seen := chain.Origin(), map[tiers.DocID]uint64{}
	for _, enc := range run.Records {
		at = at.Next(enc)
		rec, err := crdt.DecodeRecord(enc)
		if err != nil {
			t.Fatal(err)
		}
		if seen[rec.Doc] != 0 {
			t.Errorf("%s is there twice", rec.Doc)
		}
		seen[rec.Doc] = at.Seq
	}
	if at != head {
		t.Error("the chain does not hash to its head")
	}
	return seen
}

func TestNewIncarnationOnce(t *testing.T) {
	g := open(t, t.TempDir())
	defer func() { _ = g.Close() }()
	for range 3 {
		if err := g.NewIncarnation(limited(t), 1); err != nil {
			t.Fatal(err)
		}
	}
	if n := g.Store().Incarnation(); n != 2 {
		t.Errorf("incarnation %d", n)
	}
	author, actor, err := g.Actor()
	if err != nil || author.Incarnation != 2 || !author.Owns(actor) {
		t.Errorf("%s, %s, %v", author, actor, err)
	}
}

// TestSetAside: the losing side of a fork leaves the chain in one entry, also
// between others of one batch; a site that still writes the chain starts an
// incarnation above every one that is known of it; and a restart changes nothing.
func TestSetAside(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	write := func(doc tiers.DocID) error {
		_, err := g.Append(limited(t), "", []store.Item{item(t, g, doc, &store.Changes{}, "1")})
		return err
	}
	for i := range 5 {
		if err := write(tiers.DocID(fmt.Sprintf("event:%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	chain := crdt.ChainID{Stream: stream, Author: crdt.Author{Site: "500101001", Incarnation: 1}}
	h, err := g.Store().HashAt(chain, 3)
	if err != nil {
		t.Fatal(err)
	}
	evict := store.Evict{Chain: chain, Keep: 2, Hash: h, Proof: crdt.Checkpoint{Chain: chain, Head: crdt.Head{Seq: 3}, Signature: []byte("s")}}
	var others sync.WaitGroup
	for i := range 8 { // other documents, before and behind it
		others.Go(func() { // ends with its write, which may be of the incarnation that ended
			if err := write(tiers.DocID(fmt.Sprintf("task:%d", i))); err != nil && !errors.Is(err, store.ErrBadChange) {
				t.Error(err)
			}
		})
	}
	if n, err := g.SetAside(limited(t), evict); err != nil || n < 3 {
		t.Fatalf("%d set aside, %v", n, err)
	}
	others.Wait()
	if n, err := g.SetAside(limited(t), evict); !errors.Is(err, store.ErrMoved) || n != 0 {
		t.Errorf("again: %d, %v", n, err)
	}
	if err := write("event:new"); err != nil {
		t.Fatal(err)
	}
	vector, incarnation := g.Store().Vector(stream), g.Store().Incarnation()
	if vector[chain.Author].Seq != 2 || incarnation != 2 || vector[crdt.Author{Site: "500101001", Incarnation: 2}].Seq == 0 {
		t.Errorf("incarnation %d, %v", incarnation, vector)
	}
	if err := g.Abandon(); err != nil {
		t.Fatal(err)
	}
	g = open(t, dir)
	defer func() { _ = g.Close() }()
	if got := g.Store().Vector(stream); !maps.Equal(got, vector) || g.Store().Incarnation() != incarnation {
		t.Errorf("after a crash: incarnation %d, %v; want %v", g.Store().Incarnation(), got, vector)
	}
	if r, err := g.Store().Scrub(limited(t)); err != nil || len(r.Findings) > 0 {
		t.Errorf("%+v, %v", r.Findings, err)
	}
}

func TestOpenRefusals(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	if _, err := replication.Open(config(t, dir)); !errors.Is(err, store.ErrLocked) {
		t.Errorf("held by another: %v", err)
	}
	if err := errors.Join(g.Close(), g.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Lead(limited(t)); !errors.Is(err, replication.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
	other := config(t, dir)
	other.Site = "500102"
	if _, err := replication.Open(other); !errors.Is(err, store.ErrForeign) {
		t.Errorf("of another site: %v", err)
	}
	for name, change := range map[string]func(*replication.Config){
		"no directory": func(c *replication.Config) { c.Dir = "" }, "no federation": func(c *replication.Config) { c.Federation = "" },
		"node 0": func(c *replication.Config) { c.Node = 0 }, "no clock": func(c *replication.Config) { c.Now = nil },
		"bad site": func(c *replication.Config) { c.Site = "a/b" },
	} {
		c := config(t, t.TempDir())
		change(&c)
		if _, err := replication.Open(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestStoreBehindItsLog: a store that was lost or replaced by an older one,
// after Raft has forgotten the entries in between, is taken from the snapshot;
// without one it is refused and not served from.
func TestStoreBehindItsLog(t *testing.T) {
	dir := t.TempDir()
	write := func(g *replication.Group, from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if _, err := g.Append(limited(t), "", []store.Item{item(t, g, tiers.DocID(fmt.Sprintf("event:%d", i)), &store.Changes{}, "v")}); err != nil {
				t.Fatal(err)
			}
		}
	}
	g := open(t, dir)
	write(g, 0, 10)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	older := filepath.Join(t.TempDir(), "older")
	if err := os.CopyFS(older, os.DirFS(filepath.Join(dir, "store"))); err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func() error{
		"lost": func() error { return os.RemoveAll(filepath.Join(dir, "store")) },
		"replaced": func() error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "store")), os.CopyFS(filepath.Join(dir, "store"), os.DirFS(older)))
		},
	} {
		g = open(t, dir)
		was := int(g.Store().Counts().Records)
		write(g, was, was+600) // beyond what Raft keeps behind a snapshot
		if err := g.Snapshot(); err != nil {
			t.Fatal(err)
		}
		write(g, was+600, was+605)
		if err := errors.Join(g.Close(), damage()); err != nil {
			t.Fatal(err)
		}
		g = open(t, dir)
		if n := g.Store().Counts().Records; n != uint64(was+605) {
			t.Errorf("%s: %d records of %d", name, n, was+605)
		}
		if got := len(places(t, g)); got != was+605 {
			t.Errorf("%s: %d documents", name, got)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "store")), os.RemoveAll(filepath.Join(dir, "snapshots"))); err != nil {
		t.Fatal(err)
	}
	if _, err := replication.Open(config(t, dir)); !errors.Is(err, replication.ErrBehind) {
		t.Errorf("without a snapshot: %v, want ErrBehind", err)
	}
}

// TestFlippedBitInLog: a bit that flipped on disk, anywhere in an entry that is
// not flushed yet, is found when the node starts, and never applied.
func TestFlippedBitInLog(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	value := "供水井盖异常-a-value-to-look-for"
	if _, err := g.Append(limited(t), "", []store.Item{item(t, g, "event:a", &store.Changes{}, value)}); err != nil {
		t.Fatal(err)
	}
	if err := g.Abandon(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "raft.db")
	clean, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var places []int // bbolt leaves older copies of its pages behind
	for at := 0; ; at++ {
		i := bytes.Index(clean[at:], []byte(value))
		if i < 0 {
			break
		}
		at += i
		places = append(places, at)
	}
	if len(places) == 0 {
		t.Fatal("the entry is not in the log")
	}
	for _, offset := range []int{-40, -3, 0, 7, len(value) - 1, len(value) + 1} {
		damaged := bytes.Clone(clean)
		for _, at := range places {
			damaged[at+offset] ^= 4
		}
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if g, err := replication.Open(config(t, dir)); !errors.Is(err, replication.ErrLogDamaged) {
			t.Errorf("byte %d: %v, want ErrLogDamaged", offset, err)
			if g != nil {
				_ = g.Close()
			}
		}
	}
	if err := os.WriteFile(path, clean, 0o600); err != nil {
		t.Fatal(err)
	}
	g = open(t, dir)
	if n := g.Store().Counts().Records; n != 1 {
		t.Errorf("%d records after the repair", n)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLeadAfterTheEnd: whoever waits for leadership with a context that has ended is
// told so, also by a node that leads: loops that ask until it ends would spin.
func TestLeadAfterTheEnd(t *testing.T) {
	g := open(t, t.TempDir())
	defer func() { _ = g.Close() }()
	if _, err := g.Lead(limited(t)); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := g.Lead(over); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
