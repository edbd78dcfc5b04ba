package dispatch

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/tiers"
)

// The states of a task.
const (
	StateDispatched = "dispatched" // offered, nothing was done yet
	StateAccepted   = "accepted"
	StateSigned     = "signed"
	StateDisposing  = "disposing"
	StateFedBack    = "fed_back"
	StateVerified   = "verified"
	StateClosed     = "closed"
	StateEvaluated  = "evaluated"
	StateReturned   = "returned"
	StateSuspended  = "suspended"
	StateMerged     = "merged"
	StateVoid       = "void"
)

// States lists the states of a task, in the order of its life.
func States() []string {
	return []string{
		StateDispatched, StateAccepted, StateSigned, StateDisposing, StateFedBack, StateVerified,
		StateClosed, StateEvaluated, StateReturned, StateSuspended, StateMerged, StateVoid,
	}
}

// The bounds of the side moves.
const (
	// BounceMax is how often a task may be returned before a site above must rule.
	BounceMax = 3
	// ExtensionsMax is how often a limit may be extended.
	ExtensionsMax = 2
)

// Offer is who may sign for a task.
type Offer struct {
	To    tiers.SiteID `json:"to"`
	Tier  tiers.Tier   `json:"tier,omitempty"`
	By    tiers.SiteID `json:"by"`
	Organ string       `json:"organ"`
	// Ruled says that a site above decided it: it cannot be returned.
	Ruled bool `json:"ruled,omitempty"`
}

// Life is what a task's actions, in order, lead to.
type Life struct {
	State string `json:"state"`
	// Owner is the site that dispatched it last: returns go to it.
	Owner     tiers.SiteID `json:"owner"`
	OwnerTier tiers.Tier   `json:"owner_tier,omitempty"`
	// Offer is open until it is signed for or returned.
	Offer *Offer `json:"offer,omitempty"`
	// Custodian is the one site that has the task; empty for none.
	Custodian     tiers.SiteID `json:"custodian,omitempty"`
	CustodianTier tiers.Tier   `json:"custodian_tier,omitempty"`
	// Before is the state that a suspension goes back to.
	Before string `json:"before,omitempty"`
	LifeCounts
	// Handlers are the persons who worked on it; none of them may verify.
	Handlers []string `json:"handlers,omitempty"`
	Evidence []string `json:"evidence,omitempty"`
	// Children are the tasks that were delegated from this one.
	Children []tiers.DocID `json:"children,omitempty"`
	// Into is the task that this one was merged into.
	Into tiers.DocID `json:"into,omitempty"`
	// Relayed is the outcome that the dispatching site has passed on.
	Relayed string `json:"relayed,omitempty"`
	place
}

// place is where a task stands; it is not part of its JSON.
type place struct {
	// home is the stream's site, which nobody is below; origin dispatched it first.
	home, origin tiers.SiteID
}

// LifeCounts are the counts and flags of a life.
type LifeCounts struct {
	Returns    int  `json:"returns,omitempty"`
	Extensions int  `json:"extensions,omitempty"`
	Supervised int  `json:"supervised,omitempty"`
	Disputed   bool `json:"disputed,omitempty"`
	Ruled      bool `json:"ruled,omitempty"`
	Score      int  `json:"score,omitempty"`
}

// role is who may make a move.
type role uint8

const (
	offered   role = 1 << iota // the site that it is offered to
	custodian                  // the site that has it
	owner                      // the site that dispatched it
	above                      // a site of a higher tier than who has it or is offered it
)

func (r role) String() string {
	var words []string
	for i, word := range []string{"the site that it is offered to", "its custodian", "the site that dispatched it", "a site of a higher tier"} {
		if r&(1<<i) != 0 {
			words = append(words, word)
		}
	}
	return strings.Join(words, " or ")
}

// move is one row of the table of what may be done when and by whom.
type move struct {
	from []string
	who  role
	// to is the state that it leads to; empty leaves it as it is.
	to string
}

var (
	workStates = []string{StateSigned, StateDisposing}
	openStates = []string{
		StateDispatched, StateAccepted, StateSigned, StateDisposing, StateFedBack, StateVerified, StateReturned, StateSuspended,
	}
	doneStates = []string{StateClosed, StateEvaluated, StateMerged, StateVoid}
)

