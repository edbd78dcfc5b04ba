package replication_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// TestMend: a store of which the node's own snapshot and log hold everything is
// made again from these, with nothing lost, also what was not flushed.
func TestMend(t *testing.T) {
	for name, snapshot := range map[string]bool{"from the log alone": false, "from snapshot and log": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			g := open(t, dir)
			puts(t, g, "first", 20)
			if snapshot {
				if err := g.Snapshot(); err != nil {
					t.Fatal(err)
				}
			}
			puts(t, g, "second", 20)
			if err := g.Store().Flush(); err != nil {
				t.Fatal(err)
			}
			puts(t, g, "third", 5)
			want := g.Digest()
			if err := g.Abandon(); err != nil {
				t.Fatal(err)
			}
			// The latest table is none of the snapshot's.
			flipAt(t, one(t, filepath.Join(dir, "store", "*.sst")), 200)
			cfg := replication.SalvageConfig{RepairConfig: repairConfig(dir)}
			info, err := replication.Salvage(limited(t), cfg)
			if err != nil || !info.Mended || len(info.Before) == 0 {
				t.Fatalf("%+v, %v", info, err)
			}
			g = open(t, dir)
			defer func() { _ = g.Close() }()
			if g.Digest() != want || g.Store().Incarnation() != 1 || len(findings(t, g)) != 0 {
				t.Errorf("%d records, incarnation %d", g.Store().Counts().Records, g.Store().Incarnation())
			}
		})
	}
}

