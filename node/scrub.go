package node

import (
	"context"
	"fmt"
	"time"

	"github.com/tiermesh/tiermesh/replication/store"
)

// scrub reads the site's store again and raises an alarm for what it finds.
func (n *Node) scrub(ctx context.Context) (store.ScrubResult, error) {
	r, err := n.group.Store().Scrub(ctx)
	if len(r.Findings) > 0 {
		n.alarms.raise(fmt.Sprintf("scrub: %d findings, the first: %+v; see tiermesh scrub", len(r.Findings), r.Findings[0]))
	}
	return r, err
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
