package node_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// flipTables inverts a bit in each table of a directory, at a part of it, in the
// files as they are.
func flipTables(t *testing.T, dir string, part float64) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables in %s, %v", dir, err)
	}
	for _, path := range tables {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		b, at := make([]byte, 1), int64(float64(info.Size())*part)
		_, err = f.ReadAt(b, at)
		b[0] ^= 4
		_, err2 := f.WriteAt(b, at)
		if err := errors.Join(err, err2, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// threeNodes is a city of three nodes. A compaction that meets damage before the
// repair does would end a process of its own; here it is left alone.
func threeNodes(t *testing.T) *mesh {
	t.Helper()
	dir := t.TempDir()
	c, err := local.Open(limited(t), local.Config{Dir: dir, Federation: "cq", Nodes: 3, API: true, Fatal: func(err error) {
		if !errors.Is(err, replication.ErrDamaged) {
			t.Errorf("fatal: %v", err)
		}
	}, Sites: []tiers.Site{{ID: city, Tier: tiers.TierCity, Name: "重庆市"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{Cluster: c, t: t, dir: dir}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	m.wait("three voters", func() bool {
		all, err := c.Node(city).Group().Members()
		voters := 0
		for _, one := range all {
			if one.Voter {
				voters++
			}
		}
		return err == nil && voters == 3
	})
	return m
}

// same waits until the nodes of the city hold the same.
func (m *mesh) same() {
	m.t.Helper()
	m.wait("all nodes to hold the same", func() bool {
		want := m.Node(city).Group()
		for i := range uint32(3) {
			g := m.NodeOf(city, i+1).Group()
			if g.Digest() != want.Digest() || g.Store().AppliedIndex() != want.Store().AppliedIndex() {
				return false
			}
		}
		return true
	})
}

// TestRepairNode: bits flip in every table of one node of three, the leader even.
// Its scrub names that and the remedy, its repair mends it from the others while
// it runs; it keeps its identity, shows every document, and the site goes on.
func TestRepairNode(t *testing.T) {
	m := threeNodes(t)
	m.report3(city, 20)
	for name, leads := range map[string]bool{"a follower": false, "the leader": true} {
		number := m.leader(city)
		if !leads {
			number = number%3 + 1
		}
		n := m.NodeOf(city, number)
		id := n.Group().ID()
		if err := n.Group().Store().Flush(); err != nil {
			t.Fatal(err)
		}
		// Among the records, which nothing reads until it is asked to.
		flipTables(t, filepath.Join(m.Data(city, number), "store"), 0.62)
		client := api.NewClient(m.APIOf(city, number))
		found, err := client.Scrub(limited(t))
		if err != nil || len(found.Findings) == 0 || found.Findings[0].What == "" {
			t.Fatalf("%s: found %+v, %v", name, found, err)
		}
		if s, err := client.Status(limited(t)); err != nil || !strings.Contains(strings.Join(s.Alarms, "\n"), "tiermesh repair") {
			t.Errorf("%s: alarms %v, %v", name, s.Alarms, err)
		}
		r, err := client.Repair(limited(t), api.RepairRequest{})
		if err != nil || len(r.Before) == 0 || len(r.After) != 0 || r.From == id || r.Kept == "" {
			t.Fatalf("%s: %+v, %v", name, r, err)
		}
		if again, err := client.Repair(limited(t), api.RepairRequest{}); err != nil || again.From != "" || len(again.Before) != 0 {
			t.Errorf("%s: with nothing damaged: %+v, %v", name, again, err)
		}
		client.Close()
		m.report3(city, 5)
		m.same()
		if n.Group().ID() != id {
			t.Errorf("%s became %s", id, n.Group().ID())
		}
	}
	// Each goes on by itself, on what it has.
	if err := m.Crash(city); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(limited(t), city); err != nil {
		t.Fatal(err)
	}
	m.report3(city, 1)
	m.same()
	for i := range uint32(3) {
		hits, err := m.NodeOf(city, i+1).Group().Store().Index(store.IndexQuery{Name: "event"})
		if err != nil || len(hits) < 30 {
			t.Errorf("node %d shows %d events, %v", i+1, len(hits), err)
		}
	}
}

// TestRepairDivergedNode: a node whose store is sound and holds something else
// than the others is repaired when these agree, and nobody is when they do not.
func TestRepairDivergedNode(t *testing.T) {
	m := threeNodes(t)
	m.report3(city, 3)
	m.same()
	wrong := m.leader(city)%3 + 1
	forge(t, m.NodeOf(city, wrong).Group().Store())
	sound := api.NewClient(m.APIOf(city, m.leader(city)))
	defer sound.Close()
	if r, err := sound.Repair(limited(t), api.RepairRequest{}); !errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), "--from") {
		t.Errorf("a sound node took another's: %+v, %v", r, err)
	}
	client := api.NewClient(m.APIOf(city, wrong))
	defer client.Close()
	r, err := client.Repair(limited(t), api.RepairRequest{})
	if err != nil || len(r.After) != 0 || r.From == "" {
		t.Fatalf("%+v, %v", r, err)
	}
	m.same()
}

// TestRepairNodeDown: a node that does not start any more is repaired from another
// one while it is down, and goes on in its group.
func TestRepairNodeDown(t *testing.T) {
	m := threeNodes(t)
	m.report3(city, 20)
	m.same()
	down := m.leader(city)
	id := m.NodeOf(city, down).Group().ID()
	if err := errors.Join(m.NodeOf(city, down).Group().Store().Flush(), m.CrashNode(city, down)); err != nil {
		t.Fatal(err)
	}
	m.report3(city, 5)
	data := m.Data(city, down)
	flipTables(t, filepath.Join(data, "store"), 0.3)
	cfg := node.Config{Dir: data, Credentials: filepath.Join(filepath.Dir(data), "credentials"), Topology: filepath.Join(m.dir, "topology.json"), Listen: "127.0.0.1:0"}
	other := down%3 + 1
	found, info, from, err := node.RepairDown(limited(t), cfg, node.Options{}, other)
	if err != nil || len(found) == 0 || info.Kept == "" || from != fmt.Sprintf("node %d", other) {
		t.Fatalf("%+v, %+v, %q, %v", found, info, from, err)
	}
	if err := m.StartNode(city, down); err != nil {
		t.Fatal(err)
	}
	m.report3(city, 1)
	m.same()
	if got := m.NodeOf(city, down).Group().ID(); got != id {
		t.Errorf("%s became %s", id, got)
	}
	if _, _, _, err := node.RepairDown(limited(t), cfg, node.Options{}, 0); !errors.Is(err, store.ErrLocked) {
		t.Errorf("while it runs: %v", err)
	}
}

// TestSalvageSite: a township of one node whose tables are damaged all over is
// salvaged; after its start its district gives back what it lacks, so that every
// site holds what any site held, and all go on.
func TestSalvageSite(t *testing.T) {
	m := newMesh(t)
	docs := m.report(80)
	m.wait("sites agree", m.agreed)
	epoch, err := m.Node(township).Group().Claim(limited(t), "", "engine-1", "task:a", false)
	if err := errors.Join(err, m.Node(township).Group().Store().Flush(), m.Crash(township)); err != nil {
		t.Fatal(err)
	}
	data := m.Data(township, 1)
	flipTables(t, filepath.Join(data, "store"), 0.62)
	cfg := replication.SalvageConfig{RepairConfig: replication.RepairConfig{RecoverConfig: replication.RecoverConfig{Dir: data, Federation: "cq", Site: township}, Now: time.Now()}}
	// Without its log the store is all there is.
	if err := os.Truncate(filepath.Join(data, "raft.db"), 4096); err != nil {
		t.Fatal(err)
	}
	info, err := replication.Salvage(limited(t), cfg)
	if err != nil || info.Mended || len(info.Gaps) == 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	t.Logf("salvaged %d records, gaps %+v", info.Records, info.Gaps)
	if err := m.Start(limited(t), township); err != nil {
		t.Fatal(err)
	}
	docs = append(docs, m.report(10)...)
	m.wait("sites agree after the salvage", m.agreed)
	m.holds(docs)
	routine := tiers.StreamID{Site: township, Class: tiers.ClassRoutine}
	for _, n := range m.Nodes() {
		v := n.Group().Store().Vector(routine)
		if v[crdt.Author{Site: township, Incarnation: 1}].Seq != 80 || v[crdt.Author{Site: township, Incarnation: info.Incarnation}].Seq != 10 {
			t.Errorf("%s: %v", n.ID().Site, v)
		}
	}
	if next, err := m.Node(township).Group().Claim(limited(t), "", "engine-1", "task:b", true); err != nil || next <= epoch {
		t.Errorf("epoch %d after %d, %v", next, epoch, err)
	}
	// A retry of what was acknowledged has no second effect.
	m.n = 0
	if again := m.report(1); again[0] != docs[0] {
		t.Errorf("the first report again: %v, was %v", again[0], docs[0])
	}
}

// TestIncarnationsAfterSalvage: peers take in a site that was salvaged many times
// without its store saying what incarnation it was in.
func TestIncarnationsAfterSalvage(t *testing.T) {
	if last := 16 * store.IncarnationLeap; last > wire.IncarnationMax {
		t.Errorf("16 salvages lead to incarnation %d, a message names at most %d", last, wire.IncarnationMax)
	}
}

// TestSalvageUnshipped: what a township had written and not shipped stands behind
// a record that it lost. Once the district gave that back, a second salvage that
// reads the damaged store, too, puts it where it belongs.
func TestSalvageUnshipped(t *testing.T) {
	m := newMesh(t)
	docs := m.report(60)
	m.wait("sites agree", m.agreed)
	m.Isolate(township)
	docs = append(docs, m.report(20)...)
	if err := errors.Join(m.Node(township).Group().Store().Flush(), m.Crash(township)); err != nil {
		t.Fatal(err)
	}
	data := m.Data(township, 1)
	cfg := replication.SalvageConfig{RepairConfig: replication.RepairConfig{RecoverConfig: replication.RecoverConfig{Dir: data, Federation: "cq", Site: township}, Now: time.Now()}}
	flipTables(t, filepath.Join(data, "store"), 0.62)
	if err := os.Truncate(filepath.Join(data, "raft.db"), 4096); err != nil {
		t.Fatal(err)
	}
	info, err := replication.Salvage(limited(t), cfg)
	if err != nil || len(info.Gaps) < 2 || !info.Gaps[len(info.Gaps)-1].Kept || info.Gaps[len(info.Gaps)-1].Last != 80 {
		t.Fatalf("%+v, %v", info, err)
	}
	m.Heal()
	if err := m.Start(limited(t), township); err != nil {
		t.Fatal(err)
	}
	m.wait("sites agree after the salvage", m.agreed)
	author := crdt.Author{Site: township, Incarnation: 1}
	routine := tiers.StreamID{Site: township, Class: tiers.ClassRoutine}
	if seq := m.Node(township).Group().Store().Vector(routine)[author].Seq; seq != 60 {
		t.Errorf("%d records came back, want 60", seq)
	}
	if err := m.Crash(township); err != nil {
		t.Fatal(err)
	}
	cfg.Also = []string{filepath.Join(info.Kept, "store")}
	info, err = replication.Salvage(limited(t), cfg)
	if err != nil || len(info.Gaps) != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	if err := m.Start(limited(t), township); err != nil {
		t.Fatal(err)
	}
	m.wait("sites agree after the second salvage", m.agreed)
	if seq := m.Node(city).Group().Store().Vector(routine)[author].Seq; seq != 80 {
		t.Errorf("the city holds %d records, want 80", seq)
	}
	m.holds(docs)
}
