package dispatch_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

func table(t *rapid.T, rules []dispatch.Rule) *dispatch.Table {
	out, bad := dispatch.NewTable(rules)
	if len(bad) > 0 {
		t.Fatalf("%v", bad)
	}
	return out
}

func drawRules(t *rapid.T) []dispatch.Rule {
	n := rapid.IntRange(1, 12).Draw(t, "rules")
	out := make([]dispatch.Rule, n)
	for i := range out {
		out[i] = dispatch.Rule{
			Code: fmt.Sprintf("r%d", i), Order: rapid.IntRange(0, 4).Draw(t, "order"),
			TypePrefix:  rapid.SampledFrom([]string{"", "01", "\"x\\", "井"}).Draw(t, "prefix"),
			Category:    rapid.SampledFrom([]string{"", "交通设施", "a\"b\n\x01"}).Draw(t, "category"),
			PriorityMax: rapid.IntRange(0, 4).Draw(t, "priority"),
			Organ:       "o", Limit: dispatch.Limit{Amount: i + 1, Unit: dispatch.UnitHour},
		}
	}
	return out
}

func drawSubject(t *rapid.T) dispatch.Subject {
	return dispatch.Subject{
		Type:     rapid.SampledFrom([]string{"", "01001", "\"x\\1", "井盖"}).Draw(t, "type"),
		Category: rapid.SampledFrom([]string{"", "交通设施", "a\"b\n\x01"}).Draw(t, "of"),
		Priority: rapid.IntRange(1, 4).Draw(t, "urgency"),
		At:       time.UnixMilli(rapid.Int64Range(0, 1<<41).Draw(t, "at")),
	}
}

// naive decides by reading the fields, in the simplest way.
func naive(rules []dispatch.Rule, s dispatch.Subject) string {
	best := -1
	for i, r := range rules {
		if !strings.HasPrefix(s.Type, r.TypePrefix) || r.Category != "" && r.Category != s.Category || r.PriorityMax != 0 && s.Priority > r.PriorityMax {
			continue
		}
		if best < 0 || r.Order < rules[best].Order || r.Order == rules[best].Order && r.Code < rules[best].Code {
			best = i
		}
	}
	if best < 0 {
		return ""
	}
	return rules[best].Code
}

// TestPlainRulesAsCEL: a rule whose conditions are written as one expression
// decides as the rule with its fields does, and as a naive reading of them; an
// explanation decides alike and tells of every rule.
func TestPlainRulesAsCEL(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules, s := drawRules(t), drawSubject(t)
		if rapid.Bool().Draw(t, "defaults") {
			rules = dispatch.DefaultRules()
		}
		asCEL := slices.Clone(rules)
		for i := range asCEL {
			asCEL[i].When = rules[i].Condition()
			asCEL[i].TypePrefix, asCEL[i].Category, asCEL[i].PriorityMax = "", "", 0
		}
		want := naive(rules, s)
		plain, ok := table(t, rules).Decide(s)
		if plain.Rule != want || ok != (want != "") {
			t.Fatalf("plain %+v, want %q", plain, want)
		}
		expressed := table(t, rapid.Permutation(asCEL).Draw(t, "shuffled"))
		if d, _ := expressed.Decide(s); d != plain {
			t.Fatalf("as CEL %+v, plain %+v", d, plain)
		}
		tried, d, found := expressed.Explain(s)
		matched := 0
		for i, x := range tried {
			if x.Outcome == dispatch.TriedMatched {
				matched++
			}
			if i > 0 && tried[i-1].Order > x.Order {
				t.Fatalf("order of %+v", tried)
			}
		}
		if d != plain || found != ok || len(tried) != len(rules) || matched > 1 || (matched == 1) != ok {
			t.Fatalf("explained %+v, %+v", d, tried)
		}
	})
}

