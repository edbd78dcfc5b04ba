package track_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/track"
)

const (
	cityID = tiers.SiteID("500000")
	distID = tiers.SiteID("500101")
	townID = tiers.SiteID("500101001")
)

var tierOf = map[tiers.SiteID]tiers.Tier{cityID: tiers.TierCity, distID: tiers.TierDistrict, townID: tiers.TierTownship}

// entry is a text of a document's list and who wrote it.
type entry struct {
	author tiers.SiteID
	text   string
}

// source is a document of facts with its entries in one list or, as after two
// sites that made one each, in two.
func source(doc tiers.DocID, key, head string, entries []entry, split int) *crdt.Source {
	s := &crdt.Source{Stream: tiers.StreamID{Site: townID, Class: tiers.ClassCatalog}, Doc: doc, Document: &crdt.Document{}, Authors: map[crdt.Actor]crdt.Author{}}
	items := func(es []entry) (out []crdt.Written) {
		for _, e := range es {
			var a crdt.Actor
			copy(a[:], e.author)
			s.Authors[a] = crdt.Author{Site: e.author, Incarnation: 1}
			out = append(out, crdt.Written{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: e.text}, Actor: a})
		}
		return out
	}
	lists := []crdt.Written{{Node: crdt.Node{Kind: crdt.NodeList, Items: items(entries[:split])}}}
	if split < len(entries) {
		lists = append(lists, crdt.Written{Node: crdt.Node{Kind: crdt.NodeList, Items: items(entries[split:])}})
	}
	s.Document.Root = crdt.Node{Kind: crdt.NodeMap, Fields: []crdt.Field{
		{Key: "actions", Values: lists},
		{Key: key, Values: []crdt.Written{{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: head}}}},
	}}
	return s
}

func text(t *rapid.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var added = track.Track{Code: "tea", Board: "town-economy", Name: "茶产业", Owner: "农业服务中心"}

func content(reason string) track.Content {
	return track.Content{Do: track.DoAdd, Site: townID, Code: "tea", Track: &added, Reason: reason}
}

func foldProposal(t *rapid.T, entries []entry, split int) (v track.ProposalView, all string) {
	t.Helper()
	head := text(t, track.Draft{At: 5 << 16, By: townID, Tier: tiers.TierTownship, Content: content("first")})
	made, err := track.FoldProposal(source("proposal:1", "proposal", head, entries, split))
	if err == nil {
		err = json.Unmarshal(made.JSON, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v, fmt.Sprintf("%s %q", made.JSON, made.Index)
}

// drawAction draws an action that may or may not be its site's to make.
func drawAction(t *rapid.T, by tiers.SiteID, kind string, at uint64) track.Action {
	a := track.Action{At: crdt.HybridTime(at), By: by, Tier: tierOf[by], Kind: kind}
	switch kind {
	case track.ActionReject:
		a.Reason = rapid.SampledFrom([]string{"no means", "later"}).Draw(t, "reason")
	case track.ActionRevise:
		c := content(rapid.SampledFrom([]string{"second", "third"}).Draw(t, "revision"))
		a.Content = &c
	}
	return a
}

var kinds = []string{track.ActionSubmit, track.ActionRevise, track.ActionWithdraw, track.ActionApprove, track.ActionReject, track.ActionUndo}

// naive is what a reader with pen and paper makes of a set of actions.
func naive(actions map[string]track.Action) (state, reason string, decided tiers.SiteID, undo map[tiers.SiteID]bool) {
	state, reason, undo = track.ProposalDraft, "first", map[tiers.SiteID]bool{}
	byTime := slices.SortedFunc(maps.Keys(actions), func(x, y string) int {
		return cmp.Or(cmp.Compare(actions[x].At, actions[y].At), cmp.Compare(actions[x].By, actions[y].By), cmp.Compare(x, y))
	})
	submitted, undone := false, false
	var best *track.Action
	for _, k := range byTime {
		switch a := actions[k]; {
		case a.Kind == track.ActionRevise && state == track.ProposalDraft:
			reason = a.Content.Reason
		case a.Kind == track.ActionSubmit && state == track.ProposalDraft:
			state, submitted = track.ProposalSubmitted, true
		case a.Kind == track.ActionWithdraw:
			state = track.ProposalWithdrawn
		case a.Kind == track.ActionUndo:
			undone = true
		case a.Kind == track.ActionApprove || a.Kind == track.ActionReject:
			if best == nil || a.Tier < best.Tier {
				best = &a
			}
		}
	}
	if best == nil || !submitted {
		return state, reason, "", undo
	}
	if best.Kind == track.ActionApprove {
		return track.ProposalApproved, reason, best.By, undo
	}
	for _, a := range actions {
		if a.Kind == track.ActionApprove && !undone {
			undo[a.By] = true
		}
	}
	return track.ProposalRejected, reason, best.By, undo
}

// TestProposalFold: any order, any copies and any partition of the same entries,
// also of such as their author may not make, give the same view and index entries,
// byte for byte, and they say what a naive reading says.
func TestProposalFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := []entry{{distID, "not an action"}, {townID, `{"kind":"dance","by":"500101001"}`}}
		good := map[string]track.Action{}
		for range rapid.IntRange(0, 9).Draw(t, "entries") {
			by := rapid.SampledFrom([]tiers.SiteID{cityID, distID, townID}).Draw(t, "by")
			author := by
			if rapid.IntRange(0, 5).Draw(t, "forged") == 0 {
				author = rapid.SampledFrom([]tiers.SiteID{cityID, distID, townID}).Draw(t, "author")
			}
			a := drawAction(t, by, rapid.SampledFrom(kinds).Draw(t, "kind"), rapid.Uint64Range(0, 4).Draw(t, "at")<<16)
			e := entry{author, text(t, a)}
			entries = append(entries, e)
			ours := a.Kind == track.ActionSubmit || a.Kind == track.ActionRevise || a.Kind == track.ActionWithdraw
			if author == by && ours == (by == townID) {
				good[e.text] = a
			}
		}
		v, all := foldProposal(t, entries, len(entries))
		shuffled := rapid.Permutation(append(slices.Clone(entries), entries...)).Draw(t, "shuffled")
		if _, other := foldProposal(t, shuffled, rapid.IntRange(0, len(shuffled)).Draw(t, "split")); other != all {
			t.Fatalf("%s\nor %s", all, other)
		}
		state, reason, decided, undo := naive(good)
		if v.State != state || v.Content.Reason != reason || v.DecidedBy != decided || len(v.Actions) != len(good) || len(undo) != len(v.Undo) {
			t.Fatalf("want %s %q by %q, undo %v, %d actions: %s", state, reason, decided, undo, len(good), all)
		}
		for _, site := range v.Undo {
			if !undo[site] {
				t.Fatalf("undo at %s, want %v", site, undo)
			}
		}
	})
}

