package node_test

import (
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/indicator"
)

// TestConfirm: a site that confirms a value while it is cut off is in conflict with
// one that changes it meanwhile, as by an edit, with who, what and when; without that
// nothing is written. It holds for tracks, entries of catalogs and indicators.
func TestConfirm(t *testing.T) {
	m := newMesh(t)
	m.publishTracks()
	m.put(district, catalog.Types, catalog.Fields{"code": "1", "category": "c", "name": "井盖"})
	own := waterLevel()
	own.Code = "own"
	if _, err := m.Node(district).Define(limited(t), "own", own); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Node(district).Backend().AdoptTrack(limited(t), api.AdoptRequest{Key: m.key(), Code: "flood-control", Who: "x"}); err != nil {
		t.Fatal(err)
	}
	m.edit(district, district, map[string]string{"state": "active", "target": "1 h"})
	m.wait("sites agree", m.agreed)
	m.Isolate(district)
	b := m.Node(district).Backend()
	write := func(confirm bool) (seqs [3]uint64) {
		t.Helper()
		w, err := b.EditTrack(limited(t), api.EditRequest{Key: m.key(), Site: district, Code: "flood-control", Fields: map[string]string{"target": "1 h"}, Confirm: confirm})
		if err != nil {
			t.Fatal(err)
		}
		d, err := b.DefineIndicator(limited(t), api.IndicatorRequest{Key: m.key(), Indicator: own, Confirm: confirm})
		if err != nil {
			t.Fatal(err)
		}
		e, err := b.PutEntries(limited(t), api.EntriesRequest{
			Key: m.key(), Catalog: catalog.Types, Confirm: confirm, Entries: []catalog.Row{{Row: 1, Fields: catalog.Fields{"code": "1", "name": "井盖"}}},
		})
		if err != nil || e.Written != confirm {
			t.Fatalf("%+v, %v", e, err)
		}
		return [3]uint64{w.Seq, d.Seq, e.Version}
	}
	if s := write(false); s[0] != 0 || s[1] != 0 || s[2] != 1 {
		t.Errorf("what is so already was written: %v", s)
	}
	if s := write(true); s[0] == 0 || s[1] == 0 || s[2] != 2 {
		t.Errorf("nothing was written: %v", s)
	}
	// The city changes the same meanwhile.
	m.edit(city, district, map[string]string{"target": "2 h"})
	for doc, op := range map[tiers.DocID]crdt.Op{
		"type:1": {Kind: crdt.OpPut, Key: "name", Value: "窨井盖"}, "indicator:own": {Kind: crdt.OpPut, Key: "unit", Value: "cm"},
	} {
		stream := tiers.StreamID{Site: district, Class: tiers.ClassCatalog}
		if _, err := m.Node(city).Edit(limited(t), string(doc), stream, doc, []crdt.Op{op}); err != nil {
			t.Fatal(err)
		}
	}
	m.Heal()
	m.wait("sites agree", m.agreed)
	for _, at := range []tiers.SiteID{city, district, township} {
		by, _ := m.conflict(at)
		if len(by) != 2 || by[district] != "1 h" || by[city] != "2 h" {
			t.Errorf("%s: %v", at, by)
		}
		if e := m.entries(at, api.EntriesQuery{Catalog: catalog.Types, Site: district})["1"]; len(e.Conflicts) != 1 || len(e.Conflicts[0].Values) != 2 {
			t.Errorf("%s: %+v", at, e)
		}
		var v struct {
			Conflicts []struct{ Field string } `json:"conflicts"`
		}
		m.view(at, indicator.KindIndicator, "own", &v)
		if len(v.Conflicts) != 1 || v.Conflicts[0].Field != "unit" {
			t.Errorf("%s: %+v", at, v)
		}
	}
}
