package node_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/indicator"
)

// written are readings, one a minute from a time on, as their source wrote them.
func written(series string, from time.Time, texts ...string) (out []node.Reading) {
	for i, text := range texts {
		at := from.Add(time.Duration(i) * time.Minute).UnixMilli()
		out = append(out, node.Reading{Series: series, Point: reading.Point{AtMS: at}, Text: &text})
	}
	return out
}

// importing imports and expects what it comes to.
func (m *mesh) importing(key string, in []node.Reading, want node.Imported) {
	m.t.Helper()
	got, err := m.Node(township).Import(limited(m.t), key, in, true)
	if err != nil {
		m.t.Fatal(err)
	}
	same := got.Missing == want.Missing && got.New == want.New && got.Changed == want.Changed && got.Known == want.Known
	if !same || len(in) != got.New+got.Changed+got.Known+len(got.Bad) {
		m.t.Fatalf("%s: %+v, want %+v", key, got, want)
	}
}

// redefine changes a definition and waits until both sites have it.
func (m *mesh) redefine(key string, d indicator.Definition) {
	m.t.Helper()
	if _, err := m.Node(city).Define(limited(m.t), key, d); err != nil {
		m.t.Fatal(err)
	}
	m.wait("the definition at the township", func() bool {
		s, err := m.Node(township).Backend().IndicatorState(limited(m.t), "", d.Code)
		return err == nil && reflect.DeepEqual(s.Indicator, d.WithDefaults())
	})
}

// samePages waits until the city shows what the township does, by every unit.
func (m *mesh) samePages() {
	m.t.Helper()
	m.wait("the same at the city", func() bool {
		return !slices.ContainsFunc([]string{api.ByRaw, api.ByMinute, api.ByHour, api.ByDay}, func(by string) bool {
			return !reflect.DeepEqual(m.page(city, by), m.page(township, by))
		})
	})
}

// TestMissingReadings: marks and numbers out of range are kept as missing at every
// site, raise nothing and are in no figure; what a definition says later holds for
// numbers that were taken in before, at every site alike, also where they are
// dropped. An import tells new from old and writes what is there only once.
func TestMissingReadings(t *testing.T) {
	m := newMesh(t)
	d := waterLevel()
	d.Levels[0].ForS, d.ReadingDays, d.MinuteDays = 0, 3, 3
	m.redefine("plain", d)
	start := time.Now().Add(-50 * time.Hour).Truncate(time.Hour)
	// Before anything is known of marks, -9999 is a number.
	m.importing("1", written("water_level/1", start, "1", "-9999", "2", "M"), node.Imported{New: 3})
	high := 20.0
	d.Max, d.Missing = &high, []indicator.Mark{{Mark: "-9999"}, {Mark: "M", Reason: "maintenance"}}
	m.redefine("marks", d)
	in := written("water_level/1", start, "1", "-9999", "2", "M", "999", "3")
	m.importing("2", in, node.Imported{New: 3, Changed: 1, Known: 2, Missing: 3})
	vector := func() any {
		return m.Node(township).Group().Store().Vector(tiers.StreamID{Site: township, Class: tiers.ClassReading})
	}
	before := vector()
	m.importing("3", in, node.Imported{Known: 6})
	if after := vector(); !reflect.DeepEqual(after, before) {
		t.Errorf("readings that were there were written again: %v, %v", before, after)
	}
	m.samePages()
	p := m.page(city, api.ByRaw)
	want := []reading.Gap{
		{AtMS: in[1].AtMS, Text: "-9999", Reason: indicator.NoValue}, {AtMS: in[3].AtMS, Text: "M", Reason: "maintenance"},
		{AtMS: in[4].AtMS, Text: "999", Reason: "out of range: above 20"},
	}
	if len(p.Points) != 3 || !slices.Equal(p.Missing, want) {
		t.Errorf("%+v", p)
	}
	if r := m.page(city, api.ByHour).Rollups; len(r) != 1 || r[0].Count != 3 || r[0].Missing != 3 || r[0].Sum != 6 || r[0].Max != 3 || r[0].Last != 3 {
		t.Errorf("%+v", r)
	}
	// A value and a mark for one time in one import: the later one counts.
	again := append(written("water_level/1", start, "M", "M"), written("water_level/1", start, "1")...)
	m.importing("4", again, node.Imported{Changed: 3, Missing: 2})
	m.samePages()
	if p := m.page(city, api.ByRaw); len(p.Points) != 3 || p.Missing[0].Text != "M" {
		t.Errorf("%+v", p)
	}
	// Values that become none, and the other way round, as the definition changes.
	low := 1.5
	d.Min = &low
	m.redefine("min", d)
	m.samePages()
	if r := m.page(city, api.ByDay).Rollups; len(r) == 0 || r[0].Count != 2 || r[0].Min != 2 || r[0].Missing != 4 {
		t.Errorf("%+v", r)
	}
	s, err := m.Node(city).Backend().IndicatorState(limited(t), township, d.Code)
	if err != nil || len(s.Series) != 1 || *s.Series[0].Value != 3 || s.Series[0].Missing != nil {
		t.Errorf("%+v, %v", s, err)
	}
	// A series that never had a value is there all the same.
	m.importing("5", written("water_level/2", start, "M", "999"), node.Imported{New: 2, Missing: 2})
	if s, err := m.Node(township).Backend().IndicatorState(limited(t), "", d.Code); err != nil || len(s.Series) != 2 ||
		s.Series[1].Value != nil || s.Series[1].Missing == nil || s.Series[1].Missing.Text != "999" {
		t.Errorf("%+v, %v", s, err)
	}
	if got := append(m.alerts(township), m.alerts(city)...); len(got) > 0 {
		t.Error(got)
	}
	m.drops(d, start)
}

// drops shortens for how long readings are kept: what is dropped leaves rollups of
// values, and the count of the others.
func (m *mesh) drops(d indicator.Definition, start time.Time) {
	m.t.Helper()
	days := m.page(township, api.ByDay)
	d.ReadingDays, d.MinuteDays = 1, 1
	m.redefine("shorter", d)
	for _, at := range []tiers.SiteID{township, city} {
		m.wait("to drop", func() bool {
			n, err := m.Node(at).Thin(limited(m.t))
			if err != nil {
				m.t.Fatal(err)
			}
			return n > 0 || m.page(at, api.ByRaw).ReadingsFromMS > start.UnixMilli()
		})
		if got := m.page(at, api.ByDay); !reflect.DeepEqual(got.Rollups, days.Rollups) {
			m.t.Errorf("%s: %+v, want %+v", at, got, days)
		}
		if r, err := m.Node(at).Backend().Scrub(limited(m.t)); err != nil || len(r.Findings) > 0 {
			m.t.Error(r.Findings, err)
		}
	}
}

// TestLargeImportOfGaps: two thousand gaps with long texts fit in records.
func TestLargeImportOfGaps(t *testing.T) {
	m := newMesh(t)
	d := waterLevel()
	high := 20.0
	d.Max = &high
	m.redefine("range", d)
	start := time.Now().Add(-40 * time.Hour).Truncate(time.Hour)
	texts := make([]string, api.ReadingsMax)
	for i := range texts {
		texts[i] = fmt.Sprintf("%d.%060d", 100+i, i)[:reading.GapTextMax]
	}
	m.importing("large", written("water_level/1", start, texts...), node.Imported{New: len(texts), Missing: len(texts)})
	m.importing("again", written("water_level/1", start, texts...), node.Imported{Known: len(texts)})
}
