package replication_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/archive"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// flipTables inverts a bit in each table of a directory, in the files as they
// are, so that a store that has them open reads it, too.
func flipTables(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables in %s, %v", dir, err)
	}
	for _, path := range tables {
		flipAt(t, path, 200)
	}
}

func flipAt(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// findings is what a scrub finds at a node that runs, in its store and snapshots.
func findings(t *testing.T, g *replication.Group) []store.Finding {
	t.Helper()
	r, err := g.Store().Scrub(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	more, err := g.ScrubSnapshots(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	return append(r.Findings, more...)
}

func backup(t *testing.T, g *replication.Group) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := g.Backup(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// follower returns a node that does not lead.
func (c *cluster) follower() (uint32, *replication.Group) {
	c.t.Helper()
	lead := c.leader()
	for node, g := range c.all() {
		if g != lead {
			return node, g
		}
	}
	c.t.Fatal("no follower")
	return 0, nil
}

// TestRepair: bits flip in every table of one node of three, those of its snapshot
// among them. While the site goes on writing, the node gets a copy of a sibling's
// store in place; it keeps its identity, its log and all it voted for, holds the
// same as the others, also after a crash and for a node that it is to bring up.
// The old store is kept.
func TestRepair(t *testing.T) {
	c := newCluster(t, 3, func(cfg *replication.Config) { cfg.TrailingEntries = 16 })
	c.puts("before", 60)
	c.agree()
	node, g := c.follower()
	id := g.ID()
	if err := errors.Join(g.Snapshot(), g.Store().Flush()); err != nil {
		t.Fatal(err)
	}
	flipTables(t, filepath.Join(c.path(node), "store"))
	flipTables(t, one(t, filepath.Join(c.path(node), "snapshots", "*", "store")))
	before := findings(t, g)
	if len(before) < 2 {
		t.Fatalf("found %+v", before)
	}
	// A copy that is older than what this node has applied: its log goes on from it.
	copied := backup(t, c.leader())
	c.puts("since", 10)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() { // ends with stop
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_, _ = put(context.Background(), c.leader(), tiers.DocID(fmt.Sprintf("event:meanwhile-%d", i)))
			}
		}
	})
	info, err := g.Repair(limited(t), bytes.NewReader(copied), before)
	close(stop)
	writer.Wait()
	if err != nil || info.Records < 60 {
		t.Fatalf("%+v, %v", info, err)
	}
	c.puts("after", 10)
	c.agree()
	if after := findings(t, g); len(after) != 0 || g.ID() != id {
		t.Errorf("afterwards: %+v", after)
	}
	want := backup(t, c.leader())
	for _, kept := range []string{"store/MANIFEST-*", "snapshot-*/*.sst", "findings.json"} {
		if found, err := filepath.Glob(filepath.Join(info.Kept, kept)); err != nil || len(found) == 0 {
			t.Errorf("%s is not in %s: %v", kept, info.Kept, err)
		}
	}
	c.crash(node)
	g = c.start(node)
	c.agree()
	if after := findings(t, g); len(after) != 0 || g.ID() != id {
		t.Errorf("after a restart: %+v", after)
	}
	// A copy from ahead: what it holds already is not applied twice.
	c.puts("more", 5)
	if _, err := g.Repair(limited(t), bytes.NewReader(want), nil); err != nil {
		t.Error(err)
	}
	c.agree()
	if err := g.Snapshot(); err != nil && g.Store().Counts().Records == 0 {
		t.Error(err)
	}
}

// TestRepairRefusals: a copy that is torn, damaged, of another site, or too old
// for the node's log changes nothing.
func TestRepairRefusals(t *testing.T) {
	c := newCluster(t, 3, func(cfg *replication.Config) { cfg.TrailingEntries = 1 })
	c.puts("before", 10)
	c.agree()
	node, g := c.follower()
	old := backup(t, c.leader())
	flipped := bytes.Clone(old)
	flipped[bytes.Index(old, []byte(".sst"))+600] ^= 1
	other := config(t, t.TempDir())
	other.Site = "500101002"
	foreign, err := replication.Open(other)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = foreign.Close() }()
	lead := c.leader()
	if err := lead.Store().Flush(); err != nil {
		t.Fatal(err)
	}
	c.puts("since", 10)
	c.agree()
	if err := g.Snapshot(); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		b    []byte
		want error
	}{
		"torn": {old[:len(old)/2], archive.ErrDamaged}, "damaged": {flipped, archive.ErrDamaged},
		"foreign": {backup(t, foreign), replication.ErrNoBackup}, "too old": {old, replication.ErrBehind},
	} {
		if _, err := g.Repair(limited(t), bytes.NewReader(row.b), nil); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
	// A copy of a store that is damaged itself: the archive is whole.
	flipTables(t, filepath.Join(c.path(lead.Node()), "store"))
	if _, err := g.Repair(limited(t), bytes.NewReader(backup(t, lead)), nil); err == nil {
		t.Error("took the copy of a damaged store")
	}
	c.puts("after", 1)
	if left, err := filepath.Glob(filepath.Join(c.path(node), "*a*e*[dry]*")); err != nil || len(left) != 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

// repairConfig is that of a node that is down.
func repairConfig(dir string) replication.RepairConfig {
	return replication.RepairConfig{RecoverConfig: replication.RecoverConfig{Dir: dir, Federation: "cq", Site: "500101001"}, Now: time.Unix(1e9, 0)}
}

// TestRepairDown: a node that was ended because of its damage is repaired while
// it is down, and goes on in its group.
func TestRepairDown(t *testing.T) {
	c := newCluster(t, 3, func(cfg *replication.Config) { cfg.TrailingEntries = 16 })
	c.puts("before", 60)
	c.agree()
	node, g := c.follower()
	id := g.ID()
	if err := errors.Join(g.Snapshot(), g.Store().Flush()); err != nil {
		t.Fatal(err)
	}
	c.crash(node)
	c.puts("without", 5)
	flipTables(t, filepath.Join(c.path(node), "store"))
	flipTables(t, one(t, filepath.Join(c.path(node), "snapshots", "*", "store")))
	flipAt(t, one(t, filepath.Join(c.path(node), "store", "MANIFEST-*")), 30)
	cfg := repairConfig(c.path(node))
	found, err := replication.Inspect(limited(t), cfg)
	if err != nil || len(found) < 2 {
		t.Fatalf("%+v, %v", found, err)
	}
	if _, err := replication.Open(config(t, c.path(node))); !errors.Is(err, replication.ErrDamaged) {
		t.Errorf("opened: %v", err)
	}
	if _, err := replication.Mend(limited(t), cfg, found); !errors.Is(err, replication.ErrRepair) {
		t.Errorf("mended from a damaged snapshot: %v", err)
	}
	if was, err := replication.ServerID(c.path(node)); err != nil || was != id {
		t.Errorf("%s, %v; want %s", was, err, id)
	}
	info, err := replication.Repair(limited(t), cfg, bytes.NewReader(backup(t, c.leader())), found)
	if err != nil {
		t.Fatal(err)
	}
	g = c.start(node)
	c.agree()
	if after := findings(t, g); len(after) != 0 || g.ID() != id || g.Store().Counts().Records != 65 {
		t.Errorf("%+v, %+v", after, info)
	}
}

func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found[len(found)-1]
}