// TestExpressions: what expressions see of event, time and place.
func TestExpressions(t *testing.T) {
	s := dispatch.Subject{
		Type: "01001", Category: "市政公用设施", Priority: 2, Title: strings.Repeat("井", 400), Place: "高笋塘", Grid: "g1", Channel: "app",
		Site: "500101001", Tier: "township", Lat: 30.8, Lon: 108.4, HasPoint: true,
		At: time.Date(2026, 7, 4, 16, 30, 0, 0, time.UTC), // Sunday, half past midnight in China
	}
	for when, want := range map[string]bool{
		"":                          true,
		`event.type == "01001"`:     true,
		`event.priority in [1, 2]`:  true,
		`event.category == "交通设施"`:  false,
		`event.title.size() == 170`: true, // whole characters of what is looked at
		`time.hour == 0 && time.weekday == 0 && time.month == 7`:                                                        true,
		`time.hour < 8 || time.hour >= 18`:                                                                              true,
		`place.known && km(place.lat, place.lon, 30.8, 108.5) < 10.0 && km(place.lat, place.lon, 30.8, 108.5) > 9.0`:    true,
		`place.name.contains("笋") && place.grid == "g1" && place.site.startsWith("500101") && place.tier == "township"`: true,
		`event.channel.matches("^(app|web)$")`:                                                                          true,
		`event.priority / (event.priority - 2) == 1`:                                                                    false, // no match, not a crash
	} {
		rules := []dispatch.Rule{{Code: "x", When: when, Organ: "o", Limit: dispatch.Limit{Amount: 1, Unit: dispatch.UnitDay}}}
		if err := rules[0].Validate(); err != nil {
			t.Errorf("%s: %v", when, err)
			continue
		}
		if _, ok := dispatch.Decide(rules, s); ok != want {
			t.Errorf("%s: %v", when, ok)
		}
		tried, _, _ := func() ([]dispatch.Tried, dispatch.Decision, bool) {
			tb, _ := dispatch.NewTable(rules)
			return tb.Explain(s)
		}()
		if !want && tried[0].Why == "" {
			t.Errorf("%s: no reason given", when)
		}
	}
}

// TestExpressionRefusals: what does not compile, is not boolean or costs too
// much is refused when the rule is published.
func TestExpressionRefusals(t *testing.T) {
	loop := "[1,2,3,4,5,6,7,8,9,10]"
	nested := "true"
	for _, v := range []string{"a", "b", "c", "d", "e"} {
		nested = loop + ".all(" + v + ", " + nested + ")"
	}
	for name, row := range map[string]struct{ when, want string }{
		"syntax":       {`event.type ==`, "Syntax error"},
		"unknown":      {`event.colour == "red"`, "event.category string"},
		"type":         {`event.priority == "1"`, "no matching overload"},
		"not boolean":  {`event.priority + 1`, "of type int: want bool"},
		"dynamic":      {`dyn(event.type)`, "of type dyn: want bool"},
		"too long":     {`event.type == "` + strings.Repeat("x", 1<<20) + `"`, "want at most 2048"},
		"nested loops": {nested, "may cost"},
		"regex":        {strings.Repeat("event.title.matches('(a+)+(b+)+(c+)+(d+)+$') && ", 34) + "true", "may cost"},
		"deep":         {strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), "recursion"},
	} {
		r := dispatch.DefaultRules()[0]
		r.When = row.when
		_, err := dispatch.RuleOps(r)
		if !errors.Is(err, dispatch.ErrInvalid) || !strings.Contains(fmt.Sprint(err), row.want) {
			t.Errorf("%s: %.300v", name, err)
		}
		if err != nil && len(err.Error()) > 4<<10 {
			t.Errorf("%s: a message of %d bytes", name, len(err.Error()))
		}
		if _, bad := dispatch.NewTable([]dispatch.Rule{r, dispatch.DefaultRules()[5]}); len(bad) != 1 {
			t.Errorf("%s: in a table: %v", name, bad)
		}
	}
}

func drawUnits(t *rapid.T) []dispatch.Unit {
	out := make([]dispatch.Unit, rapid.IntRange(0, 8).Draw(t, "units"))
	for i := range out {
		out[i] = dispatch.Unit{
			ID:     fmt.Sprintf("u%d", i),
			Skills: rapid.SampledFrom([][]string{nil, {"fire"}, {"fire", "medic"}, {"medic"}}).Draw(t, "skills"),
			Busy:   rapid.SampledFrom([]string{"", "", "held by task:1"}).Draw(t, "busy"),
			Lat:    rapid.SampledFrom([]float64{29, 29.5, 30, -89.99}).Draw(t, "lat"),
			Lon:    rapid.SampledFrom([]float64{106, 106.5, 179.9, -179.9}).Draw(t, "lon"), HasPoint: rapid.Bool().Draw(t, "point"),
		}
	}
	return out
}

