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

// undamaged fails on storage errors that are not of the damage that a test did. A
// compaction that meets it before the repair does would end a process of its own.
func undamaged(t *testing.T) func(error) {
	return func(err error) {
		if !errors.Is(err, replication.ErrDamaged) {
			t.Errorf("fatal: %v", err)
		}
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

// claims has the leader write a claim.
func (c *cluster) claims() {
	c.t.Helper()
	c.led(func(lead *replication.Group) error {
		_, err := lead.Claim(limited(c.t), "", "spare", "task:spare", true)
		return err
	})
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
	c := newCluster(t, 3, func(cfg *replication.Config) { cfg.TrailingEntries, cfg.Fatal = 16, undamaged(t) })
	c.puts("before", 60)
	c.agree()
	node, g := c.follower()
	id := g.ID()
	if err := errors.Join(g.Snapshot(), g.Store().Flush()); err != nil {
		t.Fatal(err)
	}
	compacted(t, c.claims, g, c.path(node))
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
	c := newCluster(t, 3, func(cfg *replication.Config) { cfg.TrailingEntries, cfg.Fatal = 1, undamaged(t) })
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
	compacted(t, c.claims, g, c.path(node))
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

// TestRepairSnapshots: a snapshot that is damaged, and its store not, is named and
// made again from the store; a store that is lost later comes back from it.
func TestRepairSnapshots(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	puts(t, g, "a", 60)
	if err := g.Snapshot(); err != nil {
		t.Fatal(err)
	}
	compacted(t, claims(t, g), g, dir)
	flipTables(t, one(t, filepath.Join(dir, "snapshots", "*", "store")))
	found := findings(t, g)
	if len(found) == 0 {
		t.Fatal("nothing found")
	}
	for _, f := range found {
		if filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(f.File)))) != "snapshots" {
			t.Errorf("%+v", f)
		}
	}
	info, err := g.RepairSnapshots(limited(t), found)
	if err != nil || len(findings(t, g)) != 0 {
		t.Fatalf("%+v, %v, %+v", info, err, findings(t, g))
	}
	if kept, err := filepath.Glob(filepath.Join(info.Kept, "snapshot-*", "*.sst")); err != nil || len(kept) == 0 {
		t.Errorf("kept %v, %v", kept, err)
	}
	puts(t, g, "b", 5)
	if err := errors.Join(g.Close(), os.RemoveAll(filepath.Join(dir, "store"))); err != nil {
		t.Fatal(err)
	}
	g = open(t, dir)
	if n := g.Store().Counts().Records; n != 65 {
		t.Errorf("%d records", n)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}
