package federation

import (
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// stepBatch verifies a batch from the local head to its signed checkpoint and
// hands it on to be made durable. Nothing of a batch that fails gets in.
func (s *Session) stepBatch(m *wire.Batch) {
	chain := chainOf(m.Chain)
	if !s.authorised(chain) {
		return
	}
	if _, disputed := s.disputes[chain]; disputed {
		s.stepDisputed(chain, m)
		return
	}
	head := s.localHead(chain)
	last := m.First + uint64(len(m.Records)) - 1
	switch {
	case len(m.Records) == 0 || m.First == 0 || last != m.Checkpoint.Seq:
		s.close(wire.CodeChain, "%s: batch from %d does not end at its checkpoint %d", chain, m.First, m.Checkpoint.Seq)
		return
	case m.First > head.Seq+1:
		s.close(wire.CodeChain, "%s: batch starts at %d, this site holds %d", chain, m.First, head.Seq)
		return
	}
	end, size, ok := s.fold(chain, m, head)
	if !ok {
		return
	}
	checkpoint := crdt.Checkpoint{Chain: chain, Head: end, TimeMS: m.Checkpoint.TimeMS, Signature: m.Checkpoint.Signature}
	if crdt.Hash(m.Checkpoint.Hash) != end.Hash {
		s.close(wire.CodeCheckpoint, "%s: records do not hash to the checkpoint at %d", chain, last)
		return
	}
	site, _ := s.cfg.Topology.Site(chain.Author.Site)
	if err := checkpoint.Verify(site.Key); err != nil {
		s.close(wire.CodeCheckpoint, "%v", err)
		return
	}
	s.learn(chain, end)
	if end.Seq > head.Seq {
		s.in.received[chain] = end
	}
	s.in.open++
	s.ready.Ingests = append(s.ready.Ingests, Range{
		Chain: chain, First: m.First, Records: m.Records, Checkpoint: checkpoint, Bytes: size,
	})
}

// fold hashes a batch's records from Prev on and checks that the result passes
// through the local head.
func (s *Session) fold(chain crdt.ChainID, m *wire.Batch, head crdt.Head) (end crdt.Head, size int, ok bool) {
	at := crdt.Head{Seq: m.First - 1, Hash: crdt.Hash(m.Prev)}
	for i := 0; ; i++ {
		if at.Seq == head.Seq && at.Hash != head.Hash {
			s.contradicted(chain, at.Seq)
			return at, size, false
		}
		if i == len(m.Records) {
			return at, size, true
		}
		if _, err := crdt.DecodeRecord(m.Records[i]); err != nil {
			s.close(wire.CodeChain, "%s: record %d: %v", chain, at.Seq+1, err)
			return at, size, false
		}
		at = at.Next(m.Records[i])
		size += len(m.Records[i])
	}
}

// Contradicted answers the oldest open [Range]: the store holds other records in
// its place.
func (s *Session) Contradicted(r Range) {
	s.in.open--
	if !s.closed {
		s.contradicted(r.Chain, r.Checkpoint.Head.Seq)
	}
}

// Ingested answers the oldest open [Range]: it is durable here now, or err says
// why it is not.
func (s *Session) Ingested(r Range, err error) {
	s.in.open--
	if s.closed {
		return
	}
	s.idleFor = 0
	if err != nil {
		s.alarm("records of %s from %s were not stored: %v", r.Chain, s.cfg.Peer, err)
		s.close(wire.CodeChain, "%s: %v", r.Chain, err)
		return
	}
	s.Local(r.Chain, r.Checkpoint.Head)
	if h := s.in.received[r.Chain]; h.Seq <= s.local[r.Chain.Stream][r.Chain.Author].Seq {
		delete(s.in.received, r.Chain)
	}
	if s.in.wanted[r.Chain] <= s.local[r.Chain.Stream][r.Chain.Author].Seq {
		delete(s.in.wanted, r.Chain)
	}
	s.send(0, &wire.Ack{Chain: wireChain(r.Chain), Seq: r.Checkpoint.Head.Seq, Hash: wire.Hash(r.Checkpoint.Head.Hash)})
}
