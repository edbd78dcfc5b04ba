package outage

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// The profiles.
const (
	Power = "power"
	Flood = "flood"
)

// ErrProfile is wrapped when a profile is not known; the text says which are.
var ErrProfile = errors.New("outage: unknown profile")

const (
	// floodDays is for how long the flood lasts.
	floodDays = 72
	// FloodPeak is the share of sites that are down at its peak.
	FloodPeak = 0.19
	// floodRise and floodFall are for how long outages begin more and more often,
	// and then less and less.
	floodRise = 6 * 24 * time.Hour
	floodFall = 18 * 24 * time.Hour
	// powerUp is for how long a site is up, in the mean.
	powerUp = 30 * 24 * time.Hour
)

// Outage is a time in which a site is down, from the beginning of the span on.
type Outage struct {
	Site     tiers.SiteID
	From, To time.Duration
}

// Profiles lists what [Draw] knows.
func Profiles() []string { return []string{Flood, Power} }

// Span is how long a profile lasts: 72 days for the flood, and 0 for one that has
// no end.
func Span(profile string) time.Duration {
	if profile == Flood {
		return floodDays * 24 * time.Hour
	}
	return 0
}

// Draw returns the outages of sites in a span of a profile, by begin and then by
// site. Those of one site neither overlap nor touch. What would last beyond the
// span ends with it. A shorter span of the flood is its first part. The error wraps
// [ErrProfile].
func Draw(profile string, sites []tiers.SiteID, seed uint64, of time.Duration) ([]Outage, error) {
	sites = slices.Compact(slices.Sorted(slices.Values(sites)))
	var out []Outage
	switch profile {
	case Power:
		for _, id := range sites {
			out = append(out, power(id, seed, of)...)
		}
	case Flood:
		out = flood(sites, seed, of)
	default:
		return nil, fmt.Errorf("%w %q: want one of %s", ErrProfile, profile, strings.Join(Profiles(), ", "))
	}
	slices.SortFunc(out, func(a, b Outage) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Site, b.Site)) })
	return out, nil
}

// Compress returns outages of a span as they are played within another one. An
// outage that becomes nothing is left out.
func Compress(outages []Outage, of, within time.Duration) []Outage {
	if of <= 0 {
		return nil
	}
	scale := func(d time.Duration) time.Duration { return time.Duration(float64(d) / float64(of) * float64(within)) }
	var out []Outage
	for _, o := range outages {
		o.From, o.To = scale(o.From), min(scale(o.To), within)
		if o.From < o.To {
			out = append(out, o)
		}
	}
	return out
}

// power draws the outages of one site. Its randomness is its own, so that another
// site does not change them.
func power(id tiers.SiteID, seed uint64, of time.Duration) (out []Outage) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	r := rand.New(rand.NewPCG(seed, h.Sum64())) //nolint:gosec // outages are no secret
	for at := time.Duration(0); ; {
		at += 1 + time.Duration(min(r.ExpFloat64()*float64(powerUp), math.MaxInt64/4))
		if at >= of {
			return out
		}
		end := at + powerHours.at(r.Float64())
		out = append(out, Outage{id, at, min(end, of)})
		if at = end; at >= of {
			return out
		}
	}
}