// TestInterruptedRepair: whatever a repair that was interrupted left, the node
// starts with one store or the other, whole.
func TestInterruptedRepair(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	for i := range 20 {
		if _, err := put(limited(t), g, tiers.DocID(fmt.Sprintf("event:%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(g.Snapshot(), g.Close()); err != nil {
		t.Fatal(err)
	}
	path := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	snapshot := one(t, path("snapshots", "*"))
	for name, leave := range map[string]func() error{
		"half a copy":       func() error { return os.MkdirAll(path("repair.copy.partial", "x"), 0o700) },
		"an unchecked copy": func() error { return store.LinkCopy(path("store"), path("repair.copy")) },
		"a copy in waiting": func() error { return os.MkdirAll(path("repair.ready"), 0o700) },
		"the store is away": func() error { return os.Rename(path("store"), path("repair.ready")) },
		"a snapshot in waiting": func() error {
			return os.MkdirAll(filepath.Join(snapshot, "store.next"), 0o700)
		},
		"the snapshot is away": func() error {
			return os.Rename(filepath.Join(snapshot, "store"), filepath.Join(snapshot, "store.next"))
		},
	} {
		if err := leave(); err != nil {
			t.Fatal(err)
		}
		g := open(t, dir)
		if n := g.Store().Counts().Records; n != 20 || len(findings(t, g)) != 0 {
			t.Errorf("%s: %d records, %+v", name, n, findings(t, g))
		}
		if left, _ := filepath.Glob(path("repair*")); len(left) != 0 {
			t.Errorf("%s: left %v", name, left)
		}
		if _, err := os.Stat(filepath.Join(snapshot, "store.next")); err == nil {
			t.Errorf("%s: left a part of a snapshot", name)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

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
		"chains": {0.5, true}, "what follows from chains": {0.66, false},
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

// damagedSite makes a site of 60 flushed records, 5 that are in the log alone, and
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
	epoch, err = g.Claim(limited(t), "", "engine-1", "task:a", false)
	if err := errors.Join(err, g.Snapshot()); err != nil {
		t.Fatal(err)
	}
	puts(t, g, "unflushed", 5)
	// The tables are compacted into one, which the snapshot has no link to.
	for ctx := limited(t); ; {
		if tables, err := filepath.Glob(filepath.Join(dir, "store", "*.sst")); err != nil || len(tables) == 1 {
			break
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("no compaction")
		}
	}
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
