package dispatch

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// KindPlan is the document kind of response plans and the name of their index.
const KindPlan = "plan"

// The roles of an organ in an event's handling (GLOSSARY).
const (
	RoleLead = "lead" // 主办
	RoleCo   = "co"   // 协办
)

// Plan (预案) is a playbook: an event that it is for fans out into one task for
// each step.
type Plan struct {
	Code  string     `json:"code"`
	Name  string     `json:"name"`
	Steps []PlanStep `json:"steps"`
}

// PlanStep is one task of a plan.
type PlanStep struct {
	// Code names the step inside the plan.
	Code  string `json:"code"`
	Title string `json:"title"`
	Organ string `json:"organ"`
	// Role is lead or co; a plan has one lead.
	Role  string `json:"role"`
	Limit Limit  `json:"limit"`
}

// stepsMax bounds the steps of a plan.
const stepsMax = 32

// Validate checks a plan. The error wraps [ErrInvalid].
func (p Plan) Validate() error {
	if err := tiers.NewDocID(KindPlan, p.Code).Validate(); err != nil {
		return fmt.Errorf("%w: plan code %.64q: %w", ErrInvalid, p.Code, err)
	}
	if err := checkText("name", p.Name, nameBytesMax); err != nil {
		return fmt.Errorf("plan %s: %w", p.Code, err)
	}
	if len(p.Steps) < 1 || len(p.Steps) > stepsMax {
		return fmt.Errorf("%w: plan %s: %d steps: want 1 to %d", ErrInvalid, p.Code, len(p.Steps), stepsMax)
	}
	leads := 0
	for i, s := range p.Steps {
		if err := s.validate(); err != nil {
			return fmt.Errorf("plan %s: step %.64q: %w", p.Code, s.Code, err)
		}
		if slices.ContainsFunc(p.Steps[:i], func(o PlanStep) bool { return o.Code == s.Code }) {
			return fmt.Errorf("%w: plan %s: step %q is there twice", ErrInvalid, p.Code, s.Code)
		}
		if s.Role == RoleLead {
			leads++
		}
	}
	if leads != 1 {
		return fmt.Errorf("%w: plan %s: %d steps with role %s: want one", ErrInvalid, p.Code, leads, RoleLead)
	}
	return nil
}

func (s PlanStep) validate() error {
	for _, f := range []struct{ name, value string }{{"code", s.Code}, {"title", s.Title}, {"organ", s.Organ}} {
		if f.value == "" {
			return fmt.Errorf("%w: %s is empty", ErrInvalid, f.name)
		}
		if err := checkText(f.name, f.value, nameBytesMax); err != nil {
			return err
		}
	}
	if s.Role != RoleLead && s.Role != RoleCo {
		return fmt.Errorf("%w: role %.64q: want %s or %s", ErrInvalid, s.Role, RoleLead, RoleCo)
	}
	return s.Limit.Validate()
}

// PlanOps returns the operations that write a plan. The error wraps [ErrInvalid].
func PlanOps(p Plan) ([]crdt.Op, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	steps, err := json.Marshal(p.Steps)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return crdt.FieldOps([2]string{"code", p.Code}, [2]string{"name", p.Name}, [2]string{"steps", string(steps)}), nil
}

// FoldPlan derives a plan's view.
func FoldPlan(s *crdt.Source) (crdt.View, error) { return s.FieldView() }

// PlanFromView reads a plan back from its view. The error wraps [ErrInvalid].
func PlanFromView(b []byte) (Plan, error) {
	var v struct {
		Fields struct{ Code, Name, Steps string } `json:"fields"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return Plan{}, fmt.Errorf("%w: plan: %w", ErrInvalid, err)
	}
	p := Plan{Code: v.Fields.Code, Name: v.Fields.Name}
	if err := json.Unmarshal([]byte(v.Fields.Steps), &p.Steps); err != nil {
		return Plan{}, fmt.Errorf("%w: plan %s: steps: %w", ErrInvalid, p.Code, err)
	}
	return p, p.Validate()
}

// Planned is a task that an event fans out into.
type Planned struct {
	ID    tiers.DocID
	Brief Brief
}

// FanOut returns the tasks of a plan for the event that a brief is of, in the
// plan's order. Their identifiers follow from the event's name, in full where a client
// gave it, so an event has each once, whoever fans it out and however often.
func FanOut(p Plan, b Brief, name tiers.DocID) (out []Planned) {
	for _, s := range p.Steps {
		t := b
		t.Organ, t.Limit, t.Plan, t.Step, t.Role = s.Organ, s.Limit, p.Code, s.Code, s.Role
		t.Title = s.Title + " · " + b.Title
		out = append(out, Planned{PlanTaskID(name, p.Code, s.Code), t})
	}
	return out
}

// DefaultPlans are the plans that a city starts with.
func DefaultPlans() []Plan {
	return []Plan{
		{Code: "flood", Name: "防汛应急预案", Steps: []PlanStep{
			{"command", "现场指挥", "应急管理办公室", RoleLead, Limit{1, UnitUrgentHour}},
			{"drain", "排涝抢险", "城市管理大队", RoleCo, Limit{2, UnitUrgentHour}},
			{"traffic", "交通管制", "交通管理办公室", RoleCo, Limit{1, UnitUrgentHour}},
			{"shelter", "转移安置", "综合治理办公室", RoleCo, Limit{4, UnitUrgentHour}},
		}},
		{Code: "gas-leak", Name: "燃气泄漏预案", Steps: []PlanStep{
			{"repair", "关阀抢修", "城市管理大队", RoleLead, Limit{1, UnitUrgentHour}},
			{"cordon", "警戒疏散", "综合治理办公室", RoleCo, Limit{1, UnitUrgentHour}},
		}},
	}
}
