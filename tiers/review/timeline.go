package review

import (
	"cmp"
	"maps"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// How it is known when a site learnt of something, the surest first.
const (
	// BasisWrote is of who did it.
	BasisWrote = "wrote"
	// BasisArrived is of a site that says itself when it came in.
	BasisArrived = "arrived"
	// BasisBy is of a site that did something later that builds on it: it had it by
	// then, and perhaps long before.
	BasisBy = "by"
	// BasisHolds is of a site that holds it, since nobody here knows when.
	BasisHolds = "holds"
)

var sureness = map[string]int{BasisWrote: 4, BasisArrived: 3, BasisBy: 2, BasisHolds: 1}

// Learnt is when a site learnt of something.
type Learnt struct {
	// AtMS is in Unix milliseconds; 0 for [BasisHolds].
	AtMS  int64  `json:"at_ms,omitempty"`
	Basis string `json:"basis"`
}

// Step is something that was done.
type Step struct {
	AtMS int64 `json:"at_ms"`
	// At is the hybrid time, by which steps are ordered.
	At crdt.HybridTime `json:"at"`
	// By is the site that did it, Seq its place in that site's chain in Stream.
	By          tiers.SiteID `json:"by"`
	Incarnation uint32       `json:"incarnation"`
	Stream      string       `json:"stream"`
	Seq         uint64       `json:"seq"`
	Doc         tiers.DocID  `json:"doc"`
	// What names the actions: several when they were done at once.
	What []string `json:"what"`
	// Note is what was said with them.
	Note string `json:"note,omitempty"`
	// Learnt is when each site learnt of it, as far as it is known.
	Learnt map[tiers.SiteID]Learnt `json:"learnt"`
}

// Timeline is what was done about an event, in the order of hybrid time.
type Timeline struct {
	// Sites are those that should learn of it, the event's own first; Asked are those
	// that said when it came in.
	Sites []tiers.SiteID `json:"sites"`
	Asked []tiers.SiteID `json:"asked"`
	Event tiers.DocID    `json:"event"`
	Title string         `json:"title,omitempty"`
	Steps []Step         `json:"steps"`
}

// Sort puts the steps in order.
func (t *Timeline) Sort() {
	slices.SortFunc(t.Steps, func(a, b Step) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.By, b.By),
			cmp.Compare(a.Incarnation, b.Incarnation), cmp.Compare(a.Seq, b.Seq))
	})
}

// place is where a step's record stands.
type place struct {
	stream      string
	by          tiers.SiteID
	incarnation uint32
	seq         uint64
}

func (s Step) place() place { return place{s.Stream, s.By, s.Incarnation, s.Seq} }

// Merge puts together what several sites say of one event. Of what two say of when a
// site learnt of a step, the surer counts, then the earlier. The order of in makes no
// difference.
func Merge(in ...Timeline) Timeline {
	var out Timeline
	at := map[place]int{}
	for _, t := range in {
		out.Event, out.Title = cmp.Or(out.Event, t.Event), max(out.Title, t.Title)
		for _, s := range t.Sites {
			if !slices.Contains(out.Sites, s) {
				out.Sites = append(out.Sites, s)
			}
		}
		out.Asked = append(out.Asked, t.Asked...)
		for _, s := range t.Steps {
			i, ok := at[s.place()]
			if !ok {
				s.Learnt = maps.Clone(s.Learnt)
				if s.Learnt == nil {
					s.Learnt = map[tiers.SiteID]Learnt{}
				}
				at[s.place()] = len(out.Steps)
				out.Steps = append(out.Steps, s)
				continue
			}
			for site, l := range s.Learnt {
				out.Steps[i].Learnt[site] = surer(out.Steps[i].Learnt[site], l)
			}
		}
	}
	// Codes of lower tiers are longer.
	slices.SortFunc(out.Sites, func(a, b tiers.SiteID) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(b, a)) })
	slices.Sort(out.Asked)
	out.Asked = slices.Compact(out.Asked)
	out.Sort()
	return out
}

func surer(a, b Learnt) Learnt {
	switch {
	case sureness[a.Basis] != sureness[b.Basis]:
		if sureness[b.Basis] > sureness[a.Basis] {
			return b
		}
		return a
	case b.AtMS < a.AtMS:
		return b
	default:
		return a
	}
}
