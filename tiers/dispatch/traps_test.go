package dispatch_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/paulmach/orb"
	"github.com/paulmach/orb/geo"

	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// decides reports whether a rule with a condition matches.
func decides(t *testing.T, when string, s dispatch.Subject) bool {
	t.Helper()
	r := dispatch.Rule{Code: "x", When: when, Organ: "o", Limit: dispatch.Limit{Amount: 1, Unit: dispatch.UnitDay}}
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	_, ok := dispatch.Decide([]dispatch.Rule{r}, s)
	return ok
}

// TestUnknownDistance: a place that is no point is never nearest, wherever it stands
// in the list; two points that are opposite each other are half the way round, also
// where the library has no number for it.
func TestUnknownDistance(t *testing.T) {
	at := dispatch.Subject{Lat: 29.5, Lon: 106.5, HasPoint: true}
	far := dispatch.Unit{ID: "far", Skills: []string{"fire"}, Lat: -29, Lon: -73, HasPoint: true}
	for _, bad := range []dispatch.Unit{
		{ID: "a", Lat: math.NaN(), Lon: 106.5, HasPoint: true}, {ID: "b", Lat: 29.5, Lon: math.Inf(1), HasPoint: true}, {ID: "c"},
	} {
		bad.Skills = far.Skills
		for _, units := range [][]dispatch.Unit{{bad, far}, {far, bad}} {
			if i := dispatch.Nearest(at, "fire", units); units[i].ID != "far" {
				t.Errorf("%s is nearest of %v", units[i].ID, units)
			}
			all := dispatch.Consider(at, "fire", units)
			if all[0].Unit.ID != "far" || all[1].DistanceM != nil || all[1].Why != "free; its distance is not known" {
				t.Errorf("%+v", all)
			}
		}
		if i := dispatch.Nearest(at, "fire", []dispatch.Unit{bad}); i != 0 {
			t.Errorf("%s alone is not sent", bad.ID)
		}
	}
	half, odd := math.Pi*orb.EarthRadius/1000, 0
	for i := range 2000 {
		lat, lon := float64(i%179)-89+float64(i)/7001, float64(i%359)-180+float64(i)/9001
		if math.IsNaN(geo.DistanceHaversine(orb.Point{lon, lat}, orb.Point{lon + 180, -lat})) {
			odd++
		}
		s := dispatch.Subject{Lat: lat, Lon: lon, HasPoint: true}
		all := dispatch.Consider(s, "fire", []dispatch.Unit{{ID: "u", Skills: []string{"fire"}, Lat: -lat, Lon: lon + 180, HasPoint: true}})
		if d := all[0].DistanceM; d == nil || math.Abs(*d/1000-half) > 1 {
			t.Fatalf("%v, %v: %v", lat, lon, d)
		}
		if !decides(t, fmt.Sprintf("km(place.lat, place.lon, %f, %f) > %f", -lat, lon+180, half-1), s) {
			t.Fatalf("km at %v, %v", lat, lon)
		}
	}
	if odd == 0 {
		t.Error("none of the pairs is one that the library has no number for")
	}
	s := dispatch.Subject{Lat: math.NaN(), HasPoint: true}
	if decides(t, "km(place.lat, place.lon, 1.0, 1.0) < 1.0", s) || decides(t, "!(km(place.lat, place.lon, 1.0, 1.0) < 1.0)", s) {
		t.Error("a rule decides by a distance that nobody knows")
	}
}

// TestIntegersOfRules: every whole number that a rule sees is an int to CEL: it can
// be added, divided and taken a remainder of, and is no float that only looks so.
func TestIntegersOfRules(t *testing.T) {
	s := dispatch.Subject{Priority: 3, At: time.Date(2026, 12, 31, 15, 59, 0, 0, time.UTC)} // Thursday, 23:59 in China
	s.Level = 2
	want := map[string]int{"event.priority": 3, "level": 2, "time.hour": 23, "time.weekday": 4, "time.month": 12}
	for _, v := range dispatch.Variables() {
		name, typ, _ := strings.Cut(v, " ")
		if typ != "int" {
			continue
		}
		n, ok := want[name]
		if !ok {
			t.Errorf("%s: no row", name)
			continue
		}
		delete(want, name)
		if !decides(t, fmt.Sprintf("%s == %d && %s %% 5 == %d && %s / 2 == %d && %s + 1 == %d && type(%s) == int", name, n, name, n%5, name, n/2, name, n+1, name), s) {
			t.Errorf("%s is not the int %d", name, n)
		}
	}
	if len(want) > 0 {
		t.Error("no variables:", want)
	}
	// A minute later it is another year in China, and still the old one in UTC.
	s.At = s.At.Add(time.Minute)
	if !decides(t, "time.hour == 0 && time.weekday == 5 && time.month == 1", s) {
		t.Error("the time is not that of UTC+8")
	}
	if !strings.Contains(dispatch.TimeNote, "UTC+8") || !strings.Contains(dispatch.TimeNote, "month 1 to 12") {
		t.Error(dispatch.TimeNote)
	}
}

// TestConstantErrors: a pattern or a conversion that can only fail is refused when the
// rule is published, not found when an event comes. Arithmetic is only done then, and
// makes the rule not match.
func TestConstantErrors(t *testing.T) {
	for _, when := range []string{`event.title.matches("(")`, `event.priority == 1 || int("x") == 1`} {
		if _, err := dispatch.Compile(when); !errors.Is(err, dispatch.ErrInvalid) {
			t.Errorf("%s: %v", when, err)
		}
	}
	if decides(t, "event.priority > 1 / 0", dispatch.Subject{Priority: 1}) {
		t.Error("a division by zero matches")
	}
}
