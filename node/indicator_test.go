package node_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/indicator"
)

// waterLevel is a vital sign with one level, at which an event becomes urgent.
func waterLevel() indicator.Definition {
	ends := 3.2
	return indicator.Definition{Code: "water_level", Name: "水位", Kind: indicator.Vital, Unit: "m", Levels: []indicator.Level{
		{Name: "red", Op: indicator.AtLeast, Threshold: 3.5, Clear: &ends, ForS: 120, Priority: 1},
	}}
}

// define writes a definition at the city and waits until the township has it.
func (m *mesh) define(d indicator.Definition) {
	m.t.Helper()
	if _, err := m.Node(city).Define(limited(m.t), "define-"+d.Code, d); err != nil {
		m.t.Fatal(err)
	}
	m.wait("the definition at the township", func() bool {
		s, err := m.Node(township).Backend().IndicatorState(limited(m.t), "", d.Code)
		return err == nil && s.DefinedBy == city
	})
}

// measure imports one reading a minute from a time on.
func (m *mesh) measure(key, series string, from time.Time, values ...float64) {
	m.t.Helper()
	m.measureAt(m.Node(township), key, series, from, values...)
}

func (m *mesh) measureAt(n *node.Node, key, series string, from time.Time, values ...float64) {
	m.t.Helper()
	var in []node.Reading
	for i, v := range values {
		in = append(in, node.Reading{Series: series, Point: reading.Point{AtMS: from.Add(time.Duration(i) * time.Minute).UnixMilli(), Value: v}})
	}
	if done, err := n.Import(limited(m.t), key, in, false); err != nil || len(done.Bad) > 0 {
		m.t.Fatal(done.Bad, err)
	}
}

// alerts lists the alerts that a site holds of the township.
func (m *mesh) alerts(at tiers.SiteID) (out []string) {
	m.t.Helper()
	hits, err := m.Node(at).Group().Store().Index(store.IndexQuery{Name: event.IndexSource, Prefix: "alert:"})
	if err != nil {
		m.t.Fatal(err)
	}
	for _, h := range hits {
		out = append(out, fmt.Sprintf("%s %s", h.Key, h.Value))
	}
	return out
}

func (m *mesh) page(at tiers.SiteID, by string) api.ReadingsPage {
	m.t.Helper()
	p, err := m.Node(at).Backend().Readings(limited(m.t), api.ReadingsQuery{Site: township, Series: "water_level/1", ToMS: reading.TimeMaxMS, By: by, Limit: 1000})
	if err != nil && !errors.Is(err, api.ErrNotFound) {
		m.t.Fatal(err)
	}
	return p
}

// TestReadingsFlowUp: a township that is cut off takes readings in, in any order,
// and raises one alert; after the heal the city holds the same readings, rollups and
// that alert, and a late reading corrects them at both. A restart, and a reading
// that moves the crossing's beginning, raise no second alert; a further crossing
// does.
func TestReadingsFlowUp(t *testing.T) {
	m := newMesh(t)
	m.define(waterLevel())
	m.Isolate(township)
	start := time.Now().Add(-6 * time.Hour).Truncate(time.Hour)
	m.measure("1", "water_level/1", start.Add(10*time.Minute), 3.6, 3.7, 3.8, 3.9)
	m.measure("2", "water_level/1", start, 3, 3, 3, 3) // late
	m.measure("2", "water_level/1", start, 9, 9, 9, 9) // a used key
	m.wait("an alert at the township", func() bool { return len(m.alerts(township)) == 1 })
	if held := m.page(city, api.ByRaw); len(held.Points) > 0 {
		t.Fatal("a reading went over a cut link", held)
	}
	m.measure("3", "water_level/1", start.Add(9*time.Minute), 3.55) // it began earlier
	if err := m.Crash(township); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(limited(t), township); err != nil {
		t.Fatal(err)
	}
	m.Isolate(township)
	m.measure("4", "water_level/1", start.Add(20*time.Minute), 3.4, 3.6, 3, 3.6, 3.6, 3.6) // ends, and crosses again
	m.wait("an alert of the second crossing", func() bool { return len(m.alerts(township)) == 2 })
	m.Heal()
	same := func() bool {
		for _, by := range []string{api.ByRaw, api.ByMinute, api.ByHour, api.ByDay} {
			if !reflect.DeepEqual(m.page(city, by), m.page(township, by)) {
				return false
			}
		}
		return reflect.DeepEqual(m.alerts(city), m.alerts(township))
	}
	m.wait("the city to hold the same", func() bool { return len(m.page(city, api.ByRaw).Points) == 15 && len(m.alerts(city)) == 2 && same() })
	m.measure("5", "water_level/1", start, 2) // corrects the first one
	m.wait("the correction at the city", func() bool {
		p := m.page(city, api.ByHour)
		return len(p.Rollups) == 1 && p.Rollups[0].Min == 2 && same()
	})
	if got := m.alerts(township); len(got) != 2 {
		t.Errorf("alerts %v", got)
	}
	s, err := m.Node(city).Backend().IndicatorState(limited(t), township, "water_level")
	if err != nil || len(s.Series) != 1 || s.Series[0].Level == nil || s.Series[0].Level.Name != "red" || s.Series[0].Alerts != 2 || *s.Series[0].Value != 3.6 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, at := range []tiers.SiteID{city, township} {
		if r, err := m.Node(at).Backend().Scrub(limited(t)); err != nil || len(r.Findings) > 0 {
			t.Error(r.Findings, err)
		}
	}
}