// arc is the angle between two points, by the vectors from the earth's centre.
func arc(lat1, lon1, lat2, lon2 float64) float64 {
	v := func(lat, lon float64) [3]float64 {
		lat, lon = lat*math.Pi/180, lon*math.Pi/180
		return [3]float64{math.Cos(lat) * math.Cos(lon), math.Cos(lat) * math.Sin(lon), math.Sin(lat)}
	}
	a, b := v(lat1, lon1), v(lat2, lon2)
	dot := a[0]*b[0] + a[1]*b[1] + a[2]*b[2]
	return math.Acos(min(1, max(-1, dot)))
}

// TestNearest: no free unit with the skill is nearer than the chosen one, also
// across the date line; the order of the slice plays no part; the explanation
// names the same one and tells of everybody.
func TestNearest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		units := drawUnits(t)
		s := dispatch.Subject{Lat: 29.4, Lon: rapid.SampledFrom([]float64{106.2, 179.95}).Draw(t, "at"), HasPoint: rapid.Bool().Draw(t, "known")}
		fit := func(u dispatch.Unit) bool { return u.Busy == "" && slices.Contains(u.Skills, "fire") }
		far := func(u dispatch.Unit) float64 {
			if !s.HasPoint || !u.HasPoint {
				return math.Inf(1)
			}
			return arc(s.Lat, s.Lon, u.Lat, u.Lon)
		}
		i := dispatch.Nearest(s, "fire", units)
		if i < 0 && slices.ContainsFunc(units, fit) {
			t.Fatal("nobody is chosen")
		}
		if i >= 0 {
			if !fit(units[i]) {
				t.Fatalf("%+v is chosen", units[i])
			}
			for _, u := range units {
				if fit(u) && far(u) < far(units[i])-1e-7 {
					t.Fatalf("%+v is nearer than %+v", u, units[i])
				}
			}
		}
		shuffled := rapid.Permutation(units).Draw(t, "shuffled")
		j := dispatch.Nearest(s, "fire", shuffled)
		if (i < 0) != (j < 0) || i >= 0 && units[i].ID != shuffled[j].ID {
			t.Fatal("the order matters")
		}
		all := dispatch.Consider(s, "fire", shuffled)
		if len(all) != len(units) {
			t.Fatalf("%d of %d considered", len(all), len(units))
		}
		for k, c := range all {
			if c.Why == "" || c.Chosen != (i >= 0 && c.Unit.ID == units[i].ID) || c.Chosen && k != 0 {
				t.Fatalf("%d: %+v", k, c)
			}
		}
	})
}

// TestCostIsProven: no evaluation costs more than what was proven of it, with
// texts as long as they get and longer.
func TestCostIsProven(t *testing.T) {
	for _, when := range []string{
		`event.title.matches("(a+)+(b+)+$") || event.title.contains(place.name) || event.title.startsWith(event.channel)`,
		`[1, 2, 3, 4, 5].exists(a, [1, 2, 3, 4, 5].all(b, a * b + event.priority > 1000))`,
		`(event.title + place.name + place.grid).size() > 5000 || event.title < place.name`,
		`km(place.lat, place.lon, 30.0, 106.0) < 0.0 || time.hour > 24`,
	} {
		for _, long := range []string{"", strings.Repeat("a", 512), strings.Repeat("ab", 8<<10), strings.Repeat("井", 5<<10)} {
			s := dispatch.Subject{Title: long, Place: long, Grid: long, Channel: long, Type: long, Category: long, Priority: 4}
			actual, proven, err := dispatch.Cost(when, s)
			if err != nil || actual > proven || actual == 0 || proven > dispatch.CostMax {
				t.Errorf("%s: cost %d, proven %d, %v", when, actual, proven, err)
			}
		}
	}
}

// BenchmarkDecide is a table of 200 expressions of which the last matches.
func BenchmarkDecide(b *testing.B) {
	var rules []dispatch.Rule
	for i := range 200 {
		rules = append(rules, dispatch.Rule{
			Code: fmt.Sprint(i), Order: i, Organ: "o", Limit: dispatch.Limit{Amount: 1, Unit: dispatch.UnitDay},
			When: fmt.Sprintf(`event.category == "c%d" && event.priority <= 3 && (time.hour >= 8 || event.priority == 1)`, i),
		})
	}
	t, _ := dispatch.NewTable(rules)
	s := dispatch.Subject{Category: "c199", Priority: 1, At: time.UnixMilli(0)}
	for b.Loop() {
		if _, ok := t.Decide(s); !ok {
			b.Fatal("nothing decided")
		}
	}
}
