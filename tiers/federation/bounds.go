package federation

import (
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// What a peer can make a session remember and do. All else that a session keeps is
// in proportion to the topology and to what this site holds.
const (
	// unheldMax bounds the chains of a peer's vectors that are remembered although
	// this site holds nothing of them. What is forgotten costs nothing: there is
	// nothing of such a chain to send, and the peer sends it unasked.
	unheldMax = 1 << 14
	// talkMax bounds the messages that move nothing, beyond the talkPerTick that
	// are forgiven with each tick; one more ends the session.
	talkMax     = 4096
	talkPerTick = 64
	// headsPerMessage is the size at which a vectors message ends.
	headsPerMessage = 1 << 14
)

// progress counts what tells a link that works from one that is only up.
type progress struct {
	// in and out are ticks without progress while the peer has something to say,
	// and while it has something to acknowledge. They are apart, so that a peer
	// that sends for ever must acknowledge, too.
	in, out int
	// talk are messages that moved nothing, less what was forgiven.
	talk int
}

// cameIn notes that the peer brought what was waited for, or something new.
func (p *progress) cameIn() { p.in, p.talk = 0, max(p.talk-1, 0) }

// wentOut notes that the peer acknowledged something.
func (p *progress) wentOut() { p.out, p.talk = 0, max(p.talk-1, 0) }

// tick returns for how long a side that has something to do has not moved.
func (p *progress) tick(waiting, owing bool) int {
	p.in, p.out = p.in+1, p.out+1
	if !waiting {
		p.in = 0
	}
	if !owing {
		p.out = 0
	}
	return max(p.in, p.out)
}

// heard counts a message, and ends the session with a peer that only talks.
func (s *Session) heard() bool {
	if s.idle.talk++; s.idle.talk > talkMax {
		s.close(wire.CodeProtocol, "%d messages that moved nothing", talkMax)
		return false
	}
	return true
}

// learnable reports whether a chain of the peer's vector is one to remember. A
// peer with the same topology that names an author who cannot have written there
// loses its link; with another version it may know better, and is not believed.
func (s *Session) learnable(chain crdt.ChainID) bool {
	if !s.exchanged(chain) {
		return false
	}
	if !s.cfg.Topology.MayHaveWritten(chain.Stream, chain.Author.Site) {
		if s.peer.topologyVersion == s.cfg.Topology.Version() {
			s.close(wire.CodeAuthorship, "site %s may not write to %s", chain.Author.Site, chain.Stream)
		}
		return false
	}
	if s.localHead(chain).Seq == 0 {
		s.peer.unheld++
	}
	return s.peer.unheld <= unheldMax
}

// sendVectors sends vectors in messages that fit a frame.
func (s *Session) sendVectors(streams []wire.StreamVector) {
	m, heads := &wire.Vectors{}, 0
	for i, v := range streams {
		m.Streams = append(m.Streams, v)
		heads += len(v.Heads)
		if last := i == len(streams)-1; last || heads+len(streams[i+1].Heads) > headsPerMessage {
			s.send(0, m)
			m, heads = &wire.Vectors{}, 0
		}
	}
}
