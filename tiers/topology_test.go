package tiers_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/tiers"
)

func site(id tiers.SiteID, tier tiers.Tier, parent tiers.SiteID) tiers.Site {
	return tiers.Site{ID: id, Tier: tier, Parent: parent, Name: string(id)}
}

// topologies draws a random tree: a city, districts, and townships under a
// district or the city.
func topologies() *rapid.Generator[*tiers.Topology] {
	return rapid.Custom(func(t *rapid.T) *tiers.Topology {
		doc := tiers.TopologyDoc{Federation: "f", Version: 1, Sites: []tiers.Site{site("c", tiers.TierCity, "")}}
		above := []tiers.SiteID{"c"}
		for i := range rapid.IntRange(0, 4).Draw(t, "districts") {
			id := tiers.SiteID(fmt.Sprintf("d%d", i))
			doc.Sites = append(doc.Sites, site(id, tiers.TierDistrict, "c"))
			above = append(above, id)
		}
		for i := range rapid.IntRange(0, 8).Draw(t, "townships") {
			doc.Sites = append(doc.Sites, site(tiers.SiteID(fmt.Sprintf("t%d", i)), tiers.TierTownship, rapid.SampledFrom(above).Draw(t, "parent")))
		}
		doc.Sites = rapid.Permutation(doc.Sites).Draw(t, "order")
		topology, err := tiers.NewTopology(doc)
		if err != nil {
			t.Fatal(err)
		}
		return topology
	})
}

// TestAudienceLaws checks the laws that everything else rests on, against the
// table of classes written out once more.
func TestAudienceLaws(t *testing.T) {
	down := map[tiers.Class]bool{tiers.ClassControl: true, tiers.ClassCatalog: true}
	ancestorsWrite := map[tiers.Class]bool{tiers.ClassCommand: true, tiers.ClassUrgent: true, tiers.ClassCatalog: true, tiers.ClassRoutine: true}
	rapid.Check(t, func(t *rapid.T) {
		top := topologies().Draw(t, "topology")
		parent := map[tiers.SiteID]tiers.SiteID{}
		for _, s := range top.Sites() {
			parent[s.ID] = s.Parent
		}
		above := func(a, b tiers.SiteID) bool { // the naive oracle
			for p := parent[b]; p != ""; p = parent[p] {
				if p == a {
					return true
				}
			}
			return false
		}
		for _, owner := range top.Sites() {
			for _, class := range tiers.Classes() {
				stream := tiers.StreamID{Site: owner.ID, Class: class}
				for _, s := range top.Sites() {
					in := s.ID == owner.ID || above(s.ID, owner.ID) || down[class] && above(owner.ID, s.ID)
					if top.InAudience(stream, s.ID) != in {
						t.Fatalf("%s in audience of %s: %v", s.ID, stream, !in)
					}
					if slices.Contains(top.Audience(stream), s.ID) != in {
						t.Fatalf("Audience(%s) and InAudience differ on %s", stream, s.ID)
					}
					may := s.ID == owner.ID || ancestorsWrite[class] && above(s.ID, owner.ID)
					if top.MayWrite(stream, s.ID) != may {
						t.Fatalf("%s may write %s: %v", s.ID, stream, !may)
					}
					if may && !in {
						t.Fatalf("%s may write %s and not read it", s.ID, stream)
					}
					if top.Linked(s.ID, owner.ID) != (above(s.ID, owner.ID) || above(owner.ID, s.ID)) {
						t.Fatalf("Linked(%s, %s)", s.ID, owner.ID)
					}
				}
			}
		}
	})
}

// TestReachable: every record can travel from each of its authors to its whole
// audience along links between members of the audience.
func TestReachable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		top := topologies().Draw(t, "topology")
		for _, owner := range top.Sites() {
			for _, class := range tiers.Classes() {
				stream := tiers.StreamID{Site: owner.ID, Class: class}
				members := top.Audience(stream)
				reached := map[tiers.SiteID]bool{owner.ID: true}
				for range members {
					for _, m := range members {
						s, _ := top.Site(m)
						if slices.Contains(members, s.Parent) && (reached[m] || reached[s.Parent]) {
							reached[m], reached[s.Parent] = true, true
						}
					}
				}
				if len(reached) != len(members) {
					t.Fatalf("%s reaches %d of %d sites over tree links", stream, len(reached), len(members))
				}
			}
		}
	})
}

func TestTopologyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		top := topologies().Draw(t, "topology")
		b, err := top.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := tiers.ParseTopology(b)
		if err != nil {
			t.Fatal(err)
		}
		b2, err := again.Marshal()
		if err != nil || string(b) != string(b2) {
			t.Fatalf("%s became %s (%v)", b, b2, err)
		}
	})
}

