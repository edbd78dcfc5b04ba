package node

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers/federation"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// importer takes one bundle in.
type importer struct {
	n      *Node
	v      federation.Verifier
	m      federation.Manifest
	report api.ImportReport
	skip   []bool // by range
}

// importBundle takes a bundle in as a link would: the same verification, the
// same entries. Ranges that begin beyond what is held here, and those that this
// site may not take in under another version of the topology than the bundle
// was made under, are left out and reported; everything else that does not fit
// ends the import. What came in before is whole and stays.
func (n *Node) importBundle(ctx context.Context, r io.Reader) (api.ImportReport, error) {
	b, err := federation.ReadBundle(r)
	if err != nil {
		return api.ImportReport{}, err
	}
	im := &importer{n: n, m: b.Manifest()}
	im.v = federation.Verifier{Topology: n.Topology(), Self: n.creds.ID.Site, Peer: im.m.From}
	if err := b.Verify(im.v.Topology); err != nil {
		return api.ImportReport{}, err
	}
	if im.m.For != n.creds.ID.Site {
		return api.ImportReport{}, fmt.Errorf("%w: the bundle is for site %s, this is %s", federation.ErrForeign, im.m.For, n.creds.ID.Site)
	}
	// What Raft has committed is applied before heads are compared.
	if err := n.group.Linearize(ctx); err != nil {
		return api.ImportReport{}, err
	}
	im.report = api.ImportReport{
		From: im.m.From, TimeMS: im.m.TimeMS, TopologyVersion: im.m.TopologyVersion, Ranges: len(im.m.Ranges),
		Gaps: []api.ImportGap{}, Refused: []api.ImportRefusal{},
	}
	if err := im.inspect(); err != nil {
		return im.report, err
	}
	for {
		batch, i, err := b.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, federation.ErrBundle) {
			return im.report, nil
		}
		if err == nil && im.skip[i] {
			im.report.Skipped += uint64(len(batch.Records))
			continue
		}
		if err == nil {
			err = im.take(ctx, i, batch)
		}
		if err != nil {
			return im.report, fmt.Errorf("%w (%d new records of verified ranges before that came in and stay)", err, im.report.New)
		}
	}
}

// inspect checks every range's authorship, audience and final checkpoint before
// anything gets in.
func (im *importer) inspect() error {
	im.skip = make([]bool, len(im.m.Ranges))
	for i, r := range im.m.Ranges {
		err := im.v.Authorise(r.End.Chain)
		if err == nil {
			err = im.v.Checkpoint(r.End)
		}
		switch {
		case err == nil:
		case im.m.TopologyVersion != im.v.Topology.Version():
			im.refuse(i, fmt.Sprintf("%v (the bundle was made under topology version %d, this site has %d)",
				err, im.m.TopologyVersion, im.v.Topology.Version()))
		default:
			return fmt.Errorf("%w: %w", federation.ErrBundle, err)
		}
	}
	return nil
}

func (im *importer) refuse(i int, reason string) {
	im.skip[i] = true
	c := im.m.Ranges[i].End.Chain
	im.report.Refused = append(im.report.Refused, api.ImportRefusal{Stream: c.Stream.String(), Author: c.Author.String(), Reason: reason})
}

// forked leaves a range out whose chain differs from the one held here.
func (im *importer) forked(i, records int, err error) {
	im.n.alarms.raise(fmt.Sprintf("bundle from %s: %v", im.m.From, err))
	im.refuse(i, err.Error())
	im.report.Skipped += uint64(records)
}

// take verifies one batch and makes it durable.
func (im *importer) take(ctx context.Context, i int, batch *wire.Batch) error {
	st := im.n.group.Store()
	chain := im.m.Ranges[i].End.Chain
	head, held := st.Vector(chain.Stream)[chain.Author]
	if !held {
		head = chain.Origin()
	}
	if batch.First > head.Seq+1 {
		im.skip[i] = true
		im.report.Skipped += uint64(len(batch.Records))
		im.report.Gaps = append(im.report.Gaps, api.ImportGap{
			Stream: chain.Stream.String(), Author: chain.Author.String(), Holds: head.Seq, Starts: batch.First,
		})
		return nil
	}
	r, err := im.v.Range(batch, head)
	switch {
	case errors.Is(err, federation.ErrFork):
		im.forked(i, len(batch.Records), err)
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", federation.ErrBundle, err)
	}
	end := r.Checkpoint.Head
	if end.Seq <= head.Seq {
		hash, err := st.HashAt(chain, end.Seq)
		if err == nil && hash != end.Hash {
			im.forked(i, len(batch.Records), fmt.Errorf("%w: %s differs at record %d", federation.ErrFork, chain, end.Seq))
			return nil
		}
		im.report.Held += uint64(len(batch.Records))
		return err
	}
	if self := (crdt.Author{Site: im.n.creds.ID.Site, Incarnation: st.Incarnation()}); chain.Author == self {
		// Another site holds more of this one's chain than it does itself.
		im.n.rolledBack(ctx, im.m.From, federation.Claim{Chain: chain, Head: end})
	}
	fresh, err := im.n.group.Ingest(ctx, store.Range{Chain: chain, First: r.First, Records: r.Records, Checkpoint: r.Checkpoint})
	if errors.Is(err, store.ErrFork) {
		im.forked(i, len(batch.Records), err)
		return nil
	}
	if err != nil {
		return err
	}
	im.report.New += uint64(fresh)
	im.report.Held += uint64(len(batch.Records) - fresh)
	return nil
}
