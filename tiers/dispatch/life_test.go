package dispatch_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// script is one task to which actions are made one after the other.
type script struct {
	t     *testing.T
	s     *schedule
	stamp uint64
}

func newScript(t *testing.T, by tiers.SiteID) *script {
	t.Helper()
	s := &schedule{known: map[tiers.SiteID]map[int]bool{townID: {}}, brief: dispatch.Brief{
		Event: "event:1", Title: "x", Organ: "o", DispatchedAtMS: 1000, Limit: dispatch.Limit{Amount: 2, Unit: dispatch.UnitUrgentHour},
	}}
	s.brief.By, s.brief.ByTier = by, tierOf[by]
	return &script{t: t, s: s}
}

func (x *script) view() (v dispatch.TaskView) {
	x.t.Helper()
	view, err := dispatch.FoldTask(x.s.source(x.s.known[townID], false))
	if err != nil {
		x.t.Fatal(err)
	}
	if err := json.Unmarshal(view.JSON, &v); err != nil {
		x.t.Fatal(err)
	}
	return v
}

// do makes an action at a site and returns what the check says; nothing is written
// when it refuses.
func (x *script) do(site tiers.SiteID, kind string, with ...func(*dispatch.Action)) error {
	x.t.Helper()
	x.stamp++
	a := dispatch.Action{At: crdt.HybridTime((1000 + x.stamp) << 16), By: site, Tier: tierOf[site], Kind: kind}
	if codes := dispatch.Reasons(kind); codes != nil {
		a.Reason = codes[0]
	}
	for _, w := range with {
		w(&a)
	}
	v := x.view()
	if err := v.Check(a); err != nil {
		return err
	}
	all := x.s.known[townID]
	m := made{Action: a, saw: map[int]bool{}, counter: uint64(len(x.s.steps)) + 1}
	for i := range all {
		m.saw[i] = true
	}
	all[len(x.s.steps)] = true
	x.s.steps = append(x.s.steps, m)
	return nil
}

func (x *script) must(site tiers.SiteID, kind string, with ...func(*dispatch.Action)) {
	x.t.Helper()
	if err := x.do(site, kind, with...); err != nil {
		x.t.Fatalf("%s at %s: %v", kind, site, err)
	}
}

func (x *script) refused(text string, site tiers.SiteID, kind string, with ...func(*dispatch.Action)) {
	x.t.Helper()
	err := x.do(site, kind, with...)
	if err == nil || !strings.Contains(err.Error(), text) || !errors.Is(err, dispatch.ErrNotNow) && !errors.Is(err, dispatch.ErrInvalid) {
		x.t.Errorf("%s at %s: %v, want %q", kind, site, err, text)
	}
}

func who(name string) func(*dispatch.Action) { return func(a *dispatch.Action) { a.Who = name } }

func to(id tiers.SiteID) func(*dispatch.Action) {
	return func(a *dispatch.Action) { a.To, a.ToTier = id, tierOf[id] }
}

func photo(a *dispatch.Action) { a.Evidence = []string{"photo"} }

// TestBounceLimit: the third return leaves it to a site above to rule, and what it
// rules cannot be returned.
func TestBounceLimit(t *testing.T) {
	x := newScript(t, townID)
	for i := range dispatch.BounceMax {
		if i > 0 {
			x.must(townID, dispatch.ActionAssign, to(townID))
		}
		if i == 1 {
			x.must(townID, dispatch.ActionSign) // custody goes back, too
		}
		x.must(townID, dispatch.ActionReturn)
		if v := x.view(); v.State != dispatch.StateReturned || v.Custodian != "" || v.Returns != i+1 {
			t.Fatalf("%+v", v.Life)
		}
	}
	x.refused("a site above must rule", townID, dispatch.ActionAssign, to(townID))
	x.refused("is for a site of a higher tier", townID, dispatch.ActionRule, to(townID))
	x.must(distID, dispatch.ActionRule, to(townID))
	x.refused("ruled", townID, dispatch.ActionReturn)
	x.must(townID, dispatch.ActionSign)
	x.refused("ruled", townID, dispatch.ActionReturn)
	if v := x.view(); v.Custodian != townID || v.Owner != distID {
		t.Errorf("%+v", v.Life)
	}
}

// TestEscalateAndDelegate: custody stays until the other site signs.
func TestEscalateAndDelegate(t *testing.T) {
	x := newScript(t, distID)
	x.must(townID, dispatch.ActionSign)
	x.refused("want a site above", townID, dispatch.ActionEscalate, to(townID))
	x.refused("want a site below", townID, dispatch.ActionDelegate, to(distID))
	x.must(townID, dispatch.ActionEscalate, to(distID))
	x.must(townID, dispatch.ActionDispose, who("甲"))
	if v := x.view(); v.Custodian != townID || v.Offer.To != distID {
		t.Errorf("%+v", v.Life)
	}
	x.must(distID, dispatch.ActionReturn) // it declines, which costs nobody custody
	if v := x.view(); v.Custodian != townID || v.State != dispatch.StateDisposing || v.Offer != nil {
		t.Errorf("%+v", v.Life)
	}
	x.must(townID, dispatch.ActionEscalate, to(distID))
	x.must(distID, dispatch.ActionSign)
	x.refused("custodian", townID, dispatch.ActionDispose, who("甲"))
	x.must(distID, dispatch.ActionDelegate, to(townID))
	x.must(townID, dispatch.ActionSign)
	if v := x.view(); v.Custodian != townID || len(v.Conflicts)+len(v.StandDown) != 0 {
		t.Errorf("%+v", v)
	}
}

