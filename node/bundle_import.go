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
)

// importBundle takes a bundle in; see [federation.Import].
func (n *Node) importBundle(ctx context.Context, r io.Reader) (api.ImportReport, error) {
	// What Raft has committed is applied before heads are compared.
	if err := n.group.Linearize(ctx); err != nil {
		return api.ImportReport{}, err
	}
	result, err := federation.Import(n.Topology(), n.creds.ID.Site, r, bundleTarget{ctx, n})
	m := result.Manifest
	out := api.ImportReport{
		From: m.From, TimeMS: m.TimeMS, TopologyVersion: m.TopologyVersion, Ranges: len(m.Ranges),
		New: result.New, Held: result.Held, Skipped: result.Skipped, Gaps: []api.ImportGap{}, Refused: []api.ImportRefusal{},
	}
	for _, g := range result.Gaps {
		out.Gaps = append(out.Gaps, api.ImportGap{
			Stream: g.Chain.Stream.String(), Author: g.Chain.Author.String(), Holds: g.Holds, Starts: g.Starts,
		})
	}
	for _, f := range result.Refused {
		if f.Fork {
			n.alarms.raise(alarmBundle, string(m.From), fmt.Sprintf("bundle from %s: %s", m.From, f.Reason))
		}
		out.Refused = append(out.Refused, api.ImportRefusal{
			Stream: f.Chain.Stream.String(), Author: f.Chain.Author.String(), Reason: f.Reason,
		})
	}
	if err != nil && out.New > 0 {
		err = fmt.Errorf("%w (new records of verified ranges before that stay: %d)", err, out.New)
	}
	return out, err
}

// bundleTarget is the site's store, for one import.
type bundleTarget struct {
	ctx context.Context //nolint:containedctx // it lives as long as one call of importBundle
	n   *Node
}

// Head implements [federation.Target].
func (b bundleTarget) Head(chain crdt.ChainID) crdt.Head {
	if head, held := b.n.group.Store().Vector(chain.Stream)[chain.Author]; held {
		return head
	}
	return chain.Origin()
}

// HashAt implements [federation.Target].
func (b bundleTarget) HashAt(chain crdt.ChainID, seq uint64) (crdt.Hash, error) {
	return b.n.group.Store().HashAt(chain, seq)
}

// Ingest implements [federation.Target].
func (b bundleTarget) Ingest(r federation.Range) (int, error) {
	n := b.n
	if self := (crdt.Author{Site: n.creds.ID.Site, Incarnation: n.group.Store().Incarnation()}); r.Chain.Author == self {
		// Somebody holds more of this site's chain than it does itself.
		n.rolledBack(b.ctx, "a bundle", federation.Claim{Chain: r.Chain, Head: r.Checkpoint.Head})
	}
	fresh, err := n.group.Ingest(b.ctx, store.Range{
		Chain: r.Chain, First: r.First, Records: r.Records, Checkpoint: r.Checkpoint,
	})
	if errors.Is(err, store.ErrFork) {
		err = fmt.Errorf("%w: %w", federation.ErrFork, err)
	}
	return fresh, err
}
