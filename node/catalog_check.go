package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// checkUse holds a row against what else is known: what it refers to, the rules of
// the domain that uses it, and mandates.
func (p *publication) checkUse(row int, before, after catalog.Fields) ([]catalog.Problem, error) {
	bad, err := p.checkReferences(row, before, after)
	if err != nil || len(bad) > 0 {
		return bad, err
	}
	problem := func(field string, err error) []catalog.Problem {
		return []catalog.Problem{{Row: row, Code: after["code"], Field: field, Value: after[field], Why: err.Error()}}
	}
	text, err := json.Marshal(map[string]any{"fields": after})
	if err != nil {
		return nil, fmt.Errorf("entry %s: %w", after["code"], err)
	}
	switch p.c.Name {
	case catalog.Rules:
		r, err := dispatch.RuleFromView(text)
		if err != nil {
			return problem(fieldNamed(err, "when", "site", "code"), err), nil
		}
		return p.checkRule(row, r)
	case catalog.Plans:
		plan, err := dispatch.PlanFromView(text)
		if err != nil {
			return problem("steps", err), nil
		}
		return p.checkPlan(row, plan)
	case catalog.Calendars:
		if _, err := dispatch.CalendarFromView(text); err != nil {
			return problem(fieldNamed(err, "hours", "weekend", "holidays", "workdays", "code"), err), nil
		}
	}
	return nil, nil
}

// fieldNamed guesses which field an error is about.
func fieldNamed(err error, names ...string) string {
	for _, n := range names {
		if strings.Contains(err.Error(), " "+n) {
			return n
		}
	}
	return "row"
}

// checkReferences looks whether what an entry refers to is there. A catalog without
// entries refuses nothing: sites begin with some of them only. Neither is looked at
// what stays as it was.
func (p *publication) checkReferences(row int, before, after catalog.Fields) (bad []catalog.Problem, err error) {
	for _, r := range p.c.References(after) {
		if before[r.Field] == r.Code || r.Catalog == p.c.Name && p.known[r.Code] {
			continue
		}
		c, _ := catalog.Find(r.Catalog)
		there, err := p.n.hasCatalog(c)
		if err != nil {
			return nil, err
		}
		if !there && r.Catalog != p.c.Name {
			continue
		}
		e, ok, err := p.n.lookup(c, r.Code)
		if err == nil && !ok && r.Catalog == catalog.Organs {
			var o catalog.Organ
			o, ok, err = p.n.organ(r.Code)
			e.Fields = catalog.Fields{}
			if o.Retired {
				e.Fields[catalog.Retired] = "true"
			}
		}
		if err != nil {
			return nil, err
		}
		if !ok || e.Retired() {
			bad = append(bad, catalog.Problem{
				Row: row, Code: after["code"], Field: r.Field, Value: r.Code,
				Want: fmt.Sprintf("an entry of catalog %s that is not retired; see tiermesh catalog show %s", r.Catalog, r.Catalog),
			})
		}
	}
	return bad, nil
}

// checkRule looks whether a rule's organ has the mandate for what the rule gives
// it, where one is known.
func (p *publication) checkRule(row int, r dispatch.Rule) ([]catalog.Problem, error) {
	var where []tiers.Tier
	t := p.n.Topology()
	if s, ok := t.Site(tiers.SiteID(r.Site)); ok {
		where = append(where, s.Tier)
	} else if self, ok := t.Site(p.n.creds.ID.Site); ok {
		for tier := self.Tier; tier <= tiers.TierTownship; tier++ {
			where = append(where, tier)
		}
	}
	role := dispatch.RoleLead
	if r.Plan != "" { // its steps say who does what
		role = ""
	}
	err := p.mandate(r.Organ, role, r.TypePrefix, where...)
	return p.mandateProblem(row, r.Code, "organ", r.Organ, err)
}

// checkPlan looks whether the organs of a plan's steps are known and have the
// mandate for their roles.
func (p *publication) checkPlan(row int, plan dispatch.Plan) ([]catalog.Problem, error) {
	for _, s := range plan.Steps {
		bad, err := p.mandateProblem(row, plan.Code, "steps", s.Organ, p.mandate(s.Organ, s.Role, "", 0))
		if err != nil || len(bad) > 0 {
			return bad, err
		}
	}
	return nil, nil
}

// mandate says why an organ may not do something; nil when it may, or no organs are
// catalogued. An organ that was retired by somebody else stays good for what is.
func (p *publication) mandate(called, role, prefix string, where ...tiers.Tier) error {
	c, _ := catalog.Find(catalog.Organs)
	there, err := p.n.hasCatalog(c)
	if err != nil || !there {
		return err
	}
	o, ok, err := p.n.organ(called)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: no catalog has this organ; see tiermesh catalog show organs", catalog.ErrInvalid)
	}
	return catalog.MayHandleSome(o, role, prefix, where...)
}

// mandateProblem makes a problem of a missing mandate.
func (p *publication) mandateProblem(row int, code, field, organ string, err error) ([]catalog.Problem, error) {
	if err == nil || !errors.Is(err, catalog.ErrInvalid) {
		return nil, err
	}
	why := strings.TrimPrefix(err.Error(), catalog.ErrInvalid.Error()+": ")
	return []catalog.Problem{{Row: row, Code: code, Field: field, Value: organ, Why: why}}, nil
}
