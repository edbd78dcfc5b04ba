package federation

import (
	"errors"
	"fmt"
	"io"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// Target is the store that a bundle is taken into.
type Target interface {
	// Head returns how far a chain is held; its origin when nothing is.
	Head(chain crdt.ChainID) crdt.Head
	// HashAt returns the chain hash after a record that is held.
	HashAt(chain crdt.ChainID, seq uint64) (crdt.Hash, error)
	// Ingest makes a verified range durable and returns how many of its records
	// were new. An error that wraps [ErrFork] leaves the chain out; any other one
	// ends the import.
	Ingest(r Range) (int, error)
}

// ImportResult is what became of a bundle's records.
type ImportResult struct {
	Manifest Manifest
	// New records came in; Held were here before; Skipped are of ranges in Gaps or
	// Refused.
	New, Held, Skipped uint64
	Gaps               []ImportGap
	Refused            []ImportRefusal
}

// ImportGap is a range that begins beyond what is held: the records from Holds+1
// to Starts-1 are missing.
type ImportGap struct {
	Chain         crdt.ChainID
	Holds, Starts uint64
}

// ImportRefusal is a range that may not be taken in.
type ImportRefusal struct {
	Chain  crdt.ChainID
	Reason string
	// Fork says that the chain differs from the one that is held.
	Fork bool
}

// Import takes a bundle for site self into a store as a link would: the same
// verification, the same ranges. Left out and reported are ranges that begin
// beyond what is held, forks, and what may not be taken in when the bundle was
// made under another version of the topology. Everything else that does not fit
// ends the import with an error that wraps [ErrBundle] or [ErrForeign], or the
// target's; what came in before is whole and stays, as the result says.
func Import(t *tiers.Topology, self tiers.SiteID, r io.Reader, target Target) (ImportResult, error) {
	b, err := ReadBundle(r)
	if err != nil {
		return ImportResult{}, err
	}
	im := &importer{target: target, skip: make([]bool, len(b.manifest.Ranges))}
	im.result.Manifest = b.manifest
	im.v = Verifier{Topology: t, Self: self, Peer: b.manifest.From}
	if err := b.Verify(t); err != nil {
		return im.result, err
	}
	if b.manifest.For != self {
		return im.result, fmt.Errorf("%w: the bundle is for site %s, this is %s", ErrForeign, b.manifest.For, self)
	}
	if err := im.inspect(); err != nil {
		return im.result, err
	}
	for {
		batch, i, err := b.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, ErrBundle) {
			return im.result, nil
		}
		if err == nil {
			err = im.take(i, batch)
		}
		if err != nil {
			return im.result, err
		}
	}
}

// importer takes one bundle in.
type importer struct {
	v      Verifier
	target Target
	result ImportResult
	skip   []bool // by range
}

// inspect checks every range's authorship, audience and final checkpoint before
// anything gets in.
func (im *importer) inspect() error {
	m, mine := im.result.Manifest, im.v.Topology.Version()
	for i, r := range m.Ranges {
		err := im.v.Authorise(r.End.Chain)
		if err == nil {
			err = im.v.Checkpoint(r.End)
		}
		switch {
		case err == nil:
		case m.TopologyVersion != mine:
			im.refuse(i, 0, fmt.Errorf("%w (the bundle was made under topology version %d, this site has %d)", err, m.TopologyVersion, mine))
		default:
			return fmt.Errorf("%w: %w", ErrBundle, err)
		}
	}
	return nil
}

func (im *importer) refuse(i, records int, err error) {
	im.skip[i] = true
	im.result.Skipped += uint64(records)
	im.result.Refused = append(im.result.Refused, ImportRefusal{
		Chain: im.result.Manifest.Ranges[i].End.Chain, Reason: err.Error(), Fork: errors.Is(err, ErrFork),
	})
}

// take verifies one batch and hands it to the target.
func (im *importer) take(i int, batch *wire.Batch) error {
	n, chain := len(batch.Records), im.result.Manifest.Ranges[i].End.Chain
	if im.skip[i] {
		im.result.Skipped += uint64(n)
		return nil
	}
	head := im.target.Head(chain)
	if batch.First > head.Seq+1 {
		im.skip[i] = true
		im.result.Skipped += uint64(n)
		im.result.Gaps = append(im.result.Gaps, ImportGap{Chain: chain, Holds: head.Seq, Starts: batch.First})
		return nil
	}
	r, err := im.v.Range(batch, head)
	switch {
	case errors.Is(err, ErrFork):
		im.refuse(i, n, err)
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", ErrBundle, err)
	}
	fresh := 0
	if end := r.Checkpoint.Head; end.Seq > head.Seq {
		fresh, err = im.target.Ingest(r)
	} else {
		err = im.compare(chain, end)
	}
	if errors.Is(err, ErrFork) {
		im.refuse(i, n, err)
		return nil
	}
	if err != nil {
		return err
	}
	im.result.New += uint64(fresh)
	im.result.Held += uint64(n - fresh)
	return nil
}

// compare checks that a range that is held already is the same here.
func (im *importer) compare(chain crdt.ChainID, end crdt.Head) error {
	hash, err := im.target.HashAt(chain, end.Seq)
	if err == nil && hash != end.Hash {
		err = fmt.Errorf("%w: %s differs at or before record %d", ErrFork, chain, end.Seq)
	}
	return err
}
