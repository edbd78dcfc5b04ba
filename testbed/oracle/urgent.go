package oracle

import (
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// Passage is the way of one record over one link, as seen from outside. Times count
// from any one moment.
type Passage struct {
	From, To tiers.SiteID
	Doc      tiers.DocID
	Urgent   bool
	// Acked is when the record was acknowledged at From.
	Acked time.Duration
	// Open is since when the link could carry it: when the line was healed or the
	// record had come to From; zero or before Acked when it could all along.
	Open time.Duration
	// Visible is when it was first seen at To; negative when it never was.
	Visible time.Duration
}

// start is from when on a record could be on its way.
func (p Passage) start() time.Duration { return max(p.Acked, p.Open) }

// Urgent checks that urgent records overtake the backlog of their link. From when an
// urgent record could be on its way until it is visible, at most window other
// records may become visible over the same link, however many were owed when it
// came, and however many came after. The window is what may be on the line or in
// flight already: it does not grow with the backlog. Records that are first seen at
// one moment did not overtake each other, so that whoever looks now and then does
// not accuse anybody.
func Urgent(passages []Passage, window int) Verdict {
	v := Verdict{Oracle: "urgent"}
	type link struct{ from, to tiers.SiteID }
	others := map[link][]time.Duration{} // when they became visible, in order
	for _, p := range passages {
		if !p.Urgent && p.Visible >= 0 {
			others[link{p.From, p.To}] = append(others[link{p.From, p.To}], p.Visible)
		}
	}
	for _, times := range others {
		slices.Sort(times)
	}
	for _, p := range passages {
		if !p.Urgent {
			continue
		}
		v.Checked++
		times := others[link{p.From, p.To}]
		first, _ := slices.BinarySearch(times, p.start())
		end := len(times)
		if p.Visible >= 0 {
			end, _ = slices.BinarySearch(times, p.Visible)
		}
		if n := end - first; n > window {
			v.violate("%s waited at %s while %d other records came to %s, for %s: at most %d may", p.Doc, p.From, n, p.To, waited(p), window)
		}
	}
	return v
}

// Length is how many records of a stream's chains a site was seen to hold.
type Length struct {
	At      time.Duration
	Records uint64
}

// Grown returns the passages of a stream's records, from how its length at a site
// was seen to grow: each became visible when it was first counted. So whoever wants
// to know what overtook an urgent record need not look for each other one.
func Grown(from, to tiers.SiteID, seen []Length) []Passage {
	var out []Passage
	for i := 1; i < len(seen); i++ {
		for n := seen[i-1].Records; n < seen[i].Records; n++ {
			out = append(out, Passage{From: from, To: to, Acked: seen[i-1].At, Visible: seen[i].At})
		}
	}
	return out
}

func waited(p Passage) string {
	if p.Visible < 0 {
		return "ever"
	}
	return (p.Visible - p.start()).Round(time.Millisecond).String()
}
