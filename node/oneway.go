package node

import (
	"maps"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
)

// sharedWith is what this site holds now of what it exchanges with a peer; without
// oneWay only of what both are in the audience of, as with a peer of an older build.
func (n *Node) sharedWith(peer tiers.SiteID, oneWay bool) map[tiers.StreamID]crdt.Vector {
	t, self, st := n.Topology(), n.creds.ID.Site, n.group.Store()
	held := map[tiers.StreamID]crdt.Vector{}
	for _, s := range st.Streams() { // a copy of all vectors would cost more than most links share
		if author, ok := federation.Exchanged(t, s, self, peer); ok && (author == "" || oneWay) {
			held[s] = st.Vector(s)
		}
	}
	return federation.Shared(t, self, peer, held)
}

// without returns a stream's vector without some chains.
func without(s tiers.StreamID, v crdt.Vector, chains []crdt.ChainID) crdt.Vector {
	if len(chains) == 0 {
		return v
	}
	v = maps.Clone(v)
	maps.DeleteFunc(v, func(a crdt.Author, _ crdt.Head) bool {
		return slices.Contains(chains, crdt.ChainID{Stream: s, Author: a})
	})
	return v
}

// oneWay reports whether the session, as last published, exchanges one-way streams.
func (d *linkDriver) oneWay() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status.OneWay
}

// apart are the chains of a former parent that the last session with a peer left out.
func (l *links) apart(peer tiers.SiteID) []crdt.ChainID {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.known[peer]; r != nil {
		return r.last.apart
	}
	return nil
}
