package demo_test

import (
	"encoding/json"
	"testing"

	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/demo"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// falseDuties plants the defects that the checks of the sites' duties are there to
// find: an alert that was never written, and a view of the contested task that differs
// at one site.
func falseDuties(t *testing.T, cluster *local.Cluster, again *demo.Rerun, verify func() demo.Table) {
	t.Helper()
	undo := again.InventAlert()
	if table := verify(); table.Alerted != 0 || table.AlertSites != 3 || table.Holds() {
		t.Errorf("an alert that no site holds: %+v", table.Duties)
	}
	undo()
	undo = again.InventOrder()
	if table := verify(); table.OrderExecuted != 0 || table.OrderTargets != 4 || table.Holds() {
		t.Errorf("an order that was never given: %+v", table.Duties)
	}
	undo()
	falseReceipts(t, cluster, again, verify)

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

// falseReceipts plants views of a receipt at one site that say less than was done.
func falseReceipts(t *testing.T, cluster *local.Cluster, again *demo.Rerun, verify func() demo.Table) {
	t.Helper()
	k := again.Receipt()
	s := cluster.Node(cluster.Topology().City()).Group().Store()
	good, err := cluster.Node(cluster.Topology().City()).Views().View(k)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := s.Changes(k)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*command.ReceiptView){
		"not executed":     func(v *command.ReceiptView) { v.State = command.StateAcknowledged },
		"not delivered":    func(v *command.ReceiptView) { v.DeliveredMS = 0 },
		"not acknowledged": func(v *command.ReceiptView) { v.AcknowledgedMS = 0 },
	} {
		var v command.ReceiptView
		if err := json.Unmarshal(good.JSON, &v); err != nil {
			t.Fatal(err)
		}
		change(&v)
		bad := good
		if bad.JSON, err = json.Marshal(v); err != nil {
			t.Fatal(err)
		}
		if err := s.PutViews(store.Made{Key: k, View: bad, Version: changes.Version}); err != nil {
			t.Fatal(err)
		}
		if table := verify(); table.OrderExecuted != 3 || table.OrderTargets != 4 || table.Holds() {
			t.Errorf("%s at one site: %+v", name, table.Duties)
		}
	}
	if err := s.PutViews(store.Made{Key: k, View: good, Version: changes.Version}); err != nil {
		t.Fatal(err)
	}
}
