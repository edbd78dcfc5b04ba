package node

import (
	"context"
	"fmt"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
)

// Entry is a document to publish: its identifier and the operations that
// create it or bring it up to date.
type Entry struct {
	Doc tiers.DocID
	Ops []crdt.Op
}

// Publish writes entries to this site's own catalog stream. Those of a catalog are
// written together, as one version of it; of the others each once: one whose key was
// used before is left as it is.
func (n *Node) Publish(ctx context.Context, key string, entries []Entry) error {
	byCatalog := map[string][][]crdt.Op{}
	for _, e := range entries {
		if c, ok := catalog.OfKind(e.Doc.Kind()); ok {
			byCatalog[c.Name] = append(byCatalog[c.Name], e.Ops)
			continue
		}
		_, err := n.docs.write(ctx, key+":"+string(e.Doc), Edit{Key: docKey(n.creds.ID.Site, tiers.ClassCatalog, e.Doc), Ops: e.Ops})
		if err != nil {
			return fmt.Errorf("publish %s: %w", e.Doc, err)
		}
	}
	for _, name := range catalog.Names() {
		if len(byCatalog[name]) == 0 {
			continue
		}
		if _, _, err := n.publishOps(ctx, key+":"+name, name, byCatalog[name]...); err != nil {
			return fmt.Errorf("publish %s: %w", name, err)
		}
	}
	return nil
}

// Edit changes a document that exists, in a stream that this site may write
// to. The error wraps [ErrNotWriter] or [store.ErrNotFound].
func (n *Node) Edit(ctx context.Context, key string, stream tiers.StreamID, doc tiers.DocID, ops []crdt.Op) (replication.Written, error) {
	if !n.Topology().MayWrite(stream, n.creds.ID.Site) {
		return replication.Written{}, fmt.Errorf("%w: %s, site %s", ErrNotWriter, stream, n.creds.ID.Site)
	}
	k := docKey(stream.Site, stream.Class, doc)
	if _, err := n.group.Store().Heads(k); err != nil {
		return replication.Written{}, err
	}
	done, err := n.docs.write(ctx, key, Edit{Key: k, Ops: ops})
	if err != nil {
		return replication.Written{}, err
	}
	return done[0], nil
}