var moves = map[string]move{
	ActionAccept:    {[]string{StateDispatched}, offered, StateAccepted},
	ActionSign:      {[]string{StateDispatched, StateAccepted, StateSigned, StateDisposing}, offered, StateSigned},
	ActionDispose:   {workStates, custodian, StateDisposing},
	ActionFeedback:  {workStates, custodian, StateFedBack},
	ActionVerify:    {[]string{StateFedBack}, custodian | owner | above, StateVerified},
	ActionClose:     {[]string{StateVerified}, custodian | owner | above, StateClosed},
	ActionEvaluate:  {[]string{StateClosed}, custodian | owner | above, StateEvaluated},
	ActionReturn:    {[]string{StateDispatched, StateAccepted, StateSigned, StateDisposing}, offered | custodian, StateReturned},
	ActionAssign:    {[]string{StateDispatched, StateAccepted, StateReturned}, owner | above, StateDispatched},
	ActionDispute:   {[]string{StateDispatched, StateAccepted, StateSigned, StateDisposing, StateFedBack, StateReturned}, offered | custodian | owner, ""},
	ActionRule:      {openStates, above, StateDispatched},
	ActionExtend:    {[]string{StateDispatched, StateAccepted, StateSigned, StateDisposing}, owner | above, ""},
	ActionSuspend:   {workStates, custodian, StateSuspended},
	ActionResume:    {[]string{StateSuspended}, custodian | owner | above, ""},
	ActionSupervise: {openStates, owner | above, ""},
	ActionEscalate:  {workStates, custodian, ""},
	ActionDelegate:  {workStates, custodian, ""},
	ActionOverride:  {openStates, above, StateSigned},
	ActionStandDown: {States(), 0, ""},
	ActionMerge:     {openStates, custodian | owner | above, StateMerged},
	ActionReopen:    {[]string{StateFedBack, StateVerified, StateClosed, StateEvaluated, StateMerged, StateVoid}, owner | above, ""},
	ActionVoid:      {openStates, owner | above, StateVoid},
	ActionRelay:     {States(), 0, ""},
}

// Kinds lists the kinds of actions, in byte order.
func Kinds() []string { return slices.Sorted(maps.Keys(moves)) }

// Outcome is how far the task is for whom it is a part: open, closed or void.
func (l *Life) Outcome() string {
	switch l.State {
	case StateClosed, StateEvaluated:
		return StateClosed
	case StateVoid, StateMerged:
		return StateVoid
	default:
		return OutcomeOpen
	}
}

// OutcomeOpen is the outcome of a task that is not done.
const OutcomeOpen = "open"

// holder is who has the task or is offered it, and its tier; 0 when that is not
// known.
func (l *Life) holder() (tiers.SiteID, tiers.Tier) {
	if l.Custodian != "" {
		return l.Custodian, l.CustodianTier
	}
	if l.Offer != nil {
		return l.Offer.To, l.Offer.Tier
	}
	return l.Owner, l.OwnerTier
}

// roles returns what a site of a tier is to the task.
func (l *Life) roles(site tiers.SiteID, tier tiers.Tier) (r role) {
	if l.Offer != nil && l.Offer.To == site {
		r |= offered
	}
	if l.Custodian == site {
		r |= custodian
	}
	if l.Owner == site {
		r |= owner
	}
	// Of two sites that may write to a task the higher is above the other; the
	// stream's own is the lowest.
	if id, of := l.holder(); id != site && site != l.home && tier != 0 && (of == 0 || tier < of) {
		r |= above
	}
	return r
}

// judge says why an action may not be made, or "". It looks at the life alone, not
// at the action's form.
func (l *Life) judge(a Action) string {
	m := moves[a.Kind]
	if !slices.Contains(m.from, l.State) {
		return fmt.Sprintf("%s is not for a task that is %s, but %s", a.Kind, l.State, strings.Join(m.from, ", "))
	}
	r := l.roles(a.By, a.Tier)
	if a.Kind == ActionRule && a.Tier == tiers.TierCity {
		r |= above // nobody is above the city
	}
	if m.who != 0 && r&m.who == 0 {
		return fmt.Sprintf("%s is for %s: %s is neither%s", a.Kind, m.who, a.By, l.whoHas())
	}
	return l.judgeKind(a)
}

func (l *Life) whoHas() string {
	text := ""
	if l.Custodian != "" {
		text += "; custodian " + string(l.Custodian)
	}
	if l.Offer != nil {
		text += "; offered to " + string(l.Offer.To)
	}
	return text + "; dispatched by " + string(l.Owner)
}

