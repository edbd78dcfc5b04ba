package outage

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// flood draws one outage after the other until as many sites are down at its peak
// as there should be. So the peak is right for any number of sites, and durations
// are drawn independently of it. An outage of the longest duration begins with the
// flood: it could not end inside it otherwise.
func flood(sites []tiers.SiteID, seed uint64, of time.Duration) []Outage {
	if len(sites) == 0 {
		return nil
	}
	r := rand.New(rand.NewPCG(seed, 0xf100d)) //nolint:gosec // outages are no secret
	span := Span(Flood)
	want := max(1, int(math.Round(FloodPeak*float64(len(sites)))))
	down := make([]int, floodDays*24) // at the middle of each hour
	taken := map[tiers.SiteID][]Outage{}
	var out []Outage
	for peak := 0; peak < want; {
		lasts := floodHours.at(r.Float64())
		from := begins(r.Float64(), span-lasts)
		o, free := place(Outage{From: from, To: from + lasts}, sites, taken, r)
		if !free {
			continue // as a long one may when there is one site
		}
		for i := range down {
			if at := time.Duration(i)*time.Hour + time.Hour/2; o.From <= at && at < o.To {
				down[i]++
				peak = max(peak, down[i])
			}
		}
		if o.To = min(o.To, of); o.From < of {
			out = append(out, o)
		}
	}
	return out
}

// begins returns when an outage begins that must begin until latest: the times are
// a triangle that rises and falls, cut off there.
func begins(share float64, latest time.Duration) time.Duration {
	rise, fall := floodRise.Seconds(), floodFall.Seconds()
	until := min(latest.Seconds(), rise+fall)
	before := func(t float64) float64 { // the share of the triangle before t
		if t <= rise {
			return t * t / (rise * (rise + fall))
		}
		return 1 - (rise+fall-t)*(rise+fall-t)/(fall*(rise+fall))
	}
	share *= before(until)
	t := math.Sqrt(share * rise * (rise + fall))
	if t > rise {
		t = rise + fall - math.Sqrt((1-share)*fall*(rise+fall))
	}
	return min(time.Duration(t*float64(time.Second)), max(latest, 0))
}

// place gives an outage to a random site that is up throughout it and a moment
// before and after.
func place(o Outage, sites []tiers.SiteID, taken map[tiers.SiteID][]Outage, r *rand.Rand) (Outage, bool) {
	first := r.IntN(len(sites))
	for i := range sites {
		id := sites[(first+i)%len(sites)]
		if !slices.ContainsFunc(taken[id], func(t Outage) bool { return o.From <= t.To && t.From <= o.To }) {
			o.Site = id
			taken[id] = append(taken[id], o)
			return o, true
		}
	}
	return o, false
}
