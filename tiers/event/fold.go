package event

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// The states of an event.
const (
	StateReported   = "reported"
	StateAccepted   = "accepted"
	StateDispatched = "dispatched"
	StateVerified   = "verified"
	StateClosed     = "closed"
	StateVoid       = "void"
	// StateMerged is that of a duplicate, for as long as it is merged.
	StateMerged = "merged"
)

// States lists the states of an event, in the order of its life.
func States() []string {
	return []string{StateReported, StateAccepted, StateDispatched, StateVerified, StateClosed, StateVoid, StateMerged}
}

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
	// IndexNear lists events by type, cell and time; see [Near].
	IndexNear = "event.near"
	// IndexKnot lists events that were merged with several others which do not
	// hang together yet; see [View.Knots].
	IndexKnot = "event.knot"
	// IndexNamed lists the events whose name a client gave, by name: two sites may have
	// given one name to two.
	IndexNamed = "event.named"
	// IndexMerged lists duplicates whose open tasks nobody has taken care of.
	IndexMerged = "event.merged"
)

// View is what people see of an event.
type View struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	State  string       `json:"state"`
	// Named says that a client gave the event its name: another site may hold another
	// event of that name, which the full name tells apart.
	Named bool `json:"named,omitempty"`
	// Report is the report with its corrections applied.
	Report    Report          `json:"report"`
	Actions   []Action        `json:"actions"`
	Tasks     []tiers.DocID   `json:"tasks,omitempty"`
	Conflicts []crdt.Conflict `json:"conflicts,omitempty"`
	// Malformed counts actions that do not decode.
	Malformed int `json:"malformed,omitempty"`
	Pending   int `json:"pending,omitempty"`
	Refused   int `json:"refused,omitempty"`
	Handling
}

// Handling is what was done with an event besides its tasks.
type Handling struct {
	// Into is the event that this one is a duplicate of; empty for none.
	Into tiers.DocID `json:"into,omitempty"`
	// Merged are the duplicates of this one, Reporters who reported any of them and
	// this one, by time; both are empty when there is no duplicate.
	Merged      []tiers.DocID `json:"merged,omitempty"`
	Reporters   []Reporter    `json:"reporters,omitempty"`
	Attachments []Attachment  `json:"attachments,omitempty"`
	Corrected   []Correction  `json:"corrected,omitempty"`
	// Handlers are the persons who reported back since it was opened; none of them
	// may verify. Evidence is what they, or others, showed.
	Handlers []string `json:"handlers,omitempty"`
	Evidence []string `json:"evidence,omitempty"`
	// Score is the last evaluation, 1 to 5; 0 for none.
	Score int `json:"score,omitempty"`
	// ReportedPriority is the priority as it was reported, when it was raised since.
	ReportedPriority int `json:"reported_priority,omitempty"`

	merges merges
	open   []tiers.DocID // tasks that are not done, and not taken care of
}

// Correction is a field of the report that was corrected: the winner's author and
// time. Conflicts has the others.
type Correction struct {
	Field string       `json:"field"`
	Was   string       `json:"was,omitempty"`
	Value string       `json:"value"`
	Site  tiers.SiteID `json:"site"`
	AtMS  int64        `json:"at_ms"`
}

// Fold derives an event's view.
func Fold(s *crdt.Source) (crdt.View, error) {
	_, out, err := FoldView(s)
	return out, err
}

// FoldView is [Fold] for who wants the view itself, too.
func FoldView(s *crdt.Source) (View, crdt.View, error) {
	root := s.Document.Root
	v := View{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, Pending: s.Pending, Refused: s.Refused, Actions: []Action{}}
	if text := root.String(keyReport); text != "" {
		if err := decodeReport(text, &v.Report); err != nil {
			return v, crdt.View{}, fmt.Errorf("%w: report of %s: %w", ErrInvalid, s.Doc, err)
		}
	} else if s.Pending == 0 {
		return v, crdt.View{}, fmt.Errorf("%w: %s has no report", ErrInvalid, s.Doc)
	}
	v.Named = root.String(keyNamed) != ""
	v.readActions(s)
	v.correct(s)
	v.State = State(v.Actions)
	v.handle()
	var b []byte
	if !s.IndexOnly {
		var err error
		if b, err = json.Marshal(v); err != nil {
			return v, crdt.View{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return v, crdt.View{JSON: b, Index: v.index(s), Counts: v.counts()}, nil
}

// index lists the entries under which an event is found.
func (v *View) index(s *crdt.Source) []crdt.IndexEntry {
	at := TimeValue(v.Report.ReportedAtMS)
	index := []crdt.IndexEntry{{Name: IndexEvent, Value: at}}
	if v.Report.SourceKey != "" {
		index = append(index, crdt.IndexEntry{Name: IndexSource, Value: v.Report.SourceKey})
	}
	if v.State == StateReported && v.Report.Type != "" {
		index = append(index, crdt.IndexEntry{Name: IndexUndispatched, Value: UndispatchedAt(s.Stream.Site) + s.Doc.Name()})
	}
	if cell := Near(v.Report); cell != "" && v.State != StateVoid && v.State != StateMerged {
		index = append(index, crdt.IndexEntry{Name: IndexNear, Value: cell + at})
	}
	if len(v.Knots()) > 0 {
		index = append(index, crdt.IndexEntry{Name: IndexKnot, Value: s.Doc.Name()})
	}
	if v.Named {
		index = append(index, crdt.IndexEntry{Name: IndexNamed, Value: s.Doc.Name()})
	}
	if v.Into != "" && len(v.open) > 0 {
		index = append(index, crdt.IndexEntry{Name: IndexMerged, Value: s.Doc.Name()})
	}
	return index
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
	if len(maps) == 0 || len(maps[0].Node.Fields) == 0 { // as of nearly all events
		return
	}
	fields := maps[0].Node
	into := map[string]*string{
		"title": &v.Report.Title, "text": &v.Report.Text, "place": &v.Report.Place,
		"type": &v.Report.Type, "grid": &v.Report.Grid,
	}
	for _, f := range fields.Fields {
		text, ok := f.Values[0].Node.Scalar.(string)
		if !ok || into[f.Key] == nil {
			continue
		}
		info, _ := s.Document.ChangeOf(f.Values[0])
		v.Corrected = append(v.Corrected, Correction{
			Field: f.Key, Was: *into[f.Key], Value: text, Site: s.Authors[f.Values[0].Actor].Site, AtMS: info.TimeMS,
		})
		*into[f.Key] = text
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
