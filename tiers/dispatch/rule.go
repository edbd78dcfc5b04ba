package dispatch

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
)

// ErrInvalid reports a rule, brief or action that breaks a rule; the text
// names the field, its value and what is allowed.
var ErrInvalid = errors.New("dispatch: invalid")

// The document kinds of this package; also the names of their indexes.
const (
	KindRule = "rule"
	KindTask = "task"
)

// Units of a time limit (GLOSSARY).
const (
	UnitUrgentHour = "urgent_hour" // 紧急工作时, round the clock
	UnitHour       = "hour"        // 工作时
	UnitDay        = "day"         // 工作日
)

// Limit is a time limit; the clock starts at dispatch.
type Limit struct {
	Amount int    `json:"amount"`
	Unit   string `json:"unit"`
}

// Rule is one row of the rule table. Empty conditions match everything.
type Rule struct {
	Code string
	// Order places the rule in the table; the lowest that matches decides.
	Order int
	// TypePrefix and Category match the event's type; PriorityMax matches
	// events at least that urgent, 0 any.
	TypePrefix, Category string
	PriorityMax          int
	Organ                string
	Limit                Limit
}

// Validate checks a rule. The error wraps [ErrInvalid].
func (r Rule) Validate() error {
	switch {
	case r.Code == "" || r.Organ == "":
		return fmt.Errorf("%w: rule %q: code and organ must be given", ErrInvalid, r.Code)
	case r.PriorityMax < 0 || r.PriorityMax > 4:
		return fmt.Errorf("%w: rule %s: priority_max %d: want 0 to 4", ErrInvalid, r.Code, r.PriorityMax)
	case r.Limit.Amount <= 0 || r.Limit.Unit != UnitUrgentHour && r.Limit.Unit != UnitHour && r.Limit.Unit != UnitDay:
		return fmt.Errorf("%w: rule %s: limit %d %q: want a positive amount of %s, %s or %s", ErrInvalid, r.Code,
			r.Limit.Amount, r.Limit.Unit, UnitUrgentHour, UnitHour, UnitDay)
	}
	return nil
}

// RuleOps returns the operations that write a rule.
func RuleOps(r Rule) ([]crdt.Op, error) {
	return crdt.FieldOps(
		[2]string{"code", r.Code}, [2]string{"order", strconv.Itoa(r.Order)},
		[2]string{"type_prefix", r.TypePrefix}, [2]string{"category", r.Category},
		[2]string{"priority_max", strconv.Itoa(r.PriorityMax)}, [2]string{"organ", r.Organ},
		[2]string{"limit_amount", strconv.Itoa(r.Limit.Amount)}, [2]string{"limit_unit", r.Limit.Unit},
	), r.Validate()
}

// FoldRule derives a rule's view.
func FoldRule(s *crdt.Source) (crdt.View, error) { return s.FieldView() }

// RuleFromView reads a rule back from its view. The error wraps [ErrInvalid].
func RuleFromView(b []byte) (Rule, error) {
	var v struct {
		Fields map[string]string `json:"fields"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return Rule{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	f := v.Fields
	order, err1 := strconv.Atoi(f["order"])
	priority, err2 := strconv.Atoi(f["priority_max"])
	amount, err3 := strconv.Atoi(f["limit_amount"])
	if err := errors.Join(err1, err2, err3); err != nil {
		return Rule{}, fmt.Errorf("%w: rule %s: %w", ErrInvalid, f["code"], err)
	}
	r := Rule{
		Code: f["code"], Order: order, TypePrefix: f["type_prefix"], Category: f["category"],
		PriorityMax: priority, Organ: f["organ"], Limit: Limit{amount, f["limit_unit"]},
	}
	return r, r.Validate()
}

// Subject is what the rules look at.
type Subject struct {
	Type, Category string
	Priority       int
}

// Decision is what a rule decides.
type Decision struct {
	Rule, Organ string
	Limit       Limit
}

func (r Rule) matches(s Subject) bool {
	return strings.HasPrefix(s.Type, r.TypePrefix) && (r.Category == "" || r.Category == s.Category) &&
		(r.PriorityMax == 0 || s.Priority <= r.PriorityMax)
}

// Decide returns what the first matching rule decides, by order, then code.
// The order of the slice plays no part.
func Decide(rules []Rule, s Subject) (Decision, bool) {
	byOrder := func(a, b Rule) int { return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Code, b.Code)) }
	var best *Rule
	for i := range rules {
		if rules[i].matches(s) && (best == nil || byOrder(rules[i], *best) < 0) {
			best = &rules[i]
		}
	}
	if best == nil {
		return Decision{}, false
	}
	return Decision{Rule: best.Code, Organ: best.Organ, Limit: best.Limit}, true
}

// DefaultRules is a small table for the categories of the default event types:
// urgent events first, then one rule a category, then everything else.
func DefaultRules() []Rule {
	return []Rule{
		{Code: "urgent", Order: 10, PriorityMax: 2, Organ: "应急管理办公室", Limit: Limit{2, UnitUrgentHour}},
		{Code: "utilities", Order: 20, Category: "市政公用设施", Organ: "城市管理大队", Limit: Limit{4, UnitHour}},
		{Code: "traffic", Order: 30, Category: "交通设施", Organ: "交通管理办公室", Limit: Limit{1, UnitDay}},
		{Code: "streets", Order: 40, Category: "街面秩序", Organ: "综合行政执法大队", Limit: Limit{8, UnitHour}},
		{Code: "sanitation", Order: 50, Category: "市容环境", Organ: "环境卫生所", Limit: Limit{2, UnitDay}},
		{Code: "rest", Order: 1000, Organ: "综合治理办公室", Limit: Limit{3, UnitDay}},
	}
}