// decisions are three sites that act on one proposal and hear of each other now and
// then.
type decisions struct {
	t       *rapid.T
	steps   []entry
	actions []track.Action
	saw     []map[int]bool // what its site knew when it made the action
	known   map[tiers.SiteID]map[int]bool
}

// at is the proposal as a site sees it.
func (d *decisions) at(site tiers.SiteID) (track.ProposalView, string) {
	d.t.Helper()
	var es []entry
	for i := range d.known[site] { // in the order of a map: any
		es = append(es, d.steps[i])
	}
	return foldProposal(d.t, es, len(es))
}

// act lets a site do something, if its check allows it.
func (d *decisions) act(site tiers.SiteID, now uint64) {
	t := d.t
	view, _ := d.at(site)
	skew := uint64(tierOf[site]) * uint64(rapid.SampledFrom([]int{0, 0, 9}).Draw(t, "skew"))
	kind := rapid.SampledFrom(append(slices.Clone(kinds), track.ActionSubmit, track.ActionApprove, track.ActionReject)).Draw(t, "kind")
	a := drawAction(t, site, kind, (10*uint64(tierOf[site])+now+skew)<<16|now)
	if site == townID { // one site's clock does not go back
		a.At = crdt.HybridTime((50 + now) << 16)
	}
	if view.Check(a) != nil {
		return
	}
	i := len(d.steps)
	d.saw = append(d.saw, maps.Clone(d.known[site]))
	d.steps, d.actions = append(d.steps, entry{site, text(t, a)}), append(d.actions, a)
	d.known[site][i] = true
	after, _ := d.at(site)
	for _, s := range after.Actions {
		if s.At == a.At && s.By == site && s.Kind == kind && s.Overruled != "" {
			t.Fatalf("%s at %s was allowed and has no effect: %s", kind, site, s.Overruled)
		}
	}
}

func decides(a track.Action) bool {
	return a.Kind == track.ActionApprove || a.Kind == track.ActionReject
}

// best is the decision that counts, -1 for none, and how many there are; none may
// have seen another.
func (d *decisions) best() (best, n int) {
	best = -1
	for i, a := range d.actions {
		if !decides(a) {
			continue
		}
		n++
		for j := range d.saw[i] {
			if decides(d.actions[j]) {
				d.t.Fatalf("%s decided although it had seen %s's decision", a.By, d.actions[j].By)
			}
		}
		if best < 0 || cmp.Or(cmp.Compare(a.Tier, d.actions[best].Tier), cmp.Compare(a.At, d.actions[best].At)) < 0 {
			best = i
		}
	}
	return best, n
}