func TestTopologyRefusals(t *testing.T) {
	city := site("c", tiers.TierCity, "")
	for name, row := range map[string]struct {
		doc  tiers.TopologyDoc
		want string
	}{
		"no federation":    {tiers.TopologyDoc{Sites: []tiers.Site{city}}, "federation"},
		"no city":          {tiers.TopologyDoc{Federation: "f"}, "no city"},
		"two cities":       {tiers.TopologyDoc{Federation: "f", Sites: []tiers.Site{city, site("c2", tiers.TierCity, "")}}, "two city"},
		"city with parent": {tiers.TopologyDoc{Federation: "f", Sites: []tiers.Site{site("c", tiers.TierCity, "c")}}, "has a parent"},
		"listed twice":     {tiers.TopologyDoc{Federation: "f", Sites: []tiers.Site{city, city}}, "twice"},
		"unknown parent":   {tiers.TopologyDoc{Federation: "f", Sites: []tiers.Site{city, site("d", tiers.TierDistrict, "x")}}, `"x"`},
		"bad code":         {tiers.TopologyDoc{Federation: "f", Sites: []tiers.Site{site("c c", tiers.TierCity, "")}}, "c c"},
		"district under its like": {tiers.TopologyDoc{Federation: "f", Sites: []tiers.Site{city,
			site("d", tiers.TierDistrict, "c"), site("e", tiers.TierDistrict, "d")}}, "cannot be under"},
		"cycle": {tiers.TopologyDoc{Federation: "f", Sites: []tiers.Site{city,
			site("d", tiers.TierDistrict, "e"), site("e", tiers.TierDistrict, "d")}}, "cannot be under"},
		"tier 0": {tiers.TopologyDoc{Federation: "f", Sites: []tiers.Site{city, site("d", 0, "c")}}, "cannot be under"},
		"tier 4": {tiers.TopologyDoc{Federation: "f", Sites: []tiers.Site{city, site("d", 4, "c")}}, "cannot be under"},
	} {
		_, err := tiers.NewTopology(row.doc)
		if !errors.Is(err, tiers.ErrInvalidTopology) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want ErrInvalidTopology with %q", name, err, row.want)
		}
	}
	for _, text := range []string{"", "{", `{"federation":"f","sites":[{"id":"c","tier":"city"}],"extra":1}`, `{"federation":"f","sites":[{"id":"c","tier":"town"}]}`} {
		if _, err := tiers.ParseTopology([]byte(text)); !errors.Is(err, tiers.ErrInvalidTopology) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestIDs(t *testing.T) {
	for id, ok := range map[tiers.SiteID]bool{
		"500101001": true, "a-b": true, "": false, "a b": false, "a/b": false, "é": false,
		tiers.SiteID(strings.Repeat("1", 32)): true, tiers.SiteID(strings.Repeat("1", 33)): false,
	} {
		if err := id.Validate(); (err == nil) != ok || err != nil && !errors.Is(err, tiers.ErrInvalidID) {
			t.Errorf("site %q: %v", id, err)
		}
	}
	for id, ok := range map[tiers.DocID]bool{
		"event:e-1": true, "rule:a_b.c": true, "event:": false, ":e": false, "event": false, "Event:e": false, "ev1:e": false,
		"event:a:b": false, "event:a b": false, tiers.DocID("e:" + strings.Repeat("x", 94)): true, tiers.DocID("e:" + strings.Repeat("x", 95)): false,
	} {
		if err := id.Validate(); (err == nil) != ok || err != nil && !errors.Is(err, tiers.ErrInvalidID) {
			t.Errorf("document %q: %v", id, err)
		}
	}
	if id := tiers.NewDocID("event", "x"); id.Kind() != "event" || id.Name() != "x" || tiers.DocID("x").Kind() != "" {
		t.Errorf("parts of %q", id)
	}
}

// TestClassNumbers: the numbers and lanes are part of the version-1 formats.
func TestClassNumbers(t *testing.T) {
	for class, want := range map[tiers.Class]struct {
		name string
		lane tiers.Lane
	}{
		1: {"command", 0}, 2: {"urgent", 1}, 3: {"control", 1}, 4: {"catalog", 2}, 5: {"routine", 3}, 6: {"reading", 4}, 7: {"bulk", 5},
	} {
		parsed, err := tiers.ParseClass(want.name)
		if class.String() != want.name || class.Lane() != want.lane || parsed != class || err != nil {
			t.Errorf("class %d: %s in lane %d, parsed %d, %v", class, class, class.Lane(), parsed, err)
		}
	}
	for _, class := range []tiers.Class{0, 8, 255} {
		if class.Valid() || class.Lane() != tiers.LaneCount-1 || (tiers.StreamID{Site: "c", Class: class}).Validate() == nil {
			t.Errorf("class %d is taken", class)
		}
	}
	if _, err := tiers.ParseClass(""); !errors.Is(err, tiers.ErrInvalidID) {
		t.Errorf("empty class: %v", err)
	}
}