// TestReadingRefusals: what breaks a rule is named and left out, the rest is taken
// in; a code that the city defines is not defined again below.
func TestReadingRefusals(t *testing.T) {
	m := newMesh(t)
	m.define(waterLevel())
	now := time.Now().UnixMilli()
	done, err := m.Node(township).Import(limited(t), "k", []node.Reading{
		{Series: "water_level/1", Point: reading.Point{AtMS: now, Value: 1}},
		{Series: "nothing/1", Point: reading.Point{AtMS: now, Value: 1}},
		{Series: "water_level/1/2", Point: reading.Point{AtMS: now, Value: 1}},
		{Series: "water_level/1", Point: reading.Point{AtMS: -1, Value: 1}},
		{Series: "water_level/1", Point: reading.Point{AtMS: reading.TimeMaxMS, Value: 1}},
		{Series: "water_level/1", Point: reading.Point{AtMS: now - 40*24*3_600_000, Value: 1}},
	}, false)
	bad := done.Bad
	if err != nil || len(bad) != 5 || bad[0] != nil {
		t.Fatal(bad, err)
	}
	for i, err := range bad {
		if !errors.Is(err, indicator.ErrInvalid) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if p := m.page(township, api.ByRaw); len(p.Points) != 1 {
		t.Error(p)
	}
	if _, err := m.Node(township).Define(limited(t), "d", waterLevel()); !errors.Is(err, node.ErrDefined) {
		t.Error(err)
	}
	local := waterLevel()
	local.Code = "local"
	if _, err := m.Node(township).Define(limited(t), "d", local); err != nil {
		t.Error(err)
	}
	local.Levels[0].EventType = "no type"
	if _, err := m.Node(township).Define(limited(t), "e", local); !errors.Is(err, indicator.ErrInvalid) {
		t.Error(err)
	}
	// The city's definition holds from now on.
	m.define(local2())
	s, err := m.Node(township).Backend().IndicatorState(limited(t), "", "local")
	if err != nil || s.Indicator.Name != "city's" {
		t.Errorf("%+v, %v", s, err)
	}
}

func local2() indicator.Definition {
	d := waterLevel()
	d.Code, d.Name = "local", "city's"
	return d
}

// TestThinning: readings that are older than the indicator says become minutes, at
// the township and at the city; rollups stay. Not the city's clock decides, which is
// ten days ahead here, but until when it holds what the township wrote.
func TestThinning(t *testing.T) {
	dir := t.TempDir()
	c, err := local.Open(limited(t), local.Config{
		Dir: dir, Federation: "cq", RedialMax: 200 * time.Millisecond, Sites: []tiers.Site{
			{ID: city, Tier: tiers.TierCity, Name: "重庆市"}, {ID: township, Tier: tiers.TierTownship, Name: "高笋塘街道", Parent: city},
		}, Now: func(id tiers.SiteID) time.Time {
			if id == city {
				return time.Now().Add(10 * 24 * time.Hour)
			}
			return time.Now()
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	m := &mesh{Cluster: c, t: t, dir: dir}
	d := waterLevel()
	d.ReadingDays, d.MinuteDays = 3, 3
	m.define(d)
	old := time.Now().Add(-71 * time.Hour).Truncate(time.Hour)
	m.measure("old", "water_level/1", old, 1, 2)
	m.measure("new", "water_level/1", time.Now().Add(-time.Hour).Truncate(time.Hour), 3)
	m.wait("the readings at the city", func() bool { return len(m.page(city, api.ByRaw).Points) == 3 })
	for _, at := range []tiers.SiteID{township, city} {
		if n, err := m.Node(at).Thin(limited(t)); n != 0 || err != nil {
			t.Fatal("thinned too early", n, err)
		}
	}
	d.ReadingDays, d.MinuteDays = 1, 1
	if _, err := m.Node(city).Define(limited(t), "shorter", d); err != nil {
		t.Fatal(err)
	}
	m.wait("the new definition at the township", func() bool {
		s, err := m.Node(township).Backend().IndicatorState(limited(t), "", d.Code)
		return err == nil && s.Indicator.ReadingDays == 1
	})
	before := m.page(township, api.ByDay)
	for _, at := range []tiers.SiteID{township, city} {
		// Minutes become hours in the same pass.
		if n, err := m.Node(at).Thin(limited(t)); n != 1 || err != nil {
			t.Fatalf("%s: %d hours, %v", at, n, err)
		}
		if n, err := m.Node(at).Thin(limited(t)); n != 0 || err != nil {
			t.Fatalf("%s again: %d hours, %v", at, n, err)
		}
		raw, days := m.page(at, api.ByRaw), m.page(at, api.ByDay)
		if len(raw.Points) != 1 || raw.ReadingsFromMS <= old.UnixMilli() || !reflect.DeepEqual(days.Rollups, before.Rollups) {
			t.Errorf("%s: %+v, %+v, want %+v", at, raw, days, before)
		}
	}
}

// TestCloneReadings: a copy of a township's disk takes readings in at the same time.
// After the original gave way it has written its own once more, at their old time:
// every site holds what either of them took in, and of one time the later value.
func TestCloneReadings(t *testing.T) {
	m := newMesh(t)
	m.define(waterLevel())
	start := time.Now().Add(-6 * time.Hour).Truncate(time.Hour)
	m.measure("before", "water_level/1", start, 1, 1)
	m.wait("the readings at the city", func() bool { return len(m.page(city, api.ByRaw).Points) == 2 })
	if err := m.Crash(township); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(copied, os.DirFS(filepath.Join(m.dir, string(township), "data"))); err != nil {
		t.Fatal(err)
	}
	m.Isolate(township)
	if err := m.Start(limited(t), township); err != nil {
		t.Fatal(err)
	}
	original := m.Node(township)
	m.measureAt(original, "original", "water_level/1", start.Add(10*time.Minute), 2, 2)
	clone := m.clone(copied)
	if err := clone.Ready(limited(t)); err != nil {
		t.Fatal(err)
	}
	m.measureAt(clone, "clone", "water_level/1", start.Add(11*time.Minute), 3, 3)
	m.wait("the clone's readings at the city", func() bool { return len(m.page(city, api.ByRaw).Points) == 4 })
	m.Heal()
	want := []reading.Point{}
	for minute, v := range map[int64]float64{0: 1, 1: 1, 10: 2, 11: 3, 12: 3} {
		want = append(want, reading.Point{AtMS: start.UnixMilli() + minute*reading.MinuteMS, Value: v})
	}
	slices.SortFunc(want, func(a, b reading.Point) int { return int(a.AtMS - b.AtMS) })
	m.wait("everything to be everywhere", func() bool {
		for _, n := range []*node.Node{original, clone, m.Node(district), m.Node(city)} {
			got, err := n.Group().Store().Readings(township, "water_level/1", 0, reading.TimeMaxMS, 100)
			if err != nil || !slices.Equal(got, want) {
				return false
			}
		}
		return true
	})
	for _, n := range []*node.Node{original, m.Node(city)} {
		if r, err := n.Group().Store().Scrub(limited(t)); err != nil || len(r.Findings) > 0 {
			t.Errorf("%s after the fork: %+v, %v", n.ID().Site, r.Findings, err)
		}
	}
}
