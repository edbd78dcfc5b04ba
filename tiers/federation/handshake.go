package federation

import (
	"maps"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// stepHello checks who the peer says it is and compares digests. Both ends see
// both lists, so they agree on the streams that differ without another word.
func (s *Session) stepHello(m *wire.Hello) {
	t := s.cfg.Topology
	switch {
	case s.greeted:
		s.close(wire.CodeProtocol, "second hello")
		return
	case m.VersionMin > Version || m.VersionMax < Version:
		s.close(wire.CodeVersion, "peer speaks versions %d to %d, this site speaks %d", m.VersionMin, m.VersionMax, Version)
		return
	case m.Federation != t.Federation():
		s.close(wire.CodeFederation, "peer belongs to federation %q, this site to %q", m.Federation, t.Federation())
		return
	case m.Site != s.cfg.Peer:
		s.close(wire.CodeFederation, "peer's certificate says site %s, its hello %s", s.cfg.Peer, m.Site)
		return
	case !s.acquainted(m.TopologyVersion):
		return
	}
	s.greeted = true
	s.idle.cameIn()
	s.peer.version, s.peer.features = min(m.VersionMax, Version), m.Features&s.cfg.features()
	s.peer.topologyVersion, s.peer.incarnation = m.TopologyVersion, m.Incarnation
	theirs := make(map[tiers.StreamID]crdt.Hash, len(m.Streams))
	for _, d := range m.Streams {
		theirs[tiers.StreamID{Site: d.Site, Class: d.Class}] = crdt.Hash(d.Digest)
	}
	s.proof.equalAtHandshake = true
	s.declineAll(theirs, s.leaveOneWay())
	vectors := &wire.Vectors{}
	for _, stream := range s.bothStreams(theirs) {
		mine, ok := s.greeting[stream]
		if their, both := theirs[stream]; ok && both && mine.Digest(stream) == their {
			for author, head := range mine {
				s.learn(crdt.ChainID{Stream: stream, Author: author}, head)
			}
			continue
		}
		s.proof.equalAtHandshake = false
		s.awaiting[stream] = struct{}{}
		vectors.Streams = append(vectors.Streams, wireVector(stream, s.local[stream]))
	}
	s.greeting = nil
	if told := s.peer.toldAll && s.peer.features&FeatureWhole != 0; !told {
		s.sendVectors(vectors.Streams)
	}
	if m.Whole && s.peer.features&FeatureWhole != 0 {
		s.stepWhole(m.Vectors)
	}
	s.considerAll() // streams may have grown since the hello was written
}

// stepWhole takes the vectors out of a hello that holds all of them: what it
// does not name, the peer has nothing of.
func (s *Session) stepWhole(vectors []wire.StreamVector) {
	m := &wire.Vectors{}
	named := make(map[tiers.StreamID]struct{}, len(vectors))
	for _, v := range vectors {
		stream := tiers.StreamID{Site: v.Site, Class: v.Class}
		if _, differs := s.awaiting[stream]; differs {
			m.Streams, named[stream] = append(m.Streams, v), struct{}{}
		}
	}
	for stream := range s.awaiting {
		if _, ok := named[stream]; !ok {
			delete(s.awaiting, stream)
		}
	}
	s.stepVectors(m)
}

// bothStreams returns the streams that either end named, in lane order. What
// is not shared by our topology is neither sent nor accepted.
func (s *Session) bothStreams(theirs map[tiers.StreamID]crdt.Hash) []tiers.StreamID {
	out := slices.Collect(maps.Keys(s.greeting))
	for stream := range theirs {
		if _, ok := s.greeting[stream]; !ok && s.shared(stream) {
			out = append(out, stream)
		}
	}
	slices.SortFunc(out, tiers.StreamID.Compare)
	return out
}

func wireVector(stream tiers.StreamID, v crdt.Vector) wire.StreamVector {
	out := wire.StreamVector{Site: stream.Site, Class: stream.Class}
	for _, a := range v.Authors() {
		out.Heads = append(out.Heads, wire.ChainHead{
			Author: a.Site, Incarnation: a.Incarnation, Seq: v[a].Seq, Hash: wire.Hash(v[a].Hash),
		})
	}
	return out
}

// stepVectors learns what the peer holds of the streams that differ.
func (s *Session) stepVectors(m *wire.Vectors) {
	for _, sv := range m.Streams {
		stream := tiers.StreamID{Site: sv.Site, Class: sv.Class}
		if !s.shared(stream) {
			continue // it was on its way when this end declined
		}
		if _, ok := s.awaiting[stream]; !ok {
			s.close(wire.CodeProtocol, "vector of %s was not asked for", stream)
			return
		}
		delete(s.awaiting, stream)
		s.idle.cameIn()
		for _, h := range sv.Heads {
			chain := crdt.ChainID{Stream: stream, Author: crdt.Author{Site: h.Author, Incarnation: h.Incarnation}}
			if s.learnable(chain) {
				s.compare(chain, crdt.Head{Seq: h.Seq, Hash: crdt.Hash(h.Hash)})
			}
			if s.closed {
				return
			}
		}
	}
	s.considerAll()
}

// compare sets the peer's head of one chain against ours. More of this site's own
// chain than it holds is a claim like any other: the records follow, and only they
// carry the site's signature (see [Session.rolledBack]).
func (s *Session) compare(chain crdt.ChainID, theirs crdt.Head) {
	if theirs.Seq == 0 {
		return // as if it were not named
	}
	mine := s.localHead(chain)
	s.learn(chain, theirs)
	switch {
	case theirs.Seq == mine.Seq && theirs.Hash != mine.Hash:
		s.dispute(chain, theirs.Seq)
	case theirs.Seq > mine.Seq && s.sole(chain.Stream) == s.cfg.Self:
		s.fellBehind(chain, mine.Seq, theirs.Seq)
	case theirs.Seq > mine.Seq:
		s.in.wanted[chain] = theirs.Seq
	}
}

// rolledBack ends the session when a chain of which the peer showed more than this
// site holds is the site's own.
func (s *Session) rolledBack(chain crdt.ChainID, theirs crdt.Head) bool {
	if chain.Author != (crdt.Author{Site: s.cfg.Self, Incarnation: s.cfg.Incarnation}) {
		return false
	}
	s.ready.RolledBack = &Claim{Chain: chain, Head: theirs}
	s.close(wire.CodeOK, "peer holds more of this site's chain than the site")
	return true
}
