package local

import (
	"slices"

	"github.com/tiermesh/tiermesh/testbed/fault"
	"github.com/tiermesh/tiermesh/tiers"
)

// Cut drops every datagram between two sites.
func (c *Cluster) Cut(a, b tiers.SiteID) {
	c.mu.Lock()
	c.cut[pair(a, b)] = struct{}{}
	c.mu.Unlock()
	c.applyCuts()
}

// Isolate cuts a site from every other one.
func (c *Cluster) Isolate(id tiers.SiteID) {
	for _, s := range c.topology.Sites() {
		if s.ID != id {
			c.Cut(id, s.ID)
		}
	}
}

// IsolateNode cuts one node off from everything, also from its own site.
func (c *Cluster) IsolateNode(id tiers.SiteID, node uint32) {
	c.mu.Lock()
	c.alone[place{id, node}] = true
	c.mu.Unlock()
	c.applyCuts()
}

// Heal ends every cut.
func (c *Cluster) Heal() {
	c.mu.Lock()
	clear(c.cut)
	clear(c.alone)
	c.mu.Unlock()
	c.each(func(a, b *member) {
		if a.gate != nil {
			a.gate.Heal(b.port)
		}
	})
}

func pair(a, b tiers.SiteID) [2]tiers.SiteID {
	p := [2]tiers.SiteID{a, b}
	slices.Sort(p[:])
	return p
}

// applyCuts brings every gate that is bound to what is cut.
func (c *Cluster) applyCuts() {
	c.mu.Lock()
	separate := func(a, b place) bool {
		_, cut := c.cut[pair(a.site, b.site)]
		return cut || c.alone[a] || c.alone[b]
	}
	cuts := map[*fault.Gate][]uint16{}
	for _, a := range c.members {
		for _, b := range c.members {
			if a != b && a.gate != nil && separate(a.at, b.at) {
				cuts[a.gate] = append(cuts[a.gate], b.port)
			}
		}
	}
	c.mu.Unlock()
	for gate, ports := range cuts {
		for _, port := range ports {
			gate.Cut(port)
		}
	}
}

// each calls f for each ordered pair of members.
func (c *Cluster) each(f func(a, b *member)) {
	all := c.all()
	for _, a := range all {
		for _, b := range all {
			if a != b {
				f(a, b)
			}
		}
	}
}
