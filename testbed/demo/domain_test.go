package demo_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/demo"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// TestDutiesCanFail plants, after the heal, each defect that the checks of the sites'
// duties are there to find: a view of the contested task that differs at one site,
// and an alert that was never written.
func TestDutiesCanFail(t *testing.T) {
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
		t.Fatalf("without a defect: %+v\n%s", table, strings.Join(q.lines, "\n"))
	}
	undo := again.InventAlert()
	if table := verify(); table.Alerted != 0 || table.AlertSites != 3 || table.Holds() {
		t.Errorf("an alert that no site holds: %+v", table.Duties)
	}
	undo()

	k := again.Contested()
	city := cluster.Node(cluster.Topology().City())
	good, err := city.Views().View(k)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := city.Group().Store().Changes(k)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*dispatch.TaskView){
		"another custodian":      func(v *dispatch.TaskView) { v.Custodian = k.Stream.Site },
		"no conflict":            func(v *dispatch.TaskView) { v.Conflicts = nil },
		"nobody has stood down":  func(v *dispatch.TaskView) { v.StandDown = []dispatch.StandDown{{Site: k.Stream.Site}} },
		"custody without a sign": func(v *dispatch.TaskView) { v.Custodian = tiers.SiteID("500999") },
	} {
		var v dispatch.TaskView
		if err := json.Unmarshal(good.JSON, &v); err != nil {
			t.Fatal(err)
		}
		change(&v)
		bad := good
		if bad.JSON, err = json.Marshal(v); err != nil {
			t.Fatal(err)
		}
		if err := city.Group().Store().PutViews(store.Made{Key: k, View: bad, Version: changes.Version}); err != nil {
			t.Fatal(err)
		}
		if table := verify(); table.ContestSettled != 2 || table.Diverged == 0 || table.Holds() {
			t.Errorf("%s at one site: %+v", name, table.Duties)
		}
	}
	if err := city.Group().Store().PutViews(store.Made{Key: k, View: good, Version: changes.Version}); err != nil {
		t.Fatal(err)
	}
	if table := verify(); !table.Holds() {
		t.Errorf("with every defect undone: %+v", table)
	}
}
