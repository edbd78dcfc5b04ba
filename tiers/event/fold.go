package event

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

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
	KindReopen   = "reopen"
	KindVoid     = "void"
	// KindTask tells how far one of the event's tasks is; see [Action].Outcome.
	KindTask = "task"
)

// The states of an event.
const (
	StateReported   = "reported"
	StateAccepted   = "accepted"
	StateDispatched = "dispatched"
	StateVerified   = "verified"
	StateClosed     = "closed"
	StateVoid       = "void"
)

// stateAfter maps an action to the state it leads to; actions that are not
// listed change none.
var stateAfter = map[string]string{
	KindAccept: StateAccepted, KindRegister: StateAccepted, KindDispatch: StateDispatched,
	KindVerify: StateVerified, KindClose: StateClosed, KindReopen: StateAccepted, KindVoid: StateVoid,
}

// The indexes of events.
const (
	// IndexEvent lists events by time of report, then name.
	IndexEvent = "event"
	// IndexSource lists events by their reporter's key.
	IndexSource = "event.source"
	// IndexUndispatched lists events that nobody has dispatched, by site and
	// name: the dispatchers' work. [UndispatchedAt] is one site's part.
	IndexUndispatched = "event.undispatched"
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
}

// ActionOp returns the operation that appends an action. The error wraps
// [ErrInvalid].
func ActionOp(a Action) (crdt.Op, error) {
	if err := checkText("note", a.Note, textBytesMax, false); err != nil {
		return crdt.Op{}, err
	}
	b, err := json.Marshal(a)
	if err != nil {
		return crdt.Op{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return crdt.Op{Kind: crdt.OpAppend, In: keyActions, Value: string(b)}, nil
}

// View is what people see of an event.
type View struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	State  string       `json:"state"`
	// Report is the report with its corrections applied.
	Report    Report          `json:"report"`
	Actions   []Action        `json:"actions"`
	Tasks     []tiers.DocID   `json:"tasks,omitempty"`
	Conflicts []crdt.Conflict `json:"conflicts,omitempty"`
	// Malformed counts actions that do not decode.
	Malformed int `json:"malformed,omitempty"`
	Pending   int `json:"pending,omitempty"`
	Refused   int `json:"refused,omitempty"`
}

// Fold derives an event's view.
func Fold(s *crdt.Source) (crdt.View, error) {
	root := s.Document.Root
	v := View{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, Pending: s.Pending, Refused: s.Refused, Actions: []Action{}}
	if text := root.String(keyReport); text != "" {
		if err := json.Unmarshal([]byte(text), &v.Report); err != nil {
			return crdt.View{}, fmt.Errorf("%w: report of %s: %w", ErrInvalid, s.Doc, err)
		}
	} else if s.Pending == 0 {
		return crdt.View{}, fmt.Errorf("%w: %s has no report", ErrInvalid, s.Doc)
	}
	v.readActions(s)
	v.correct(s)
	v.State = State(v.Actions)
	var b []byte
	if !s.IndexOnly {
		var err error
		if b, err = json.Marshal(v); err != nil {
			return crdt.View{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	index := []crdt.IndexEntry{{Name: IndexEvent, Value: fmt.Sprintf("%016x", max(v.Report.ReportedAtMS, 0))}}
	if v.Report.SourceKey != "" {
		index = append(index, crdt.IndexEntry{Name: IndexSource, Value: v.Report.SourceKey})
	}
	if v.State == StateReported && v.Report.Type != "" {
		index = append(index, crdt.IndexEntry{Name: IndexUndispatched, Value: UndispatchedAt(s.Stream.Site) + s.Doc.Name()})
	}
	return crdt.View{JSON: b, Index: index, Counts: v.counts()}, nil
}

// UndispatchedAt is the prefix of a site's own events under [IndexUndispatched].
func UndispatchedAt(site tiers.SiteID) string { return string(site) + "/" }

// readActions collects the actions in hybrid-time order. List order follows
// actors, not time, so ties are broken by the operation that appended.
func (v *View) readActions(s *crdt.Source) {
	lists := s.Document.Root.Field(keyActions)
	if len(lists) == 0 {
		return
	}
	items := slices.Clone(lists[0].Node.Items)
	at := make(map[uint64]map[crdt.Actor]Action, len(items))
	kept := items[:0]
	for _, it := range items {
		var a Action
		text, ok := it.Node.Scalar.(string)
		if !ok || json.Unmarshal([]byte(text), &a) != nil || a.Kind == "" {
			v.Malformed++
			continue
		}
		if at[it.Counter] == nil {
			at[it.Counter] = map[crdt.Actor]Action{}
		}
		at[it.Counter][it.Actor] = a
		kept = append(kept, it)
	}
	slices.SortFunc(kept, func(x, y crdt.Written) int {
		return cmp.Or(cmp.Compare(at[x.Counter][x.Actor].At, at[y.Counter][y.Actor].At),
			slices.Compare(x.Actor[:], y.Actor[:]), cmp.Compare(x.Counter, y.Counter))
	})
	for _, it := range kept {
		a := at[it.Counter][it.Actor]
		v.Actions = append(v.Actions, a)
		if a.Task != "" && !slices.Contains(v.Tasks, a.Task) {
			v.Tasks = append(v.Tasks, a.Task)
		}
	}
}

// correct applies the corrections and shows those that are in conflict.
func (v *View) correct(s *crdt.Source) {
	maps := s.Document.Root.Field(keyCorrections)
	if len(maps) == 0 {
		return
	}
	fields := maps[0].Node
	into := map[string]*string{
		"title": &v.Report.Title, "text": &v.Report.Text, "place": &v.Report.Place,
		"type": &v.Report.Type, "grid": &v.Report.Grid,
	}
	for _, f := range fields.Fields {
		if text, ok := f.Values[0].Node.Scalar.(string); ok && into[f.Key] != nil {
			*into[f.Key] = text
		}
	}
	v.Conflicts = s.ConflictsIn(fields)
}

// The outcomes of a task; see package dispatch.
const (
	outcomeOpen   = "open"
	outcomeClosed = "closed"
	outcomeVoid   = "void"
)

// afterTasks is the state of an event that was dispatched into tasks: closed when
// all of them are done and one of them was closed, which needs evidence and a
// verifier who is not the handler.
func afterTasks(state string, tasks map[tiers.DocID]string, reopened bool) string {
	closed, open := false, false
	for _, outcome := range tasks {
		closed = closed || outcome == outcomeClosed
		open = open || outcome != outcomeClosed && outcome != outcomeVoid
	}
	switch {
	case state == StateDispatched && closed && !open:
		return StateClosed
	case state == StateClosed && reopened:
		return StateDispatched
	default:
		return state
	}
}

// State returns the state that actions, in order, lead to. A closed or void
// event stays so until it, or one of its tasks, is reopened.
func State(actions []Action) string {
	state, tasks := StateReported, map[tiers.DocID]string{}
	for _, a := range actions {
		if a.Task != "" && (a.Kind == KindDispatch && tasks[a.Task] == "" || a.Kind == KindTask) {
			tasks[a.Task] = a.Outcome
		}
		if a.Kind == KindTask {
			state = afterTasks(state, tasks, a.Outcome == outcomeOpen)
			continue
		}
		next, ok := stateAfter[a.Kind]
		final := state == StateClosed || state == StateVoid
		if !ok || final && a.Kind != KindReopen {
			continue
		}
		state = next
	}
	return state
}
