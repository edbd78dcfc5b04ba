package indicator_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/tiers/indicator"
)

func p(f float64) *float64 { return &f }

func vital() indicator.Definition {
	return indicator.Definition{Code: "water_level", Name: "水位", Kind: indicator.Vital, Unit: "m", Levels: []indicator.Level{
		{Name: "yellow", Op: indicator.AtLeast, Threshold: 3, Clear: p(2.8), Priority: 3},
		{Name: "red", Op: indicator.AtLeast, Threshold: 3.5, Clear: p(3.2), ForS: 300, Priority: 1, EventType: "01001"},
	}}
}

func kpi() indicator.Definition {
	return indicator.Definition{Code: "on_time", Name: "按时办结率", Kind: indicator.KPI, Unit: "%", Grades: []indicator.Grade{
		{Name: "good", Op: indicator.AtLeast, Target: 95}, {Name: "fair", Op: indicator.AtLeast, Target: 85},
	}}
}

// TestDefinitionRules: each rule of a definition names field, value and what is
// allowed.
func TestDefinitionRules(t *testing.T) {
	for name, row := range map[string]struct {
		of     indicator.Definition
		change func(*indicator.Definition)
		want   string // in the error; "" for none
	}{
		"vital":            {vital(), func(*indicator.Definition) {}, ""},
		"kpi":              {kpi(), func(*indicator.Definition) {}, ""},
		"lower is better":  {kpi(), func(d *indicator.Definition) { d.Grades = []indicator.Grade{{"good", "<=", 1}, {"fair", "<=", 2}} }, ""},
		"both sides":       {vital(), func(d *indicator.Definition) { d.Levels[1].Op, d.Levels[1].Threshold, d.Levels[1].Clear = "<=", 0, nil }, ""},
		"no code":          {vital(), func(d *indicator.Definition) { d.Code = "" }, `code ""`},
		"slash":            {vital(), func(d *indicator.Definition) { d.Code = "a/b" }, "code"},
		"long code":        {vital(), func(d *indicator.Definition) { d.Code = strings.Repeat("x", 33) }, "1 to 32"},
		"no name":          {vital(), func(d *indicator.Definition) { d.Name = "" }, "name is empty"},
		"1 MB name":        {vital(), func(d *indicator.Definition) { d.Name = strings.Repeat("x", 1<<20) }, "1048576 bytes"},
		"broken UTF-8":     {vital(), func(d *indicator.Definition) { d.Unit = "\xff" }, "unit"},
		"kind":             {vital(), func(d *indicator.Definition) { d.Kind = "size" }, `kind "size": want kpi or vital`},
		"grades of vital":  {vital(), func(d *indicator.Definition) { d.Grades = kpi().Grades }, "grades"},
		"levels of kpi":    {kpi(), func(d *indicator.Definition) { d.Levels = vital().Levels }, "levels"},
		"no levels":        {vital(), func(d *indicator.Definition) { d.Levels = nil }, "0 levels"},
		"no grades":        {kpi(), func(d *indicator.Definition) { d.Grades = nil }, "0 grades"},
		"op":               {vital(), func(d *indicator.Definition) { d.Levels[0].Op = "<" }, `op "<"`},
		"ops of grades":    {kpi(), func(d *indicator.Definition) { d.Grades[1].Op = "<=" }, "the same for all"},
		"worst grade":      {kpi(), func(d *indicator.Definition) { d.Grades[1].Target = 96 }, "the best grade first"},
		"severe first":     {vital(), func(d *indicator.Definition) { d.Levels[1].Threshold, d.Levels[1].Clear = 2, nil }, "least severe"},
		"level twice":      {vital(), func(d *indicator.Definition) { d.Levels[1].Name = "yellow" }, "twice"},
		"level's name":     {vital(), func(d *indicator.Definition) { d.Levels[1].Name = "a:b" }, "a:b"},
		"no number":        {vital(), func(d *indicator.Definition) { d.Levels[0].Threshold = math.NaN() }, "NaN"},
		"clear":            {vital(), func(d *indicator.Definition) { d.Levels[0].Clear = p(3) }, "clear 3"},
		"clear no number":  {vital(), func(d *indicator.Definition) { d.Levels[0].Clear = p(math.NaN()) }, "clear NaN"},
		"for":              {vital(), func(d *indicator.Definition) { d.Levels[0].ForS = -1 }, "for_s -1"},
		"for a year":       {vital(), func(d *indicator.Definition) { d.Levels[0].ForS = 31536000 }, "for_s 31536000"},
		"priority":         {vital(), func(d *indicator.Definition) { d.Levels[0].Priority = 5 }, "priority 5"},
		"long type":        {vital(), func(d *indicator.Definition) { d.Levels[0].EventType = strings.Repeat("x", 65) }, "event_type"},
		"days":             {vital(), func(d *indicator.Definition) { d.ReadingDays = -1 }, "reading_days -1"},
		"a thousand years": {vital(), func(d *indicator.Definition) { d.MinuteDays = 365_000 }, "minute_days 365000"},
	} {
		d := row.of
		row.change(&d)
		_, err := indicator.Ops(d)
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case row.want != "" && (!errors.Is(err, indicator.ErrInvalid) || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: %v, want ErrInvalid with %q", name, err, row.want)
		}
	}
}

