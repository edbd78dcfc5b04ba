package federation

import (
	"errors"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// straysMax is how many batches of streams that are not shared a peer with
// another topology may have under way before the session ends.
const straysMax = 64

// refusal reports whether a code says that something was not accepted, as
// opposed to a link that ended.
func refusal(c wire.Code) bool {
	switch c {
	case wire.CodeProtocol, wire.CodeVersion, wire.CodeFederation, wire.CodeUnlinked, wire.CodeAudience,
		wire.CodeAuthorship, wire.CodeChain, wire.CodeCheckpoint, wire.CodeRetired:
		return true
	default:
		return false
	}
}

// shared reports whether the two sites exchange a stream, or a part of it, as far
// as both ends agree on that.
func (s *Session) shared(stream tiers.StreamID) bool {
	if _, no := s.peer.declined[stream]; no || s.peer.handover && stream.Class != tiers.ClassControl {
		return false
	}
	author, ok := Exchanged(s.cfg.Topology, stream, s.cfg.Self, s.cfg.Peer)
	return ok && (author == "" || s.peer.oneWay)
}

// acquainted checks that the peer has a place in the topology here. Two sites
// that are listed and not linked go on, to hand the newer topology over, when
// their versions differ.
func (s *Session) acquainted(theirs uint64) bool {
	t := s.cfg.Topology
	self, _ := t.Site(s.cfg.Self)
	peer, listed := t.Site(s.cfg.Peer)
	switch {
	case peer.Retired:
		s.close(wire.CodeRetired, "site %s is retired in topology version %d", s.cfg.Peer, t.Version())
	case self.Retired:
		s.close(wire.CodeRetired, "this site, %s, is retired in topology version %d", s.cfg.Self, t.Version())
	case !listed:
		s.close(wire.CodeUnlinked, "site %s is not listed in topology version %d", s.cfg.Peer, t.Version())
	case s.peer.handover && theirs == t.Version():
		s.close(wire.CodeUnlinked, "site %s is neither above nor below site %s in topology version %d", s.cfg.Peer, s.cfg.Self, t.Version())
	default:
		return true
	}
	return false
}

// declineAll tells the peer which of the streams that it named are not shared
// by the topology here, so that it does not wait for them; and which of those that
// this end named are left out after all.
func (s *Session) declineAll(theirs map[tiers.StreamID]crdt.Hash, mine []tiers.StreamID) {
	m := &wire.Decline{}
	for _, stream := range mine {
		if _, named := theirs[stream]; !named {
			m.Streams = append(m.Streams, wire.Stream{Site: stream.Site, Class: stream.Class})
		}
	}
	for _, stream := range sorted(theirs) {
		if !s.shared(stream) {
			if _, listed := s.cfg.Topology.Site(stream.Site); listed { // a peer could name any
				s.peer.declined[stream] = struct{}{}
			}
			m.Streams = append(m.Streams, wire.Stream{Site: stream.Site, Class: stream.Class})
		}
	}
	if len(m.Streams) > 0 {
		s.send(0, m)
	}
}

// stepDecline leaves streams out that the peer takes no part in.
func (s *Session) stepDecline(m *wire.Decline) {
	for _, d := range m.Streams {
		// Others are left out already, and are not noted: a peer could name any.
		if stream := (tiers.StreamID{Site: d.Site, Class: d.Class}); s.shared(stream) {
			s.leaveOut(stream)
		}
	}
}

// leaveOut takes a stream out of the session.
func (s *Session) leaveOut(stream tiers.StreamID) {
	s.peer.declined[stream] = struct{}{}
	delete(s.awaiting, stream)
	for author := range s.local[stream] {
		s.forget(crdt.ChainID{Stream: stream, Author: author})
	}
	delete(s.local, stream)
	for chain := range s.in.wanted {
		if chain.Stream == stream {
			delete(s.in.wanted, chain)
		}
	}
	s.proof.dirty = true
}

// forget drops a chain from what is owed and under way.
func (s *Session) forget(chain crdt.ChainID) {
	delete(s.out.owed, chain)
	delete(s.in.wanted, chain)
	lane := &s.out.lanes[chain.Stream.Class.Lane()]
	kept := lane.flights[:0]
	for _, f := range lane.flights {
		if f.chain == chain {
			lane.bytes -= f.bytes
			s.pace.dropped(f.bytes, f.stamp)
			continue
		}
		kept = append(kept, f)
	}
	lane.flights = kept
}

// authorised checks audience and authorship of a chain that the peer sends.
func (s *Session) authorised(chain crdt.ChainID) bool {
	var refused *RefusedError
	switch {
	case errors.As(s.verifier().Authorise(chain), &refused):
		s.outside(chain.Stream, refused.Code, "%s", refused.Reason)
	case !s.shared(chain.Stream): // handed over, or declined
		s.outside(chain.Stream, wire.CodeAudience, "%s is not exchanged with site %s in this session", chain.Stream, s.cfg.Peer)
	default:
		return true
	}
	return false
}

// outside refuses a batch. A peer with the same topology knows better and loses
// its link; one with another version is told to leave the stream out.
func (s *Session) outside(stream tiers.StreamID, code wire.Code, format string, args ...any) {
	s.peer.strays++
	if s.peer.topologyVersion == s.cfg.Topology.Version() || s.peer.strays > straysMax {
		s.close(code, format, args...)
		return
	}
	s.ready.Refusals = append(s.ready.Refusals, code)
	if _, told := s.peer.declined[stream]; told {
		return // it was on its way
	}
	s.leaveOut(stream)
	s.send(0, &wire.Decline{Streams: []wire.Stream{{Site: stream.Site, Class: stream.Class}}})
}

// tickHandover ends a handover that has nothing left to do: the end with the
// newer topology sends the other one to where it belongs.
func (s *Session) tickHandover() {
	t := s.cfg.Topology
	if !s.greeted || !s.peer.handover {
		return
	}
	s.peer.handoverFor++
	if t.Version() < s.peer.topologyVersion {
		if s.peer.handoverFor > s.cfg.ProofTicks {
			s.close(wire.CodeBusy, "topology version %d has not come to this site yet", s.peer.topologyVersion)
		}
		return
	}
	peer, _ := t.Site(s.cfg.Peer)
	parent, _ := t.Site(peer.Parent)
	r := &wire.Redirect{TopologyVersion: t.Version(), Parent: parent.ID}
	for _, n := range parent.Nodes {
		r.Addrs = append(r.Addrs, n.Addr)
	}
	s.close(wire.CodeMoved, "site %s is under %s in topology version %d", s.cfg.Peer, parent.ID, t.Version())
	s.ready.Close.Redirect = r
}
