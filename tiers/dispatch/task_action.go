package dispatch

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// The kinds of actions on a task (GLOSSARY: the life of a task).
const (
	ActionAccept   = "accept"   // 受理
	ActionSign     = "sign"     // 签收: takes custody
	ActionDispose  = "dispose"  // 处置
	ActionFeedback = "feedback" // 反馈
	ActionVerify   = "verify"   // 核查
	ActionClose    = "close"    // 结案
	ActionEvaluate = "evaluate" // 评价

	ActionReturn    = "return"    // 退回: gives custody back
	ActionAssign    = "assign"    // 派遣, again: offers it to an organ or a site
	ActionDispute   = "dispute"   // 争议
	ActionRule      = "rule"      // a site above decides who has it
	ActionExtend    = "extend"    // 延期
	ActionSuspend   = "suspend"   // 挂起
	ActionResume    = "resume"    // ends a suspension
	ActionSupervise = "supervise" // 督办
	ActionEscalate  = "escalate"  // 升级: offers it to a site above
	ActionDelegate  = "delegate"  // 下派: offers it to a site below
	ActionOverride  = "override"  // a site above takes custody without an offer
	ActionStandDown = "standdown" // who lost custody has called its responders back
	ActionMerge     = "merge"     // 合并
	ActionReopen    = "reopen"    // 重开
	ActionVoid      = "void"      // 作废
	ActionRelay     = "relay"     // the dispatching site has passed the outcome on
)

// Action is one immutable step of a task.
type Action struct {
	At   crdt.HybridTime `json:"at"`
	By   tiers.SiteID    `json:"by"`
	Kind string          `json:"kind"`
	Note string          `json:"note,omitempty"`
	// Tier is that of By when it acted.
	Tier tiers.Tier `json:"tier,omitempty"`
	// Who is the person that acted.
	Who string `json:"who,omitempty"`
	// Reason is one of [Reasons].
	Reason string `json:"reason,omitempty"`
	// To is the site that is offered the task, ToTier its tier, and Organ the
	// organ there.
	To     tiers.SiteID `json:"to,omitempty"`
	ToTier tiers.Tier   `json:"to_tier,omitempty"`
	Organ  string       `json:"organ,omitempty"`
	ActionDetails
}

// ActionDetails are the parts of an action that only some kinds have.
type ActionDetails struct {
	// Evidence are references to attachments or texts that show what was done.
	Evidence []string `json:"evidence,omitempty"`
	// Limit is what an extension adds.
	Limit *Limit `json:"limit,omitempty"`
	// Task is the one that this one merges into or, of a delegation, its child.
	Task tiers.DocID `json:"task,omitempty"`
	// Outcome is what a relay passed on.
	Outcome string `json:"outcome,omitempty"`
	// Score is an evaluation, 1 (bad) to 5.
	Score int `json:"score,omitempty"`
}

// reasons are the codes that a kind's reason must be one of.
var reasons = map[string][]string{
	ActionReturn:    {"not_ours", "wrong_place", "duplicate", "unclear", "no_means"},
	ActionDispute:   {"not_ours", "shared_duty", "wrong_limit", "disagree"},
	ActionExtend:    {"weather", "materials", "third_party", "complex"},
	ActionSuspend:   {"weather", "materials", "third_party", "court"},
	ActionSupervise: {"overdue", "complaint", "important", "emergency"},
	ActionEscalate:  {"no_means", "beyond_mandate", "worse", "several_sites"},
	ActionDelegate:  {"nearer", "mandate", "several_sites"},
	ActionOverride:  {"emergency", "no_answer", "wrong_site"},
	ActionReopen:    {"not_done", "complaint", "new_facts", "mistake"},
	ActionVoid:      {"mistake", "no_event", "test"},
}

// Reasons lists the reason codes of a kind; nil when it takes none.
func Reasons(kind string) []string { return reasons[kind] }

// Bounds of an action's texts, in bytes, and of its evidence.
const (
	noteBytesMax  = 4096
	nameBytesMax  = 128
	evidenceMax   = 16
	limitAmount   = 1000
	actionTimeMax = 7258118400000 // 2200-01-01, in Unix milliseconds
)