// TestClosingNeeds: evidence, and a verifier who did not handle it; a dispute waits
// for a ruling.
func TestClosingNeeds(t *testing.T) {
	x := newScript(t, distID)
	x.must(townID, dispatch.ActionSign)
	x.refused("who is empty", townID, dispatch.ActionDispose)
	x.must(townID, dispatch.ActionDispose, who("甲"))
	x.must(townID, dispatch.ActionFeedback, who("乙"))
	x.refused("needs evidence", townID, dispatch.ActionVerify, who("丙"))
	x.refused("handlers are 甲, 乙", townID, dispatch.ActionVerify, who("甲"), photo)
	x.must(townID, dispatch.ActionDispute)
	x.refused("disputed", townID, dispatch.ActionVerify, who("丙"), photo)
	x.refused("disputed already", townID, dispatch.ActionDispute)
	x.must(cityID, dispatch.ActionRule, to(townID))
	x.must(townID, dispatch.ActionSign)
	x.must(townID, dispatch.ActionFeedback, who("乙"), photo)
	x.refused("is not for a task that is fed_back", townID, dispatch.ActionClose, who("丙"))
	x.must(townID, dispatch.ActionVerify, who("丙"))
	x.must(distID, dispatch.ActionClose, who("丙"))
	x.refused("score 6", distID, dispatch.ActionEvaluate, who("丁"), func(a *dispatch.Action) { a.Score = 6 })
	x.refused("may not evaluate", distID, dispatch.ActionEvaluate, who("乙"), func(a *dispatch.Action) { a.Score = 5 })
	x.must(distID, dispatch.ActionEvaluate, who("丁"), func(a *dispatch.Action) { a.Score = 4 })
	v := x.view()
	if v.State != dispatch.StateEvaluated || v.Score != 4 || v.DoneMS == 0 || v.Outcome() != dispatch.StateClosed {
		t.Errorf("%+v", v)
	}
	x.must(distID, dispatch.ActionReopen)
	if v := x.view(); v.State != dispatch.StateSigned || v.DoneMS != 0 || len(v.Evidence) != 0 {
		t.Errorf("%+v", v)
	}
}

// TestClock: the clock runs from dispatch, stops while it is suspended, and may be
// extended twice.
func TestClock(t *testing.T) {
	const hour = 3600 * 1000
	x := newScript(t, distID)
	more := func(a *dispatch.Action) { a.Limit = &dispatch.Limit{Amount: 1, Unit: dispatch.UnitUrgentHour} }
	x.must(townID, dispatch.ActionSign)
	if v := x.view(); v.DueMS != 1000+2*hour {
		t.Errorf("due %d", v.DueMS)
	}
	x.refused("limit is missing", distID, dispatch.ActionExtend)
	x.refused("is for the site that dispatched it", townID, dispatch.ActionExtend, more)
	x.must(distID, dispatch.ActionExtend, more)
	x.must(cityID, dispatch.ActionExtend, more)
	x.refused("extended 2 times", distID, dispatch.ActionExtend, more)
	from := x.stamp + 1
	x.must(townID, dispatch.ActionSuspend)
	if v := x.view(); v.DueMS != 0 || v.State != dispatch.StateSuspended {
		t.Errorf("due %d while %s", v.DueMS, v.State)
	}
	x.refused("is not for a task that is suspended", townID, dispatch.ActionDispose, who("甲"))
	x.stamp += 500
	x.must(townID, dispatch.ActionResume)
	if v := x.view(); v.DueMS != 1000+4*hour+int64(x.stamp-from) || v.State != dispatch.StateSigned {
		t.Errorf("due %d while %s", v.DueMS, v.State)
	}
	x.must(townID, dispatch.ActionSuspend)
	x.stamp += 500
	x.must(distID, dispatch.ActionOverride) // takes it over, and the clock runs again
	if v := x.view(); v.DueMS != 1000+4*hour+502+501 || len(v.StandDown) != 1 {
		t.Errorf("due %d, %+v", v.DueMS, v.StandDown)
	}
}

// TestMandates: what a site may not do is refused with who may.
func TestMandates(t *testing.T) {
	x := newScript(t, distID)
	x.refused("is for the site that it is offered to", distID, dispatch.ActionSign)
	x.refused("a site of a higher tier", townID, dispatch.ActionOverride)
	x.refused("has not", townID, dispatch.ActionStandDown)
	x.refused("is for the site that dispatched it", townID, dispatch.ActionVoid)
	x.must(distID, dispatch.ActionSupervise)
	x.must(cityID, dispatch.ActionSupervise)
	x.must(cityID, dispatch.ActionOverride)
	x.refused("is for a site of a higher tier", distID, dispatch.ActionOverride)
	if v := x.view(); v.Supervised != 2 || v.Custodian != cityID {
		t.Errorf("%+v", v.Life)
	}
}

