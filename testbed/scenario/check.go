package scenario

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/tiers"
)

// check finds what is wrong with the script as a whole.
func (p *parser) check() {
	rows := p.script.Federation.Sites
	if len(rows) == 0 {
		p.fail("no site is built: begin with site or chongqing")
		return
	}
	p.checkTree(rows)
	for _, n := range p.nodes {
		for _, id := range p.known(n.line, n.at) {
			p.script.Federation.Nodes[id] = n.count
		}
	}
	c := &checker{
		parser: p, parent: map[tiers.SiteID]tiers.SiteID{}, backup: map[tiers.SiteID]bool{}, names: map[string]named{}, homes: map[string]tiers.SiteID{},
	}
	for _, r := range rows {
		c.parent[r.ID] = r.Parent
	}
	for _, st := range p.script.Steps {
		c.step(st)
	}
	if least, _ := p.script.Takes(); least > p.script.Limit {
		p.fail("the script waits for %s, its limit is %s: want a longer limit", formatDuration(least), formatDuration(p.script.Limit))
	}
}

func (p *parser) row(id tiers.SiteID) (tiers.Site, bool) {
	i := slices.IndexFunc(p.script.Federation.Sites, func(r tiers.Site) bool { return r.ID == id })
	if i < 0 {
		return tiers.Site{}, false
	}
	return p.script.Federation.Sites[i], true
}

// checkTree checks tiers and parents: one city, parents above their children.
func (p *parser) checkTree(rows []tiers.Site) {
	var city tiers.SiteID
	for _, r := range rows {
		line := p.sites[r.ID]
		if r.Tier == tiers.TierCity {
			if city != "" {
				p.failAt(line, "%s is a second city beside %s: want one", r.ID, city)
			}
			if city = r.ID; r.Parent != "" {
				p.failAt(line, "city %s has a parent: want none", r.ID)
			}
			continue
		}
		parent, ok := p.row(r.Parent)
		switch {
		case r.Parent == "":
			p.failAt(line, "%s %s has no parent: want under and the code of one", r.Tier, r.ID)
		case !ok:
			p.failAt(line, "parent %s of %s is not built: want %s", r.Parent, r.ID, p.someSites(r.Tier-1))
		case p.cycle(r) != "":
			p.failAt(line, "a cycle of parents: %s; want each site under one of a higher tier", p.cycle(r))
		case parent.Tier >= r.Tier:
			p.failAt(line, "%s %s is under %s %s: want a parent of a higher tier", r.Tier, r.ID, parent.Tier, parent.ID)
		}
	}
	if city == "" {
		p.fail("no city is built: begin with site CODE city")
	}
}

// cycle describes the cycle that a site's parents form, or returns "".
func (p *parser) cycle(from tiers.Site) string {
	path := []string{string(from.ID)}
	for at := from; at.Parent != ""; {
		next, ok := p.row(at.Parent)
		if !ok || len(path) > 8 {
			return ""
		}
		path = append(path, string(next.ID))
		if next.ID == from.ID {
			return strings.Join(path, " → ")
		}
		at = next
	}
	return ""
}

// someSites lists a few sites of a tier, or of all, for a message.
func (p *parser) someSites(tier tiers.Tier) string {
	var ids []string
	for _, r := range p.script.Federation.Sites {
		if tier == 0 || r.Tier == tier {
			ids = append(ids, string(r.ID))
		}
	}
	if len(ids) > 8 {
		ids = append(ids[:8], fmt.Sprintf("… (%d in all)", len(ids)))
	}
	if len(ids) == 0 {
		return "a site that is built"
	}
	return strings.Join(ids, ", ")
}

// known returns the sites that a selector means and complains when there is none.
func (p *parser) known(line int, at Sites) []tiers.SiteID {
	if at.ID != "" && !p.is(line, at.ID) {
		return nil
	}
	ids := at.Of(p.script.Federation.Sites)
	if len(ids) == 0 {
		p.failAt(line, "%s are no sites: none is built", at)
	}
	return ids
}