// judgeKind is what single kinds want besides.
func (l *Life) judgeKind(a Action) string {
	switch a.Kind {
	case ActionRelay:
		if a.By != l.origin && a.Task == "" {
			return fmt.Sprintf("relay is for %s, which dispatched it first", l.origin)
		}
	case ActionVerify, ActionClose:
		if l.Disputed {
			return a.Kind + " must wait: it is disputed until a site above rules"
		}
		if len(l.Evidence)+len(a.Evidence) == 0 {
			return a.Kind + " needs evidence, and there is none: give it with the feedback or now"
		}
		fallthrough
	case ActionEvaluate:
		if a.Kind != ActionClose && slices.Contains(l.Handlers, a.Who) {
			return fmt.Sprintf("%s by %q: who handled a task may not %s it; handlers are %s", a.Kind, a.Who, a.Kind, strings.Join(l.Handlers, ", "))
		}
	case ActionReturn:
		if l.Ruled {
			return "return: a site above has ruled who handles it"
		}
		if l.Offer != nil && l.Offer.To == a.By && l.Offer.Ruled {
			return "return: the offer is a ruling"
		}
	case ActionAssign:
		if l.Returns >= BounceMax && !l.Ruled {
			return fmt.Sprintf("assign: it was returned %d times: a site above must rule", l.Returns)
		}
	case ActionRule:
		if !l.Disputed && l.State != StateReturned {
			return "rule is for a task that is disputed or returned"
		}
	case ActionDispute:
		if l.Disputed {
			return "dispute: it is disputed already"
		}
	case ActionExtend:
		if l.Extensions >= ExtensionsMax {
			return fmt.Sprintf("extend: it was extended %d times, the most there may be", l.Extensions)
		}
	case ActionEscalate:
		if a.ToTier >= a.Tier || a.ToTier == 0 {
			return fmt.Sprintf("escalate to %s: want a site above %s", a.To, a.By)
		}
	case ActionDelegate:
		if a.ToTier <= a.Tier {
			return fmt.Sprintf("delegate to %s: want a site below %s", a.To, a.By)
		}
	}
	return ""
}

// apply makes an action that may be made, all but what it does to custody.
func (l *Life) apply(a Action) {
	if a.Kind == ActionDispose || a.Kind == ActionFeedback {
		if !slices.Contains(l.Handlers, a.Who) {
			l.Handlers = append(l.Handlers, a.Who)
		}
	}
	for _, e := range a.Evidence {
		if !slices.Contains(l.Evidence, e) {
			l.Evidence = append(l.Evidence, e)
		}
	}
	switch a.Kind {
	case ActionAssign, ActionRule, ActionEscalate, ActionDelegate:
		l.offer(a)
	case ActionDispute:
		l.Disputed = true
	case ActionExtend:
		l.Extensions++
	case ActionSuspend:
		l.Before = l.State
	case ActionResume:
		l.State, l.Before = l.Before, ""
	case ActionSupervise:
		l.Supervised++
	case ActionMerge:
		l.Into = a.Task
	case ActionEvaluate:
		l.Score = a.Score
	case ActionReopen:
		l.reopen()
	case ActionReturn: // of an offer; of custody it is a take
		l.Offer = nil
		l.Returns++
		if l.Custodian != "" {
			return
		}
	case ActionRelay:
		if a.Task == "" {
			l.Relayed = a.Outcome
		}
	}
	if to := moves[a.Kind].to; to != "" {
		l.State = to
	}
}

// offer opens an offer; a delegation with a child of its own opens none.
func (l *Life) offer(a Action) {
	if a.Kind == ActionDelegate && a.Task != "" {
		l.Children = append(l.Children, a.Task)
		return
	}
	organ := a.Organ
	if organ == "" && l.Offer != nil {
		organ = l.Offer.Organ
	}
	l.Offer = &Offer{To: a.To, Tier: a.ToTier, By: a.By, Organ: organ, Ruled: a.Kind == ActionRule}
	switch a.Kind {
	case ActionAssign:
		l.Owner, l.OwnerTier = a.By, a.Tier
	case ActionRule:
		l.Owner, l.OwnerTier, l.Disputed, l.Ruled = a.By, a.Tier, false, true
	}
}

// reopen goes back to work, or to the offer when nobody has it.
func (l *Life) reopen() {
	l.Into, l.Score, l.Evidence, l.Extensions = "", 0, nil, 0
	if l.State = StateSigned; l.Custodian == "" {
		l.State = StateReturned
		if l.Offer != nil {
			l.State = StateDispatched
		}
	}
}

// Next lists the kinds of actions that a site may make now, for some person who
// did not handle the task.
func (l *Life) Next(site tiers.SiteID, tier tiers.Tier) (out []string) {
	for _, kind := range Kinds() {
		a := Action{By: site, Tier: tier, Kind: kind, ActionDetails: ActionDetails{Evidence: []string{"x"}}}
		switch kind {
		case ActionRelay, ActionStandDown:
			continue
		case ActionEscalate:
			if a.ToTier = tier - 1; tier <= tiers.TierCity {
				continue
			}
		case ActionDelegate:
			if a.ToTier = tier + 1; tier >= tiers.TierTownship {
				continue
			}
		}
		if l.judge(a) == "" {
			out = append(out, kind)
		}
	}
	return out
}
