package event

import (
	"encoding/json"
	"fmt"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// The kinds of actions on an event (GLOSSARY: the life of a task).
const (
	KindAccept   = "accept"
	KindRegister = "register"
	KindDispatch = "dispatch"
	KindFeedback = "feedback"
	KindVerify   = "verify"
	KindClose    = "close"
	KindEvaluate = "evaluate"
	KindReopen   = "reopen"
	KindVoid     = "void"
	// KindTask tells how far one of the event's tasks is; see [Action].Outcome.
	KindTask = "task"
	// KindMerge says that this event and Other are one, KindUnmerge that they are
	// not. Each stands in both documents; see [View.Knots].
	KindMerge   = "merge"
	KindUnmerge = "unmerge"
	// KindSettle notes that what [View.Knots] wanted is done.
	KindSettle = "settle"
	// KindHandOver notes that an open task of a duplicate was taken care of.
	KindHandOver = "hand_over"
	// KindRaise raises the priority; Other is the alert that tells of it.
	KindRaise = "raise"
	// KindAttach attaches a file.
	KindAttach = "attach"
	// KindRelease says that the event was released from quarantine; Note names the
	// document that it was held in.
	KindRelease = "release"
)

// Action is one immutable step in an event's handling.
type Action struct {
	At    crdt.HybridTime `json:"at"`
	By    tiers.SiteID    `json:"by"`
	Kind  string          `json:"kind"`
	Task  tiers.DocID     `json:"task,omitempty"`
	Organ string          `json:"organ,omitempty"`
	Note  string          `json:"note,omitempty"`
	// Outcome is that of Task: open, closed or void.
	Outcome string `json:"outcome,omitempty"`
	// Mode is emergency when Task was dispatched in that; empty is normal.
	Mode string `json:"mode,omitempty"`
	ActionDetails
}

// ActionDetails are what some kinds of actions say besides.
type ActionDetails struct {
	// Who is the person who did it.
	Who string `json:"who,omitempty"`
	// Evidence are references to what shows it.
	Evidence []string `json:"evidence,omitempty"`
	// Score is an evaluation, 1 (bad) to 5.
	Score int `json:"score,omitempty"`
	// Priority is what the event is raised to.
	Priority int `json:"priority,omitempty"`
	// Other is the event that a merge is with.
	Other *Other `json:"other,omitempty"`
	// Others are the events that a knot was settled for.
	Others     []tiers.DocID `json:"others,omitempty"`
	Attachment *Attachment   `json:"attachment,omitempty"`
}

// Other is another event, as far as an event's document tells of it.
type Other struct {
	Event  tiers.DocID `json:"event"`
	Stream string      `json:"stream,omitempty"`
	// ReportedAtMS decides, then the name, which of the two is the duplicate.
	ReportedAtMS int64 `json:"reported_at_ms"`
	// Priority is what a duplicate raises its original to; 0 for none.
	Priority int `json:"priority,omitempty"`
	// Reporters are those of a duplicate and of its duplicates, so that also who
	// never holds these sees them.
	Reporters []Reporter `json:"reporters,omitempty"`
}

// Bounds of an action.
const (
	whoBytesMax    = 128
	evidenceMax    = 32
	reportersMax   = 256
	othersMax      = 1024
	reportTextKept = 1 << 10
)

// Valid reports what breaks a rule in an action by itself. The error wraps
// [ErrInvalid].
func (a Action) Valid() error {
	if err := checkText("note", a.Note, textBytesMax, false); err != nil {
		return err
	}
	if err := checkText("who", a.Who, whoBytesMax, false); err != nil {
		return err
	}
	if len(a.Evidence) > evidenceMax {
		return invalid("evidence", "evidence: %d references: want at most %d", len(a.Evidence), evidenceMax)
	}
	for _, e := range a.Evidence {
		if err := checkText("evidence", e, fieldBytesMax, true); err != nil {
			return err
		}
	}
	if a.Kind == KindEvaluate && (a.Score < 1 || a.Score > 5) {
		return invalid("score", "score %d: want 1 (bad) to 5", a.Score)
	}
	if a.Kind == KindRaise && (a.Priority < 1 || a.Priority > 4) {
		return invalid("priority", "priority %d: want 1 (highest) to 4", a.Priority)
	}
	if (a.Kind == KindMerge || a.Kind == KindUnmerge) && (a.Other == nil || a.Other.Event.Validate() != nil || a.Other.Event.Kind() != Kind) {
		return invalid("other", "other: %s names no event", a.Kind)
	}
	if a.Other != nil && len(a.Other.Reporters) > reportersMax || len(a.Others) > othersMax {
		return invalid("other", "other: more than %d reporters or %d events", reportersMax, othersMax)
	}
	if a.Kind == KindAttach {
		if a.Attachment == nil {
			return invalid("attachment", "attachment is missing")
		}
		return a.Attachment.Valid()
	}
	return nil
}

// ActionOp returns the operation that appends an action. The error wraps
// [ErrInvalid].
func ActionOp(a Action) (crdt.Op, error) {
	if err := a.Valid(); err != nil {
		return crdt.Op{}, err
	}
	b, err := json.Marshal(a)
	if err != nil {
		return crdt.Op{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return crdt.Op{Kind: crdt.OpAppend, In: keyActions, Value: string(b)}, nil
}
