package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/indicator"
)

func (b *backend) ImportReadings(_ context.Context, r api.ReadingsRequest) (api.ReadingsResult, error) {
	return api.ReadingsResult{Accepted: len(r.Readings), Stream: r.Key, Bad: []api.RowError{}}, b.err
}

func (b *backend) Readings(_ context.Context, q api.ReadingsQuery) (api.ReadingsPage, error) {
	return api.ReadingsPage{Site: q.Site, Series: q.Series, By: q.By, NextMS: q.ToMS, Late: uint64(q.Limit), MinutesFromMS: q.FromMS}, b.err
}

func (b *backend) DefineIndicator(_ context.Context, r api.IndicatorRequest) (api.WriteResult, error) {
	return api.WriteResult{ID: indicator.Doc(r.Indicator.Code)}, b.err
}

func (b *backend) IndicatorState(_ context.Context, site tiers.SiteID, code string) (api.IndicatorState, error) {
	return api.IndicatorState{Site: site, Indicator: indicator.Definition{Code: code}}, b.err
}

// TestIndicatorRoutes: requests reach the backend as they are meant, and what breaks
// a rule is refused with what is allowed.
func TestIndicatorRoutes(t *testing.T) {
	c, path := serve(t, &backend{})
	ctx := context.Background()
	page, err := c.Readings(ctx, api.ReadingsQuery{Site: "500101", Series: "level/1", By: api.ByDay, FromMS: 3, ToMS: 9, Limit: 7})
	if err != nil || page.Site != "500101" || page.Series != "level/1" || page.By != "day" || page.NextMS != 9 || page.Late != 7 || page.MinutesFromMS != 3 {
		t.Errorf("%+v, %v", page, err)
	}
	if r, err := c.ImportReadings(ctx, api.ReadingsRequest{Key: "k", Readings: []api.ReadingRow{{Series: "a"}}}); err != nil || r.Accepted != 1 || r.Stream != "k" {
		t.Errorf("%+v, %v", r, err)
	}
	if w, err := c.DefineIndicator(ctx, api.IndicatorRequest{Key: "k", Indicator: indicator.Definition{Code: "rain"}}); err != nil || w.ID != "indicator:rain" {
		t.Errorf("%+v, %v", w, err)
	}
	if s, err := c.IndicatorState(ctx, "500101", "rain"); err != nil || s.Site != "500101" || s.Indicator.Code != "rain" {
		t.Errorf("%+v, %v", s, err)
	}
	many := `{"key":"k","readings":[` + strings.Repeat(`{},`, api.ReadingsMax) + `{}]}`
	for _, row := range []struct{ method, target, body, want string }{
		{"GET", "/v1/readings?by=week", "", "want raw, minute, hour or day"},
		{"GET", "/v1/readings?limit=0", "", "want 1 to 10000"},
		{"GET", "/v1/readings?from_ms=-1", "", "1970"},
		{"GET", "/v1/readings?to_ms=253370764800001", "", "9999"},
		{"GET", "/v1/readings?from_ms=2&to_ms=2", "", "the first below the second"},
		{"GET", "/v1/readings?to_ms=noon", "", "want a whole number"},
		{"GET", "/v1/readings?colour=red", "", "unknown parameter"},
		{"POST", "/v1/readings", `{"readings":[]}`, "makes a retry safe"},
		{"POST", "/v1/readings", many, "2001 readings: want at most 2000"},
		{"POST", "/v1/readings", `{"key":"k","readings":[{"at":1}]}`, "unknown field"},
		{"POST", "/v1/readings", `{"key":"k","readings":[{"value":true}]}`, "value true: want a number, or a text"},
		{"POST", "/v1/readings", `{"key":"` + strings.Repeat("x", 1<<20) + `"}`, "1048576 bytes"},
		{"POST", "/v1/indicators", `{"indicator":{}}`, "makes a retry safe"},
	} {
		if status, body := raw(t, path, row.method, row.target, row.body); status != http.StatusBadRequest || !strings.Contains(body, row.want) {
			t.Errorf("%s %s: %d %s", row.method, row.target, status, body)
		}
	}
}

// TestIndicatorSchemas: the document describes every field.
func TestIndicatorSchemas(t *testing.T) {
	described(t, map[string]any{
		"ReadingsRequest": api.ReadingsRequest{Compare: true}, "ReadingRow": api.ReadingRow{}, "RowError": api.RowError{},
		"ReadingsResult": api.ReadingsResult{Stream: "x", Seq: 1, Missing: 1, New: 1, Changed: 1, Known: 1, Waits: &api.Waits{}},
		"Point":          reading.Point{}, "Gap": reading.Gap{}, "Mark": indicator.Mark{Reason: "x"}, "Rollup": reading.Rollup{Missing: 1},
		"ReadingsPage": api.ReadingsPage{
			Points: []reading.Point{{}}, Missing: []reading.Gap{{}}, Rollups: []reading.Rollup{{}}, ReadingsFromMS: 1, MinutesFromMS: 1, Late: 1, NextMS: 1,
		},
		"Grade": indicator.Grade{}, "Level": indicator.Level{Clear: new(float64), ForS: 1, EventType: "x"},
		"Indicator": indicator.Definition{
			Unit: "x", Min: new(float64), Max: new(float64), Missing: []indicator.Mark{{}}, Grades: []indicator.Grade{{}}, Levels: []indicator.Level{{}},
			ReadingDays: 1, MinuteDays: 1,
		},
		"IndicatorRequest": api.IndicatorRequest{Confirm: true}, "Crossing": indicator.Crossing{ClearedMS: 1},
		"SeriesState": api.SeriesState{Grade: "x", Value: new(float64), Missing: &reading.Gap{}, Level: &indicator.Crossing{}}, "IndicatorState": api.IndicatorState{Late: 1},
	})
}

// TestReadingValue: a value keeps what its source wrote, as a number where it is one;
// none is not 0.
func TestReadingValue(t *testing.T) {
	for in, want := range map[string]struct{ value, out string }{
		`{"value":3.50}`:    {"3.50", "3.50"},
		`{"value":-9999.0}`: {"-9999.0", "-9999.0"},
		`{"value":"3.5"}`:   {"3.5", "3.5"},
		`{"value":"+3.5"}`:  {"+3.5", `"+3.5"`},
		`{"value":"NaN"}`:   {"NaN", `"NaN"`},
		`{"value":"true"}`:  {"true", `"true"`},
		`{"value":"M"}`:     {"M", `"M"`},
		`{"value":null}`:    {"", `""`},
		`{}`:                {"", `""`},
	} {
		var row api.ReadingRow
		if err := json.Unmarshal([]byte(in), &row); err != nil || string(row.Value) != want.value {
			t.Errorf("%s: %q, %v", in, row.Value, err)
		}
		if b, err := json.Marshal(row.Value); err != nil || string(b) != want.out {
			t.Errorf("%s: %s, %v", in, b, err)
		}
	}
}
