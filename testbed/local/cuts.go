package local

import (
	"slices"

	"github.com/tiermesh/tiermesh/tiers"
)

// Cut drops every datagram between two sites.
func (c *Cluster) Cut(a, b tiers.SiteID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[pair(a, b)] = struct{}{}
	c.separateSites(a, b)
}

// Isolate cuts a site from every other one.
func (c *Cluster) Isolate(id tiers.SiteID) {
	for _, s := range c.topology.Sites() {
		if s.ID != id {
			c.Cut(id, s.ID)
		}
	}
}

// Mend ends the cut between two sites.
func (c *Cluster) Mend(a, b tiers.SiteID) {
	c.mu.Lock()
	delete(c.cut, pair(a, b))
	for i := range c.nodesAt(a) {
		for j := range c.nodesAt(b) {
			c.rejoin(c.members[place{a, i + 1}], c.members[place{b, j + 1}])
		}
	}
	for at := range c.alone {
		if at.site == a || at.site == b {
			c.separateNode(at)
		}
	}
	c.mu.Unlock()
}

// IsolateNode cuts one node off from everything, also from its own site.
func (c *Cluster) IsolateNode(id tiers.SiteID, node uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alone[place{id, node}] = true
	c.separateNode(place{id, node})
}

// Heal ends every cut.
func (c *Cluster) Heal() {
	c.mu.Lock()
	clear(c.cut)
	clear(c.alone)
	c.mu.Unlock()
	for _, m := range c.all() {
		if m.gate != nil {
			m.gate.HealAll()
		}
	}
}

func pair(a, b tiers.SiteID) [2]tiers.SiteID {
	p := [2]tiers.SiteID{a, b}
	slices.Sort(p[:])
	return p
}

// applyCuts brings the gate of a node that was bound anew to what is cut.
func (c *Cluster) applyCuts(of place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.cut {
		if p[0] == of.site || p[1] == of.site {
			c.separateSites(p[0], p[1])
		}
	}
	for at := range c.alone {
		c.separateNode(at)
	}
}

// separateSites cuts the nodes of two sites; c.mu is held.
func (c *Cluster) separateSites(a, b tiers.SiteID) {
	for i := range c.nodesAt(a) {
		for j := range c.nodesAt(b) {
			c.separate(c.members[place{a, i + 1}], c.members[place{b, j + 1}])
		}
	}
}

// separateNode cuts a node from all others; c.mu is held.
func (c *Cluster) separateNode(at place) {
	for other, m := range c.members {
		if other != at {
			c.separate(c.members[at], m)
		}
	}
}

// rejoin lets two members reach each other again; nothing else gets through for
// a moment meanwhile.
func (c *Cluster) rejoin(a, b *member) {
	if a.gate != nil {
		a.gate.Heal(b.port)
	}
	if b.gate != nil {
		b.gate.Heal(a.port)
	}
}

// separate cuts two members at both ends, as far as these are bound.
func (c *Cluster) separate(a, b *member) {
	if a.gate != nil {
		a.gate.Cut(b.port)
	}
	if b.gate != nil {
		b.gate.Cut(a.port)
	}
}
