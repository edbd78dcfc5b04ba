package city

import (
	"context"
	"fmt"
	"time"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/data"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/tiers"
)

type request = data.Request

const (
	// stallAfter ends a run in which no other link has come to agree for so long.
	stallAfter = 10 * time.Minute
	// lookEvery is how often links are looked at, at most.
	lookEvery = 250 * time.Millisecond
)

// converge waits until the links in scope, or all, are proven equal at both ends by
// the topology in force at the city, and every view is up to date.
func (c *player) converge(ctx context.Context, what string, inScope func(child, parent tiers.SiteID) bool) error {
	return c.convergeTo(ctx, c.cluster.Node(c.cluster.Topology().City()).Topology(), what, inScope)
}

// convergeTo waits as converge does, and until the sites in scope have a topology.
func (c *player) convergeTo(ctx context.Context, t *tiers.Topology, what string, inScope func(child, parent tiers.SiteID) bool) error {
	most, moved := 0, time.Now()
	for {
		began := time.Now()
		done, of := c.agreement(t, inScope)
		if done > most {
			most, moved = done, began
		}
		c.p.Bar(done, of, what)
		c.sample()
		if done == of {
			return nil
		}
		if time.Since(moved) > stallAfter {
			return fmt.Errorf("city: %d of %d, and nothing moved for %s, waiting for: %s", done, of, stallAfter, what)
		}
		select {
		case <-time.After(max(lookEvery, 2*time.Since(began))): // looking costs, too
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// agreement counts links that are proven equal. Only where all children think so is
// the parent asked, whose look costs a digest of each link.
func (c *player) agreement(t *tiers.Topology, inScope func(child, parent tiers.SiteID) bool) (done, of int) {
	ups := map[tiers.SiteID][]tiers.SiteID{} // children in scope by parent
	equal := map[tiers.SiteID]node.LinkState{}
	for _, s := range t.Sites() {
		if s.Parent == "" || s.Retired || inScope != nil && !inScope(s.ID, s.Parent) {
			continue
		}
		of++
		ups[s.Parent] = append(ups[s.Parent], s.ID)
		if l := c.cluster.Node(s.ID).Link(s.Parent); l.Equal && c.atRest(s.ID, t) {
			equal[s.ID] = l
		}
	}
	if len(equal) < of {
		return len(equal), of + len(ups)
	}
	for parent, children := range ups {
		up := map[tiers.SiteID]node.LinkState{}
		for _, l := range c.cluster.Node(parent).Links() {
			up[l.Peer] = l
		}
		agree := c.atRest(parent, t)
		for _, child := range children {
			agree = agree && up[child].Equal && up[child].Digest == equal[child].Digest
		}
		if agree {
			done++
		}
	}
	return of + done, of + len(ups)
}

// atRest reports whether a site has the topology, and its views are up to date.
func (c *player) atRest(id tiers.SiteID, t *tiers.Topology) bool {
	n := c.cluster.Node(id)
	return n.Topology().Version() >= t.Version() && n.Group().Store().Counts().Dirty == 0
}

// verify reads every site's store and has the oracles judge it.
func (c *player) verify(context.Context) error {
	c.p.Step("8. every site is read back")
	use := c.cluster.Usage()
	c.table.WireBytes, c.table.NeededBytes, c.table.Acknowledged = use.WireBytes, use.NeededBytes, len(c.acked)
	t := c.cluster.Node(c.cluster.Topology().City()).Topology()
	var sites []oracle.Site
	for _, n := range c.cluster.Nodes() {
		sites = append(sites, oracle.Site{ID: n.ID().Site, Store: n.Group().Store(), View: n.Views().View})
	}
	for _, o := range []struct {
		judge func() oracle.Verdict
		into  *uint64
	}{
		{func() oracle.Verdict { return oracle.NothingLost(t, c.acked, sites) }, &c.table.Lost},
		{func() oracle.Verdict { return oracle.SameViews(t, sites, true) }, &c.table.Diverged},
		{func() oracle.Verdict { return oracle.Converged(t, sites) }, &c.table.Diverged},
		{func() oracle.Verdict { return oracle.Audience(t, sites) }, &c.table.Violations},
	} {
		v := o.judge()
		*o.into += v.Violations
		if v.Checked == 0 {
			*o.into++ // it acquits nobody
		}
		c.p.Line(fmt.Sprintf("oracle %s: %d checked, %d violations", v.Oracle, v.Checked, v.Violations))
		for _, text := range v.Examples {
			c.p.Line("  " + text)
		}
		c.sample()
	}
	return nil
}
