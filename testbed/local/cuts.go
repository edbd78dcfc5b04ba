package local

import (
	"slices"

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

// Mend ends the cut between two sites.
func (c *Cluster) Mend(a, b tiers.SiteID) {
	c.mu.Lock()
	delete(c.cut, pair(a, b))
	for i := range c.nodesAt(a) {
		for j := range c.nodesAt(b) {
			c.rejoin(c.members[place{a, i + 1}], c.members[place{b, j + 1}])
		}
	}
	c.mu.Unlock()
	c.applyCuts() // of single nodes
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

// applyCuts brings every gate that is bound to what is cut.
func (c *Cluster) applyCuts() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.cut {
		for i := range c.nodesAt(p[0]) {
			for j := range c.nodesAt(p[1]) {
				c.separate(c.members[place{p[0], i + 1}], c.members[place{p[1], j + 1}])
			}
		}
	}
	for at := range c.alone {
		for other, m := range c.members {
			if other != at {
				c.separate(c.members[at], m)
			}
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
