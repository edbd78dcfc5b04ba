package track_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/track"
)

func view(site tiers.SiteID, kind, code string, fields map[string]any) track.View {
	return track.View{ID: tiers.NewDocID(kind, code), Site: site, Fields: fields}
}

// drawKnown draws what may stand in the catalogs of a site, of those above it and of
// a stranger, and returns the tracks that are the nearest of their codes.
func drawKnown(t *rapid.T) (k track.Known, nearest map[string]track.View) {
	codes := []string{"a", "b", "c", "d"}
	nearest = map[string]track.View{}
	for _, site := range []tiers.SiteID{cityID, distID, townID, "500102"} { // the nearest last, then a stranger
		for _, code := range codes {
			if !rapid.Bool().Draw(t, "there") {
				continue
			}
			v := view(site, track.Kind, code, map[string]any{
				"board": rapid.SampledFrom([]string{"x", "y", "none"}).Draw(t, "board"), "name": string(site),
				"parent": rapid.SampledFrom(append(codes, "", "")).Draw(t, "parent"),
			})
			k.Tracks = append(k.Tracks, v)
			if site != "500102" {
				nearest[code] = v
			}
		}
	}
	k.Boards = []track.View{view(cityID, track.KindBoard, "x", nil), view(townID, track.KindBoard, "x", nil), view(cityID, track.KindBoard, "y", nil)}
	for i := range rapid.IntRange(0, 3).Draw(t, "proposals") {
		k.Proposals = append(k.Proposals, track.ProposalView{
			ID: tiers.DocID(fmt.Sprintf("proposal:%d", i)), Site: townID, State: rapid.SampledFrom(track.ProposalStates()).Draw(t, "state"),
			Content: track.Content{Do: track.DoChange, Site: rapid.SampledFrom(allSites).Draw(t, "of"), Code: rapid.SampledFrom(codes).Draw(t, "code")},
		})
	}
	return k, nearest
}

// allSites is a township and those above it, the nearest first.
var allSites = []tiers.SiteID{townID, distID, cityID}

// undecided counts the proposals about a track that are open.
func undecided(k track.Known, l track.Leaf) (n int) {
	for _, p := range k.Proposals {
		if p.Open() && p.Content.Code == l.Code && p.Content.Site == l.Site {
			n++
		}
	}
	return n
}

// TestTree: whatever stands in the catalogs, and in whatever order it is listed, each
// track of the site and of those above it is in the tree once, the nearest of its
// code, under its parent if that is a track of its own and under its board otherwise.
func TestTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, nearest := drawKnown(t)
		want := fmt.Sprintf("%+v", track.Tree(allSites, k))
		k.Tracks, k.Boards = rapid.Permutation(k.Tracks).Draw(t, "tracks"), rapid.Permutation(k.Boards).Draw(t, "boards")
		k.Proposals = rapid.Permutation(k.Proposals).Draw(t, "proposals listed")
		if got := fmt.Sprintf("%+v", track.Tree(allSites, k)); got != want {
			t.Fatalf("%s\nor %s", want, got)
		}
		seen := map[string]string{} // where each is: its board, or its parent
		at := func(l track.Leaf, where string) {
			if seen[l.Code] != "" || l.Site != nearest[l.Code].Site || len(l.Proposals) != undecided(k, l) {
				t.Fatalf("%s of %s twice, not the nearest, or with other proposals: %s", l.Code, l.Site, want)
			}
			seen[l.Code] = where
		}
		for _, b := range track.Tree(allSites, k) {
			if (b.Code == "none") != (b.Site == "") || b.Code == "x" && b.Site != townID {
				t.Fatalf("board %+v", b)
			}
			for _, l := range b.Tracks {
				at(l, "board "+b.Code)
				for _, s := range l.SubTracks {
					at(s, "track "+l.Code)
				}
			}
		}
		for code, v := range nearest {
			p := v.Get("parent")
			where := "board " + v.Get("board")
			if up, ok := nearest[p]; ok && up.Get("parent") == "" {
				where = "track " + p
			}
			if seen[code] != where {
				t.Fatalf("%s is at %q, want %q: %s", code, seen[code], where, want)
			}
		}
		if len(seen) != len(nearest) {
			t.Fatalf("%d tracks, want %d", len(seen), len(nearest))
		}
	})
}

