package dispatch

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Unit is a responder as the choice sees it.
type Unit struct {
	// ID is its identifier, Name what people call it.
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	// Skills are what it can do.
	Skills []string `json:"skills,omitempty"`
	// Lat and Lon are WGS 84 degrees; HasPoint says that they are known.
	Lat      float64 `json:"lat"`
	Lon      float64 `json:"lon"`
	HasPoint bool    `json:"has_point"`
	// Busy says why it cannot be sent now; empty when it can.
	Busy string `json:"busy,omitempty"`
}

// Candidate is a unit that was considered.
type Candidate struct {
	Unit Unit `json:"unit"`
	// DistanceM is the great-circle distance in metres; nil when a point is
	// not known.
	DistanceM *float64 `json:"distance_m,omitempty"`
	// Chosen marks the one that is sent, Why says why it is that one or not.
	Chosen bool   `json:"chosen"`
	Why    string `json:"why"`
}

// distance is infinite where a point, or the distance, is not known: NaN would win
// or lose by its place in the list.
func distance(s *Subject, u *Unit) float64 {
	if !s.HasPoint || !u.HasPoint {
		return math.Inf(1)
	}
	d := metres(s.Lat, s.Lon, u.Lat, u.Lon)
	if math.IsNaN(d) {
		return math.Inf(1)
	}
	return d
}

// Nearest returns the place in units of the nearest free one with the skill: by
// distance, those without a known place last, then by identifier. It is -1 when
// there is none. Their order in the slice plays no part.
func Nearest(s Subject, skill string, units []Unit) int {
	best, at := -1, 0.0
	for i := range units {
		u := &units[i]
		if u.Busy != "" || !slices.Contains(u.Skills, skill) {
			continue
		}
		d := distance(&s, u)
		if best < 0 || d < at || d == at && u.ID < units[best].ID {
			best, at = i, d
		}
	}
	return best
}

// Consider chooses as [Nearest] does and tells of every unit why it is the one
// or not: the chosen one first, then the others that could be sent by distance,
// then the rest.
func Consider(s Subject, skill string, units []Unit) []Candidate {
	chosen := Nearest(s, skill, units)
	out := make([]Candidate, 0, len(units))
	rank := make(map[string]int, len(units))
	for i, u := range units {
		c := Candidate{Unit: u, Chosen: i == chosen}
		if d := distance(&s, &u); !math.IsInf(d, 1) {
			c.DistanceM = &d
		}
		switch {
		case c.Chosen && c.DistanceM != nil:
			c.Why = fmt.Sprintf("the nearest free one with skill %s", skill)
		case c.Chosen:
			c.Why = fmt.Sprintf("free, with skill %s; no distance is known", skill)
		case !slices.Contains(u.Skills, skill):
			rank[u.ID], c.Why = 3, fmt.Sprintf("has not the skill %s", skill)
		case u.Busy != "":
			rank[u.ID], c.Why = 2, u.Busy
		case c.DistanceM == nil:
			rank[u.ID], c.Why = 1, "free; its distance is not known"
		default:
			rank[u.ID], c.Why = 1, "free; further away"
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(rank[a.Unit.ID], rank[b.Unit.ID]),
			cmp.Compare(distance(&s, &a.Unit), distance(&s, &b.Unit)), cmp.Compare(a.Unit.ID, b.Unit.ID))
	})
	return out
}