// TestDefinitionRoundTrip: a definition is read back from its document as it was,
// with the defaults, also after an edit that empties a field.
func TestDefinitionRoundTrip(t *testing.T) {
	e := engine.New()
	for _, d := range []indicator.Definition{vital(), kpi(), marked()} {
		before := d
		before.Unit, before.ReadingDays = "x", 7
		before.Max, before.Missing = p(1e6), []indicator.Mark{{Mark: "x"}}
		var raw [][]byte
		for _, x := range []indicator.Definition{before, d} {
			ops, err := indicator.Ops(x)
			if err != nil {
				t.Fatal(err)
			}
			b, err := e.Build(raw, crdt.Actor{1}, 1, ops)
			if err != nil {
				t.Fatal(err)
			}
			raw = append(raw, b.Raw)
		}
		doc, err := e.Read(raw)
		if err != nil {
			t.Fatal(err)
		}
		v, err := indicator.Fold(&crdt.Source{Doc: indicator.Doc(d.Code), Document: doc})
		if err != nil {
			t.Fatal(err)
		}
		got, err := indicator.FromView(v.JSON)
		if err != nil || len(v.Index) != 1 || v.Index[0] != (crdt.IndexEntry{Name: "indicator", Value: d.Code}) {
			t.Fatal(err, v.Index)
		}
		want := d.WithDefaults()
		if got.Unit != want.Unit || got.ReadingDays != 31 || got.MinuteDays != 400 || len(got.Levels) != len(want.Levels) || !slices.Equal(got.Grades, want.Grades) {
			t.Errorf("%+v, want %+v", got, want)
		}
		if got.Range().Why(-31) != want.Range().Why(-31) || got.Range().Why(51) != want.Range().Why(51) || !slices.Equal(got.Missing, want.Missing) {
			t.Errorf("%+v, want %+v", got, want)
		}
		for i, l := range got.Levels {
			if (l.Clear == nil) != (want.Levels[i].Clear == nil) || l.Clear != nil && *l.Clear != *want.Levels[i].Clear || l.ForS != want.Levels[i].ForS || l.Priority != want.Levels[i].Priority {
				t.Errorf("level %+v", l)
			}
		}
	}
	for _, bad := range []string{"[", `{"fields":{"code":"x"}}`, `{"fields":{"code":"x","name":"x","kind":"vital","reading_days":"1","minute_days":"1","levels":"["}}`} {
		if _, err := indicator.FromView([]byte(bad)); !errors.Is(err, indicator.ErrInvalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestGrade(t *testing.T) {
	for value, want := range map[float64]string{100: "good", 95: "good", 94.9: "fair", 85: "fair", 84: ""} {
		if got := kpi().Grade(value); got != want {
			t.Errorf("%v: %q, want %q", value, got, want)
		}
	}
	low := indicator.Definition{Grades: []indicator.Grade{{"good", "<=", 1}, {"fair", "<=", 2}}}
	if low.Grade(1) != "good" || low.Grade(1.5) != "fair" || low.Grade(3) != "" {
		t.Error("lower is better")
	}
}

func TestCheckReading(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	for name, row := range map[string]struct {
		at    time.Time
		value float64
		want  string
	}{
		"now":         {now, 1, ""},
		"a fast one":  {now.Add(time.Hour), 1, ""},
		"a month ago": {now.Add(-31 * 24 * time.Hour), 1, ""},
		"too old":     {now.Add(-32 * 24 * time.Hour), 1, "keeps readings for 31 days"},
		"ahead":       {now.Add(2 * time.Hour), 1, "want 2023-"},
		"before 1970": {time.UnixMilli(-1), 1, "1970"},
		"in 9999":     {time.UnixMilli(reading.TimeMaxMS), 1, "9999"},
		"no number":   {now, math.Inf(1), "magnitude"},
	} {
		err := vital().CheckReading(reading.Point{AtMS: row.at.UnixMilli(), Value: row.value}, now)
		if (err == nil) != (row.want == "") || err != nil && (!errors.Is(err, indicator.ErrInvalid) || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	readings, minutes := vital().Limits(now)
	if want := reading.Hour(now.UnixMilli()); readings != want-32*24 || minutes != want-401*24 {
		t.Errorf("limits %d, %d of %d", readings, minutes, want)
	}
	if r, m := vital().Limits(time.UnixMilli(0)); r != 0 || m != 0 {
		t.Errorf("limits at the epoch: %d, %d", r, m)
	}
}

func drawLevel(t *rapid.T) indicator.Level {
	l := indicator.Level{
		Name: "l", Op: rapid.SampledFrom([]string{">=", "<="}).Draw(t, "op"), Threshold: 5,
		ForS: rapid.SampledFrom([]int{0, 1, 60, 7200}).Draw(t, "for"), Priority: 1,
	}
	if rapid.Bool().Draw(t, "hysteresis") {
		l.Clear = p(map[string]float64{">=": 3, "<=": 7}[l.Op])
	}
	return l
}

func drawPoints(t *rapid.T) (out []reading.Point) {
	at := int64(1_700_000_000_000)
	for range rapid.IntRange(0, 40).Draw(t, "n") {
		at += rapid.SampledFrom([]int64{500, 30_000, 1_800_000, 3_600_001, 8_000_000}).Draw(t, "step")
		out = append(out, reading.Point{AtMS: at, Value: float64(rapid.IntRange(1, 9).Draw(t, "value"))})
	}
	return out
}

// naive finds crossings by their definition, each from the points alone: the first
// reading at which an unbroken run at the level is long enough, then the first one
// behind that which ends it.
func naive(l indicator.Level, points []reading.Point) (out []indicator.Crossing) {
	sign := map[string]float64{">=": 1, "<=": -1}[l.Op]
	limit := l.Threshold * sign
	back := func(v float64) bool { return v*sign < limit }
	if l.Clear != nil {
		back = func(v float64) bool { return v*sign <= *l.Clear*sign }
	}
	gap := max(int64(l.ForS)*1000, 3_600_000)
	for from := 0; from < len(points); {
		raised, start := -1, 0
		for j := from; j < len(points) && raised < 0; j++ {
			for i := j; i >= from && points[i].Value*sign >= l.Threshold*sign && (i == j || points[i+1].AtMS-points[i].AtMS <= gap); i-- {
				if points[j].AtMS-points[i].AtMS >= int64(l.ForS)*1000 {
					raised, start = j, i
				}
			}
		}
		if raised < 0 {
			return out
		}
		c := indicator.Crossing{Name: l.Name, StartMS: points[start].AtMS, RaisedMS: points[raised].AtMS, Value: points[raised].Value}
		c.Certain = slices.ContainsFunc(points[:raised], func(x reading.Point) bool { return back(x.Value) })
		from = len(points)
		for k := raised + 1; k < len(points); k++ {
			if back(points[k].Value) {
				c.ClearedMS, from = points[k].AtMS, k+1
				break
			}
		}
		out = append(out, c)
	}
	return out
}

func values(in []*indicator.Crossing) (out []indicator.Crossing) {
	for _, c := range in {
		out = append(out, *c)
	}
	return out
}

// TestCrossings: crossings are what their definition says, however the points come
// in portions; and from any point on, those that are certain, and come after every
// level is known, are those of the whole.
func TestCrossings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := indicator.Definition{Levels: []indicator.Level{drawLevel(t)}}
		points := drawPoints(t)
		want := naive(d.Levels[0], points)
		w := d.Watches()
		var got []*indicator.Crossing
		for at := 0; at < len(points); {
			n := rapid.IntRange(1, len(points)-at).Draw(t, "portion")
			got = append(got, indicator.Crossings(w, points[at:at+n])...)
			at += n
		}
		if !slices.Equal(values(got), want) {
			t.Fatalf("%+v\nwant %+v", values(got), want)
		}
		if present := indicator.Present(got); (present != nil) != (len(want) > 0 && want[len(want)-1].ClearedMS == 0) {
			t.Fatal("present", present)
		}
		from := rapid.IntRange(0, len(points)).Draw(t, "from")
		for _, c := range indicator.Crossings(d.Watches(), points[from:]) {
			if c.Certain && !slices.ContainsFunc(want, func(o indicator.Crossing) bool {
				return o.StartMS == c.StartMS && o.RaisedMS == c.RaisedMS && o.ClearedMS == c.ClearedMS
			}) {
				t.Fatalf("from %d: %+v\nof %+v", from, c, want)
			}
		}
	})
}

// TestAlerts: of levels that one reading crosses the most severe raises the alert,
// a lesser one never beside it, and each crossing its own.
func TestAlerts(t *testing.T) {
	minute := int64(60_000)
	series := func(v ...float64) (out []reading.Point) {
		for i, x := range v {
			out = append(out, reading.Point{AtMS: int64(i) * minute, Value: x})
		}
		return out
	}
	d := vital()
	d.Levels[1].ForS = 0
	for name, row := range map[string]struct {
		points []reading.Point
		want   string
	}{
		"none":             {series(2, 2.9, 2), ""},
		"yellow":           {series(2, 3, 2), "yellow"},
		"straight to red":  {series(2, 4, 2), "red"},
		"yellow, then red": {series(2, 3, 4, 2), "yellow red"},
		"hysteresis":       {series(2, 3, 2.9, 3, 2.81, 3), "yellow"},
		"twice":            {series(2, 3, 2.8, 3), "yellow yellow"},
		"back to yellow":   {series(2, 4, 3.1, 4), "red red"},
	} {
		var got []string
		for _, c := range d.Alerts(indicator.Crossings(d.Watches(), row.points)) {
			got = append(got, c.Name)
		}
		if strings.Join(got, " ") != row.want {
			t.Errorf("%s: %v, want %q", name, got, row.want)
		}
	}
}

// TestAlertID: site, series, level and beginning name an alert, and nothing else.
func TestAlertID(t *testing.T) {
	c := &indicator.Crossing{Name: "red", StartMS: 5, RaisedMS: 7, Value: 9}
	same := &indicator.Crossing{Name: "red", StartMS: 5, RaisedMS: 8, Value: 1}
	id := indicator.AlertID("500101", indicator.SourceKey("level/1", c))
	if id != indicator.AlertID("500101", indicator.SourceKey("level/1", same)) || id.Validate() != nil || id.Kind() != "event" {
		t.Error(id)
	}
	other := &indicator.Crossing{Name: "red", StartMS: 6}
	for _, x := range []any{
		indicator.AlertID("500102", indicator.SourceKey("level/1", c)), indicator.AlertID("500101", indicator.SourceKey("level/2", c)),
		indicator.AlertID("500101", indicator.SourceKey("level/1", other)),
	} {
		if x == id {
			t.Error("two alerts have one identifier")
		}
	}
	if !c.Raised([]int64{5}) || !c.Raised([]int64{900}) || c.Raised([]int64{4}) || (&indicator.Crossing{StartMS: 5, ClearedMS: 9}).Raised([]int64{9}) {
		t.Error("an alert that began during a crossing is of it")
	}
}
