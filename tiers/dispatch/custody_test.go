package dispatch_test

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

const (
	cityID = tiers.SiteID("500000")
	distID = tiers.SiteID("500101")
	townID = tiers.SiteID("500101001")
)

var (
	siteIDs = []tiers.SiteID{cityID, distID, townID}
	tierOf  = map[tiers.SiteID]tiers.Tier{cityID: tiers.TierCity, distID: tiers.TierDistrict, townID: tiers.TierTownship}
	authors = map[crdt.Actor]crdt.Author{}
)

func actorOf(id tiers.SiteID) crdt.Actor {
	author := crdt.Author{Site: id, Incarnation: 1}
	a := crdt.NewActor(author, [8]byte{1})
	authors[a] = author
	return a
}

// made is one action with what its site had seen then.
type made struct {
	dispatch.Action
	saw      map[int]bool
	counter  uint64
	accepted bool // the site's own check let it through
	release  bool // it was the custodian that returned it
}

// schedule is three sites that act on one task and hear of each other now and then.
type schedule struct {
	t     *rapid.T
	brief dispatch.Brief
	steps []made
	known map[tiers.SiteID]map[int]bool
	now   uint64
}

func hashOf(i int) (h crdt.Hash) {
	binary.BigEndian.PutUint64(h[:], uint64(i)+1)
	return h
}

// source is the document of some of the steps, put together in some order.
func (s *schedule) source(known map[int]bool, shuffle bool) *crdt.Source {
	text, err := json.Marshal(s.brief)
	if err != nil {
		s.t.Fatal(err)
	}
	order := slices.Sorted(maps.Keys(known))
	if shuffle {
		order = rapid.Permutation(order).Draw(s.t, "arrival")
	}
	doc := &crdt.Document{}
	var items []crdt.Written
	placed := map[int]bool{}
	for len(placed) < len(order) { // changes follow what they depend on
		for _, i := range order {
			if placed[i] || !subset(s.steps[i].saw, placed) {
				continue
			}
			placed[i] = true
			m := s.steps[i]
			c := crdt.ChangeInfo{Hash: hashOf(i), Actor: actorOf(m.By), StartOp: m.counter, MaxOp: m.counter}
			for d := range m.saw {
				c.Deps = append(c.Deps, hashOf(d))
			}
			doc.Changes = append(doc.Changes, c)
			b, err := json.Marshal(m.Action)
			if err != nil {
				s.t.Fatal(err)
			}
			items = append(items, crdt.Written{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: string(b)}, Actor: c.Actor, Counter: m.counter})
		}
	}
	doc.Root = crdt.Node{Kind: crdt.NodeMap, Fields: []crdt.Field{
		{Key: "actions", Values: []crdt.Written{{Node: crdt.Node{Kind: crdt.NodeList, Items: items}}}},
		{Key: "brief", Values: []crdt.Written{{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: string(text)}}}},
	}}
	return &crdt.Source{Stream: tiers.StreamID{Site: townID, Class: tiers.ClassCommand}, Doc: "task:1", Document: doc, Authors: authors}
}

func subset(a, b map[int]bool) bool {
	for i := range a {
		if !b[i] {
			return false
		}
	}
	return true
}

func (s *schedule) fold(known map[int]bool, shuffle bool) (dispatch.TaskView, string) {
	v, err := dispatch.FoldTask(s.source(known, shuffle))
	if err != nil {
		s.t.Fatal(err)
	}
	var out dispatch.TaskView
	if err := json.Unmarshal(v.JSON, &out); err != nil {
		s.t.Fatal(err)
	}
	return out, fmt.Sprintf("%s %q", v.JSON, v.Index)
}

