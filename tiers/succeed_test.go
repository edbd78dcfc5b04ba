package tiers_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/testbed/data"
	"github.com/tiermesh/tiermesh/tiers"
)

func keyed(s tiers.Site) tiers.Site {
	s.Key = []byte("key of " + s.ID)
	return s
}

func before(t *testing.T) *tiers.Topology {
	t.Helper()
	top, err := tiers.NewTopology(tiers.TopologyDoc{Federation: "f", Version: 1, Sites: []tiers.Site{
		keyed(site("c", tiers.TierCity, "")), keyed(site("d1", tiers.TierDistrict, "c")), keyed(site("d2", tiers.TierDistrict, "c")),
		keyed(site("t1", tiers.TierTownship, "d1")), keyed(site("t2", tiers.TierTownship, "d1")),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return top
}

// TestSucceed: what a new version leaves out is carried over: keys, retired
// sites and former parents; and from then on they count for what they wrote and
// for nothing else.
func TestSucceed(t *testing.T) {
	old := before(t)
	next, err := old.Succeed(tiers.TopologyDoc{Federation: "f", Version: 5, Sites: []tiers.Site{
		site("c", tiers.TierCity, ""), site("d2", tiers.TierDistrict, "c"),
		site("t1", tiers.TierTownship, "d2"), site("t2", tiers.TierTownship, "d2"), site("t3", tiers.TierTownship, "d2"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := tiers.TopologyDiff{
		Added: []tiers.SiteID{"t3"}, Retired: []tiers.SiteID{"d1"}, Changed: []tiers.SiteID{},
		Moved: []tiers.Move{{Site: "t1", From: "d1", To: "d2"}, {Site: "t2", From: "d1", To: "d2"}},
	}
	if d := old.Diff(next); !reflect.DeepEqual(d, want) {
		t.Errorf("diff %+v, want %+v", d, want)
	}
	d1, _ := next.Site("d1")
	t1, _ := next.Site("t1")
	if !d1.Retired || string(d1.Key) != "key of d1" || string(t1.Key) != "key of t1" || !slices.Equal(t1.Former, []tiers.SiteID{"d1"}) {
		t.Errorf("d1 %+v, t1 %+v", d1, t1)
	}
	command := tiers.StreamID{Site: "t1", Class: tiers.ClassCommand}
	for what, ok := range map[string]bool{
		"a retired site is linked":                         next.Linked("d1", "c"),
		"a retired site is in an audience":                 next.InAudience(tiers.StreamID{Site: "d1", Class: tiers.ClassRoutine}, "d1"),
		"the city lost a retired site's stream":            !next.InAudience(tiers.StreamID{Site: "d1", Class: tiers.ClassRoutine}, "c"),
		"a former parent may write":                        next.MayWrite(command, "d1"),
		"a former parent's records are refused":            !next.MayHaveWritten(command, "d1"),
		"a former parent's readings are accepted":          next.MayHaveWritten(tiers.StreamID{Site: "t1", Class: tiers.ClassReading}, "d1"),
		"a former parent is in the audience":               next.InAudience(command, "d1"),
		"a site has a former parent that it never had":     next.MayHaveWritten(tiers.StreamID{Site: "t3", Class: tiers.ClassCommand}, "d1"),
		"the new parent is not in the audience":            !next.InAudience(command, "d2"),
		"a retired site's own records are refused":         !next.MayHaveWritten(tiers.StreamID{Site: "d1", Class: tiers.ClassReading}, "d1"),
		"a district's retirement leaves it as a child":     slices.Contains(next.Children("c"), "d1"),
		"a district's retirement takes its key from diffs": !next.Diff(next).Empty(),
	} {
		if ok {
			t.Error(what)
		}
	}
	again, err := next.Succeed(tiers.TopologyDoc{Federation: "f", Version: 6, Sites: []tiers.Site{
		site("c", tiers.TierCity, ""), site("d2", tiers.TierDistrict, "c"), site("t1", tiers.TierTownship, "c"), site("t3", tiers.TierTownship, "d2"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if t1, _ := again.Site("t1"); !slices.Equal(t1.Former, []tiers.SiteID{"d1", "d2"}) {
		t.Errorf("a site that moved twice was under %v", t1.Former)
	}
}

func TestSucceedRefusals(t *testing.T) {
	rows := func(change func(all []tiers.Site) []tiers.Site) tiers.TopologyDoc {
		return tiers.TopologyDoc{Federation: "f", Version: 2, Sites: change(slices.Clone(before(t).Sites()))}
	}
	same := func(all []tiers.Site) []tiers.Site { return all }
	old := rows(same)
	old.Version = 1
	other := rows(same)
	other.Federation = "g"
	for name, row := range map[string]struct {
		doc  tiers.TopologyDoc
		want error
		text string
	}{
		"version does not rise": {old, tiers.ErrStaleTopology, "version 1 follows 1"},
		"another federation":    {other, tiers.ErrInvalidTopology, `"g"`},
		"another key":           {rows(func(a []tiers.Site) []tiers.Site { a[1].Key = []byte("x"); return a }), tiers.ErrInvalidTopology, "d1"},
		"another tier":          {rows(func(a []tiers.Site) []tiers.Site { a[4].Tier, a[4].Parent = tiers.TierDistrict, "c"; return a }), tiers.ErrInvalidTopology, "t2"},
		"orphans":               {rows(func(a []tiers.Site) []tiers.Site { return slices.Delete(a, 1, 2) }), tiers.ErrInvalidTopology, "t1"},
		"the city is gone":      {rows(func(a []tiers.Site) []tiers.Site { return a[1:] }), tiers.ErrInvalidTopology, "city"},
	} {
		if _, err := before(t).Succeed(row.doc); !errors.Is(err, row.want) || !strings.Contains(err.Error(), row.text) {
			t.Errorf("%s: %v, want %v with %q", name, err, row.want, row.text)
		}
	}
	next, err := before(t).Succeed(rows(func(a []tiers.Site) []tiers.Site { return a[:4] }))
	if err != nil {
		t.Fatal(err)
	}
	back := rows(same)
	back.Version = 3
	if _, err := next.Succeed(back); !errors.Is(err, tiers.ErrInvalidTopology) || !strings.Contains(err.Error(), "t2 is retired") {
		t.Errorf("a retired code is used again: %v", err)
	}
}

// TestReorganisation: the merger of 2025-11-06, two districts into a new one.
func TestReorganisation(t *testing.T) {
	old, next, err := data.Reorganisation()
	if err != nil {
		t.Fatal(err)
	}
	d := old.Diff(next)
	if len(d.Moved) != 47 || len(d.Added) != 1 || len(d.Changed) != 0 {
		t.Errorf("%d moved, %d added, %d changed: want 47, 1, 0", len(d.Moved), len(d.Added), len(d.Changed))
	}
	for _, m := range d.Moved {
		s := tiers.StreamID{Site: m.Site, Class: tiers.ClassRoutine}
		if !old.InAudience(s, m.From) || next.InAudience(s, m.From) || !next.InAudience(s, m.To) || old.InAudience(s, m.To) {
			t.Errorf("the audience of %s does not follow it from %s to %s", s, m.From, m.To)
		}
	}
}
