package demo_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/demo"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/track"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet takes progress and keeps the lines for a failure.
type quiet struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (q *quiet) Step(text string)     { q.Line(text) }
func (q *quiet) Bar(int, int, string) {}

func (q *quiet) Line(text string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lines = append(q.lines, text)
}

func config(dir string) (demo.Config, *quiet) {
	q := &quiet{}
	return demo.Config{Dir: dir, Events: 200, Townships: 4, Districts: 2, Progress: q}, q
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func closed(t *testing.T, c *local.Cluster) {
	t.Helper()
	if c != nil {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestMainJob plays the main job, and once more in the same directory.
func TestMainJob(t *testing.T) {
	dir := t.TempDir()
	for run := range 2 {
		cfg, q := config(dir)
		table, cluster, err := demo.Run(limited(t), cfg)
		closed(t, cluster)
		if err != nil || !table.Holds() {
			t.Fatalf("run %d: %+v, %v\n%s", run, table, err, strings.Join(q.lines, "\n"))
		}
		checkOrderLine(t, q.lines)
		if table.Sites != 7 || table.Reported != 200 || table.Acknowledged != 200 || table.Dispatched != 200 {
			t.Errorf("run %d: %+v", run, table)
		}
		// City, the cut district, its two townships and the one that was moved there
		// hold the contested entry.
		if table.Conflicts != 5 || table.ConflictSites != 5 {
			t.Errorf("run %d: conflict at %d of %d sites", run, table.Conflicts, table.ConflictSites)
		}
		// City, district and township hold the task that two of them assigned, and the
		// alert; the order is for all townships, of which one is linked to the city.
		if table.ContestSites != 3 || table.AlertSites != 3 || table.OrderTargets != 4 || table.OrderAway != 3 {
			t.Errorf("run %d: %+v", run, table.Duties)
		}
		// Each step is played, in each run.
		if table.BundleRecords == 0 || table.BundleUrgent == 0 || table.StandIns != 1 || table.Moves != 1 || table.Restored != 1 || table.Links != 6 {
			t.Errorf("run %d: %+v", run, table.Steps)
		}
	}
	cfg, _ := config(dir)
	cfg.Townships = 5
	if _, cluster, err := demo.Run(limited(t), cfg); !errors.Is(err, demo.ErrConfig) || cluster != nil {
		t.Errorf("a directory of other sites: %v", err)
	}
}

// orderLine is what the demo says of who has the order, with the four numbers in it.
var orderLine = regexp.MustCompile(`townships \((\d+)\) an order.* At once: (\d+); out of reach: (\d+); .*: (\d+)$`)

// checkOrderLine: of the townships that were given an order, each is said to have it, to
// be out of reach, or to get it later, and none is counted twice.
func checkOrderLine(t *testing.T, lines []string) {
	t.Helper()
	for _, line := range lines {
		m := orderLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		var n [4]int
		for i := range n {
			n[i], _ = strconv.Atoi(m[i+1])
		}
		if n[0] != 4 || n[1]+n[2]+n[3] != n[0] || n[3] > 1 {
			t.Errorf("%s", line)
		}
		return
	}
	t.Errorf("nothing was said of the order:\n%s", strings.Join(lines, "\n"))
}

// TestTableCanFail plants each defect that the closing table is there to find.
func TestTableCanFail(t *testing.T) {
	cfg, q := config(t.TempDir())
	ctx := limited(t)
	again, cluster, err := demo.Played(ctx, cfg)
	defer closed(t, cluster)
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(q.lines, "\n"))
	}
	verify := func() demo.Table {
		t.Helper()
		table, err := again.Verify(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	if table := verify(); !table.Holds() {
		t.Fatalf("without a defect: %+v", table)
	}
	site, placed := again.Placed()
	township := cluster.Node(site)

	undo := again.Invent()
	if table := verify(); table.Lost == 0 || table.Holds() {
		t.Errorf("an acknowledged event that no site holds: %+v", table)
	}
	undo()

	key := store.DocKey{Stream: placed.Stream, Doc: placed.Doc}
	good, err := township.Views().View(key)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := township.Group().Store().Changes(key)
	if err != nil {
		t.Fatal(err)
	}
	bad := good
	bad.JSON = []byte(`{"id":"` + string(placed.Doc) + `"}`)
	if err := township.Group().Store().PutViews(store.Made{Key: key, View: bad, Version: changes.Version}); err != nil {
		t.Fatal(err)
	}
	if table := verify(); table.Diverged != 1 || table.Holds() {
		t.Errorf("a view that differs at one site: %+v", table)
	}
	if err := township.Group().Store().PutViews(store.Made{Key: key, View: good, Version: changes.Version}); err != nil {
		t.Fatal(err)
	}

	t.Run("outside the audience", func(t *testing.T) { outside(ctx, t, cluster, again) })
	t.Run("hidden conflict", func(t *testing.T) { hidden(ctx, t, cluster, again) })
	t.Run("sent twice", func(t *testing.T) { twice(ctx, t, cluster, again) })
}

// hidden resolves the planted conflict, so that no site shows it.
func hidden(ctx context.Context, t *testing.T, cluster *local.Cluster, again *demo.Rerun) {
	t.Helper()
	ops, err := track.EditOps(map[string]string{"target": "resolved"})
	if err != nil {
		t.Fatal(err)
	}
	district := cluster.Topology().Children(cluster.Topology().City())[0]
	stream := tiers.StreamID{Site: district, Class: tiers.ClassCatalog}
	if _, err := cluster.Node(district).Edit(ctx, "test", stream, "track:flood-control", ops); err != nil {
		t.Fatal(err)
	}
	if err := again.Agree(ctx); err != nil {
		t.Fatal(err)
	}
	if table, err := again.Verify(ctx); err != nil || table.Conflicts != 0 || table.ConflictSites == 0 || table.Holds() {
		t.Errorf("a conflict that no site shows: %+v, %v", table, err)
	}
}

// twice reports one request under two keys.
func twice(ctx context.Context, t *testing.T, cluster *local.Cluster, again *demo.Rerun) {
	t.Helper()
	site, placed := again.Placed()
	v, err := cluster.Node(site).Views().View(store.DocKey{Stream: placed.Stream, Doc: placed.Doc})
	if err != nil {
		t.Fatal(err)
	}
	r := event.Report{Type: "01001", Title: "again", Priority: 3, SourceKey: sourceKey(t, v)}
	if _, err := cluster.Node(site).Report(ctx, "another key", r); err != nil {
		t.Fatal(err)
	}
	if err := again.Agree(ctx); err != nil {
		t.Fatal(err)
	}
	if table, err := again.Verify(ctx); err != nil || table.Duplicated == 0 || table.Holds() {
		t.Errorf("one request as two events: %+v, %v", table, err)
	}
}

func sourceKey(t *testing.T, v crdt.View) string {
	t.Helper()
	for _, e := range v.Index {
		if e.Name == event.IndexSource {
			return e.Value
		}
	}
	t.Fatal("no source key")
	return ""
}

// outside stores a township's own stream at a township that must not have it.
func outside(ctx context.Context, t *testing.T, cluster *local.Cluster, again *demo.Rerun) {
	t.Helper()
	site, placed := again.Placed()
	from := cluster.Node(site).Group().Store()
	author := crdt.Author{Site: site, Incarnation: 1}
	chain := crdt.ChainID{Stream: placed.Stream, Author: author}
	run, err := from.ReadRun(chain, 1, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	var other *node.Node
	for _, s := range cluster.Topology().Sites() {
		if s.Tier == tiers.TierTownship && s.ID != site {
			other = cluster.Node(s.ID)
		}
	}
	if _, err := other.Group().Ingest(ctx, store.Range{
		Chain: chain, First: 1, Records: run.Records, Checkpoint: crdt.Checkpoint{Chain: chain, Head: run.End, Signature: []byte{1}},
	}); err != nil {
		t.Fatal(err)
	}
	table, err := again.Verify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if table.Violations != 1 || table.Holds() {
		t.Errorf("a stream outside its audience: %+v", table)
	}
}

func TestConfigRefusals(t *testing.T) {
	for name, change := range map[string]func(*demo.Config){
		"no directory": func(c *demo.Config) { c.Dir = "" }, "no district": func(c *demo.Config) { c.Districts = 0 },
		"39 districts": func(c *demo.Config) { c.Districts, c.Townships = 39, 39 }, "no township": func(c *demo.Config) { c.Townships = 1 },
		"too many": func(c *demo.Config) { c.Townships = 201 }, "no event": func(c *demo.Config) { c.Events = 0 },
		"no row": func(c *demo.Config) { c.Input = strings.NewReader("header only\n") },
	} {
		cfg, _ := config(t.TempDir())
		change(&cfg)
		_, cluster, err := demo.Run(limited(t), cfg)
		closed(t, cluster)
		if !errors.Is(err, demo.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	full, _ := config(t.TempDir())
	if err := os.WriteFile(filepath.Join(full.Dir, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := demo.Run(limited(t), full); !errors.Is(err, demo.ErrConfig) {
		t.Errorf("a directory of somebody else's: %v", err)
	}
}