// draw makes up an action of a kind at a site.
func (s *schedule) draw(site tiers.SiteID, kind string) dispatch.Action {
	t := s.t
	s.now += uint64(rapid.IntRange(1, 3).Draw(t, "later"))
	// Each site's clock is off by its own, which may put an effect before its cause.
	skew := uint64(tierOf[site]) * uint64(rapid.SampledFrom([]int{0, 0, 7}).Draw(t, "skew"))
	a := dispatch.Action{
		At: crdt.HybridTime((1000+s.now+skew)<<16 | uint64(len(s.steps))), By: site, Tier: tierOf[site], Kind: kind,
		Who: rapid.SampledFrom([]string{"甲", "乙", "丙"}).Draw(t, "who"),
	}
	if codes := dispatch.Reasons(kind); codes != nil {
		a.Reason = codes[0]
	}
	switch kind {
	case dispatch.ActionEscalate, dispatch.ActionDelegate, dispatch.ActionAssign, dispatch.ActionRule:
		a.To = rapid.SampledFrom(siteIDs).Draw(t, "to")
		a.ToTier = tierOf[a.To]
	case dispatch.ActionExtend:
		a.Limit = &dispatch.Limit{Amount: 1, Unit: dispatch.UnitUrgentHour}
	case dispatch.ActionMerge:
		a.Task = "task:2"
	case dispatch.ActionFeedback:
		a.Evidence = []string{"photo"}
	case dispatch.ActionEvaluate:
		a.Score = 4
	}
	return a
}

// act lets a site do something: mostly what the rules say that it may, and
// sometimes what they do not allow, as a site that does not keep to them would.
func (s *schedule) act() {
	site := rapid.SampledFrom(siteIDs).Draw(s.t, "site")
	view, _ := s.fold(s.known[site], false)
	kinds := view.Next(site, tierOf[site])
	if len(kinds) == 0 || rapid.IntRange(0, 9).Draw(s.t, "wild") == 0 {
		kinds = dispatch.Kinds()
	}
	a := s.draw(site, rapid.SampledFrom(kinds).Draw(s.t, "kind"))
	refused := view.Check(a)
	if refused != nil && rapid.Bool().Draw(s.t, "obey") {
		return
	}
	m := made{
		Action: a, saw: maps.Clone(s.known[site]), counter: 1, accepted: refused == nil,
		release: a.Kind == dispatch.ActionReturn && view.Custodian == site,
	}
	for i := range m.saw {
		m.counter = max(m.counter, s.steps[i].counter+1)
	}
	i := len(s.steps)
	s.steps = append(s.steps, m)
	s.known[site][i] = true
	after, _ := s.fold(s.known[site], false)
	for _, step := range after.Actions {
		if step.At == a.At && step.By == site && step.Kind == a.Kind && (step.Overruled == "") != m.accepted {
			s.t.Fatalf("%s at %s: check says %v, the fold %q", a.Kind, site, refused, step.Overruled)
		}
	}
}

// custody is the naive answer: of the takes that no other one saw, the best.
func (s *schedule) custody(known map[int]bool) (all []int) {
	for i := range known {
		m := s.steps[i]
		if !m.accepted || m.Kind != dispatch.ActionSign && m.Kind != dispatch.ActionOverride && !m.release {
			continue
		}
		seen := false
		for j := range known {
			o := s.steps[j]
			seen = seen || o.accepted && (o.Takes() || o.release) && o.saw[i]
		}
		if !seen {
			all = append(all, i)
		}
	}
	key := func(i int) dispatch.Action { return s.steps[s.root(i)].Action }
	rank := func(a dispatch.Action) int {
		if a.Kind == dispatch.ActionOverride {
			return int(a.Tier)
		}
		return 9
	}
	slices.SortFunc(all, func(i, j int) int {
		a, b := key(i), key(j)
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.At, b.At), cmp.Compare(a.By, b.By),
			cmp.Compare(s.steps[i].At, s.steps[j].At), cmp.Compare(s.steps[i].By, s.steps[j].By))
	})
	return all
}

// root is the take whose right a take has.
func (s *schedule) root(i int) int {
	if s.steps[i].Kind != dispatch.ActionOverride {
		if before := s.custody(s.steps[i].saw); len(before) > 0 {
			return s.root(before[0])
		}
	}
	return i
}

