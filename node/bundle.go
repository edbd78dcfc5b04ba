package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
)

// errNoCheckpoint says that another author's run has no end that may be passed
// on yet.
var errNoCheckpoint = errors.New("node: no checkpoint to end at")

// readRange reads a run of a chain for another site, about bytesMax long. The
// site signs its own chain where the run happens to end; another author's run
// must end at a checkpoint of its, which may lie past last.
func (n *Node) readRange(chain crdt.ChainID, first, last uint64, bytesMax int) (r federation.Range, prev crdt.Hash, err error) {
	st := n.group.Store()
	run, err := st.ReadRun(chain, first, last, bytesMax)
	if err != nil {
		return r, prev, err
	}
	if chain.Author.Site == n.creds.ID.Site {
		r.Checkpoint, err = n.signCheckpoint(chain, run.End)
	} else {
		r.Checkpoint, err = st.CheckpointFrom(chain, first, run.End.Seq)
		if errors.Is(err, store.ErrNotFound) {
			return r, prev, fmt.Errorf("%w: %s from %d", errNoCheckpoint, chain, first)
		}
		if err == nil && r.Checkpoint.Head.Seq != run.End.Seq {
			run, err = st.ReadRun(chain, first, r.Checkpoint.Head.Seq, 1<<31-1)
		}
	}
	r.Chain, r.First, r.Records, r.Bytes = chain, run.First, run.Records, int(sizeOf(run.Records))
	return r, run.Prev, err
}

func (n *Node) signCheckpoint(chain crdt.ChainID, head crdt.Head) (crdt.Checkpoint, error) {
	return crdt.SignCheckpoint(crdt.Ed25519Signer(n.creds.SiteKey), chain, head, n.opts.Now().UnixMilli())
}

func sizeOf(records [][]byte) (sum uint64) {
	for _, r := range records {
		sum += uint64(len(r))
	}
	return sum
}

// bundleBatchBytes is the size at which a bundle's batches end. Larger ones pack
// better; each is one Raft entry where it is taken in.
const bundleBatchBytes = 256 << 10

// checkOther reports whether a site is one of the topology's and not this one.
func (n *Node) checkOther(id tiers.SiteID) error {
	_, ok := n.Topology().Site(id)
	switch {
	case !ok:
		return fmt.Errorf("%w: topology version %d lists no site %q", api.ErrNotFound, n.Topology().Version(), id)
	case id == n.creds.ID.Site:
		return fmt.Errorf("%w: site %s is this one: want another", api.ErrInvalid, id)
	default:
		return nil
	}
}

// exportBundle writes what another site is not known to hold.
func (n *Node) exportBundle(ctx context.Context, q api.ExportQuery, w io.Writer) error {
	has, err := n.known(ctx, &q)
	if err != nil {
		return err
	}
	m, err := n.plan(q.For, has)
	if err != nil {
		return err
	}
	b, err := federation.NewBundleWriter(w, m, crdt.Ed25519Signer(n.creds.SiteKey))
	if err != nil {
		return err
	}
	for _, r := range m.Ranges {
		if err := n.exportRange(ctx, b, r); err != nil {
			return fmt.Errorf("export %s: %w", r.End.Chain, err)
		}
	}
	return b.Close()
}

// known returns what a site is known to hold: what it says in its request, or
// said in its last session, or nothing. It fills in whom the request is of.
func (n *Node) known(ctx context.Context, q *api.ExportQuery) (map[crdt.ChainID]crdt.Head, error) {
	if len(q.Have) > 0 {
		r, err := federation.ReadRequest(bytes.NewReader(q.Have), n.Topology())
		if err != nil {
			return nil, err
		}
		if r.From != n.creds.ID.Site || q.For != "" && q.For != r.Site {
			return nil, fmt.Errorf("%w: the request asks site %s for a bundle for site %s", federation.ErrForeign, r.From, r.Site)
		}
		q.For = r.Site
		return r.Heads(), n.checkOther(q.For)
	}
	if err := n.checkOther(q.For); err != nil || q.Full {
		return nil, err
	}
	states, _ := n.chainsOf(ctx, q.For)
	has := make(map[crdt.ChainID]crdt.Head, len(states))
	for _, c := range states {
		if c.Peer.Seq > 0 {
			has[c.Chain] = c.Peer
		}
	}
	return has, nil
}

// plan lists the ranges of a bundle, each with the checkpoint at its end.
func (n *Node) plan(peer tiers.SiteID, has map[crdt.ChainID]crdt.Head) (federation.Manifest, error) {
	t, st := n.Topology(), n.group.Store()
	m := federation.Manifest{
		Federation: t.Federation(), From: n.creds.ID.Site, For: peer, TimeMS: n.opts.Now().UnixMilli(), TopologyVersion: t.Version(),
	}
	for _, lack := range federation.Difference(t, n.creds.ID.Site, peer, st.Vectors(), has) {
		hash, err := st.HashAt(lack.Chain, lack.After.Seq)
		if err != nil {
			return m, err
		}
		if hash != lack.After.Hash {
			n.alarms.raise(alarmFork, lack.Chain.String(), fmt.Sprintf("chain %s forks at %d: this site and %s hold different records; it is left out of the bundle",
				lack.Chain, lack.After.Seq, peer))
			continue
		}
		var end crdt.Checkpoint
		if lack.Chain.Author.Site == n.creds.ID.Site {
			end, err = n.signCheckpoint(lack.Chain, lack.To)
		} else {
			end, err = st.CheckpointFrom(lack.Chain, lack.After.Seq+1, lack.To.Seq)
		}
		if errors.Is(err, store.ErrNotFound) {
			continue // nothing of it can be passed on yet
		}
		if err != nil {
			return m, err
		}
		span, err := st.Span(lack.Chain, lack.After.Seq)
		if err != nil {
			return m, err
		}
		m.Ranges = append(m.Ranges, federation.BundleRange{From: lack.After, End: end, Bytes: span.Bytes})
	}
	return m, nil
}

func (n *Node) exportRange(ctx context.Context, b *federation.BundleWriter, planned federation.BundleRange) error {
	last := planned.End.Head.Seq
	for first := planned.From.Seq + 1; first <= last; {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, prev, err := n.readRange(planned.End.Chain, first, last, bundleBatchBytes)
		if err != nil {
			return err
		}
		// The chain may have grown, and its checkpoints with it.
		if r.Checkpoint.Head.Seq >= last {
			r.Records, r.Checkpoint = r.Records[:last-first+1], planned.End
		}
		if err := b.Put(r, prev); err != nil {
			return err
		}
		first = r.Checkpoint.Head.Seq + 1
	}
	return nil
}

// requestBundle writes what this site holds of what it shares with another.
func (n *Node) requestBundle(from tiers.SiteID, w io.Writer) error {
	if err := n.checkOther(from); err != nil {
		return err
	}
	t, self := n.Topology(), n.creds.ID.Site
	return federation.WriteRequest(w, federation.Request{
		Federation: t.Federation(), Site: self, From: from, TimeMS: n.opts.Now().UnixMilli(), TopologyVersion: t.Version(),
		Vectors: federation.Shared(t, self, from, n.group.Store().Vectors()),
	}, crdt.Ed25519Signer(n.creds.SiteKey))
}