// is complains about a site that is not built.
func (p *parser) is(line int, ids ...tiers.SiteID) bool {
	for _, id := range ids {
		if _, ok := p.sites[id]; !ok {
			p.failAt(line, "no site %q: want %s", string(id), p.someSites(0))
			return false
		}
	}
	return true
}

// checker follows the steps as far as what they may do depends on earlier ones.
type checker struct {
	*parser
	parent map[tiers.SiteID]tiers.SiteID
	backup map[tiers.SiteID]bool
	names  map[string]named
	homes  map[string]tiers.SiteID // of units
}

func (c *checker) step(st Step) {
	switch do := st.Do.(type) {
	case Report:
		c.known(st.Line, do.At)
	case Claim:
		c.known(st.Line, do.At)
	case Isolate:
		c.known(st.Line, do.At)
	case Rejoin:
		c.known(st.Line, do.At)
	case Outages:
		c.known(st.Line, do.At)
	case Cut:
		c.is(st.Line, do.A, do.B)
	case Flap:
		c.is(st.Line, do.A, do.B)
	case Slow:
		c.is(st.Line, do.A, do.B)
	case Heal:
		if do.A != "" {
			c.is(st.Line, do.A, do.B)
		}
	case Until:
		if do.What == Linked {
			c.is(st.Line, do.A, do.B)
		}
		if do.What == Shown {
			c.expect(st.Line, do.Seen)
		}
	case Act:
		c.act(st.Line, do)
	case Reparent:
		c.reparent(st.Line, do)
	case Expect:
		c.expect(st.Line, do)
	case Refused:
		c.domain(st.Line, do.Do, false)
	default:
		c.domain(st.Line, do, true)
	}
}

func (c *checker) act(line int, a Act) {
	if !c.is(line, a.Site) {
		return
	}
	if n := c.script.Federation.NodesOf(a.Site); int(a.Node) > n {
		c.failAt(line, "site %s has %d node(s): want a node up to that", a.Site, n)
	}
	switch a.Kind {
	case ActBackup:
		c.backup[a.Site] = true
	case ActRestoreBackup, ActClone:
		if !c.backup[a.Site] {
			c.failAt(line, "%s has no backup to %s from: want a line \"backup %s\" before", a.Site, strings.TrimSuffix(string(a.Kind), "-backup"), a.Site)
		}
	default:
	}
}

func (c *checker) reparent(line int, r Reparent) {
	if !c.is(line, r.Site, r.Under) {
		return
	}
	site, _ := c.row(r.Site)
	under, _ := c.row(r.Under)
	if under.Tier >= site.Tier {
		c.failAt(line, "%s %s cannot be under %s %s: want a site of a higher tier", site.Tier, site.ID, under.Tier, under.ID)
		return
	}
	if c.parent[r.Site] == r.Under {
		c.failAt(line, "%s is under %s already: want another parent", r.Site, r.Under)
	}
	c.parent[r.Site] = r.Under
}

// expect refuses what can never be.
func (c *checker) expect(line int, e Expect) {
	if e.A != "" {
		c.is(line, e.A, e.B)
		return
	}
	if e.Of != "" {
		c.known(line, e.At)
		i := slices.IndexFunc(measures, func(m measure) bool { return m.name == e.Measure })
		if c.called(line, e.Of, measures[i].of...) && e.To != (Sites{}) {
			c.known(line, e.To)
			c.called(line, e.Of, namedOrder) // nothing else is to somebody
		}
		return
	}
	links := float64(len(c.script.Federation.Sites) - 1)
	if (e.Measure == MeasureConnected || e.Measure == MeasureEqual) &&
		(e.Op == ">" && e.Value >= links || (e.Op == "=" || e.Op == ">=") && e.Value > links) {
		c.failAt(line, "%s: the federation has %g links: want at most that", e, links)
	}
}