func newSchedule(t *rapid.T) *schedule {
	s := &schedule{t: t, known: map[tiers.SiteID]map[int]bool{}, brief: dispatch.Brief{
		Event: "event:1", Title: "x", Organ: "o", DispatchedAtMS: 1000, Limit: dispatch.Limit{Amount: 2, Unit: dispatch.UnitUrgentHour},
	}}
	s.brief.By, s.brief.ByTier = distID, tiers.TierDistrict
	for _, id := range siteIDs {
		s.known[id] = map[int]bool{}
	}
	for range rapid.IntRange(1, 24).Draw(t, "steps") {
		if rapid.IntRange(0, 2).Draw(t, "what") > 0 {
			s.act()
			continue
		}
		from, to := rapid.SampledFrom(siteIDs).Draw(t, "from"), rapid.SampledFrom(siteIDs).Draw(t, "to")
		maps.Copy(s.known[to], s.known[from])
	}
	return s
}

// TestCustodyUnderSchedules: under random schedules of three sites a task has at
// most one custodian, the one that the rules name; of takes that did not see each
// other all are shown, one has effect, and the losers are told to stand down. What
// a site's check allows has effect there, and what it refuses has none anywhere.
func TestCustodyUnderSchedules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSchedule(t)
		all := map[int]bool{}
		for i := range s.steps {
			all[i] = true
		}
		for _, known := range []map[int]bool{all, s.known[cityID], s.known[distID], s.known[townID]} {
			view, _ := s.fold(known, false)
			want := s.custody(known)
			custodian := tiers.SiteID("")
			if len(want) > 0 && !s.steps[want[0]].release {
				custodian = s.steps[want[0]].By
			}
			if view.Custodian != custodian {
				t.Fatalf("custodian %q, want %q of %v\n%+v", view.Custodian, custodian, want, view.Actions)
			}
			if (len(view.Conflicts) > 0) != (len(want) > 1) || len(want) > 1 && len(view.Conflicts[0].Values) != len(want) {
				t.Fatalf("conflicts %+v, want %v", view.Conflicts, want)
			}
			s.oneEffect(known, view)
			for _, i := range want[min(1, len(want)):] {
				m := s.steps[i]
				told := slices.ContainsFunc(view.StandDown, func(d dispatch.StandDown) bool { return d.Site == m.By })
				acked := slices.ContainsFunc(view.Actions, func(x dispatch.Step) bool { return x.Kind == dispatch.ActionStandDown && x.By == m.By })
				if m.By != custodian && !m.release && !told && !acked {
					t.Fatalf("%s lost custody and is not told: %+v", m.By, view)
				}
			}
		}
	})
}

// oneEffect: what was refused when it was made has no effect, and of two takes that
// did not see each other at most one has.
func (s *schedule) oneEffect(known map[int]bool, view dispatch.TaskView) {
	effect := func(m made) bool {
		return slices.ContainsFunc(view.Actions, func(x dispatch.Step) bool {
			return x.At == m.At && x.By == m.By && x.Kind == m.Kind && x.Overruled == ""
		})
	}
	for i := range known {
		a := s.steps[i]
		if !a.accepted && effect(a) {
			s.t.Fatalf("%s of %s was refused and has effect", a.Kind, a.By)
		}
		for j := range known {
			b := s.steps[j]
			if i != j && a.Takes() && b.Takes() && !a.saw[j] && !b.saw[i] && effect(a) && effect(b) {
				s.t.Fatalf("%s and %s both have it", a.By, b.By)
			}
		}
	}
}

// TestTaskFoldIsOrderFree: the view and its index entries depend on the set of
// records alone, in any part of it that a site may hold.
func TestTaskFoldIsOrderFree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSchedule(t)
		for _, id := range siteIDs {
			_, want := s.fold(s.known[id], false)
			for range 3 {
				if _, got := s.fold(s.known[id], true); got != want {
					t.Fatalf("order matters:\n%s\n%s", want, got)
				}
			}
		}
	})
}
