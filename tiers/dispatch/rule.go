package dispatch

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
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

// Rule is one row of the rule table. It matches when all of its conditions do;
// empty ones match everything.
type Rule struct {
	Code string `json:"code"`
	// Order places the rule in the table; the lowest that matches decides.
	Order int `json:"order"`
	// TypePrefix and Category match the event's type; PriorityMax matches
	// events at least that urgent, 0 any.
	TypePrefix  string `json:"type_prefix,omitempty"`
	Category    string `json:"category,omitempty"`
	PriorityMax int    `json:"priority_max,omitempty"`
	// Mode restricts the rule to normal or emergency mode of the event's site; empty is
	// both.
	Mode string `json:"mode,omitempty"`
	// When is a CEL expression over event, time, place and mode; see [Compile].
	When  string `json:"when,omitempty"`
	Organ string `json:"organ"`
	Limit Limit  `json:"limit"`
	// Site is where the task goes: the event's own site when empty, or a site
	// below it.
	Site string `json:"site,omitempty"`
	// Plan is the code of the response plan, Skill what the responder must be able
	// to do; none is sent when it is empty.
	Plan  string `json:"plan,omitempty"`
	Skill string `json:"skill,omitempty"`
}

// ruleTextBytesMax bounds the short texts of a rule.
const ruleTextBytesMax = 128

// Validate checks a rule and compiles its expression. The error wraps
// [ErrInvalid].
func (r Rule) Validate() error {
	if err := r.validateFields(); err != nil {
		return err
	}
	_, err := Compile(r.When)
	if err != nil {
		return fmt.Errorf("rule %s: when: %w", r.Code, err)
	}
	return nil
}

func (r Rule) validateFields() error {
	for _, f := range []struct{ name, value string }{
		{"code", r.Code}, {"organ", r.Organ}, {"type_prefix", r.TypePrefix}, {"category", r.Category},
		{"site", r.Site}, {"plan", r.Plan}, {"skill", r.Skill},
	} {
		if len(f.value) > ruleTextBytesMax || strings.ContainsRune(f.value, 0) || !utf8.ValidString(f.value) {
			return fmt.Errorf("%w: rule %.32q: %s of %d bytes: want UTF-8 without zero bytes, at most %d", ErrInvalid, r.Code, f.name, len(f.value), ruleTextBytesMax)
		}
	}
	if err := tiers.NewDocID(KindRule, r.Code).Validate(); r.Code != "" && err != nil {
		return fmt.Errorf("%w: rule %q: code: %w", ErrInvalid, r.Code, err)
	}
	if err := tiers.SiteID(r.Site).Validate(); r.Site != "" && err != nil {
		return fmt.Errorf("%w: rule %s: %w", ErrInvalid, r.Code, err)
	}
	switch {
	case r.Mode != "" && r.Mode != ModeNormal && r.Mode != ModeEmergency:
		return fmt.Errorf("%w: rule %s: mode %.64q: want %s, %s or none for both", ErrInvalid, r.Code, r.Mode, ModeNormal, ModeEmergency)
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
		[2]string{"when", r.When}, [2]string{"site", r.Site}, [2]string{"plan", r.Plan}, [2]string{"skill", r.Skill},
		[2]string{"mode", r.Mode},
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
		When: f["when"], Site: f["site"], Plan: f["plan"], Skill: f["skill"],
		Mode: f["mode"],
	}
	return r, r.Validate()
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

// SetRuleOps returns the operations that make a rule what it is, also where it
// was something else before: conditions that it no longer has are emptied. The
// error wraps [ErrInvalid].
func SetRuleOps(r Rule) ([]crdt.Op, error) {
	ops, err := RuleOps(r)
	for _, f := range [][2]string{
		{"type_prefix", r.TypePrefix}, {"category", r.Category}, {"when", r.When}, {"site", r.Site}, {"plan", r.Plan}, {"skill", r.Skill},
		{"mode", r.Mode},
	} {
		if f[1] == "" {
			ops = append(ops, crdt.Op{Kind: crdt.OpPut, Key: f[0], Value: ""})
		}
	}
	return ops, err
}
