package replication_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// TestSnapshotEndsInBarrier: a snapshot whose last entry is Raft's own, which
// the store never sees, is no sign of a store that lost something: a node that
// crashed after it opens again.
func TestSnapshotEndsInBarrier(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	for i := range 300 {
		if _, err := put(limited(t), g, tiers.DocID(fmt.Sprintf("event:%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(g.Linearize(limited(t)), g.Snapshot(), g.Abandon()); err != nil {
		t.Fatal(err)
	}
	g = open(t, dir)
	if n := g.Store().Counts().Records; n != 300 {
		t.Errorf("%d records", n)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestTornLog: a log file that was cut at any 512 bytes is refused, and whole
// again it opens with everything.
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	for _, doc := range []tiers.DocID{"event:a", "event:b", "event:c"} {
		if _, err := put(limited(t), g, doc); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Abandon(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "raft.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for n := 0; n < len(whole); n += 512 {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		g, err := replication.Open(config(t, dir))
		if err != nil {
			if !errors.Is(err, replication.ErrLogDamaged) {
				t.Errorf("cut at %d: %v", n, err)
			}
			refused++
			continue
		}
		// Only pages that nothing is in may be missing.
		if _, err := g.Lead(limited(t)); err != nil || g.Store().Counts().Records != 3 {
			t.Errorf("cut at %d of %d: %d records, %v", n, len(whole), g.Store().Counts().Records, err)
		}
		if err := g.Abandon(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	g = open(t, dir)
	if n := g.Store().Counts().Records; n != 3 {
		t.Errorf("whole: %d records", n)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d lengths refused", refused, (len(whole)+511)/512)
}

// TestFlippedLogFile flips bits all over a log's file, three in four where bbolt keeps
// a page's structure. The node does not start, or it has every record: bbolt and
// Raft never get to see what would have them panic, nor a state of one write ago.
// Salvaged, a node that does not start has what its store held, and when every entry
// of its log is still somewhere in the file, all of them, too.
func TestFlippedLogFile(t *testing.T) {
	original, random := snapshotted(t, 16, 100, 20), rand.New(rand.NewPCG(1, 2))
	whole, err := os.ReadFile(filepath.Join(original, "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	entries := entriesOf(t, original)
	counts := map[string]int{}
	for range 300 {
		at := random.IntN(len(whole))
		if page := os.Getpagesize(); random.IntN(4) > 0 {
			at = at/page*page + random.IntN(400)
		}
		flipped, dir := bytes.Clone(whole), filepath.Join(t.TempDir(), "node")
		flipped[at] ^= 1 << random.IntN(8)
		err := errors.Join(os.CopyFS(dir, os.DirFS(original)), os.WriteFile(filepath.Join(dir, "raft.db"), flipped, 0o600))
		if err != nil {
			t.Fatal(err)
		}
		g, err := replication.Open(config(t, dir))
		if err != nil {
			counts["refused"]++
			left := !slices.ContainsFunc(entries, func(entry []byte) bool { return !bytes.Contains(flipped, entry) })
			if counts["refused"]%3 > 0 && (!left || counts["whole"] >= 3) {
				continue // a salvage takes a while
			}
			info, err := replication.Salvage(limited(t), replication.SalvageConfig{RepairConfig: repairConfig(dir)})
			if err != nil || info.Records < 100 || left && info.Records != 120 || len(info.Unread) == 0 {
				t.Errorf("byte %d from %x to %x: %+v, %v", at, whole[at], flipped[at], info, err)
			}
			if left {
				counts["whole"]++
			}
			continue
		}
		if _, err := g.Lead(limited(t)); err != nil || g.Store().Counts().Records != 120 {
			t.Errorf("byte %d from %x to %x: %d records, %v", at, whole[at], flipped[at], g.Store().Counts().Records, err)
		}
		counts["harmless"]++
		if err := g.Abandon(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%v", counts)
	if counts["refused"] < 10 || counts["harmless"] < 10 || counts["whole"] < 3 {
		t.Errorf("the flips did not reach what they should: %v", counts)
	}
}

// entriesOf returns the encoded entries of a log whose node is down.
func entriesOf(t *testing.T, dir string) (out [][]byte) {
	t.Helper()
	editBolt(t, dir, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("logs")).ForEach(func(_, value []byte) error {
			out = append(out, bytes.Clone(value))
			return nil
		})
	})
	return out
}

// TestLogWithoutMeta: a log whose meta pages are damaged, one or both, is refused, and
// a salvage finds every entry of it.
func TestLogWithoutMeta(t *testing.T) {
	for _, pages := range [][]int{{0}, {1}, {0, 1}} {
		dir := snapshotted(t, 1, 20, 5)
		path := filepath.Join(dir, "raft.db")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			b[page*os.Getpagesize()+40] ^= 1
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = replication.Open(config(t, dir))
		if !errors.Is(err, replication.ErrLogDamaged) || !strings.Contains(err.Error(), "tiermesh salvage") {
			t.Fatalf("%v: opened: %v", pages, err)
		}
		info, err := replication.Salvage(limited(t), replication.SalvageConfig{RepairConfig: repairConfig(dir)})
		if err != nil || info.Records != 25 || info.Incarnation < 2 || len(info.Unread) == 0 {
			t.Errorf("%v: %+v, %v", pages, info, err)
		}
		g := open(t, dir)
		puts(t, g, "c", 1)
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// sealBytes is the size of the seal behind a value of Raft's state.
const sealBytes = 16

// editState changes the bucket of Raft's own state while the node is down.
func editState(t *testing.T, dir string, edit func(*bbolt.Bucket) error) {
	t.Helper()
	editBolt(t, dir, func(tx *bbolt.Tx) error { return edit(tx.Bucket([]byte("conf"))) })
}

// editBolt changes a log's file while the node is down.
func editBolt(t *testing.T, dir string, edit func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "raft.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(edit)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestStateOfEarlierVersion: Raft's own state has no seals in a log of an earlier
// version; it is taken over, and from then on a change of it is found.
func TestStateOfEarlierVersion(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	if _, err := replication.ServerID(dir); !errors.Is(err, store.ErrLocked) {
		t.Errorf("read beside a running node: %v", err)
	}
	puts(t, g, "a", 3)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	id, err := replication.ServerID(dir)
	if err != nil {
		t.Fatal(err)
	}
	editState(t, dir, func(conf *bbolt.Bucket) error {
		err := conf.Delete([]byte("tiermesh sealed"))
		for _, key := range []string{"CurrentTerm", "LastVoteTerm", "LastVoteCand", "tiermesh server id"} {
			b := bytes.Clone(conf.Get([]byte(key)))
			err = errors.Join(err, conf.Put([]byte(key), b[:len(b)-sealBytes]))
		}
		return err
	})
	for range 2 {
		g = open(t, dir)
		if n := g.Store().Counts().Records; n != 3 {
			t.Errorf("%d records", n)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := replication.ServerID(dir); err != nil || now != id {
		t.Errorf("it was %q, it is %q, %v", id, now, err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"another term": func(b []byte) []byte { b[7] ^= 1; return b },
		"no seal":      func(b []byte) []byte { return b[:len(b)-sealBytes] },
	} {
		var sealed []byte
		editState(t, dir, func(conf *bbolt.Bucket) error {
			sealed = bytes.Clone(conf.Get([]byte("CurrentTerm")))
			return conf.Put([]byte("CurrentTerm"), change(bytes.Clone(sealed)))
		})
		if _, err := replication.Open(config(t, dir)); !errors.Is(err, replication.ErrLogDamaged) {
			t.Errorf("opened with %s: %v", name, err)
		}
		editState(t, dir, func(conf *bbolt.Bucket) error { return conf.Put([]byte("CurrentTerm"), sealed) })
	}
}

// TestFlippedBits flips bits in every file of one node of three. The node does
// not start, or ends, or names the damage in a scrub, or what it holds is what
// the others hold: it never serves anything else. With an empty directory it
// joins again and nothing is lost.
func TestFlippedBits(t *testing.T) {
	var ended atomic.Int64
	damaged := uint32(3)
	c := newCluster(t, 3, func(cfg *replication.Config) {
		cfg.TrailingEntries = 16
		if cfg.Node == damaged {
			cfg.Fatal = func(error) { ended.Add(1) }
		}
	})
	c.puts("before", 100)
	c.agree()
	if err := c.all()[damaged].Snapshot(); err != nil {
		t.Fatal(err)
	}
	c.puts("log", 20)
	c.agree()
	c.crash(damaged)
	want := c.leader().Digest()
	original := filepath.Join(t.TempDir(), "original")
	if err := os.CopyFS(original, os.DirFS(c.path(damaged))); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, name := range filesOf(t, original) {
		for _, part := range []int{2, 3, 7} {
			if err := errors.Join(os.RemoveAll(c.path(damaged)), os.CopyFS(c.path(damaged), os.DirFS(original))); err != nil {
				t.Fatal(err)
			}
			flip(t, filepath.Join(c.path(damaged), name), part)
			counts[c.judge(damaged, &ended, want, name)]++
		}
	}
	t.Logf("%v", counts)
	if counts["refused"] == 0 || counts["harmless"] == 0 {
		t.Errorf("the flips did not reach what they should: %v", counts)
	}
	lost := ""
	members, err := c.leader().Members()
	for _, m := range members {
		if m.Node == damaged {
			lost = m.ID
		}
	}
	c.remove(lost)
	if err := errors.Join(err, os.RemoveAll(c.path(damaged))); err != nil {
		t.Fatal(err)
	}
	c.start(damaged)
	c.join(damaged)
	c.agree()
	if n := c.all()[damaged].Store().Counts().Records; n != 120 {
		t.Errorf("%d records", n)
	}
}

// judge starts a damaged node alone, cut off from the others, and says what came
// of it.
func (c *cluster) judge(node uint32, ended *atomic.Int64, want any, name string) string {
	c.t.Helper()
	before := ended.Load()
	cfg := config(c.t, c.path(node))
	cfg.Node, cfg.Bootstrap, cfg.Siblings = node, false, replication.Siblings{Nodes: 3, Streams: newNetwork().plug(node)}
	c.change(&cfg)
	g, err := replication.Open(cfg)
	if err != nil {
		return "refused"
	}
	defer func() { _ = g.Abandon() }()
	found, err := g.Store().Scrub(context.Background())
	read := g.Store().Counts().Records
	switch {
	case ended.Load() > before:
		return "ended"
	case err != nil && !errors.Is(err, store.ErrCorrupt), len(found.Findings) > 0, err != nil:
		return "found"
	case read < 100:
		c.t.Errorf("%s: %d records, and nothing was noticed", name, read)
	case read == 120 && g.Digest() != want:
		c.t.Errorf("%s: another digest, and nothing was noticed", name)
	}
	return "harmless"
}

func filesOf(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != "LOCK" {
			out = append(out, strings.TrimPrefix(path, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// flip inverts a bit at one part of a file.
func flip(t *testing.T, path string, part int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) == 0 {
		return
	}
	b[len(b)/part] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
