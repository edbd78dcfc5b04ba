package dispatch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// StandDown tells a site that lost custody to call its responders back, until it
// says that it has.
type StandDown struct {
	Site tiers.SiteID `json:"site"`
	// To is who has the task instead, since AtMS; empty when it is done.
	To   tiers.SiteID `json:"to,omitempty"`
	AtMS int64        `json:"at_ms"`
	Why  string       `json:"why"`
}

// run is a task as some of its steps leave it.
type run struct {
	h    *history
	life Life
	// takes are those that no other one saw, the custodian's first: more than one
	// are a conflict.
	takes []int
	// taken are all that it has seen.
	taken     bits
	standing  map[tiers.SiteID]StandDown
	overruled map[int]string
	clock     clockwork
}

// clockwork is what the due time is reckoned from.
type clockwork struct {
	start  int64
	limits []Limit
	pauses []Pause
	done   int64
}

func newRun(h *history, b Brief, home tiers.SiteID) *run {
	origin := cmp.Or(b.By, home)
	return &run{
		h: h, taken: newBits(len(h.steps)), standing: map[tiers.SiteID]StandDown{}, overruled: map[int]string{},
		life: Life{
			State: StateDispatched, Owner: origin, OwnerTier: b.ByTier, Offer: &Offer{To: home, By: origin, Organ: b.Organ},
			place: place{home: home, origin: origin},
		},
		clock: clockwork{start: b.DispatchedAtMS, limits: []Limit{b.Limit}},
	}
}

// runAll judges every step by what it saw, and runs them all. A step counts only
// if it was allowed to who made it, as things stood there.
func (h *history) runAll(b Brief, home tiers.SiteID) *run {
	n := len(h.steps)
	h.valid, h.why, h.release, h.root = make([]bool, n), make([]string, n), make([]bool, n), make([]int, n)
	full := newRun(h, b, home)
	for i := range n {
		past := full
		if !h.before[i].whole(i) {
			past = newRun(h, b, home)
			for j := range i {
				if h.before[i].has(j) {
					past.add(j)
				}
			}
		}
		h.judge(i, past)
		full.add(i)
	}
	return full
}

// judge notes what a step was when it was made.
func (h *history) judge(i int, past *run) {
	a := h.steps[i].Action
	h.why[i] = past.refuses(a)
	h.valid[i] = h.why[i] == ""
	h.release[i] = a.Kind == ActionReturn && past.life.Custodian == a.By
	// Who gets custody from another has it with the other's right.
	if h.root[i] = i; a.Kind != ActionOverride && len(past.takes) > 0 {
		h.root[i] = h.root[past.takes[0]]
	}
}

// refuses says why an action may not be made after this run, or "".
func (r *run) refuses(a Action) string {
	if err := a.Validate(); err != nil {
		return err.Error()
	}
	if _, standing := r.standing[a.By]; a.Kind == ActionStandDown && !standing {
		return fmt.Sprintf("standdown is for a site that lost custody: %s has not", a.By)
	}
	return r.life.judge(a)
}

// add runs one more step.
func (r *run) add(i int) {
	a := r.h.steps[i].Action
	switch {
	case !r.h.valid[i]:
		r.overruled[i] = r.h.why[i]
	case a.Kind == ActionSign || a.Kind == ActionOverride || r.h.release[i]:
		r.take(i)
	default:
		if why := r.refuses(a); why != "" {
			r.overruled[i] = why
			return
		}
		before := r.life.State
		r.life.apply(a)
		if a.Kind == ActionStandDown {
			delete(r.standing, a.By)
		}
		r.tick(a, before)
	}
}

// tick notes what an action does to the clock.
func (r *run) tick(a Action, before string) {
	c, now := &r.clock, a.At.Millis()
	if before == StateSuspended && r.life.State != StateSuspended && len(c.pauses) > 0 {
		c.pauses[len(c.pauses)-1].To = max(now, c.pauses[len(c.pauses)-1].From)
	}
	switch a.Kind {
	case ActionSuspend:
		c.pauses = append(slices.Clone(c.pauses), Pause{From: now})
	case ActionExtend:
		c.limits = append(slices.Clone(c.limits), *a.Limit)
	case ActionReopen:
		c.start, c.limits, c.pauses = now, c.limits[:1], nil
	}
	if c.done = 0; slices.Contains(doneStates, r.life.State) {
		c.done = now
	}
}

