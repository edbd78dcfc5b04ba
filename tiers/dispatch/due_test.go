package dispatch_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// golden week of 2026, with the Saturday that makes up for it.
func calendar() dispatch.Calendar {
	c := dispatch.DefaultCalendar()
	c.Holidays, c.Workdays = []string{"2026-10-01..2026-10-07"}, []string{"2026-10-10"}
	return c
}

func local(t *testing.T, s string) int64 {
	t.Helper()
	at, err := time.ParseInLocation("2006-01-02 15:04", s, time.FixedZone("", 8*3600))
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMilli()
}

func TestDue(t *testing.T) {
	hours := func(n int) dispatch.Limit { return dispatch.Limit{Amount: n, Unit: dispatch.UnitHour} }
	days := func(n int) dispatch.Limit { return dispatch.Limit{Amount: n, Unit: dispatch.UnitDay} }
	urgent := func(n int) dispatch.Limit { return dispatch.Limit{Amount: n, Unit: dispatch.UnitUrgentHour} }
	for name, row := range map[string]struct {
		start  string
		limits []dispatch.Limit
		pauses []string // from, to in turn; "" for a pause that lasts
		want   string   // "" for none
	}{
		"round the clock":           {"2026-10-01 23:30", []dispatch.Limit{urgent(2)}, nil, "2026-10-02 01:30"},
		"inside a morning":          {"2026-09-29 09:30", []dispatch.Limit{hours(2)}, nil, "2026-09-29 11:30"},
		"over noon":                 {"2026-09-29 11:00", []dispatch.Limit{hours(2)}, nil, "2026-09-29 15:00"},
		"to the end of a span":      {"2026-09-29 09:00", []dispatch.Limit{hours(3)}, nil, "2026-09-29 12:00"},
		"over night":                {"2026-09-29 17:00", []dispatch.Limit{hours(2)}, nil, "2026-09-30 10:00"},
		"reported at night":         {"2026-09-29 22:00", []dispatch.Limit{hours(1)}, nil, "2026-09-30 10:00"},
		"a day is one day later":    {"2026-09-28 10:00", []dispatch.Limit{days(1)}, nil, "2026-09-29 10:00"},
		"over the golden week":      {"2026-09-30 10:00", []dispatch.Limit{days(1)}, nil, "2026-10-08 10:00"},
		"a Saturday that is not":    {"2026-10-09 10:00", []dispatch.Limit{days(1)}, nil, "2026-10-10 10:00"},
		"a weekend that is":         {"2026-10-16 10:00", []dispatch.Limit{days(1)}, nil, "2026-10-19 10:00"},
		"extended":                  {"2026-09-29 09:30", []dispatch.Limit{hours(2), urgent(1)}, nil, "2026-09-29 12:30"},
		"suspended":                 {"2026-09-29 09:30", []dispatch.Limit{hours(2)}, []string{"2026-09-29 10:00", "2026-09-29 14:30"}, "2026-09-29 16:00"},
		"suspended twice":           {"2026-09-29 09:00", []dispatch.Limit{hours(2)}, []string{"2026-09-29 09:30", "2026-09-29 10:00", "2026-09-29 10:30", "2026-09-29 11:00"}, "2026-09-29 12:00"},
		"suspended round the clock": {"2026-10-01 23:30", []dispatch.Limit{urgent(2)}, []string{"2026-10-02 00:00", "2026-10-03 00:00"}, "2026-10-03 01:30"},
		"suspended outside hours":   {"2026-09-29 09:30", []dispatch.Limit{hours(2)}, []string{"2026-09-29 12:00", "2026-09-29 14:00"}, "2026-09-29 11:30"},
		"suspended now":             {"2026-09-29 09:30", []dispatch.Limit{hours(2)}, []string{"2026-09-29 10:00", ""}, ""},
	} {
		var pauses []dispatch.Pause
		for i := 0; i < len(row.pauses); i += 2 {
			p := dispatch.Pause{From: local(t, row.pauses[i])}
			if row.pauses[i+1] != "" {
				p.To = local(t, row.pauses[i+1])
			}
			pauses = append(pauses, p)
		}
		want := int64(0)
		if row.want != "" {
			want = local(t, row.want)
		}
		if got := dispatch.Due(calendar(), local(t, row.start), row.limits, pauses); got != want {
			t.Errorf("%s: %s, want %s", name, time.UnixMilli(got).UTC().Add(8*time.Hour), row.want)
		}
	}
	for name, start := range map[string]int64{"before 1970": -1, "in the year 9999": 253402300799000} {
		if got := dispatch.Due(calendar(), start, []dispatch.Limit{hours(1)}, nil); got != 0 {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// TestDueAgainstMinutes: the due time is the one that counting minute by minute
// gives.
func TestDueAgainstMinutes(t *testing.T) {
	const minute = 60_000
	rapid.Check(t, func(t *rapid.T) {
		c := calendar()
		start := time.Date(2026, 9, 26, 0, 0, 0, 0, time.UTC).UnixMilli() + int64(rapid.IntRange(0, 14*24*60).Draw(t, "start"))*minute
		l := dispatch.Limit{Amount: rapid.IntRange(1, 30).Draw(t, "hours"), Unit: rapid.SampledFrom([]string{dispatch.UnitHour, dispatch.UnitUrgentHour}).Draw(t, "unit")}
		var pauses []dispatch.Pause
		at := start
		for range rapid.IntRange(0, 3).Draw(t, "pauses") {
			from := at + int64(rapid.IntRange(0, 2000).Draw(t, "from"))*minute
			at = from + int64(rapid.IntRange(1, 3000).Draw(t, "for"))*minute
			pauses = append(pauses, dispatch.Pause{From: from, To: at})
		}
		counts := func(ms int64) bool {
			if slices.ContainsFunc(pauses, func(p dispatch.Pause) bool { return p.From <= ms && ms < p.To }) {
				return false
			}
			if l.Unit == dispatch.UnitUrgentHour {
				return true
			}
			day := time.UnixMilli(ms).UTC().Add(8 * time.Hour)
			date := day.Format(time.DateOnly)
			free := day.Weekday() == time.Saturday || day.Weekday() == time.Sunday
			if date >= "2026-10-01" && date <= "2026-10-07" || free && date != "2026-10-10" {
				return false
			}
			h := day.Hour()
			return h >= 9 && h < 12 || h >= 14 && h < 18
		}
		want := start
		for left := l.Amount * 60; left > 0; want += minute {
			if counts(want) {
				left--
			}
		}
		if got := dispatch.Due(c, start, []dispatch.Limit{l}, pauses); got != want {
			t.Fatalf("due %s, want %s", time.UnixMilli(got).UTC(), time.UnixMilli(want).UTC())
		}
		if got := dispatch.Due(*c.Around(start), start, []dispatch.Limit{l}, pauses); got != want {
			t.Fatalf("with the part that a brief carries: %s, want %s", time.UnixMilli(got).UTC(), time.UnixMilli(want).UTC())
		}
	})
}

func TestCalendarRoundTrip(t *testing.T) {
	want := calendar()
	ops, err := dispatch.CalendarOps(want)
	if err != nil {
		t.Fatal(err)
	}
	v, err := dispatch.FoldCalendar(read(t, "calendar:default", ops))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := dispatch.CalendarFromView(v.JSON); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, row := range map[string]struct {
		change func(*dispatch.Calendar)
		text   string
	}{
		"code":    {func(c *dispatch.Calendar) { c.Code = "a b" }, "a b"},
		"offset":  {func(c *dispatch.Calendar) { c.OffsetMinutes = 9999 }, "9999"},
		"hours":   {func(c *dispatch.Calendar) { c.Hours = []string{"09:00-08:00"} }, "09:00-08:00"},
		"order":   {func(c *dispatch.Calendar) { c.Hours = []string{"14:00-18:00", "09:00-12:00"} }, "09:00-12:00"},
		"none":    {func(c *dispatch.Calendar) { c.Hours = nil }, "no working time"},
		"weekend": {func(c *dispatch.Calendar) { c.Weekend = []int{7} }, "7"},
		"all":     {func(c *dispatch.Calendar) { c.Weekend = []int{0, 1, 2, 3, 4, 5, 6} }, "no working time"},
		"day":     {func(c *dispatch.Calendar) { c.Holidays = []string{"2026-02-30"} }, "2026-02-30"},
		"year":    {func(c *dispatch.Calendar) { c.Holidays = []string{"9999-01-01"} }, "9999-01-01"},
		"long":    {func(c *dispatch.Calendar) { c.Holidays = []string{"2026-01-01..2029-01-01"} }, "at most a year"},
	} {
		c := calendar()
		row.change(&c)
		if _, err := dispatch.CalendarOps(c); !errors.Is(err, dispatch.ErrInvalid) || !strings.Contains(err.Error(), row.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPlan(t *testing.T) {
	for _, want := range dispatch.DefaultPlans() {
		ops, err := dispatch.PlanOps(want)
		if err != nil {
			t.Fatal(err)
		}
		v, err := dispatch.FoldPlan(read(t, tiers.NewDocID("plan", want.Code), ops))
		if err != nil {
			t.Fatal(err)
		}
		got, err := dispatch.PlanFromView(v.JSON)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v", got, err)
		}
		tasks := dispatch.FanOut(got, dispatch.Brief{Event: "event:1", Title: "x"}, "event:1")
		ids := map[tiers.DocID]bool{}
		for i, p := range tasks {
			ids[p.ID] = true
			if p.Brief.Organ != want.Steps[i].Organ || p.Brief.Limit != want.Steps[i].Limit || p.Brief.Plan != want.Code || p.ID.Validate() != nil {
				t.Errorf("%+v", p)
			}
		}
		if len(ids) != len(want.Steps) || ids[dispatch.TaskID("event:1")] {
			t.Errorf("%v", ids)
		}
		if again := dispatch.FanOut(got, dispatch.Brief{Event: "event:1"}, "event:1"); again[0].ID != tasks[0].ID {
			t.Error("another identifier for the same step")
		}
	}
	for name, change := range map[string]func(*dispatch.Plan){
		"no code": func(p *dispatch.Plan) { p.Code = "" }, "no steps": func(p *dispatch.Plan) { p.Steps = nil },
		"two leads": func(p *dispatch.Plan) { p.Steps[1].Role = dispatch.RoleLead }, "twice": func(p *dispatch.Plan) { p.Steps[1].Code = p.Steps[0].Code },
		"role": func(p *dispatch.Plan) { p.Steps[1].Role = "boss" }, "limit": func(p *dispatch.Plan) { p.Steps[1].Limit.Amount = 0 },
		"organ": func(p *dispatch.Plan) { p.Steps[1].Organ = "a\x1fb" }, "long": func(p *dispatch.Plan) { p.Steps[1].Title = strings.Repeat("x", 1<<20) },
	} {
		p := dispatch.DefaultPlans()[0]
		change(&p)
		if _, err := dispatch.PlanOps(p); !errors.Is(err, dispatch.ErrInvalid) || len(err.Error()) > 500 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := dispatch.PlanFromView([]byte(`{"fields":{"code":"x","steps":"["}}`)); !errors.Is(err, dispatch.ErrInvalid) {
		t.Errorf("broken steps: %v", err)
	}
}

// FuzzDue: no calendar, limit or pause makes the reckoning fail, go back or not end.
func FuzzDue(f *testing.F) {
	b, err := json.Marshal(calendar())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, int64(1e12), 3, "day", int64(1e12), int64(2e12))
	f.Fuzz(func(t *testing.T, b []byte, start int64, amount int, unit string, from, to int64) {
		var c dispatch.Calendar
		if json.Unmarshal(b, &c) != nil {
			return
		}
		due := dispatch.Due(c, start, []dispatch.Limit{{Amount: amount, Unit: unit}}, []dispatch.Pause{{From: from, To: to}})
		if due != 0 && due < start {
			t.Errorf("due %d before %d", due, start)
		}
	})
}