func puts(t *testing.T, g *replication.Group, name string, n int) {
	t.Helper()
	for i := range n {
		if _, err := put(limited(t), g, tiers.DocID(fmt.Sprintf("event:%s-%d", name, i))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSalvage: of a damaged store whose snapshot is damaged worse, everything
// that verifies goes on in a new incarnation, with what the log holds and the
// store had not flushed as long as nothing before it is missing; the rest is
// named and kept. Interrupted after any of its steps, it goes on, and the node
// does not start before.
func TestSalvage(t *testing.T) {
	for name, row := range map[string]struct {
		part float64 // of the table, whose keys are in order
		lost bool
	}{
		"chains": {0.5, true}, "what follows from chains": {0.75, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			epoch := damagedSite(t, dir, row.part)
			cfg := replication.SalvageConfig{RepairConfig: repairConfig(dir)}
			info, err := replication.Salvage(limited(t), cfg)
			if err != nil || info.Mended || info.Incarnation < 2 || len(info.Before) == 0 || len(info.Gaps) > 0 != row.lost {
				t.Fatalf("%+v, %v", info, err)
			}
			interruptSalvage(t, dir, cfg, info)
			g := open(t, dir)
			defer func() { _ = g.Close() }()
			own := g.Store().Vector(stream)[crdt.Author{Site: "500101001", Incarnation: 1}].Seq
			for _, gap := range info.Gaps {
				own += gap.Last - gap.First + 1
			}
			withoutLog := row.lost && own == 60 && len(info.Unread) > 0
			if own != 65 && !withoutLog {
				t.Errorf("%d records of 65, %+v", own, info)
			}
			if next, err := g.Claim(limited(t), "", "engine-1", "task:b", true); err != nil || next <= epoch {
				t.Errorf("epoch %d after %d, %v", next, epoch, err)
			}
			puts(t, g, "after", 3)
			if f := findings(t, g); len(f) != 0 {
				t.Errorf("%+v", f)
			}
			if kept, err := filepath.Glob(filepath.Join(info.Kept, "store", "*.sst")); err != nil || len(kept) == 0 {
				t.Errorf("kept %v, %v", kept, err)
			}
			if _, err := replication.Salvage(limited(t), cfg); !errors.Is(err, store.ErrLocked) {
				t.Errorf("while it runs: %v", err)
			}
		})
	}
}

// damagedSite makes a site of 60 flushed records with their views, 5 that are in the log alone, and
// one claim, whose epoch it returns; then bits flip at one part of its table and
// all over its snapshot.
func damagedSite(t *testing.T, dir string, part float64) (epoch uint64) {
	t.Helper()
	cfg := config(t, dir)
	cfg.TrailingEntries = 1
	g, err := replication.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Lead(limited(t)); err != nil {
		t.Fatal(err)
	}
	puts(t, g, "flushed", 60)
	viewed(t, g)
	epoch, err = g.Claim(limited(t), "", "engine-1", "task:a", false)
	if err := errors.Join(err, g.Snapshot()); err != nil {
		t.Fatal(err)
	}
	compacted(t, claims(t, g), g, dir)
	puts(t, g, "unflushed", 5)
	if err := g.Abandon(); err != nil {
		t.Fatal(err)
	}
	for _, name := range filesOf(t, dir) {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil || filepath.Ext(path) != ".sst" {
			continue
		}
		if filepath.Dir(path) == filepath.Join(dir, "store") {
			flipAt(t, path, int64(float64(info.Size())*part))
			continue
		}
		for at := int64(100); at < info.Size(); at += 100 {
			flipAt(t, path, at)
		}
	}
	return epoch
}

// viewed gives every document a view, with nothing in it but room.
func viewed(t *testing.T, g *replication.Group) {
	t.Helper()
	docs, err := g.Store().TakeDirty(1000)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range docs {
		v := crdt.View{JSON: []byte(fmt.Sprintf(`{"n":%d,"text":"%x"}`, i, sha256.Sum256([]byte{byte(i)})))}
		if err := g.Store().PutViews(store.Made{Key: d.Key, View: v, Version: 1}); err != nil {
			t.Fatal(err)
		}
	}
}

// claims returns what makes a group write a claim.
func claims(t *testing.T, g *replication.Group) func() {
	return func() {
		t.Helper()
		if _, err := g.Claim(limited(t), "", "spare", "task:spare", true); err != nil {
			t.Fatal(err)
		}
	}
}

// compacted brings it about that a store has one table, which its snapshot has no
// link to: it writes claims, and g, whose store it is, flushes them.
func compacted(t *testing.T, claim func(), g *replication.Group, dir string) {
	t.Helper()
	pause := 5 * time.Millisecond
	for ctx := limited(t); ; pause = min(2*pause, 2*time.Second) { // a compaction takes as long as the disk does
		if tables, err := filepath.Glob(filepath.Join(dir, "store", "*.sst")); err != nil || len(tables) == 1 {
			return
		}
		claim() // one more flush, of no records
		if err := g.Store().Flush(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			t.Fatal("no compaction")
		}
	}
}

// interruptSalvage takes back the steps of a salvage, one after the other, as if
// it had been interrupted before each.
func interruptSalvage(t *testing.T, dir string, cfg replication.SalvageConfig, want replication.SalvageInfo) {
	t.Helper()
	path := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	report, err := os.ReadFile(filepath.Join(want.Kept, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	back := []func() error{
		func() error { // all but the last
			return errors.Join(os.Mkdir(path("salvage.ready"), 0o700), os.WriteFile(path("salvage.ready", "report.json"), report, 0o600))
		},
		func() error { return os.Remove(path("bootstrap")) },
		func() error { return os.Rename(path("store"), path("salvage.ready", "store")) },
		func() error { return os.Rename(filepath.Join(want.Kept, "store"), path("store")) },
		func() error { return os.Rename(filepath.Join(want.Kept, "snapshots"), path("snapshots")) },
		func() error { return os.Rename(filepath.Join(want.Kept, "raft.db"), path("raft.db")) },
	}
	for n := range back {
		for _, step := range back[:n+1] {
			if err := step(); err != nil {
				t.Fatalf("step %d: %v", n, err)
			}
		}
		if _, err := replication.Open(config(t, dir)); !errors.Is(err, replication.ErrRecovering) {
			t.Errorf("opened before step %d: %v", n, err)
		}
		if info, err := replication.Salvage(limited(t), cfg); err != nil || info.Kept != want.Kept || info.Records != want.Records {
			t.Fatalf("interrupted before step %d: %+v, %v", n, info, err)
		}
	}
}

// TestSalvageNothing: a node in order is left alone; a log that is damaged and
// a store that is sound are salvaged up to the damage.
func TestSalvageNothing(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	puts(t, g, "a", 20)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := replication.SalvageConfig{RepairConfig: repairConfig(dir)}
	if info, err := replication.Salvage(limited(t), cfg); !errors.Is(err, replication.ErrRepair) {
		t.Fatalf("%+v, %v", info, err)
	}
	if err := os.Truncate(filepath.Join(dir, "raft.db"), 8192); err != nil {
		t.Fatal(err)
	}
	info, err := replication.Salvage(limited(t), cfg)
	if err != nil || info.Records != 20 || len(info.Unread) == 0 || len(info.Gaps) != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	g = open(t, dir)
	puts(t, g, "b", 1)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

// snapshotted returns the directory of a node that crashed with some documents in
// its snapshot and some behind it, and so many entries in its log before that.
func snapshotted(t *testing.T, trailing uint64, before, after int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "node")
	cfg := config(t, dir)
	cfg.TrailingEntries = trailing
	g, err := replication.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Lead(limited(t)); err != nil {
		t.Fatal(err)
	}
	puts(t, g, "a", before)
	if err := g.Snapshot(); err != nil {
		t.Fatal(err)
	}
	puts(t, g, "b", after)
	if err := g.Abandon(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestSalvageWithoutSnapshot: a node whose snapshot is gone does not start, though
// its store is sound; salvaged, it has everything, also what was not flushed.
func TestSalvageWithoutSnapshot(t *testing.T) {
	dir := snapshotted(t, 1, 20, 5)
	if err := os.RemoveAll(filepath.Join(dir, "snapshots")); err != nil {
		t.Fatal(err)
	}
	if _, err := replication.Open(config(t, dir)); !errors.Is(err, replication.ErrBehind) {
		t.Fatalf("opened: %v", err)
	}
	if _, err := replication.Repair(limited(t), repairConfig(dir), bytes.NewReader(nil), nil); !errors.Is(err, replication.ErrRepair) {
		t.Errorf("repaired, and would not start: %v", err)
	}
	info, err := replication.Salvage(limited(t), replication.SalvageConfig{RepairConfig: repairConfig(dir)})
	if err != nil || info.Records != 25 || len(info.Gaps)+len(info.Unread) != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	g := open(t, dir)
	puts(t, g, "c", 1)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestHoleBehindSnapshot: a log whose oldest entries cannot be found, so that it does
// not go on where the snapshot ends, is refused when the node starts: Raft would
// panic. Salvaged, the node has what its store had.
func TestHoleBehindSnapshot(t *testing.T) {
	dir := snapshotted(t, 1, 20, 5)
	log, err := raftboltdb.NewBoltStore(filepath.Join(dir, "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	last, err := log.LastIndex()
	if err := errors.Join(err, log.DeleteRange(1, last-3), log.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := replication.Open(config(t, dir)); !errors.Is(err, replication.ErrLogDamaged) {
		t.Fatalf("opened: %v", err)
	}
	info, err := replication.Salvage(limited(t), replication.SalvageConfig{RepairConfig: repairConfig(dir)})
	if err != nil || info.Records < 20 || len(info.Gaps) != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	g := open(t, dir)
	puts(t, g, "c", 1)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestInterruptedRecovery: a node that is started in the middle of a recovery
// makes nothing in its directory that keeps the recovery from going on.
func TestInterruptedRecovery(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	puts(t, g, "a", 5)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := repairConfig(dir).RecoverConfig
	if _, err := replication.Recover(cfg); err != nil {
		t.Fatal(err)
	}
	ready := filepath.Join(dir, "recover.ready")
	if err := errors.Join(os.Mkdir(ready, 0o700), os.Rename(filepath.Join(dir, "store"), filepath.Join(ready, "store"))); err != nil {
		t.Fatal(err)
	}
	if _, err := replication.Open(config(t, dir)); !errors.Is(err, replication.ErrRecovering) {
		t.Fatalf("opened: %v", err)
	}
	if info, err := replication.Recover(cfg); err != nil || info.Records != 5 {
		t.Fatalf("%+v, %v", info, err)
	}
}
