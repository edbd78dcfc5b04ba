package dispatch_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// TestRulesByMode: a rule can be for one mode, by its field or its expression, and
// says the same as one expression; a wrong mode is refused.
func TestRulesByMode(t *testing.T) {
	hour := dispatch.Limit{Amount: 1, Unit: dispatch.UnitHour}
	rules := []dispatch.Rule{
		{Code: "worst", Order: 1, When: `mode == "emergency" && level <= 1`, Organ: "a", Limit: hour},
		{Code: "emergency", Order: 2, Mode: dispatch.ModeEmergency, Organ: "b", Limit: hour},
		{Code: "normal", Order: 3, Mode: dispatch.ModeNormal, Organ: "c", Limit: hour},
	}
	table, bad := dispatch.NewTable(rules)
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	for want, m := range map[string]dispatch.SubjectMode{
		"worst": {Mode: dispatch.ModeEmergency, Level: 1}, "emergency": {Mode: dispatch.ModeEmergency, Level: 2}, "normal": {},
	} {
		s := dispatch.Subject{SubjectMode: m}
		d, ok := table.Decide(s)
		tried, e, found := table.Explain(s)
		if !ok || d.Rule != want || !found || e != d {
			t.Errorf("%+v: %s or %s, want %s", m, d.Rule, e.Rule, want)
		}
		if want == "normal" && !strings.Contains(tried[1].Why, "mode is normal") {
			t.Errorf("%+v", tried[1])
		}
		for _, r := range rules {
			whole := dispatch.Rule{Code: "x", When: r.Condition(), Organ: "o", Limit: hour}
			_, a := dispatch.Decide([]dispatch.Rule{r}, s)
			if _, b := dispatch.Decide([]dispatch.Rule{whole}, s); a != b {
				t.Errorf("%s as %q in %+v: %v, not %v", r.Code, r.Condition(), m, b, a)
			}
		}
	}
	wrong := dispatch.Rule{Code: "x", Mode: "war", Organ: "o", Limit: hour}
	if err := wrong.Validate(); !errors.Is(err, dispatch.ErrInvalid) || !strings.Contains(err.Error(), `mode "war"`) {
		t.Error(err)
	}
}

// TestUrgentLimits: how limits count in an emergency, and what the brief then says.
func TestUrgentLimits(t *testing.T) {
	m := dispatch.SubjectMode{Mode: dispatch.ModeEmergency, Level: 2, Urgent: true}
	for in, want := range map[dispatch.Limit]dispatch.Limit{
		{Amount: 3, Unit: dispatch.UnitHour}:       {Amount: 3, Unit: dispatch.UnitUrgentHour},
		{Amount: 2, Unit: dispatch.UnitDay}:        {Amount: 48, Unit: dispatch.UnitUrgentHour},
		{Amount: 1000, Unit: dispatch.UnitDay}:     {Amount: 984, Unit: dispatch.UnitUrgentHour},
		{Amount: 5, Unit: dispatch.UnitUrgentHour}: {Amount: 5, Unit: dispatch.UnitUrgentHour},
	} {
		b := dispatch.Brief{Limit: in}
		m.Enter(&b)
		if b.Limit != want || b.Mode != dispatch.ModeEmergency || b.ModeLevel != 2 || b.Limit.Validate() != nil {
			t.Errorf("%+v: %+v %s %d", in, b.Limit, b.Mode, b.ModeLevel)
		}
		b = dispatch.Brief{Limit: in}
		if (dispatch.SubjectMode{Mode: dispatch.ModeNormal}).Enter(&b); b.Limit != in || b.Mode != "" {
			t.Errorf("in normal mode: %+v", b)
		}
		if (dispatch.SubjectMode{Mode: dispatch.ModeEmergency, Level: 4}).Enter(&b); b.Limit != in || b.ModeLevel != 4 {
			t.Errorf("as the rules give it: %+v", b)
		}
	}
}
