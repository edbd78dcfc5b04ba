package federation

import (
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// learn notes that the peer holds a chain up to head.
func (s *Session) learn(chain crdt.ChainID, head crdt.Head) {
	if head.Seq > s.peerHas[chain].Seq {
		s.peerHas[chain] = head
	}
	s.out.sent[chain] = max(s.out.sent[chain], head.Seq)
}

// consider puts a chain on the list of those to send from when the peer lacks
// some of it. While the peer's vector is awaited, nothing of its stream is.
func (s *Session) consider(chain crdt.ChainID) {
	if !s.greeted {
		return
	}
	if _, waits := s.awaiting[chain.Stream]; waits {
		return
	}
	if _, disputed := s.disputes[chain]; disputed {
		return
	}
	if s.local[chain.Stream][chain.Author].Seq > s.out.sent[chain] && s.sole(chain.Stream) != s.cfg.Peer {
		s.out.owed[chain] = struct{}{}
	} else {
		delete(s.out.owed, chain)
	}
}

func (s *Session) considerAll() {
	for stream, v := range s.local {
		for author := range v {
			s.consider(crdt.ChainID{Stream: stream, Author: author})
		}
	}
}

// schedule asks for the next batches: the highest lane first, one load at a
// time, as long as the lane's window has room. A lower lane starts nothing
// while a higher one still has something to load, so that an urgent record
// waits for no more than what is already under way.
func (s *Session) schedule() {
	if s.closed || len(s.out.loading) > 0 {
		return
	}
	chain, ok := s.next()
	if !ok {
		return
	}
	s.out.loading[chain] = struct{}{}
	s.ready.Loads = append(s.ready.Loads, Load{
		Chain: chain, First: s.out.sent[chain] + 1,
		Last: s.local[chain.Stream][chain.Author].Seq, Bytes: s.batchBytes(),
	})
}

// next picks the owed chain of the most urgent lane whose window has room; the
// lowest chain of a lane goes first.
func (s *Session) next() (best crdt.ChainID, found bool) {
	for chain := range s.out.owed {
		if (!found || chain.Compare(best) < 0) && s.room(int(chain.Stream.Class.Lane())) {
			best, found = chain, true
		}
	}
	return best, found
}

// Loaded answers a [Load] with the run that the driver read: prev is the chain
// hash before the first record, and checkpoint ends the run.
func (s *Session) Loaded(chain crdt.ChainID, prev crdt.Hash, first uint64, records [][]byte, checkpoint crdt.Checkpoint) {
	delete(s.out.loading, chain)
	if s.closed || !s.shared(chain.Stream) {
		return
	}
	if s.loadedDisputed(chain, prev, first, records, checkpoint) {
		return
	}
	if s.out.sent[chain] >= checkpoint.Head.Seq {
		s.consider(chain) // it came to the peer another way in the meantime
		return
	}
	size := 0
	for _, r := range records {
		size += len(r)
	}
	s.out.sent[chain] = checkpoint.Head.Seq
	s.consider(chain)
	lane := chain.Stream.Class.Lane()
	l := &s.out.lanes[lane]
	l.flights = append(l.flights, flight{chain, checkpoint.Head, size, s.pace.sending(size, lane > urgentLanes, len(s.out.owed) == 0)})
	l.bytes += size
	l.backlog = size >= batchMin/2 && size >= s.batchBytes()*7/8 // nearly full is full
	s.send(lane, wireBatch(Range{Chain: chain, First: first, Records: records, Checkpoint: checkpoint}, prev))
}

// NotLoaded answers a [Load] that found no checkpoint to end at yet; the chain
// is considered again when it grows.
func (s *Session) NotLoaded(chain crdt.ChainID) {
	delete(s.out.loading, chain)
	delete(s.out.owed, chain)
}

// stepAck frees the window of what became durable at the peer.
func (s *Session) stepAck(m *wire.Ack) {
	chain := chainOf(m.Chain)
	if m.Seq == 0 || m.Seq > s.out.sent[chain] { // a peer could name any chain at 0
		s.close(wire.CodeProtocol, "%s acknowledged at %d, sent to %d", chain, m.Seq, s.out.sent[chain])
		return
	}
	lane := &s.out.lanes[chain.Stream.Class.Lane()]
	for _, f := range lane.flights {
		if f.chain == chain && f.end.Seq == m.Seq && f.end.Hash != crdt.Hash(m.Hash) {
			s.close(wire.CodeChain, "%s acknowledged at %d with another hash than was sent", chain, m.Seq)
			return
		}
	}
	s.learn(chain, crdt.Head{Seq: m.Seq, Hash: crdt.Hash(m.Hash)})
	kept := lane.flights[:0]
	for _, f := range lane.flights {
		if f.chain == chain && f.end.Seq <= m.Seq {
			s.idle.wentOut()
			lane.bytes -= f.bytes
			s.pace.landed(f.bytes, f.stamp)
			continue
		}
		kept = append(kept, f)
	}
	lane.flights = kept
	s.consider(chain)
}

func wireChain(c crdt.ChainID) wire.Chain {
	return wire.Chain{
		Site: c.Stream.Site, Class: c.Stream.Class, Author: c.Author.Site, Incarnation: c.Author.Incarnation,
	}
}

func chainOf(c wire.Chain) crdt.ChainID {
	return crdt.ChainID{
		Stream: tiers.StreamID{Site: c.Site, Class: c.Class},
		Author: crdt.Author{Site: c.Author, Incarnation: c.Incarnation},
	}
}