// Validate checks the form of an action; whether it may be made is [Check]'s to
// say. The error wraps [ErrInvalid].
func (a Action) Validate() error {
	if _, known := moves[a.Kind]; !known {
		return fmt.Errorf("%w: action %q on a task: want one of %s", ErrInvalid, a.Kind, strings.Join(Kinds(), ", "))
	}
	if ms := a.At.Millis(); ms > actionTimeMax {
		return fmt.Errorf("%w: at %d ms: want a time between 1970 and 2200", ErrInvalid, ms)
	}
	if codes := reasons[a.Kind]; codes != nil && !slices.Contains(codes, a.Reason) {
		return fmt.Errorf("%w: reason %.64q of %s: want one of %s", ErrInvalid, a.Reason, a.Kind, strings.Join(codes, ", "))
	} else if codes == nil && a.Reason != "" {
		return fmt.Errorf("%w: reason %.64q: %s takes none", ErrInvalid, a.Reason, a.Kind)
	}
	if len(a.Evidence) > evidenceMax {
		return fmt.Errorf("%w: evidence: %d references: want at most %d", ErrInvalid, len(a.Evidence), evidenceMax)
	}
	fields := []struct {
		name, value string
		max         int
	}{{"note", a.Note, noteBytesMax}, {"who", a.Who, nameBytesMax}, {"organ", a.Organ, nameBytesMax}}
	for _, e := range a.Evidence {
		fields = append(fields, struct {
			name, value string
			max         int
		}{"evidence", e, noteBytesMax})
		if e == "" {
			return fmt.Errorf("%w: evidence: a reference is empty", ErrInvalid)
		}
	}
	for _, f := range fields {
		if err := checkText(f.name, f.value, f.max); err != nil {
			return err
		}
	}
	return a.validateKind()
}

// validateKind checks what single kinds want.
func (a Action) validateKind() error {
	switch a.Kind {
	case ActionDispose, ActionFeedback, ActionVerify, ActionClose, ActionEvaluate:
		if a.Who == "" {
			return fmt.Errorf("%w: who is empty: %s names the person who does it", ErrInvalid, a.Kind)
		}
	case ActionAssign, ActionRule, ActionEscalate, ActionDelegate:
		if err := a.To.Validate(); err != nil {
			return fmt.Errorf("%w: to: %w", ErrInvalid, err)
		}
	case ActionExtend:
		if a.Limit == nil {
			return fmt.Errorf("%w: limit is missing: an extension says by how much", ErrInvalid)
		}
		return a.Limit.Validate()
	case ActionMerge:
		if err := a.Task.Validate(); err != nil || a.Task.Kind() != KindTask {
			return fmt.Errorf("%w: task %.96q: a merge names the task that goes on, as task:…", ErrInvalid, a.Task)
		}
	}
	if a.Kind == ActionEvaluate && (a.Score < 1 || a.Score > 5) {
		return fmt.Errorf("%w: score %d: want 1 (bad) to 5", ErrInvalid, a.Score)
	}
	return nil
}

// CheckOrgan checks the name of an organ. The error wraps [ErrInvalid].
func CheckOrgan(name string) error {
	if tiers.Blank(name) {
		return fmt.Errorf("%w: organ is empty", ErrInvalid)
	}
	return checkText("organ", name, nameBytesMax)
}

// Validate checks a limit. The error wraps [ErrInvalid].
func (l Limit) Validate() error {
	if l.Amount < 1 || l.Amount > limitAmount {
		return fmt.Errorf("%w: limit amount %d: want 1 to %d", ErrInvalid, l.Amount, limitAmount)
	}
	if l.Unit != UnitUrgentHour && l.Unit != UnitHour && l.Unit != UnitDay {
		return fmt.Errorf("%w: limit unit %.64q: want %s, %s or %s", ErrInvalid, l.Unit, UnitUrgentHour, UnitHour, UnitDay)
	}
	return nil
}

func checkText(name, value string, bytesMax int) error {
	switch {
	case len(value) > bytesMax:
		return fmt.Errorf("%w: %s is %d bytes long: want at most %d", ErrInvalid, name, len(value), bytesMax)
	case !utf8.ValidString(value):
		return fmt.Errorf("%w: %s is not UTF-8: %.32q", ErrInvalid, name, value)
	case strings.ContainsAny(value, "\x00\x1f"):
		return fmt.Errorf("%w: %s holds a control character", ErrInvalid, name)
	}
	return nil
}

// ActionOp returns the operation that appends an action. The error wraps
// [ErrInvalid].
func ActionOp(a Action) (crdt.Op, error) {
	if _, known := moves[a.Kind]; !known {
		return crdt.Op{}, fmt.Errorf("%w: action %q on a task", ErrInvalid, a.Kind)
	}
	b, err := json.Marshal(a)
	if err != nil {
		return crdt.Op{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return crdt.Op{Kind: crdt.OpAppend, In: keyActions, Value: string(b)}, nil
}

// Takes reports whether an action takes custody.
func (a Action) Takes() bool { return a.Kind == ActionSign || a.Kind == ActionOverride }

// ErrNotNow reports an action that may not be made as things stand; the text says
// why and what may be.
var ErrNotNow = errors.New("dispatch: not allowed now")
