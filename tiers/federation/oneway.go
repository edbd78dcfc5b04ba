package federation

import (
	"maps"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// A site that got another parent has a former one, which may have written to its
// streams what it could not send before. It is not in their audience any more, so
// that it shares none of them with anybody; but what it wrote itself it still hands
// to those who are. Such a stream is one-way: both ends of the link look at the
// chains of that one author alone, and nothing of it goes back. Why: ADR 0023.

// Exchanged reports what two sites exchange of a stream: all of its chains when both
// are in its audience (author is empty); those of author alone, one way, when that
// one of the two is a former parent and the other one is in the audience; else
// nothing.
func Exchanged(t *tiers.Topology, stream tiers.StreamID, a, b tiers.SiteID) (author tiers.SiteID, ok bool) {
	inA, inB := t.InAudience(stream, a), t.InAudience(stream, b)
	switch {
	case inA && inB:
		return "", true
	case inB && formerly(t, stream, a):
		return a, true
	case inA && formerly(t, stream, b):
		return b, true
	default:
		return "", false
	}
}

// formerly reports whether a site outside of a stream's audience may hand over what
// it wrote there.
func formerly(t *tiers.Topology, stream tiers.StreamID, site tiers.SiteID) bool {
	if !t.MayHaveWritten(stream, site) {
		return false
	}
	row, _ := t.Site(site)
	return !row.Retired // it has no links; it handed over all before, or never will
}

// part is what of a vector stands in a one-way stream of author's; all of it in
// another stream, whose author is empty.
func part(v crdt.Vector, author tiers.SiteID) crdt.Vector {
	if author == "" {
		return v
	}
	v = maps.Clone(v)
	maps.DeleteFunc(v, func(a crdt.Author, _ crdt.Head) bool { return a.Site != author })
	return v
}

// sole returns the one author of a one-way stream, or nothing.
func (s *Session) sole(stream tiers.StreamID) tiers.SiteID {
	author, _ := Exchanged(s.cfg.Topology, stream, s.cfg.Self, s.cfg.Peer)
	return author
}

// exchanged reports whether a chain is one that the two ends compare.
func (s *Session) exchanged(chain crdt.ChainID) bool {
	author := s.sole(chain.Stream)
	return s.shared(chain.Stream) && (author == "" || author == chain.Author.Site)
}

// OneWay reports whether one-way streams are exchanged in this session.
func (s *Session) OneWay() bool { return s.greeted && s.peer.oneWay }

// leaveOneWay takes the one-way streams out of the session, and returns those that
// the hello named, when the two ends do not see them alike: with different
// topologies, or when the peer is of an older build.
func (s *Session) leaveOneWay() (named []tiers.StreamID) {
	need := FeatureOneWay | FeatureDisputes
	s.peer.oneWay = s.peer.features&need == need && s.peer.topologyVersion == s.cfg.Topology.Version()
	for _, stream := range sorted(s.greeting) {
		if !s.shared(stream) {
			delete(s.greeting, stream)
			s.leaveOut(stream)
			named = append(named, stream)
		}
	}
	return named
}

// apart reports whether a chain of a one-way stream is held differently for good:
// its author, a former parent, has less of it than the other end, because it was
// rolled back, or other records. What it lacks is not sent to it, for it is outside
// of the audience; so that the two ends can be equal, the chain does not count.
func (s *Session) apart(chain crdt.ChainID, author tiers.SiteID) bool {
	if _, waits := s.awaiting[chain.Stream]; author == "" || !s.greeted || waits {
		return false
	}
	if _, forks := s.disputes[chain]; forks {
		return true
	}
	mine, theirs := s.local[chain.Stream][chain.Author].Seq, s.peerHas[chain].Seq
	if author == s.cfg.Self {
		mine, theirs = theirs, mine
	}
	return mine > theirs
}

// fellBehind tells the operator of a former parent that it holds less of its own
// chain than the peer says; once a session, for a lost disk is all of them.
func (s *Session) fellBehind(chain crdt.ChainID, mine, theirs uint64) {
	if s.peer.behind {
		return
	}
	s.peer.behind = true
	s.alarm("site %s says that it holds %d records of %s, this site, their author, holds %d: it seems to have been rolled back; a former parent is not sent what it lacks",
		s.cfg.Peer, theirs, chain, mine)
}

// comparable returns a stream's vector without the chains that do not count.
func (s *Session) comparable(stream tiers.StreamID, v crdt.Vector) crdt.Vector {
	v = s.undisputed(stream, v)
	author := s.sole(stream)
	if author == "" {
		return v
	}
	v = maps.Clone(v)
	maps.DeleteFunc(v, func(a crdt.Author, _ crdt.Head) bool {
		return s.apart(crdt.ChainID{Stream: stream, Author: a}, author)
	})
	return v
}

// chainsApart are the chains of one-way streams that do not count, in order.
func (s *Session) chainsApart() (out []crdt.ChainID) {
	for stream, v := range s.local {
		author := s.sole(stream)
		if author == "" {
			continue
		}
		for a := range v {
			if chain := (crdt.ChainID{Stream: stream, Author: a}); s.apart(chain, author) {
				out = append(out, chain)
			}
		}
	}
	for chain := range s.peerHas { // of which nothing is left here
		_, held := s.local[chain.Stream][chain.Author]
		if !held && chain.Author.Site == s.cfg.Self && s.sole(chain.Stream) == s.cfg.Self && s.shared(chain.Stream) && s.apart(chain, s.cfg.Self) {
			out = append(out, chain)
		}
	}
	slices.SortFunc(out, crdt.ChainID.Compare)
	return out
}

// tellFork says to a former parent that the other end holds other records of its
// chain. Neither gives way: the audience has what came first, and the author may not
// write there any more and is shown nothing.
func (s *Session) tellFork(chain crdt.ChainID, seq uint64) {
	if s.sole(chain.Stream) == s.cfg.Peer {
		s.send(0, &wire.Resend{Chain: wireChain(chain), First: seq})
	}
}

// toldFork takes in what tellFork says; it reports whether that was it.
func (s *Session) toldFork(chain crdt.ChainID, seq uint64) bool {
	last := s.local[chain.Stream][chain.Author].Seq
	if s.sole(chain.Stream) != s.cfg.Self || !s.exchanged(chain) || seq == 0 || seq > last {
		return false
	}
	s.dispute(chain, seq)
	return true
}
