package event_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/tiers/event"
)

// TestReasonKinds: reasons that differ only in their values are of one kind.
func TestReasonKinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, text := rapid.Int().Draw(t, "n"), rapid.String().Draw(t, "text")
		if got := event.ReasonKind(fmt.Sprintf("event: invalid: type %q: %d is none", text, n)); got != "type …: … is none" {
			t.Errorf("%q", got)
		}
	})
}

// TestArea: a point is inside as a box, an outline of either winding, a hole and the
// 180th meridian say.
func TestArea(t *testing.T) {
	outline := `{"type":"FeatureCollection","features":[{"type":"Feature","geometry":{"type":"MultiPolygon","coordinates":[
		[[[0,0],[0,10],[10,10],[10,0],[0,0]],[[4,4],[6,4],[6,6],[4,6],[4,4]]],
		[[[20,0],[30,0],[30,10],[20,10],[20,0]]]]}}]}`
	var a event.Area
	if !a.Everywhere() || !a.Contains(80, 170) {
		t.Error("the zero area leaves something out")
	}
	if err := a.AddGeoJSON([]byte(outline)); err != nil {
		t.Fatal(err)
	}
	if err := a.AddBox([]float64{-20, 170, -10, -170}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		lat, lon float64
		in       bool
	}{
		{1, 1, true}, {5, 5, false}, {5, 3, true}, {5, 25, true}, {5, 15, false}, {11, 5, false}, {-1, 5, false},
		{-15, 175, true}, {-15, -175, true}, {-15, 0, false}, {-25, 175, false},
	} {
		if a.Contains(p.lat, p.lon) != p.in {
			t.Errorf("%v, %v: inside %v", p.lat, p.lon, !p.in)
		}
	}
	for _, bad := range []string{
		`{`, `{"type":"Point","coordinates":[]}`, `{"type":"Polygon","coordinates":[]}`, `{"type":"Polygon","coordinates":[[[0,0],[1,1],[0,0]]]}`,
		`{"type":"Polygon","coordinates":[[[0,0],[0,100],[1,1],[0,0]]]}`, `{"type":"Polygon","coordinates":[[[0],[0],[1],[0]]]}`, `{"type":"Polygon","coordinates":{}}`,
	} {
		if err := new(event.Area).AddGeoJSON([]byte(bad)); err == nil {
			t.Errorf("%s is an area", bad)
		}
	}
	for _, bad := range [][]float64{nil, {1, 2, 3}, {10, 0, 5, 1}, {0, 0, 91, 1}, {0, -181, 1, 1}, {0, 5, 1, 5}} {
		if err := new(event.Area).AddBox(bad); err == nil {
			t.Errorf("%v is a box", bad)
		}
	}
}

// TestMatchesField: the name of a field stands for what that field is held for, however
// many other reasons list it.
func TestMatchesField(t *testing.T) {
	unknown := event.Held{Reason: `report: unknown field "colour": want id, type, title`, Field: "report"}
	blank := event.Held{Reason: "title is empty", Field: "title"}
	for _, c := range []struct {
		h      event.Held
		reason string
		want   bool
	}{{blank, "title", true}, {unknown, "title", false}, {unknown, "colour", true}, {unknown, "report", true}, {blank, "is empty", true}, {blank, "", true}, {blank, "type", false}} {
		if got := c.h.Matches(c.reason, ""); got != c.want {
			t.Errorf("%q of %q: %v", c.reason, c.h.Reason, got)
		}
	}
}
