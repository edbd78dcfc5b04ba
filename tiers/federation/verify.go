package federation

import (
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// Verifier decides what may be taken in from another site, whichever way it
// comes: over a link or in a bundle. It is a value and safe for concurrent use.
type Verifier struct {
	Topology *tiers.Topology
	// Self takes in, Peer hands over; neither need be the author.
	Self, Peer tiers.SiteID
}

// Authorise checks audience and authorship of a chain that the peer hands over: a
// former parent, outside of the audience, may hand over its own.
// The error is a [RefusedError].
func (v Verifier) Authorise(chain crdt.ChainID) error {
	t := v.Topology
	switch {
	case !t.InAudience(chain.Stream, v.Self):
		return refuse(wire.CodeAudience, "site %s is not in the audience of %s", v.Self, chain.Stream)
	case !t.InAudience(chain.Stream, v.Peer) && (chain.Author.Site != v.Peer || !formerly(t, chain.Stream, v.Peer)):
		return refuse(wire.CodeAudience, "site %s is not in the audience of %s", v.Peer, chain.Stream)
	case !t.MayHaveWritten(chain.Stream, chain.Author.Site):
		return refuse(wire.CodeAuthorship, "site %s may not write to %s", chain.Author.Site, chain.Stream)
	default:
		return nil
	}
}

// Range verifies a batch from the local head to its signed checkpoint. The error
// is a [RefusedError]; nothing of a batch that fails may get in.
func (v Verifier) Range(m *wire.Batch, head crdt.Head) (Range, error) {
	chain := chainOf(m.Chain)
	if err := v.Authorise(chain); err != nil {
		return Range{}, err
	}
	last := m.First + uint64(len(m.Records)) - 1
	switch {
	case len(m.Records) == 0 || m.First == 0 || last != m.Checkpoint.Seq:
		return Range{}, refuse(wire.CodeChain, "%s: batch from %d does not end at its checkpoint %d", chain, m.First, m.Checkpoint.Seq)
	case m.First > head.Seq+1:
		return Range{}, refuse(wire.CodeChain, "%s: batch starts at %d, this site holds %d", chain, m.First, head.Seq)
	}
	end, size, err := fold(chain, m, head)
	if err != nil {
		return Range{}, err
	}
	checkpoint := crdt.Checkpoint{Chain: chain, Head: end, TimeMS: m.Checkpoint.TimeMS, Signature: m.Checkpoint.Signature}
	if crdt.Hash(m.Checkpoint.Hash) != end.Hash {
		return Range{}, refuse(wire.CodeCheckpoint, "%s: records do not hash to the checkpoint at %d", chain, last)
	}
	if err := v.Checkpoint(checkpoint); err != nil {
		return Range{}, err
	}
	return Range{Chain: chain, First: m.First, Records: m.Records, Checkpoint: checkpoint, Bytes: size}, nil
}

// Checkpoint checks a checkpoint's signature. The error is a [RefusedError].
func (v Verifier) Checkpoint(c crdt.Checkpoint) error {
	site, _ := v.Topology.Site(c.Chain.Author.Site)
	if err := c.Verify(site.Key); err != nil {
		return refuse(wire.CodeCheckpoint, "%v", err)
	}
	return nil
}

// fold hashes a batch's records from Prev on and checks that the result passes
// through the local head.
func fold(chain crdt.ChainID, m *wire.Batch, head crdt.Head) (end crdt.Head, size int, err error) {
	at := crdt.Head{Seq: m.First - 1, Hash: crdt.Hash(m.Prev)}
	for i := 0; ; i++ {
		if at.Seq == head.Seq && at.Hash != head.Hash {
			return at, size, &RefusedError{
				Code: wire.CodeChain, Reason: chain.String() + " forks: this site holds different records", Seq: at.Seq, fork: true,
			}
		}
		if i == len(m.Records) {
			return at, size, nil
		}
		if _, err := crdt.DecodeRecord(m.Records[i]); err != nil {
			return at, size, refuse(wire.CodeChain, "%s: record %d: %v", chain, at.Seq+1, err)
		}
		at = at.Next(m.Records[i])
		size += len(m.Records[i])
	}
}