// TestLeaf: a leaf tells where its track is from and what is special about it.
func TestLeaf(t *testing.T) {
	origin := view(cityID, track.Kind, "gas", map[string]any{"board": "x", "name": "燃气", "target": "1小时", "owner": "a"})
	ours := view(distID, track.Kind, "gas", map[string]any{"board": "x", "name": "燃气", "target": "2小时", "owner": "b", "origin": "gas", "origin_site": string(cityID)})
	base := track.Take(origin)
	base["target"], base["owner"] = "2小时", "a"
	k := track.Known{
		Boards: []track.View{view(cityID, track.KindBoard, "x", map[string]any{"name": "设施运行", "tier": "city"})},
		Tracks: []track.View{
			origin, ours, view(distID, track.Kind, "tea", map[string]any{"board": "x", "proposal": "proposal:no"}),
			view(cityID, track.Kind, "water", map[string]any{"board": "x", "state": "retired"}),
		},
		Adoptions: []track.AdoptionView{{Site: distID, Code: "gas", From: cityID, Base: base}},
		Proposals: []track.ProposalView{
			{ID: "proposal:no", Site: distID, State: track.ProposalRejected},
			{ID: "proposal:new", Site: distID, State: track.ProposalDraft, Content: track.Content{Do: track.DoAdd, Site: distID, Code: "silk", Track: &track.Track{Code: "silk", Board: "x"}}},
			{ID: "proposal:broken", Site: distID, Content: track.Content{Do: track.DoAdd, Site: distID, Code: "none"}},
		},
	}
	got := map[string]track.Leaf{}
	for _, l := range track.Tree([]tiers.SiteID{distID, cityID}, k)[0].Tracks {
		got[l.Code] = l
	}
	want := track.Drift{Field: "target", Base: "2小时", Theirs: "1小时", Ours: "2小时"}
	if l := got["gas"]; l.Mark != track.MarkAdopted || l.From != cityID || !slices.Equal(l.Overrides, []string{"owner"}) || !slices.Equal(l.Drift, []track.Drift{want}) {
		t.Errorf("%+v", l)
	}
	if l := got["tea"]; l.Mark != track.MarkLocal || l.State != track.StateOverruled {
		t.Errorf("%+v", l)
	}
	if l := got["water"]; l.Mark != track.MarkAbove || l.State != track.StateRetired {
		t.Errorf("%+v", l)
	}
	if l := got["silk"]; l.Mark != track.MarkProposed || l.State != track.ProposalDraft || len(l.Proposals) != 1 || len(got) != 4 {
		t.Errorf("%+v of %d", l, len(got))
	}
	if b := track.Tree([]tiers.SiteID{cityID}, k); b[0].Tracks[0].Mark != track.MarkOwn {
		t.Errorf("%+v", b)
	}
	set, kept := k.Adoptions[0].Refresh(origin, ours, false)
	if len(set) != 1 || set["target"] != "1小时" || len(kept) != 0 {
		t.Errorf("%v, %v", set, kept)
	}
	if set, _ = k.Adoptions[0].Refresh(origin, ours, true); len(set) != 2 || set["owner"] != "a" {
		t.Errorf("%v", set)
	}
}

// TestConflicts: values that were written apart show as a conflict, with who wrote
// each, unless they are the same; the index of conflicts lists the track.
func TestConflicts(t *testing.T) {
	a, b := crdt.Actor{1}, crdt.Actor{2}
	build := func(base [][]byte, by crdt.Actor, ms int64, fields ...[2]string) []byte {
		t.Helper()
		made, err := engine.New().Build(base, by, ms, crdt.FieldOps(fields...))
		if err != nil {
			t.Fatal(err)
		}
		return made.Raw
	}
	first := build(nil, a, 1, [2]string{"code", "x"}, [2]string{"target", "1"})
	ours := build([][]byte{first}, a, 2, [2]string{"target", "2"}, [2]string{"owner", "same"})
	theirs := build([][]byte{first}, b, 3, [2]string{"target", "3"}, [2]string{"owner", "same"})
	doc, err := engine.New().Read([][]byte{first, ours, theirs})
	if err != nil {
		t.Fatal(err)
	}
	s := &crdt.Source{
		Stream: tiers.StreamID{Site: distID, Class: tiers.ClassCatalog}, Doc: "track:x", Document: doc,
		Authors: map[crdt.Actor]crdt.Author{a: {Site: distID, Incarnation: 1}, b: {Site: cityID, Incarnation: 1}},
	}
	made, err := track.Fold(s)
	var v track.View
	if err == nil {
		err = json.Unmarshal(made.JSON, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	by := map[tiers.SiteID]track.ConflictValue{}
	if c := v.Conflict("target"); c == nil || len(v.Conflicts) != 1 || c.Values[0].Value != v.Get("target") {
		t.Fatalf("%s", made.JSON)
	} else {
		for _, x := range c.Values {
			by[x.Site] = x
		}
	}
	if x := by[cityID]; x.Value != "3" || x.AtMS != 3 || x.Actor != b.String() || by[distID].Value != "2" || len(by) != 2 {
		t.Errorf("%+v", by)
	}
	if !slices.Contains(made.Index, crdt.IndexEntry{Name: track.IndexConflict, Value: "x"}) {
		t.Errorf("%v", made.Index)
	}
}
