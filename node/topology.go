package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// topologyDoc is the one document that holds the topology, in the city's
// control stream: every site stores it and only the city may write it.
const topologyDoc = tiers.DocID("topology:current")

func (n *Node) topologyKey() store.DocKey {
	return docKey(n.Topology().City(), tiers.ClassControl, topologyDoc)
}

// publishedTopology returns the topology document's version as this site last
// saw it, or nil when none has come yet.
func (n *Node) publishedTopology() (*tiers.Topology, error) {
	v, err := n.views.View(n.topologyKey())
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var doc struct {
		Fields struct {
			Body string `json:"body"`
		} `json:"fields"`
	}
	if err := json.Unmarshal(v.JSON, &doc); err != nil {
		return nil, fmt.Errorf("read %s: %w", topologyDoc, err)
	}
	return tiers.ParseTopology([]byte(doc.Fields.Body))
}

// adoptTopology puts the published topology in force when it is newer than the
// one that is, or another one of the same version: the city carries over into what it
// publishes what a file for the start left out. A topology that does not check is left
// alone and reported.
func (n *Node) adoptTopology() error {
	t, err := n.publishedTopology()
	if errors.Is(err, tiers.ErrInvalidTopology) {
		n.alarms.raise(alarmTopology, "published", "published topology refused: "+err.Error())
		return nil
	}
	now := n.Topology()
	if err != nil || t == nil || t.Version() < now.Version() || t.Federation() != n.creds.ID.Federation {
		return err
	}
	if t.Version() == now.Version() {
		theirs, err := t.Marshal()
		if err != nil {
			return err
		}
		ours, err := now.Marshal()
		if err != nil || bytes.Equal(theirs, ours) {
			return err
		}
	}
	n.enforce(t)
	return nil
}

// enforce puts a topology in force: every link starts over by it.
func (n *Node) enforce(t *tiers.Topology) {
	n.topology.Store(t)
	n.log.Info("topology adopted", "topology_version", t.Version())
	if self, ok := t.Site(n.creds.ID.Site); !ok || self.Retired {
		n.alarms.raise(alarmRetired, "topology", fmt.Sprintf("this site is retired in topology version %d: it has no links any more; its data stays readable", t.Version()))
	}
	select {
	case n.links.adopted <- struct{}{}:
	default:
	}
	n.links.resetUp()
	n.links.closeAll("topology changed")
}

// runTopology publishes the bootstrap topology at the city when it is newer
// than what was published, and follows the published one everywhere.
func (n *Node) runTopology(ctx context.Context, changed <-chan struct{}) error {
	loops, ctx := errgroup.WithContext(ctx) // both end with ctx
	if n.creds.ID.Site == n.Topology().City() {
		loops.Go(func() error { return n.runPublish(ctx) })
	}
	loops.Go(func() error {
		var seen map[tiers.StreamID]crdt.Vector // the topology's stream when it was last read
		for {
			select {
			case <-changed:
				now := n.vectors(n.topologyKey().Stream)
				if seen != nil && maps.EqualFunc(now, seen, maps.Equal) {
					continue
				}
				if err := n.adoptTopology(); err != nil {
					return err
				}
				seen = now
			case <-ctx.Done():
				return nil
			}
		}
	})
	return loops.Wait()
}

// runPublish publishes this node's topology in each of its leaderships, as far
// as it is newer.
func (n *Node) runPublish(ctx context.Context) error {
	for {
		lead, err := n.group.Lead(ctx)
		if err != nil {
			return nil //nolint:nilerr // only the end of ctx or of the group ends the wait
		}
		err = n.publishTopology(ctx)
		lost := errors.Is(err, replication.ErrNotLeader) || errors.Is(err, replication.ErrUnknown)
		if err != nil && !lost && ctx.Err() == nil && lead.Err() == nil {
			return err
		}
		if err == nil {
			select {
			case <-lead.Done():
			case <-ctx.Done():
			}
		}
		select {
		case <-time.After(dispatchRetry):
		case <-ctx.Done():
			return nil
		}
	}
}

func (n *Node) publishTopology(ctx context.Context) error {
	mine := n.Topology()
	published, err := n.publishedTopology()
	if err != nil || published != nil && published.Version() >= mine.Version() {
		return err
	}
	if published != nil {
		next, err := published.Succeed(copyDoc(mine.Doc()))
		if err != nil {
			n.alarms.raise(alarmBootstrap, "", "the bootstrap topology cannot follow the published one, which stays in force: "+err.Error())
			n.enforce(published)
			return nil //nolint:nilerr // the operator was told
		}
		mine = next
		n.enforce(mine) // with what was carried over
	}
	return n.writeTopology(ctx, "", mine)
}

// writeTopology makes a topology the published one.
func (n *Node) writeTopology(ctx context.Context, key string, t *tiers.Topology) error {
	body, err := t.Marshal()
	if err != nil {
		return err
	}
	_, err = n.docs.write(ctx, key, Edit{Key: n.topologyKey(), Ops: []crdt.Op{
		{Kind: crdt.OpPut, Key: "version", Value: int64(t.Version())},
		{Kind: crdt.OpPut, Key: "body", Value: string(body)},
	}})
	return err
}

// copyDoc returns a document that shares no rows with doc.
func copyDoc(doc tiers.TopologyDoc) tiers.TopologyDoc {
	doc.Sites = slices.Clone(doc.Sites)
	return doc
}

// PublishTopology makes doc the topology of the federation, at the city, and
// returns it with what was carried over (see [tiers.Topology.Succeed]) and what
// changes. With dry nothing is written. The error wraps [ErrNotCity],
// [tiers.ErrStaleTopology], [tiers.ErrInvalidTopology], or the write outcomes of
// package replication.
func (n *Node) PublishTopology(ctx context.Context, key string, doc tiers.TopologyDoc, dry bool) (*tiers.Topology, tiers.TopologyDiff, error) {
	now := n.Topology()
	if n.creds.ID.Site != now.City() {
		return nil, tiers.TopologyDiff{}, fmt.Errorf("%w: %s is not %s", ErrNotCity, n.creds.ID.Site, now.City())
	}
	next, err := now.Succeed(copyDoc(doc))
	if err != nil {
		return nil, tiers.TopologyDiff{}, err
	}
	for _, s := range next.Sites() {
		if len(s.Key) == 0 && !s.Retired {
			return nil, tiers.TopologyDiff{}, fmt.Errorf("%w: site %s has no key: tiermesh ca issue --site %s", tiers.ErrInvalidTopology, s.ID, s.ID)
		}
	}
	diff := now.Diff(next)
	if dry {
		return next, diff, nil
	}
	if err := n.writeTopology(ctx, key, next); err != nil {
		return nil, diff, err
	}
	return next, diff, n.adoptTopology()
}
