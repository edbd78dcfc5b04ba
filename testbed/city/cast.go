package city

import (
	"slices"

	"github.com/tiermesh/tiermesh/testbed/data"
	"github.com/tiermesh/tiermesh/tiers"
)

// cast picks the sites: the city as it was before the reorganisation, with the new
// district, which has no townships yet.
func (c *player) cast() error {
	before, after, err := data.Reorganisation()
	if err != nil {
		return err
	}
	moves, err := data.Reorganised()
	if err != nil {
		return err
	}
	row, _ := before.Site(before.City())
	c.sites = append(c.sites, row)
	merged, _ := after.Site(data.MergedDistrict)
	c.sites = append(c.sites, merged)
	concerned := map[tiers.SiteID]bool{}
	for _, m := range moves {
		concerned[m.From], concerned[m.To], concerned[m.Township] = true, true, true
	}
	var townships []tiers.Site
	for _, d := range first(before, before.City(), concerned, c.cfg.Districts) {
		c.sites = append(c.sites, d)
		townships = append(townships, first(before, d.ID, concerned, c.cfg.TownshipsEach)...)
	}
	c.sites = append(c.sites, townships...)
	here := map[tiers.SiteID]bool{}
	for _, s := range c.sites {
		here[s.ID] = true
	}
	for _, m := range moves {
		if here[m.Township] && here[m.To] {
			c.next = append(c.next, m)
		}
	}
	c.table.Sites, c.table.Moves = len(c.sites), len(c.next)
	return nil
}

// first returns the children of a site, those concerned first, at most so many;
// zero means all.
func first(t *tiers.Topology, parent tiers.SiteID, concerned map[tiers.SiteID]bool, most int) []tiers.Site {
	var out []tiers.Site
	for _, id := range t.Children(parent) {
		s, _ := t.Site(id)
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b tiers.Site) int {
		switch {
		case concerned[a.ID] == concerned[b.ID]:
			return 0
		case concerned[a.ID]:
			return -1
		default:
			return 1
		}
	})
	if most > 0 {
		out = out[:min(most, len(out))]
	}
	return out
}

func (c *player) townships() (out []tiers.Site) {
	for _, s := range c.sites {
		if s.Tier == tiers.TierTownship {
			out = append(out, s)
		}
	}
	return out
}

// cutOff are the districts that the partition cuts off: the largest, without the
// new one.
func (c *player) cutOff() map[tiers.SiteID]bool {
	size := map[tiers.SiteID]int{}
	for _, t := range c.townships() {
		size[t.Parent]++
	}
	var all []tiers.SiteID
	for _, s := range c.sites {
		if size[s.ID] > 0 {
			all = append(all, s.ID)
		}
	}
	slices.SortStableFunc(all, func(a, b tiers.SiteID) int { return size[b] - size[a] })
	out := map[tiers.SiteID]bool{}
	for _, d := range all[:min(c.cfg.Cut, len(all))] {
		out[d] = true
	}
	return out
}
