package federation

import (
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
)

// ChainState is what a session knows of one chain: how far this site holds it,
// and how far the peer is known to.
type ChainState struct {
	Chain       crdt.ChainID
	Local, Peer crdt.Head
}

// Chains returns what is known of every chain, in lane order. It costs time and
// memory in proportion to the chains that the two sites share.
func (s *Session) Chains() []ChainState {
	out := make([]ChainState, 0, len(s.peerHas))
	for stream, v := range s.local {
		for author, head := range v {
			chain := crdt.ChainID{Stream: stream, Author: author}
			out = append(out, ChainState{Chain: chain, Local: head, Peer: s.peerHas[chain]})
		}
	}
	for chain, head := range s.peerHas {
		if _, here := s.local[chain.Stream][chain.Author]; !here {
			out = append(out, ChainState{Chain: chain, Peer: head})
		}
	}
	slices.SortFunc(out, func(a, b ChainState) int { return a.Chain.Compare(b.Chain) })
	return out
}
