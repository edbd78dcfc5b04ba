package federation

import (
	"maps"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// Dispute is a run of the peer's records of a chain of which this site holds
// others, at the end that gives way (see the package comment). The range is
// signed by the chain's author, and so are the records here: together they prove
// that the author wrote two histories.
type Dispute struct {
	Range
	// Prev is the chain hash before Range's first record at the peer.
	Prev crdt.Hash
	// Last is how far the peer is known to hold the chain.
	Last uint64
}

// yields reports whether this end gives way in a dispute: who still writes the
// chain does, for what a peer holds has spread already; otherwise the lower end.
func (s *Session) yields(chain crdt.ChainID) bool {
	if s.sole(chain.Stream) != "" {
		return false // see tellFork
	}
	switch chain.Author {
	case crdt.Author{Site: s.cfg.Self, Incarnation: s.cfg.Incarnation}:
		return true
	case crdt.Author{Site: s.cfg.Peer, Incarnation: s.peer.incarnation}:
		return false
	default:
		return s.cfg.Topology.IsAncestor(s.cfg.Peer, s.cfg.Self)
	}
}

// dispute takes a chain out of the session, once: two different histories claim
// the same place. The end that gives way asks for the other's.
func (s *Session) dispute(chain crdt.ChainID, seq uint64) {
	if _, known := s.disputes[chain]; known {
		return
	}
	s.alarm("chain %s forks at or before %d: this site and %s hold different records", chain, seq, s.cfg.Peer)
	if s.peer.features&FeatureDisputes == 0 {
		s.close(wire.CodeChain, "chain %s differs at record %d", chain, seq)
		return
	}
	s.disputes[chain] = false
	s.ready.Refusals = append(s.ready.Refusals, wire.CodeChain)
	s.forget(chain)
	delete(s.in.received, chain)
	s.proof.dirty = true
	if s.yields(chain) && seq > 0 {
		s.Ask(chain, seq)
	}
	s.tellFork(chain, seq)
}

// Ask asks for the peer's records of a disputed chain from first on. The driver
// calls it when a [Dispute] does not reach back, or forward, to where the two
// histories part.
func (s *Session) Ask(chain crdt.ChainID, first uint64) {
	if s.closed {
		return
	}
	s.send(0, &wire.Resend{Chain: wireChain(chain), First: max(first, 1)})
}

// stepResend shows a peer that gives way what is held here.
func (s *Session) stepResend(m *wire.Resend) {
	chain := chainOf(m.Chain)
	if s.toldFork(chain, m.First) || !s.authorised(chain) {
		return
	}
	if s.sole(chain.Stream) != "" { // from a former parent, which is shown nothing
		s.outside(chain.Stream, wire.CodeAudience, "site %s is not in the audience of %s", s.cfg.Peer, chain.Stream)
		return
	}
	last := s.local[chain.Stream][chain.Author].Seq
	if m.First == 0 || m.First > last {
		s.close(wire.CodeProtocol, "%s asked for from %d, this site holds %d", chain, m.First, last)
		return
	}
	s.dispute(chain, m.First)
	s.show(chain, m.First)
}

// show sends a batch of a disputed chain from first on.
func (s *Session) show(chain crdt.ChainID, first uint64) {
	last := s.local[chain.Stream][chain.Author].Seq
	if _, loading := s.out.loading[chain]; loading || s.closed || last == 0 {
		return // one at a time
	}
	s.out.loading[chain] = struct{}{}
	s.ready.Loads = append(s.ready.Loads, Load{Chain: chain, First: max(first, 1), Last: last, Bytes: s.cfg.BatchBytes})
}

// loadedDisputed sends what was loaded of a chain in dispute, outside of the
// lane's window: the peer asked for it, or has yet to see that there is one.
func (s *Session) loadedDisputed(chain crdt.ChainID, prev crdt.Hash, first uint64, records [][]byte, cp crdt.Checkpoint) bool {
	if known := s.peerHas[chain]; known.Seq == first-1 && known.Seq > 0 && known.Hash != prev {
		s.dispute(chain, known.Seq)
	}
	if _, disputed := s.disputes[chain]; !disputed {
		return false
	}
	if !s.closed && !s.yields(chain) {
		s.send(chain.Stream.Class.Lane(), wireBatch(Range{Chain: chain, First: first, Records: records, Checkpoint: cp}, prev))
	}
	return true
}

// contradicted notes that a batch does not continue what is held here.
func (s *Session) contradicted(chain crdt.ChainID, seq uint64) {
	if seq == 0 {
		s.close(wire.CodeChain, "chain %s does not begin at its origin", chain)
		return
	}
	s.dispute(chain, seq)
	s.tell(chain, seq)
}

// tell shows a peer that has to give way, once, that there is a dispute: it sent
// records as if there were none.
func (s *Session) tell(chain crdt.ChainID, seq uint64) {
	if told := s.disputes[chain]; told || s.closed || s.yields(chain) || s.sole(chain.Stream) != "" {
		return
	}
	s.disputes[chain] = true
	s.show(chain, min(seq, s.local[chain.Stream][chain.Author].Seq))
}

// stepDisputed checks the peer's side of a dispute and hands it to the driver.
func (s *Session) stepDisputed(chain crdt.ChainID, m *wire.Batch) {
	if !s.yields(chain) {
		s.tell(chain, m.First)
		return
	}
	last := m.First + uint64(len(m.Records)) - 1
	if len(m.Records) == 0 || m.First == 0 || last != m.Checkpoint.Seq || m.First == 1 && crdt.Hash(m.Prev) != chain.Origin().Hash {
		s.close(wire.CodeChain, "%s: batch from %d does not end at its checkpoint %d", chain, m.First, m.Checkpoint.Seq)
		return
	}
	d := Dispute{Prev: crdt.Hash(m.Prev), Range: Range{Chain: chain, First: m.First, Records: m.Records}}
	at := crdt.Head{Seq: m.First - 1, Hash: d.Prev}
	for _, r := range m.Records {
		at = at.Next(r)
		d.Bytes += len(r)
	}
	site, _ := s.cfg.Topology.Site(chain.Author.Site)
	d.Checkpoint = crdt.Checkpoint{Chain: chain, Head: at, TimeMS: m.Checkpoint.TimeMS, Signature: m.Checkpoint.Signature}
	if err := d.Checkpoint.Verify(site.Key); err != nil || crdt.Hash(m.Checkpoint.Hash) != at.Hash {
		s.close(wire.CodeCheckpoint, "%s: records do not hash to a signed checkpoint at %d", chain, last)
		return
	}
	s.learn(chain, at)
	d.Last = s.peerHas[chain].Seq
	s.ready.Disputes = append(s.ready.Disputes, d)
}

// undisputed returns a stream's vector without its disputed chains.
func (s *Session) undisputed(stream tiers.StreamID, v crdt.Vector) crdt.Vector {
	if len(s.disputes) == 0 {
		return v
	}
	v = maps.Clone(v)
	maps.DeleteFunc(v, func(a crdt.Author, _ crdt.Head) bool {
		_, disputed := s.disputes[crdt.ChainID{Stream: stream, Author: a}]
		return disputed
	})
	return v
}

func sorted[V any](m map[tiers.StreamID]V) []tiers.StreamID {
	return slices.SortedFunc(maps.Keys(m), tiers.StreamID.Compare)
}
