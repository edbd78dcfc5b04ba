package federation

import (
	"errors"

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
	r, err := s.verifier().Range(m, head)
	var refused *RefusedError
	switch {
	case errors.Is(err, ErrFork) && errors.As(err, &refused):
		s.contradicted(chain, refused.Seq)
		return
	case errors.As(err, &refused):
		s.close(refused.Code, "%s", refused.Reason)
		return
	}
	end := r.Checkpoint.Head
	if end.Seq <= s.in.shown[chain] {
		// No site sends a record twice in a session: this is a replay.
		s.close(wire.CodeProtocol, "%s: records up to %d were sent before", chain, s.in.shown[chain])
		return
	}
	s.in.shown[chain] = end.Seq
	s.learn(chain, end)
	if end.Seq > head.Seq && s.rolledBack(chain, end) {
		return
	}
	if end.Seq > head.Seq {
		s.in.received[chain] = end
		s.idle.cameIn()
	}
	r.Known = end.Seq <= head.Seq
	s.in.open++
	s.ready.Ingests = append(s.ready.Ingests, r)
}

func (s *Session) verifier() Verifier {
	return Verifier{Topology: s.cfg.Topology, Self: s.cfg.Self, Peer: s.cfg.Peer}
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
	s.idle.in = 0
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
