package dispatch

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// Brief is what the organ needs to know; it never changes.
type Brief struct {
	Event          tiers.DocID `json:"event"`
	Stream         string      `json:"stream"`
	Title          string      `json:"title"`
	Type           string      `json:"type"`
	Place          string      `json:"place,omitempty"`
	Organ          string      `json:"organ"`
	Limit          Limit       `json:"limit"`
	Priority       int         `json:"priority"`
	DispatchedAtMS int64       `json:"dispatched_at_ms"`
	Rule           string      `json:"rule"`
	// Plan is the response plan's code; Unit is the responder that was claimed
	// for the task when it was dispatched, as home/code, and UnitEpoch the epoch.
	Plan      string `json:"plan,omitempty"`
	Unit      string `json:"unit,omitempty"`
	UnitEpoch string `json:"unit_epoch,omitempty"`
}

// TaskID returns the identifier of an event's task: a UUID (RFC 9562, version
// 8) made of the event's identifier.
func TaskID(event tiers.DocID) tiers.DocID {
	sum := sha256.Sum256([]byte("tiermesh task v1\x00" + string(event)))
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	x := hex.EncodeToString(u)
	return tiers.NewDocID(KindTask, x[:8]+"-"+x[8:12]+"-"+x[12:16]+"-"+x[16:20]+"-"+x[20:])
}

// The keys of a task document.
const (
	keyBrief   = "brief"
	keyActions = "actions"
)

// TaskOps returns the operations of a task's first change.
func TaskOps(b Brief) ([]crdt.Op, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return []crdt.Op{
		{Kind: crdt.OpPut, Key: keyBrief, Value: string(text)},
		{Kind: crdt.OpMakeList, Key: keyActions},
	}, nil
}

// The kinds of actions on a task and the states that they lead to (GLOSSARY).
const (
	ActionSign     = "sign"
	ActionDispose  = "dispose"
	ActionFeedback = "feedback"
	ActionVerify   = "verify"
	ActionClose    = "close"
	ActionReturn   = "return"
)

// StateDispatched is the state of a task on which nothing was done yet.
const StateDispatched = "dispatched"

var stateAfter = map[string]string{
	ActionSign: "signed", ActionDispose: "disposing", ActionFeedback: "fed_back",
	ActionVerify: "verified", ActionClose: "closed", ActionReturn: "returned",
}

// Action is one immutable step of a task.
type Action struct {
	At   crdt.HybridTime `json:"at"`
	By   tiers.SiteID    `json:"by"`
	Kind string          `json:"kind"`
	Note string          `json:"note,omitempty"`
}

// ActionOp returns the operation that appends an action. The error wraps
// [ErrInvalid].
func ActionOp(a Action) (crdt.Op, error) {
	if stateAfter[a.Kind] == "" {
		return crdt.Op{}, fmt.Errorf("%w: action %q on a task", ErrInvalid, a.Kind)
	}
	b, err := json.Marshal(a)
	if err != nil {
		return crdt.Op{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return crdt.Op{Kind: crdt.OpAppend, In: keyActions, Value: string(b)}, nil
}

// TaskView is what people see of a task.
type TaskView struct {
	ID      tiers.DocID  `json:"id"`
	Stream  string       `json:"stream"`
	Site    tiers.SiteID `json:"site"`
	State   string       `json:"state"`
	Brief   Brief        `json:"brief"`
	Actions []Action     `json:"actions"`
	Pending int          `json:"pending,omitempty"`
	Refused int          `json:"refused,omitempty"`
}

// FoldTask derives a task's view.
func FoldTask(s *crdt.Source) (crdt.View, error) {
	v := TaskView{
		ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, State: StateDispatched,
		Actions: []Action{}, Pending: s.Pending, Refused: s.Refused,
	}
	text := s.Document.Root.String(keyBrief)
	if err := json.Unmarshal([]byte(text), &v.Brief); err != nil && (text != "" || s.Pending == 0) {
		return crdt.View{}, fmt.Errorf("%w: brief of %s: %w", ErrInvalid, s.Doc, err)
	}
	type placed struct {
		Action
		w crdt.Written
	}
	var steps []placed
	if lists := s.Document.Root.Field(keyActions); len(lists) > 0 {
		for _, it := range lists[0].Node.Items {
			a := placed{w: it}
			if text, ok := it.Node.Scalar.(string); ok && json.Unmarshal([]byte(text), &a.Action) == nil && stateAfter[a.Kind] != "" {
				steps = append(steps, a)
			}
		}
	}
	slices.SortFunc(steps, func(x, y placed) int {
		return cmp.Or(cmp.Compare(x.At, y.At), slices.Compare(x.w.Actor[:], y.w.Actor[:]), cmp.Compare(x.w.Counter, y.w.Counter))
	})
	for _, a := range steps {
		v.Actions = append(v.Actions, a.Action)
		v.State = stateAfter[a.Kind]
	}
	b, err := json.Marshal(v)
	if err != nil {
		return crdt.View{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return crdt.View{JSON: b, Index: []crdt.IndexEntry{{Name: KindTask, Value: fmt.Sprintf("%016x", max(v.Brief.DispatchedAtMS, 0))}}}, nil
}