// stronger compares two takes that did not see each other: a site above that
// overrode comes first, the higher before the lower; then the earlier by hybrid
// time; then the site's code. What follows from a take has its strength.
func (r *run) stronger(i, j int) int {
	a, b := r.h.steps[r.h.root[i]], r.h.steps[r.h.root[j]]
	over := func(w written) int {
		if w.Kind == ActionOverride {
			return int(w.Tier) - 1000
		}
		return 0
	}
	return cmp.Or(cmp.Compare(over(a), over(b)), compareWritten(a, b), compareWritten(r.h.steps[i], r.h.steps[j]))
}

// take gives custody to who signs or overrides, or to nobody for a return, unless
// another who did not see it has the better right.
func (r *run) take(i int) {
	x := r.h.steps[i]
	held := r.takes
	r.taken.set(i)
	r.takes = []int{i}
	for _, m := range held {
		if !r.h.before[i].has(m) {
			r.takes = append(r.takes, m)
		}
	}
	slices.SortFunc(r.takes, r.stronger)
	best := r.takes[0]
	for _, m := range held {
		switch {
		case r.h.before[i].has(m) && x.Kind == ActionOverride:
			r.displace(m, best, "overridden")
		case !r.h.before[i].has(m) && best == i:
			r.overruled[m] = r.lost(m, i)
		}
	}
	if best != i {
		r.overruled[i] = r.lost(i, best)
		return
	}
	for j := range i { // of those that others followed, too, none has effect
		if r.taken.has(j) && !r.h.before[i].has(j) && r.overruled[j] == "" {
			r.overruled[j] = r.why(i)
		}
	}
	before := r.life.State
	done := slices.Contains(doneStates, before)
	l := &r.life
	l.Custodian, l.CustodianTier, l.Offer = x.By, x.Tier, nil
	delete(r.standing, x.By)
	state := StateSigned
	if r.h.release[i] {
		l.Custodian, l.CustodianTier, state = "", 0, StateReturned
		l.Returns++
	}
	if done {
		r.overruled[i] = "the task was " + before + " meanwhile"
		r.standing[x.By] = StandDown{Site: x.By, AtMS: x.At.Millis(), Why: r.overruled[i]}
		return
	}
	l.State, l.Before = state, ""
	r.tick(x.Action, before)
}

// lost notes that a take lost to another and says so.
func (r *run) lost(loser, winner int) string {
	why := r.why(winner)
	r.displace(loser, winner, why)
	return why
}

// why says what a take lost to.
func (r *run) why(winner int) string {
	if w := r.h.steps[winner]; !r.h.release[winner] {
		return fmt.Sprintf("custody is %s's, who had the better right when neither saw the other", w.By)
	}
	return fmt.Sprintf("%s had returned it when neither saw the other", r.h.steps[winner].By)
}

// displace tells the site of a take to stand down.
func (r *run) displace(loser, winner int, why string) {
	l, w := r.h.steps[loser], r.h.steps[winner]
	if l.By == w.By || r.h.release[loser] {
		return
	}
	to := w.By
	if r.h.release[winner] {
		to = ""
	}
	r.standing[l.By] = StandDown{Site: l.By, To: to, AtMS: w.At.Millis(), Why: why}
}

// standDowns lists who has to stand down, in site order.
func (r *run) standDowns() (out []StandDown) {
	for _, site := range slices.Sorted(maps.Keys(r.standing)) {
		out = append(out, r.standing[site])
	}
	return out
}

// conflicts shows the takes that did not see each other, the winner first.
func (r *run) conflicts() []crdt.Conflict {
	if len(r.takes) < 2 {
		return nil
	}
	c := crdt.Conflict{Field: "custodian"}
	for _, i := range r.takes {
		w := r.h.steps[i]
		c.Values = append(c.Values, crdt.ConflictValue{Value: w.Kind, Site: w.By, AtMS: w.At.Millis()})
	}
	return []crdt.Conflict{c}
}