// TestActionRefusals: what no action may hold is named, with what is allowed.
func TestActionRefusals(t *testing.T) {
	good := dispatch.Action{Kind: dispatch.ActionReturn, Reason: "unclear", By: townID}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for text, change := range map[string]func(*dispatch.Action){
		"want one of accept":   func(a *dispatch.Action) { a.Kind = "sing" },
		"want one of not_ours": func(a *dispatch.Action) { a.Reason = strings.Repeat("x", 1<<20) },
		"takes none":           func(a *dispatch.Action) { a.Kind = dispatch.ActionSign },
		"note is":              func(a *dispatch.Action) { a.Note = strings.Repeat("x", 1<<20) },
		"who is not UTF-8":     func(a *dispatch.Action) { a.Who = "\xff" },
		"control character":    func(a *dispatch.Action) { a.Organ = "a\x1fb" },
		"1970 and 2200":        func(a *dispatch.Action) { a.At = crdt.HybridTime(253402300799000 << 16) },
		"at most 16":           func(a *dispatch.Action) { a.Evidence = slices.Repeat([]string{"x"}, 17) },
		"reference is empty":   func(a *dispatch.Action) { a.Evidence = []string{""} },
		"to:":                  func(a *dispatch.Action) { a.Kind, a.Reason = dispatch.ActionAssign, "" },
		"as task:":             func(a *dispatch.Action) { a.Kind, a.Reason, a.Task = dispatch.ActionMerge, "", "event:1" },
	} {
		a := good
		change(&a)
		if err := a.Validate(); !errors.Is(err, dispatch.ErrInvalid) || !strings.Contains(err.Error(), text) || len(err.Error()) > 600 {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestListsAreIndexRanges: what a list of an index's range finds is what a look at
// every task finds.
func TestListsAreIndexRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSchedule(t)
		src := s.source(s.known[townID], false)
		v, err := dispatch.FoldTask(src)
		if err != nil {
			t.Fatal(err)
		}
		var task dispatch.TaskView
		if err := json.Unmarshal(v.JSON, &task); err != nil {
			t.Fatal(err)
		}
		before := int64(rapid.IntRange(0, 4*3600*1000).Draw(t, "before"))
		found := func(index, prefix string) bool {
			return slices.ContainsFunc(v.Index, func(e crdt.IndexEntry) bool {
				return e.Name == index && strings.HasPrefix(e.Value, prefix) && e.Value < prefix+dispatch.DueValue(before)
			})
		}
		due := task.Outcome() == dispatch.OutcomeOpen && task.DueMS > 0 && task.DueMS < before
		if found(dispatch.IndexTaskDue, "") != due {
			t.Fatalf("due %d, asked before %d: %q", task.DueMS, before, v.Index)
		}
		if c := task.Custodian; c != "" && found(dispatch.IndexTaskCustodian, dispatch.IndexPrefix(string(c), true)) != due {
			t.Fatalf("by custodian: %q", v.Index)
		}
		for _, state := range dispatch.States() {
			if in := found(dispatch.IndexTaskState, dispatch.IndexPrefix(state, false)); in && state != task.State {
				t.Fatalf("%s is listed as %s", task.State, state)
			}
		}
		src.IndexOnly = true
		only, err := dispatch.FoldTask(src)
		if err != nil || fmt.Sprint(only.Index) != fmt.Sprint(v.Index) {
			t.Fatalf("alone: %v, %v", only.Index, err)
		}
	})
}

// TestForgedActionsCountForNothing: what an author wrote in another site's name, or
// what is no action, changes nothing and is counted.
func TestForgedActionsCountForNothing(t *testing.T) {
	x := newScript(t, distID)
	x.must(townID, dispatch.ActionSign)
	want := x.view()
	src := x.s.source(x.s.known[townID], false)
	for i, text := range []string{
		`{"at":99999999999,"by":"500000","tier":"city","kind":"override","reason":"emergency"}`, `{"kind":"sing","by":"500101001"}`, `{`,
	} {
		items := &src.Document.Root.Fields[0].Values[0].Node.Items
		*items = append(*items, crdt.Written{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: text}, Actor: actorOf(townID), Counter: uint64(100 + i)})
	}
	view, err := dispatch.FoldTask(src)
	if err != nil {
		t.Fatal(err)
	}
	var got dispatch.TaskView
	if err := json.Unmarshal(view.JSON, &got); err != nil {
		t.Fatal(err)
	}
	if got.Malformed != 3 || got.Custodian != want.Custodian || len(got.Actions) != len(want.Actions) || got.State != want.State {
		t.Errorf("%s", view.JSON)
	}
}
