package review

import (
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// Change is one change of a document's history.
type Change struct {
	Hash   crdt.Hash
	Deps   []crdt.Hash
	Author crdt.Author
	// Seq is its place in its author's chain.
	Seq uint64
	// At is when it was made.
	At crdt.HybridTime
	// Learnt is when the site that reviews had it: At of its own, else when it came
	// in; zero when nobody noted that.
	Learnt crdt.HybridTime
}

// Had returns which of a document's changes, by index in order, the reviewing site
// could show at a time: those that it had with everything that they build on. waiting
// counts those that it had without that. unsure counts those among both of which
// nobody noted when they came in: they count as had from when they were made.
//
// changes must be in an order in which each follows what it builds on.
func Had(changes []Change, at crdt.HybridTime) (had []int, waiting, unsure int) {
	return build(changes, func(c Change) (bool, bool) {
		if c.Learnt == 0 {
			return c.At <= at, true
		}
		return c.Learnt <= at, false
	})
}

// HadAtLeast returns which of a document's changes a site had at a time for sure, by
// index in order: its own that it had made, and everything that these build on.
func HadAtLeast(changes []Change, site tiers.SiteID, at crdt.HybridTime) []int {
	index := byHash(changes)
	in := make([]bool, len(changes))
	for i := len(changes) - 1; i >= 0; i-- {
		c := changes[i]
		in[i] = in[i] || c.Author.Site == site && c.At <= at
		if !in[i] {
			continue
		}
		for _, d := range c.Deps {
			if j, ok := index[d]; ok {
				in[j] = true
			}
		}
	}
	var out []int
	for i := range changes {
		if in[i] {
			out = append(out, i)
		}
	}
	return out
}

// HadBy returns, of each change, when a site had it at the latest, as its own changes
// prove: the first that it made that is it, or builds on it; zero when none does.
func HadBy(changes []Change, site tiers.SiteID) []crdt.HybridTime {
	index := byHash(changes)
	out := make([]crdt.HybridTime, len(changes))
	for i := len(changes) - 1; i >= 0; i-- {
		c := changes[i]
		if c.Author.Site == site {
			out[i] = earlier(out[i], c.At)
		}
		for _, d := range c.Deps {
			if j, ok := index[d]; ok {
				out[j] = earlier(out[j], out[i])
			}
		}
	}
	return out
}

// earlier is the earlier of two times, of which zero is none.
func earlier(a, b crdt.HybridTime) crdt.HybridTime {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func byHash(changes []Change) map[crdt.Hash]int {
	out := make(map[crdt.Hash]int, len(changes))
	for i, c := range changes {
		out[c.Hash] = i
	}
	return out
}

// build takes up the changes that are had and whose dependencies are.
func build(changes []Change, had func(Change) (yes, unsure bool)) (out []int, waiting, unsure int) {
	index := byHash(changes)
	in := make([]bool, len(changes))
	for i, c := range changes {
		yes, guessed := had(c)
		if !yes {
			continue
		}
		if guessed {
			unsure++
		}
		if slices.ContainsFunc(c.Deps, func(d crdt.Hash) bool { j, ok := index[d]; return !ok || !in[j] }) {
			waiting++
			continue
		}
		in[i] = true
		out = append(out, i)
	}
	return out, waiting, unsure
}
