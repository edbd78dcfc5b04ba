package aggregate

import (
	"slices"

	"github.com/tiermesh/tiermesh/tiers"
)

// Coverage says of how many sites a number is.
type Coverage struct {
	// Sites is how many the area has, Covered how many of them are known as of a
	// time that is recent enough.
	Sites   int `json:"sites"`
	Covered int `json:"covered"`
	// OldestMS is as of when the covered one is known that is known least, in Unix
	// milliseconds; 0 when none is covered.
	OldestMS int64 `json:"oldest_ms,omitempty"`
	// Missing are the sites that are not covered, in the order of their codes, up to
	// [MissingMax].
	Missing []Missing `json:"missing,omitempty"`
}

// MissingMax bounds the sites that are named.
const MissingMax = 100

// Missing is a site that is not covered.
type Missing struct {
	Site tiers.SiteID `json:"site"`
	// KnownMS is as of when it is known, in Unix milliseconds; 0 for not at all.
	KnownMS int64 `json:"known_ms,omitempty"`
}

// Cover adds up as of when sites are known: those since sinceMS are covered.
func Cover(sites []tiers.SiteID, known map[tiers.SiteID]int64, sinceMS int64) Coverage {
	c := Coverage{Sites: len(sites)}
	if !slices.IsSorted(sites) {
		sites = slices.Sorted(slices.Values(sites))
	}
	for _, s := range sites {
		at := known[s]
		switch {
		case at >= sinceMS && at > 0:
			c.Covered++
			if c.OldestMS == 0 || at < c.OldestMS {
				c.OldestMS = at
			}
		case len(c.Missing) < MissingMax:
			c.Missing = append(c.Missing, Missing{s, at})
		}
	}
	return c
}

// Knowledge is what a site can tell of when it heard of others.
type Knowledge struct {
	Self  tiers.SiteID
	NowMS int64
	// Direct is, of each site that was linked to, as of when everything that it held
	// was here.
	Direct map[tiers.SiteID]int64
	// Told is what sites said of those below them, by the site that said it.
	Told map[tiers.SiteID][]Contact
	// Newest is when each site wrote the newest record of its that is here: what was
	// carried in another way, or before the last start, is known at least as of then.
	Newest map[tiers.SiteID]int64
}

// Known returns as of when each site of the topology is known, in Unix milliseconds;
// those that are not known at all are left out.
func (k Knowledge) Known(t *tiers.Topology) map[tiers.SiteID]int64 {
	told := map[[2]tiers.SiteID]int64{}
	for by, contacts := range k.Told {
		for _, c := range contacts {
			told[[2]tiers.SiteID{by, c.Peer}] = c.LostMS
		}
	}
	out := map[tiers.SiteID]int64{}
	visit := func(s tiers.SiteID, parent tiers.SiteID) {
		at := max(k.Direct[s], k.Newest[s])
		if lost, ok := told[[2]tiers.SiteID{parent, s}]; ok && parent != k.Self {
			via := out[parent]
			if lost > 0 {
				via = min(via, lost)
			}
			at = max(at, via)
		}
		if s == k.Self {
			at = k.NowMS
		}
		if at = min(at, k.NowMS); at > 0 {
			out[s] = at
		}
	}
	// Parents before children.
	queue := []tiers.SiteID{t.City()}
	visit(t.City(), "")
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, c := range t.Children(at) {
			visit(c, at)
			queue = append(queue, c)
		}
	}
	return out
}

// Area lists a site and all that are below it now, in no order; nil for one that is
// not listed or has ended.
func Area(t *tiers.Topology, site tiers.SiteID) []tiers.SiteID {
	if s, ok := t.Site(site); !ok || s.Retired {
		return nil
	}
	out := []tiers.SiteID{site}
	for i := 0; i < len(out); i++ {
		out = append(out, t.Children(out[i])...)
	}
	return out
}