// TestDecisionsUnderSchedules: three sites act on one proposal and hear of each other
// now and then. What a site's check allows has effect there and then; a decision has
// never seen another one; when all have heard all, they name the same decision, the
// highest tier's and of those the earliest, and show the others.
func TestDecisionsUnderSchedules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sites := []tiers.SiteID{cityID, distID, townID}
		d := &decisions{t: t, known: map[tiers.SiteID]map[int]bool{cityID: {}, distID: {}, townID: {}}}
		for now := range uint64(rapid.IntRange(1, 14).Draw(t, "steps")) {
			site := rapid.SampledFrom(sites).Draw(t, "site")
			if rapid.IntRange(0, 2).Draw(t, "hear") == 0 {
				maps.Copy(d.known[site], d.known[rapid.SampledFrom(sites).Draw(t, "of")])
				continue
			}
			d.act(site, now)
		}
		best, n := d.best()
		first := ""
		for _, site := range sites {
			for _, other := range sites {
				maps.Copy(d.known[site], d.known[other])
			}
			v, all := d.at(site)
			if first = cmp.Or(first, all); all != first {
				t.Fatalf("%s: %s\nand %s", site, all, first)
			}
			if best >= 0 && v.DecidedBy != d.actions[best].By || best < 0 && v.DecidedBy != "" {
				t.Fatalf("decided by %q: %s", v.DecidedBy, all)
			}
			if n > 1 && (len(v.Conflicts) != 1 || len(v.Conflicts[0].Values) != n || v.Conflicts[0].Values[0].Site != v.DecidedBy) {
				t.Fatalf("%d decisions: %s", n, all)
			}
		}
	})
}

// TestAdoptionFold: a receipt's view depends on the set of its entries; only the
// adopting site's count, and the last says what was taken over.
func TestAdoptionFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var entries []entry
		last, n := track.Taken{At: 5, By: townID, From: distID, Fields: map[string]string{"target": "0"}}, 0
		head := text(t, last)
		seen := map[string]bool{}
		for i := range rapid.IntRange(0, 6).Draw(t, "entries") {
			by := rapid.SampledFrom([]tiers.SiteID{distID, townID, townID}).Draw(t, "by")
			author := rapid.SampledFrom([]tiers.SiteID{distID, townID, townID}).Draw(t, "author")
			x := track.Taken{At: crdt.HybridTime(rapid.IntRange(0, 4).Draw(t, "at")*10 + i), By: by, From: distID, Fields: map[string]string{"target": fmt.Sprint(i)}}
			e := entry{author, text(t, x)}
			entries = append(entries, e)
			if by == townID && author == townID && !seen[e.text] {
				seen[e.text] = true
				n++
				if x.At >= last.At {
					last = x
				}
			}
		}
		fold := func(es []entry, split int) (v track.AdoptionView, all string) {
			made, err := track.FoldAdoption(source("adoption:tea", "adoption", head, es, split))
			if err == nil {
				err = json.Unmarshal(made.JSON, &v)
			}
			if err != nil {
				t.Fatal(err)
			}
			return v, fmt.Sprintf("%s %q", made.JSON, made.Index)
		}
		v, all := fold(entries, len(entries))
		shuffled := rapid.Permutation(append(slices.Clone(entries), entries...)).Draw(t, "shuffled")
		if _, other := fold(shuffled, len(shuffled)/2); other != all {
			t.Fatalf("%s\nor %s", all, other)
		}
		if v.Refreshes != n || v.Base["target"] != last.Fields["target"] || v.Code != "tea" || v.From != distID {
			t.Fatalf("want %d refreshes, %v: %s", n, last, all)
		}
	})
}

// FuzzFolds: whatever stands in a document of facts, its fold ends without a panic,
// and a tree can be made of it.
func FuzzFolds(f *testing.F) {
	f.Add(`{"content":{"do":"add","site":"500101001","code":"tea"}}`, `{"kind":"submit","by":"500101001"}`)
	f.Add(`{"fields":{"target":"x"}}`, `{"by":"500101001","from":"x"}`)
	f.Fuzz(func(t *testing.T, head, text string) {
		var k track.Known
		entries := []entry{{townID, text}, {distID, text}}
		if made, err := track.FoldProposal(source("proposal:1", "proposal", head, entries, 1)); err == nil {
			var v track.ProposalView
			if err := json.Unmarshal(made.JSON, &v); err != nil {
				t.Fatal(err)
			}
			k.Proposals = append(k.Proposals, v)
		}
		if made, err := track.FoldAdoption(source("adoption:tea", "adoption", head, entries, 1)); err == nil {
			var v track.AdoptionView
			if err := json.Unmarshal(made.JSON, &v); err != nil {
				t.Fatal(err)
			}
			k.Adoptions = append(k.Adoptions, v)
		}
		track.Tree([]tiers.SiteID{townID, distID, cityID}, k)
	})
}
