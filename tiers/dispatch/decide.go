package dispatch

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Decision is what a rule decides.
type Decision struct {
	Rule  string `json:"rule"`
	Organ string `json:"organ"`
	Limit Limit  `json:"limit"`
	Site  string `json:"site,omitempty"`
	Plan  string `json:"plan,omitempty"`
	Skill string `json:"skill,omitempty"`
}

// Table is a rule table, compiled once. It is immutable and safe for concurrent
// use.
type Table struct{ rows []row }

type row struct {
	Rule
	when *Expression
}

// NewTable compiles rules; their order in the slice plays no part. Rules that
// do not compile are left out and reported, each error wrapping [ErrInvalid].
func NewTable(rules []Rule) (*Table, []error) {
	t := &Table{rows: make([]row, 0, len(rules))}
	var bad []error
	for _, r := range rules {
		when, err := Compile(r.When)
		if err != nil {
			bad = append(bad, fmt.Errorf("rule %s: %w", r.Code, err))
			continue
		}
		t.rows = append(t.rows, row{r, when})
	}
	slices.SortFunc(t.rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Code, b.Code), cmp.Compare(fmt.Sprint(a.Rule), fmt.Sprint(b.Rule)))
	})
	return t, bad
}

// Len returns the number of rules.
func (t *Table) Len() int { return len(t.rows) }

// plain tells whether the conditions other than When hold, or which does not.
func (r *row) plain(s *Subject) (bool, string) {
	switch {
	case !strings.HasPrefix(s.Type, r.TypePrefix):
		return false, fmt.Sprintf("type %q does not begin with %q", s.Type, r.TypePrefix)
	case r.Category != "" && r.Category != s.Category:
		return false, fmt.Sprintf("category is %q, not %q", s.Category, r.Category)
	case r.Mode != "" && r.Mode != s.mode():
		return false, fmt.Sprintf("mode is %s, not %s", s.mode(), r.Mode)
	case r.PriorityMax != 0 && s.Priority > r.PriorityMax:
		return false, fmt.Sprintf("priority is %d, not %d or higher", s.Priority, r.PriorityMax)
	}
	return true, ""
}

// holds is plain without the words.
func (r *row) holds(s *Subject) bool {
	return strings.HasPrefix(s.Type, r.TypePrefix) && (r.Category == "" || r.Category == s.Category) &&
		(r.PriorityMax == 0 || s.Priority <= r.PriorityMax) && (r.Mode == "" || r.Mode == s.mode())
}

func (r *row) decision() Decision {
	return Decision{Rule: r.Code, Organ: r.Organ, Limit: r.Limit, Site: r.Site, Plan: r.Plan, Skill: r.Skill}
}

// Decide returns what the first matching rule decides, by order, then code.
func (t *Table) Decide(s Subject) (Decision, bool) {
	seen := activation{subject: &s}
	for i := range t.rows {
		r := &t.rows[i]
		if !r.holds(&s) {
			continue
		}
		if ok, _ := r.when.match(&seen); ok {
			return r.decision(), true
		}
	}
	return Decision{}, false
}

// Tried is one rule of an explanation, in the order in which it is tried.
type Tried struct {
	Rule  string `json:"rule"`
	Order int    `json:"order"`
	// Condition is the whole condition as one CEL expression.
	Condition string `json:"condition"`
	// Outcome is matched, no, or not tried: an earlier one had matched.
	Outcome string `json:"outcome"`
	// Why says which condition did not hold, or how evaluating it failed.
	Why string `json:"why,omitempty"`
}

// The outcomes of a tried rule.
const (
	TriedMatched = "matched"
	TriedNo      = "no"
	TriedNot     = "not tried"
)

// Explain decides as [Table.Decide] does and tells how.
func (t *Table) Explain(s Subject) ([]Tried, Decision, bool) {
	seen := activation{subject: &s}
	out := make([]Tried, 0, len(t.rows))
	var d Decision
	found := false
	for i := range t.rows {
		r := &t.rows[i]
		tried := Tried{Rule: r.Code, Order: r.Order, Condition: r.Condition(), Outcome: TriedNot}
		if !found {
			ok, why := r.plain(&s)
			if ok {
				if ok, why = r.when.match(&seen); !ok && why == "" {
					why = "when is false"
				}
			}
			tried.Outcome, tried.Why = TriedNo, why
			if ok {
				tried.Outcome, found, d = TriedMatched, true, r.decision()
			}
		}
		out = append(out, tried)
	}
	return out, d, found
}

// Condition returns all of a rule's conditions as one CEL expression: the rule
// with this as its When, and no other condition, decides alike.
func (r Rule) Condition() string {
	var all []string
	if r.TypePrefix != "" {
		all = append(all, "event.type.startsWith("+strconv.Quote(r.TypePrefix)+")")
	}
	if r.Category != "" {
		all = append(all, "event.category == "+strconv.Quote(r.Category))
	}
	if r.PriorityMax != 0 {
		all = append(all, "event.priority <= "+strconv.Itoa(r.PriorityMax))
	}
	if r.Mode != "" {
		all = append(all, "mode == "+strconv.Quote(r.Mode))
	}
	if r.When != "" {
		when := r.When
		if len(all) > 0 {
			when = "(" + when + ")"
		}
		all = append(all, when)
	}
	if len(all) == 0 {
		return "true"
	}
	return strings.Join(all, " && ")
}

// Decide is [Table.Decide] on rules that are not compiled yet; rules that do
// not compile decide nothing.
func Decide(rules []Rule, s Subject) (Decision, bool) {
	t, _ := NewTable(rules)
	return t.Decide(s)
}
