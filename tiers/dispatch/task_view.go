package dispatch

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// The indexes of tasks besides [KindTask], which lists them by time of dispatch.
// Each value ends in the due time, so that a list of what is due before a time is
// the start of a range; see [DueValue].
const (
	// IndexTaskDue lists the open tasks whose clock runs.
	IndexTaskDue = "task.due"
	// IndexTaskState, IndexTaskOrgan and IndexTaskCustodian list tasks by one of
	// these first: see [IndexPrefix].
	IndexTaskState     = "task.state"
	IndexTaskOrgan     = "task.organ"
	IndexTaskCustodian = "task.custodian"
	// IndexTaskRelay lists the tasks whose outcome their dispatching site has yet to
	// pass on, by that site.
	IndexTaskRelay = "task.relay"
)

// separator stands between the parts of an index value; no organ holds it.
const separator = "\x1f"

// IndexPrefix is the prefix of one state, organ or custodian. Of an organ or a
// custodian, the open tasks whose clock runs come under running alone.
func IndexPrefix(value string, running bool) string {
	if running {
		return value + separator + "0" + separator
	}
	return value + separator
}

// DueValue is a due time at the end of an index value.
func DueValue(dueMS int64) string { return fmt.Sprintf("%016x", max(dueMS, 0)) }

// DueOf reads the due time back from the end of an index value; 0 when there is
// none.
func DueOf(value string) (ms int64) {
	_, _ = fmt.Sscanf(value[max(0, len(value)-16):], "%x", &ms)
	return ms
}

// Step is an action with what became of it.
type Step struct {
	Action
	// Overruled says why it has no effect; empty when it has.
	Overruled string `json:"overruled,omitempty"`
}

// TaskView is what people see of a task.
type TaskView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	Life
	// DueMS is when its time runs out, in Unix milliseconds; 0 while that is not
	// counted. DoneMS is when it was closed, merged or made void.
	DueMS  int64 `json:"due_ms,omitempty"`
	DoneMS int64 `json:"done_ms,omitempty"`
	Brief  Brief `json:"brief"`
	// Actions are all of them, in the order in which they count.
	Actions   []Step          `json:"actions"`
	Conflicts []crdt.Conflict `json:"conflicts,omitempty"`
	StandDown []StandDown     `json:"stand_down,omitempty"`
	TaskFaults
}

// TaskFaults count what of a task's records is out of the ordinary.
type TaskFaults struct {
	Malformed int `json:"malformed,omitempty"`
	Pending   int `json:"pending,omitempty"`
	Refused   int `json:"refused,omitempty"`
}

// FoldTask derives a task's view.
func FoldTask(s *crdt.Source) (crdt.View, error) {
	v := TaskView{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, Actions: []Step{}}
	text := s.Document.Root.String(keyBrief)
	if err := json.Unmarshal([]byte(text), &v.Brief); err != nil && (text != "" || s.Pending == 0) {
		return crdt.View{}, fmt.Errorf("%w: brief of %s: %w", ErrInvalid, s.Doc, err)
	}
	h := readHistory(s)
	r := h.runAll(v.Brief, s.Stream.Site)
	v.TaskFaults = TaskFaults{Malformed: h.malformed, Pending: s.Pending, Refused: s.Refused}
	v.Life, v.Conflicts, v.StandDown, v.DoneMS = r.life, r.conflicts(), r.standDowns(), r.clock.done
	for i, w := range h.steps {
		v.Actions = append(v.Actions, Step{w.Action, r.overruled[i]})
	}
	if v.Brief.Limit.Validate() == nil {
		v.DueMS = Due(v.calendar(), r.clock.start, r.clock.limits, r.clock.pauses)
	}
	var b []byte
	if !s.IndexOnly {
		var err error
		if b, err = json.Marshal(v); err != nil {
			return crdt.View{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return crdt.View{JSON: b, Index: v.index(), Counts: v.counts()}, nil
}

func (v *TaskView) calendar() Calendar {
	if v.Brief.Calendar != nil {
		return *v.Brief.Calendar
	}
	return DefaultCalendar()
}

// organ is the organ that has the task or is offered it.
func (v *TaskView) organ() string {
	organ := v.Brief.Organ
	for _, a := range v.Actions {
		if a.Overruled == "" && a.Organ != "" {
			organ = a.Organ
		}
	}
	return strings.ReplaceAll(strings.ReplaceAll(organ, "\x00", ""), separator, "")
}

func (v *TaskView) index() []crdt.IndexEntry {
	due := DueValue(v.DueMS)
	part := "1" + separator
	open := v.Outcome() == OutcomeOpen
	out := []crdt.IndexEntry{{Name: KindTask, Value: DueValue(v.Brief.DispatchedAtMS)}}
	if open && v.DueMS > 0 {
		part = "0" + separator
		out = append(out, crdt.IndexEntry{Name: IndexTaskDue, Value: due})
	}
	out = append(out, crdt.IndexEntry{Name: IndexTaskState, Value: IndexPrefix(v.State, false) + due})
	out = append(out, crdt.IndexEntry{Name: IndexTaskOrgan, Value: IndexPrefix(v.organ(), false) + part + due})
	if v.Custodian != "" {
		out = append(out, crdt.IndexEntry{Name: IndexTaskCustodian, Value: IndexPrefix(string(v.Custodian), false) + part + due})
	}
	relayed := v.Relayed
	if relayed == "" {
		relayed = OutcomeOpen
	}
	if v.Outcome() != relayed {
		out = append(out, crdt.IndexEntry{Name: IndexTaskRelay, Value: IndexPrefix(string(v.origin), false) + v.ID.Name()})
	}
	return out
}

// Check reports whether an action may be made on a task as this view shows it. The
// error wraps [ErrInvalid] for an action that is never good and [ErrNotNow] for one
// that is not allowed now, or not to its site; it names what is.
func (v *TaskView) Check(a Action) error {
	if err := a.Validate(); err != nil {
		return err
	}
	for _, text := range append([]string{a.Who}, a.Evidence...) {
		if text != "" && tiers.Blank(text) {
			return fmt.Errorf("%w: who or evidence is blank: it has only spaces and invisible characters", ErrInvalid)
		}
	}
	l := v.Life
	l.place = place{home: v.Site, origin: v.Brief.By}
	if l.origin == "" {
		l.origin = v.Site
	}
	r := run{life: l, standing: map[tiers.SiteID]StandDown{}}
	for _, s := range v.StandDown {
		r.standing[s.Site] = s
	}
	if why := r.refuses(a); why != "" {
		next := "nothing"
		if kinds := v.Next(a.By, a.Tier); len(kinds) > 0 {
			next = strings.Join(kinds, ", ")
		}
		return fmt.Errorf("%w: %s; %s may now: %s", ErrNotNow, why, a.By, next)
	}
	return nil
}

// Next lists the kinds of actions that a site may make now; see [Life.Next].
func (v *TaskView) Next(site tiers.SiteID, tier tiers.Tier) []string {
	l := v.Life
	l.home = v.Site
	next := l.Next(site, tier)
	for _, s := range v.StandDown {
		if s.Site == site {
			next = append(next, ActionStandDown)
		}
	}
	return next
}
