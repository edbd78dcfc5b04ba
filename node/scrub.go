package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
)

// scrub reads the site's store again and raises an alarm for what it finds.
func (n *Node) scrub(ctx context.Context) (store.ScrubResult, error) {
	r, err := n.group.Store().Scrub(ctx)
	own := len(r.Findings)
	if err == nil {
		var snapshots []store.Finding
		snapshots, err = n.group.ScrubSnapshots(ctx)
		r.Findings = append(append(r.Findings, snapshots...), n.compare(ctx)...)
	}
	if len(r.Findings) > 0 {
		n.alarms.raise(alarmScrub, "", fmt.Sprintf("scrub: %d findings, the first: %s; %s", len(r.Findings), r.Findings[0], n.remedy(own == 0)))
	}
	return r, err
}

// remedy says what an operator runs at this node for damage. A snapshot is made
// again from a store that is sound.
func (n *Node) remedy(soundStore bool) string {
	if members, err := n.group.Members(); soundStore || err == nil && len(members) > 1 {
		return "to see all of them run: tiermesh scrub; to mend them: tiermesh repair"
	}
	return fmt.Sprintf("to see all of them run: tiermesh scrub; this site has one node: end it and run: tiermesh salvage --config FILE --confirm %s", n.creds.ID.Site)
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
	return n.unequal(ctx, m, func() (api.NodeInfo, error) { return n.info(), nil })
}

// unequal says how a member differs from another node, or "".
func (n *Node) unequal(ctx context.Context, m replication.Member, than func() (api.NodeInfo, error)) string {
	unequal := 0
	for range compareAttempts {
		before, err := than()
		other, err2 := n.ask(ctx, m.Node, m.Addr)
		after, err3 := than()
		if err := errors.Join(err, err2, err3); err != nil || other.ID != m.ID {
			return ""
		}
		switch {
		case other.Applied != before.Applied || after.Applied != before.Applied:
			unequal = 0
		case other.Digest == before.Digest:
			return ""
		default:
			unequal++
		}
		if unequal == compareAgree {
			return fmt.Sprintf("node %d (%s) holds other chains than node %d at entry %d: digest %.12s, there %.12s; at the wrong one run: tiermesh repair",
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
