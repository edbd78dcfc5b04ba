package federation

import (
	"maps"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
)

// Status is what a session knows of its link.
type Status struct {
	// Greeted says that the peer's hello was accepted.
	Greeted bool
	// OwedOut and OwedIn are the records that the peer and this site are known
	// to lack, counting those under way.
	OwedOut, OwedIn uint64
	// Settled says that nothing is owed, awaited or under way.
	Settled bool
	// Equal says that the peer's last proof is the digest of what is held here.
	Equal bool
	// EqualAtHandshake says that the digests were equal when the link came up.
	EqualAtHandshake bool
	// Digest and PeerDigest are what both ends last proved with.
	Digest, PeerDigest crdt.Hash
	// Version and Features are the protocol's, that both ends have.
	Version  uint16
	Features uint64
	// Compared says that both ends know what the other one holds.
	Compared bool
	// Handover says that the two sites are not linked any more, or not yet, and
	// exchange control streams only.
	Handover bool
	// Disputed are the chains that fork, in order.
	Disputed []crdt.ChainID
	// OneWay says that what a former parent wrote is exchanged (see [Exchanged]).
	OneWay bool
	// Apart are the chains of a former parent, in order, of which it holds less than
	// the other end, or others: that does not change, and they do not count in the
	// digests.
	Apart []crdt.ChainID
}

// Compared reports whether both ends know what the other one holds.
func (s *Session) Compared() bool { return s.greeted && len(s.awaiting) == 0 }

// Quiet reports whether ticks change nothing until something else happens: both
// ends hold the same and have said so. The driver need not tick a quiet session.
func (s *Session) Quiet() bool {
	p := &s.proof
	return !s.closed && s.settled() && !s.peer.handover && s.idle.talk == 0 &&
		p.sentMine && !p.dirty && p.have && p.equal && p.theirs == p.mine
}

// Status returns the session's present state.
func (s *Session) Status() Status {
	st := Status{
		Greeted: s.greeted, Settled: s.settled(), EqualAtHandshake: s.proof.equalAtHandshake,
		Digest: s.proof.mine, PeerDigest: s.proof.theirs, Version: s.peer.version, Features: s.peer.features,
		Compared: s.Compared(), Handover: s.peer.handover, OneWay: s.OneWay(), Apart: s.chainsApart(),
		Disputed: slices.SortedFunc(maps.Keys(s.disputes), crdt.ChainID.Compare),
	}
	st.Equal = st.Settled && s.proof.equal && !s.proof.dirty
	if s.greeted {
		for stream, v := range s.local {
			if s.sole(stream) == s.cfg.Peer {
				continue // nothing goes back
			}
			for author, head := range v {
				chain := crdt.ChainID{Stream: stream, Author: author}
				if _, disputed := s.disputes[chain]; disputed {
					continue
				}
				if has := s.peerHas[chain].Seq; head.Seq > has {
					st.OwedOut += head.Seq - has
				}
			}
		}
	}
	for chain, seq := range s.in.wanted {
		if at := s.local[chain.Stream][chain.Author].Seq; seq > at {
			st.OwedIn += seq - at
		}
	}
	return st
}
