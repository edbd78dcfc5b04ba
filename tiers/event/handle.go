package event

import (
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/tiers"
)

// handle derives the handling from the actions, in order.
func (v *View) handle() {
	if len(v.Actions) == 0 {
		return
	}
	outcome := map[tiers.DocID]string{}
	for _, a := range v.Actions {
		switch a.Kind {
		case KindDispatch:
			if a.Task != "" && outcome[a.Task] == "" {
				outcome[a.Task] = outcomeOpen
			}
		case KindTask:
			outcome[a.Task] = a.Outcome
		case KindHandOver:
			outcome[a.Task] = KindHandOver
		case KindMerge, KindUnmerge, KindSettle:
			v.merges.note(a)
		case KindRaise:
			v.raise(a.Priority)
		case KindAttach:
			if a.Attachment != nil && a.Attachment.Valid() == nil {
				v.Attachments = append(v.Attachments, *a.Attachment)
			}
		case KindReopen:
			v.Handlers, v.Evidence = nil, nil
		case KindEvaluate:
			v.Score = a.Score
		case KindFeedback:
			if a.Who != "" && !slices.Contains(v.Handlers, a.Who) {
				v.Handlers = append(v.Handlers, a.Who)
			}
		}
		v.Evidence = append(v.Evidence, a.Evidence...)
	}
	for _, id := range v.Tasks {
		if outcome[id] == outcomeOpen {
			v.open = append(v.open, id)
		}
	}
	if len(v.merges.known) > 0 {
		v.merged()
	}
}

// raise takes a priority up; nothing takes it down.
func (v *View) raise(to int) {
	if to < 1 || to >= v.Report.Priority {
		return
	}
	if v.ReportedPriority == 0 {
		v.ReportedPriority = v.Report.Priority
	}
	v.Report.Priority = to
}

// OpenTasks are the tasks of the event that are not done, and that nobody took care
// of when it was merged. It is known of a view that [FoldView] made.
func (v *View) OpenTasks() []tiers.DocID { return v.open }

// Derive makes a view whole again that was read back from its JSON.
func (v *View) Derive() {
	if v.ReportedPriority > 0 {
		v.Report.Priority = v.ReportedPriority
	}
	v.Handling = Handling{Corrected: v.Corrected}
	v.State = State(v.Actions)
	v.handle()
}

// step is a row of the table of what may be done with an event by hand, and when.
type step struct {
	from []string
	// who says that a person must be named, note that a reason must be given.
	who, note bool
}

var steps = map[string]step{
	KindAccept:   {from: []string{StateReported}},
	KindRegister: {from: []string{StateReported, StateAccepted}},
	KindFeedback: {from: []string{StateReported, StateAccepted, StateDispatched}, who: true},
	KindVerify:   {from: []string{StateReported, StateAccepted, StateDispatched}, who: true},
	KindClose:    {from: []string{StateVerified}, who: true},
	KindEvaluate: {from: []string{StateClosed}, who: true},
	KindReopen:   {from: []string{StateVerified, StateClosed, StateVoid}, note: true},
	KindVoid:     {from: []string{StateReported, StateAccepted, StateDispatched, StateVerified}, note: true},
}

// Steps lists the kinds of actions that are made by hand, in the order of an event's
// life.
func Steps() []string {
	return []string{KindAccept, KindRegister, KindFeedback, KindVerify, KindClose, KindEvaluate, KindReopen, KindVoid}
}

// Check says whether an action may be made by hand now. An event that was
// dispatched into tasks is verified and closed by them; one without any needs what
// a task needs: evidence, and a verifier who did not handle it. The error wraps
// [ErrInvalid] or [ErrNotNow].
func (v *View) Check(a Action) error {
	s, ok := steps[a.Kind]
	if !ok {
		return invalid("kind", "kind %.64q: want one of %s", a.Kind, strings.Join(Steps(), ", "))
	}
	if a.Task != "" || a.Outcome != "" || a.Other != nil || a.Others != nil || a.Attachment != nil || a.Priority != 0 {
		return invalid("action", "action %s: only who, note, organ, evidence and score are yours to set", a.Kind)
	}
	if err := a.Valid(); err != nil {
		return err
	}
	if tiers.Blank(a.Who) && s.who {
		return invalid("who", "who is empty: %s needs the person who does it", a.Kind)
	}
	if tiers.Blank(a.Note) && s.note {
		return invalid("note", "note is empty: %s needs a reason", a.Kind)
	}
	if v.State == StateMerged {
		return notNow("it is merged into %s: go on with that one, or unmerge it", v.Into)
	}
	if !slices.Contains(s.from, v.State) {
		return notNow("%s is not for an event that is %s, but %s", a.Kind, v.State, strings.Join(s.from, ", "))
	}
	return v.checkClosing(a)
}

// checkClosing checks what ends an event.
func (v *View) checkClosing(a Action) error {
	if len(v.open) > 0 && slices.Contains([]string{KindVerify, KindClose, KindVoid}, a.Kind) {
		return notNow("%d of its tasks are open, such as %s: it ends with them", len(v.open), v.open[0])
	}
	switch a.Kind {
	case KindVerify:
		if len(v.Handlers) == 0 {
			return notNow("nobody has reported back: feedback comes first")
		}
		if slices.Contains(v.Handlers, a.Who) {
			return notNow("who %q has handled it: want another person", a.Who)
		}
		if len(a.Evidence) == 0 && len(v.Evidence) == 0 && len(v.Attachments) == 0 && a.Note == "" && !v.noted() {
			return notNow("there is no evidence: want a reference, an attachment or a note")
		}
	case KindClose:
		if slices.Contains(v.Handlers, a.Who) {
			return notNow("who %q has handled it: want another person", a.Who)
		}
	}
	return nil
}

// noted reports whether who reported back said how.
func (v *View) noted() bool {
	return slices.ContainsFunc(v.Actions, func(a Action) bool { return a.Kind == KindFeedback && a.Note != "" })
}
