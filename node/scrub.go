package node

import (
	"context"
	"fmt"
	"time"

	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
)

// scrub reads the site's store again and raises an alarm for what it finds.
func (n *Node) scrub(ctx context.Context) (store.ScrubResult, error) {
	r, err := n.group.Store().Scrub(ctx)
	if err == nil {
		r.Findings = append(r.Findings, n.compare(ctx)...)
	}
	if len(r.Findings) > 0 {
		n.alarms.raise(fmt.Sprintf("scrub: %d findings, the first: %+v; see tiermesh scrub", len(r.Findings), r.Findings[0]))
	}
	return r, err
}

// Two nodes are compared this often at most, so far apart; that they differ
// must show several times in a row, since a node's digest follows its index.
const (
	compareAttempts = 20
	comparePause    = 20 * time.Millisecond
	compareAgree    = 3
)

// compare asks the other nodes of the site for the digest of all their chains'
// heads, and names those that hold something else at the same entry. A node that
// does not answer, or never stands still, is no finding.
func (n *Node) compare(ctx context.Context) (out []store.Finding) {
	members, err := n.group.Members()
	if err != nil {
		return nil
	}
	for _, m := range members {
		if m.ID != n.group.ID() {
			if what := n.differs(ctx, m); what != "" {
				out = append(out, store.Finding{What: what})
			}
		}
	}
	return out
}

// differs says how a member differs from this node, or "".
func (n *Node) differs(ctx context.Context, m replication.Member) string {
	unequal := 0
	for range compareAttempts {
		before := n.info()
		other, err := n.ask(ctx, m.Node, m.Addr)
		if err != nil || other.ID != m.ID {
			return ""
		}
		switch after := n.info(); {
		case other.Applied != before.Applied || after.Applied != before.Applied:
			unequal = 0
		case other.Digest == before.Digest:
			return ""
		default:
			unequal++
		}
		if unequal == compareAgree {
			return fmt.Sprintf("node %d (%s) holds other chains than node %d at entry %d: digest %.12s, here %.12s; scrub both, and let the wrong one join again with an empty directory",
				m.Node, m.ID, before.Node, before.Applied, other.Digest, before.Digest)
		}
		select {
		case <-time.After(comparePause):
		case <-ctx.Done():
			return ""
		}
	}
	return ""
}

// runScrub scrubs in the background, now and then, until ctx ends.
func (n *Node) runScrub(ctx context.Context) error {
	tick := time.NewTicker(n.opts.ScrubEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if _, err := n.scrub(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}
