package track

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// The states of a proposal.
const (
	ProposalDraft     = "draft"
	ProposalSubmitted = "submitted"
	ProposalApproved  = "approved"  // the end
	ProposalRejected  = "rejected"  // the end
	ProposalWithdrawn = "withdrawn" // the end
)

// ProposalStates lists the states, in the order of a proposal's life.
func ProposalStates() []string {
	return []string{ProposalDraft, ProposalSubmitted, ProposalApproved, ProposalRejected, ProposalWithdrawn}
}

// IndexProposalState lists proposals by state, then time of drafting: see
// [StatePrefix].
const IndexProposalState = KindProposal + ".state"

// StatePrefix is the prefix of a state's values in [IndexProposalState].
func StatePrefix(state string) string { return state + "\x1f" }

// Step is an action with what became of it.
type Step struct {
	Action
	// Overruled says why it has no effect; empty when it has.
	Overruled string `json:"overruled,omitempty"`
}

// ProposalView is what people see of a proposal.
type ProposalView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	State  string       `json:"state"`
	// Content is what it asks for: the draft's, or the last revision's.
	Content Content `json:"content"`
	// The times are in Unix milliseconds; zero for what has not been.
	DraftedAtMS   int64 `json:"drafted_at_ms"`
	SubmittedAtMS int64 `json:"submitted_at_ms,omitempty"`
	DecidedAtMS   int64 `json:"decided_at_ms,omitempty"`
	// DecidedBy is the site whose decision counts, and Reason its reason.
	DecidedBy tiers.SiteID `json:"decided_by,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	// Actions are all of them, by time.
	Actions []Step `json:"actions"`
	// Conflicts are the decisions that did not see each other, the one that counts
	// first.
	Conflicts []crdt.Conflict `json:"conflicts,omitempty"`
	// Undo are the sites whose approval was overruled by a rejection, and whose
	// writes nobody took back yet.
	Undo []tiers.SiteID `json:"undo,omitempty"`
	Faults
}

// Open reports whether something is still to happen.
func (v ProposalView) Open() bool { return v.State == ProposalDraft || v.State == ProposalSubmitted }

// FoldProposal derives a proposal's view. It is a function of the set of actions:
// the proposing site's, in the order of their hybrid times, lead from draft to
// submitted or withdrawn. Of the decisions on a submitted proposal the higher
// tier's counts, then the earlier by hybrid time, then the one of the lower site
// code; a decision counts over a withdrawal that it did not see.
func FoldProposal(s *crdt.Source) (crdt.View, error) {
	v := ProposalView{
		ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, State: ProposalDraft, Actions: []Step{},
		Faults: Faults{Pending: s.Pending, Refused: s.Refused},
	}
	var d Draft
	if err := head(s, keyProposal, &d); err != nil {
		return crdt.View{}, err
	}
	v.Content, v.DraftedAtMS = d.Content, d.At.Millis()
	facts, none := s.Facts(keyActions)
	v.Malformed += none
	for _, f := range facts {
		var a Action
		if json.Unmarshal([]byte(f.Text), &a) != nil || a.Validate() != nil || f.Author != "" && f.Author != a.By ||
			ofAuthor(a.Kind) != (a.By == v.Site) {
			v.Malformed++
			continue
		}
		v.Actions = append(v.Actions, Step{Action: a})
	}
	// Facts come in the order of their texts, which breaks ties.
	slices.SortStableFunc(v.Actions, func(a, b Step) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.By, b.By)) })
	v.decide(v.live())
	v.undone()
	b, err := json.Marshal(v)
	if err != nil {
		return crdt.View{}, fmt.Errorf("%w: view of %s: %w", ErrInvalid, s.Doc, err)
	}
	at := fmt.Sprintf("%016x", max(v.DraftedAtMS, 0))
	return crdt.View{JSON: b, Index: []crdt.IndexEntry{
		{Name: KindProposal, Value: at}, {Name: IndexProposalState, Value: StatePrefix(v.State) + at},
	}}, nil
}

// live runs the proposing site's actions and reports whether it submitted it.
func (v *ProposalView) live() (submitted bool) {
	for i := range v.Actions {
		a := &v.Actions[i]
		if !ofAuthor(a.Kind) {
			continue
		}
		if a.Overruled = v.wrong(a.Kind); a.Overruled != "" {
			continue
		}
		switch a.Kind {
		case ActionRevise:
			v.Content = *a.Content
		case ActionSubmit:
			v.State, v.SubmittedAtMS, submitted = ProposalSubmitted, a.At.Millis(), true
		case ActionWithdraw:
			v.State = ProposalWithdrawn
		}
	}
	return submitted
}

// wrong says why an action of a kind may not be made in this state; empty when it
// may.
func (v *ProposalView) wrong(kind string) string {
	want := []string{ProposalSubmitted}
	switch kind {
	case ActionSubmit, ActionRevise:
		want = []string{ProposalDraft}
	case ActionWithdraw:
		want = []string{ProposalDraft, ProposalSubmitted}
	case ActionUndo:
		if len(v.Undo) == 0 {
			return "no approval of it was overruled"
		}
		return ""
	}
	if slices.Contains(want, v.State) {
		return ""
	}
	return fmt.Sprintf("it is %s: %s wants one that is %s", v.State, kind, strings.Join(want, " or "))
}

func decides(kind string) bool { return kind == ActionApprove || kind == ActionReject }

// decide finds the decision that counts.
func (v *ProposalView) decide(submitted bool) {
	var all []*Step
	for i := range v.Actions {
		a := &v.Actions[i]
		switch {
		case !decides(a.Kind):
		case !submitted:
			a.Overruled = "it was not submitted"
		default:
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		return
	}
	slices.SortStableFunc(all, func(a, b *Step) int { return cmp.Compare(a.Tier, b.Tier) })
	best := all[0]
	v.State, v.DecidedAtMS, v.DecidedBy, v.Reason = ProposalApproved, best.At.Millis(), best.By, best.Reason
	if best.Kind == ActionReject {
		v.State = ProposalRejected
	}
	c := crdt.Conflict{Field: "decision"}
	for _, a := range all {
		c.Values = append(c.Values, crdt.ConflictValue{Value: a.Kind, Site: a.By, AtMS: a.At.Millis()})
		if a == best {
			continue
		}
		a.Overruled = fmt.Sprintf("the decision of %s counts", best.By)
		if a.Kind == ActionApprove && best.Kind == ActionReject && !slices.Contains(v.Undo, a.By) {
			v.Undo = append(v.Undo, a.By)
		}
	}
	if len(all) > 1 {
		v.Conflicts = []crdt.Conflict{c}
	}
	for i := range v.Actions {
		if a := &v.Actions[i]; a.Kind == ActionWithdraw && a.Overruled == "" {
			a.Overruled = fmt.Sprintf("%s decided before it heard of it", best.By)
		}
	}
}

// undone notes that an overruled approval's writes were taken back.
func (v *ProposalView) undone() {
	done := false
	for i := range v.Actions {
		if a := &v.Actions[i]; a.Kind == ActionUndo {
			a.Overruled = v.wrong(a.Kind)
			done = done || a.Overruled == ""
		}
	}
	if done {
		v.Undo = nil
	}
}

// Check reports whether an action may be made on a proposal as this view shows it;
// whose turn it is among the sites above is the topology's to say. The error wraps
// [ErrInvalid] or [ErrNotNow].
func (v ProposalView) Check(a Action) error {
	if err := a.Validate(); err != nil {
		return err
	}
	if ofAuthor(a.Kind) != (a.By == v.Site) {
		whose := "a site above it"
		if ofAuthor(a.Kind) {
			whose = string(v.Site)
		}
		return fmt.Errorf("%w: %s of %s is for %s, not for %s", ErrNotNow, a.Kind, v.ID, whose, a.By)
	}
	if why := v.wrong(a.Kind); why != "" {
		return fmt.Errorf("%w: %s: %s", ErrNotNow, v.ID, why)
	}
	return nil
}
