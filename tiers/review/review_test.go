package review_test

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/review"
)

var sites = []tiers.SiteID{"500000", "500101", "500101001"}

// draw draws a history: each change builds on some of those before it.
func draw(t *rapid.T) []review.Change {
	out := make([]review.Change, rapid.IntRange(0, 9).Draw(t, "changes"))
	for i := range out {
		out[i] = review.Change{
			Hash: crdt.Hash{byte(i + 1)}, Author: crdt.Author{Site: rapid.SampledFrom(sites).Draw(t, "by"), Incarnation: 1},
			At: crdt.HybridTime(rapid.Uint64Range(1, 20).Draw(t, "at")), Learnt: crdt.HybridTime(rapid.Uint64Range(0, 20).Draw(t, "learnt")),
		}
		for j := range i {
			if rapid.IntRange(0, 2).Draw(t, "builds on") == 0 {
				out[i].Deps = append(out[i].Deps, out[j].Hash)
			}
		}
	}
	return out
}

// under returns, of each change, all that it builds on, itself among them, by walking.
func under(changes []review.Change, i int) map[int]bool {
	out := map[int]bool{i: true}
	for _, d := range changes[i].Deps {
		j := slices.IndexFunc(changes, func(c review.Change) bool { return c.Hash == d })
		for k := range under(changes, j) {
			out[k] = true
		}
	}
	return out
}

// TestHad: a change is shown when it and all that it builds on had come in.
func TestHad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		changes, at := draw(t), crdt.HybridTime(rapid.Uint64Range(0, 21).Draw(t, "cut"))
		came := func(i int) bool {
			c := changes[i]
			return c.Learnt != 0 && c.Learnt <= at || c.Learnt == 0 && c.At <= at
		}
		var want []int
		waits, unsures := 0, 0
		for i, c := range changes {
			if !came(i) {
				continue
			}
			if c.Learnt == 0 {
				unsures++
			}
			whole := true
			for j := range under(changes, i) {
				whole = whole && came(j)
			}
			if whole {
				want = append(want, i)
			} else {
				waits++
			}
		}
		had, waiting, unsure := review.Had(changes, at)
		if !slices.Equal(had, want) || waiting != waits || unsure != unsures {
			t.Fatalf("%v %d %d, want %v %d %d", had, waiting, unsure, want, waits, unsures)
		}
	})
}

// TestHadAtLeast: what another site had for sure is what it wrote and what that builds
// on, and each of it by the time that the earliest of these says.
func TestHadAtLeast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		changes, site := draw(t), rapid.SampledFrom(sites).Draw(t, "site")
		at := crdt.HybridTime(rapid.Uint64Range(0, 21).Draw(t, "cut"))
		by := make([]crdt.HybridTime, len(changes))
		for i, c := range changes {
			if c.Author.Site != site {
				continue
			}
			for j := range under(changes, i) {
				if by[j] == 0 || c.At < by[j] {
					by[j] = c.At
				}
			}
		}
		var want []int
		for i := range changes {
			if by[i] != 0 && by[i] <= at {
				want = append(want, i)
			}
		}
		if got := review.HadBy(changes, site); !slices.Equal(got, by) {
			t.Fatalf("%v, want %v", got, by)
		}
		if got := review.HadAtLeast(changes, site, at); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

// TestMerge: what several sites say gives one timeline, whatever the order, and the
// surest of what they say of each site.
func TestMerge(t *testing.T) {
	bases := []string{review.BasisWrote, review.BasisArrived, review.BasisBy, review.BasisHolds}
	rapid.Check(t, func(t *rapid.T) {
		var in []review.Timeline
		for range rapid.IntRange(1, 4).Draw(t, "timelines") {
			x := review.Timeline{Event: "event:x", Asked: []tiers.SiteID{rapid.SampledFrom(sites).Draw(t, "asked")}}
			for _, s := range sites {
				if rapid.Bool().Draw(t, "site") {
					x.Sites = append(x.Sites, s)
				}
			}
			for seq := range uint64(3) {
				if rapid.Bool().Draw(t, "knows it") {
					x.Steps = append(x.Steps, review.Step{At: crdt.HybridTime(9 - seq), AtMS: 1, By: sites[2], Stream: "s", Seq: seq, What: []string{"x"}, Learnt: map[tiers.SiteID]review.Learnt{
						rapid.SampledFrom(sites).Draw(t, "learnt"): {AtMS: rapid.Int64Range(1, 5).Draw(t, "at"), Basis: rapid.SampledFrom(bases).Draw(t, "basis")},
					}})
				}
			}
			in = append(in, x)
		}
		want := review.Merge(in...)
		if again := review.Merge(want, want); !reflect.DeepEqual(again, want) {
			t.Fatalf("%+v\n%+v", again, want)
		}
		slices.Reverse(in)
		if got := review.Merge(in...); !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v\n%+v", got, want)
		}
		for i, s := range want.Steps {
			if i > 0 && want.Steps[i-1].At >= s.At {
				t.Fatalf("not in order: %+v", want.Steps)
			}
			for site, l := range s.Learnt {
				for _, x := range in {
					for _, o := range x.Steps {
						said, ok := o.Learnt[site]
						better := slices.Index(bases, said.Basis) < slices.Index(bases, l.Basis) || said.Basis == l.Basis && said.AtMS < l.AtMS
						if o.Seq == s.Seq && ok && better {
							t.Fatalf("%+v, and one said %+v", l, said)
						}
					}
				}
			}
		}
	})
}
