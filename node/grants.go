package node

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
)

// RequestGrant asks a site above or below this one for the use of a digital
// resource. The document stands in the catalog stream of the lower of the two: both
// may write there, and both hold it. The error wraps [catalog.ErrInvalid],
// [catalog.ErrNow], [ErrNoStream] or what a write returns.
func (n *Node) RequestGrant(ctx context.Context, key string, g catalog.Grant) (tiers.DocID, error) {
	self, c := n.creds.ID.Site, resources()
	if g.Owner == "" {
		e, ok, err := n.lookup(c, g.Resource)
		if err != nil {
			return "", err
		}
		if !ok {
			return "", fmt.Errorf("%w: resource %.64q: no catalog from this site up has it; name the owner of one below", catalog.ErrInvalid, g.Resource)
		}
		g.Owner = e.Site
	}
	g.Grantee, g.At = self, n.group.Clock().Now()
	if err := g.Validate(n.opts.Now().UnixMilli()); err != nil {
		return "", err
	}
	stream, err := n.grantStream(g)
	if err != nil {
		return "", err
	}
	e, ok, err := n.entryAt(g.Owner, c, g.Resource)
	if err != nil {
		return "", err
	}
	switch {
	case !ok:
		return "", fmt.Errorf("%w: resource %.64q: site %s does not have it in its catalog, as far as that has come here", catalog.ErrInvalid, g.Resource, g.Owner)
	case e.Retired():
		return "", fmt.Errorf("%w: resource %s is retired", catalog.ErrNow, g.Resource)
	case e.Fields["access"] == "open":
		return "", fmt.Errorf("%w: resource %s is open: it needs no grant", catalog.ErrNow, g.Resource)
	}
	if g.Version, err = n.usedOf(g.Owner, c, g.Resource); err != nil {
		return "", err
	}
	ops, err := catalog.GrantOps(g)
	if err != nil {
		return "", err
	}
	return n.createNamed(ctx, key, stream, catalog.KindGrant, ops)
}

func resources() *catalog.Catalog { c, _ := catalog.Find(catalog.Resources); return c }

// grantStream is where the grant of a request stands.
func (n *Node) grantStream(g catalog.Grant) (tiers.StreamID, error) {
	t := n.Topology()
	switch {
	case t.IsAncestor(g.Owner, g.Grantee):
		return catalogStream(g.Grantee), nil
	case t.IsAncestor(g.Grantee, g.Owner):
		return catalogStream(g.Owner), nil
	}
	return tiers.StreamID{}, fmt.Errorf("%w: owner %.64q: want a site above or below %s; one above both can offer the resource to both", ErrNoStream, g.Owner, g.Grantee)
}

// createNamed creates a document under a new name.
func (n *Node) createNamed(ctx context.Context, key string, stream tiers.StreamID, kind string, ops []crdt.Op) (tiers.DocID, error) {
	id, err := uuid.NewV7FromReader(n.opts.Random)
	if err != nil {
		return "", fmt.Errorf("new %s id: %w", kind, err)
	}
	done, err := n.docs.write(ctx, key, Edit{Key: docKey(stream.Site, stream.Class, tiers.NewDocID(kind, id.String())), Create: true, Ops: ops})
	if err != nil {
		return "", err
	}
	return done[0].Doc, nil
}

// Grant returns a grant's present view. The error wraps [store.ErrNotFound].
func (n *Node) Grant(id tiers.DocID) (catalog.GrantView, error) {
	var v catalog.GrantView
	k, err := n.find(id, tiers.ClassCatalog)
	if err != nil {
		return v, err
	}
	return v, n.read(k, &v)
}

// StepGrant makes a step on a grant in this site's name. The error wraps
// [catalog.ErrInvalid], [catalog.ErrNow], [ErrNotWriter] or what a write returns.
func (n *Node) StepGrant(ctx context.Context, key string, id tiers.DocID, x catalog.Step) error {
	k, err := n.find(id, tiers.ClassCatalog)
	if err != nil {
		return err
	}
	self := n.creds.ID.Site
	if !n.Topology().MayWrite(k.Stream, self) {
		return fmt.Errorf("%w: %s, site %s", ErrNotWriter, k.Stream, self)
	}
	x.By, x.Missing, x.Overruled = self, nil, ""
	_, err = n.docs.write(ctx, key, Edit{Key: k, Make: func() ([]crdt.Op, error) {
		var v catalog.GrantView
		if err := n.read(k, &v); err != nil {
			return nil, err
		}
		if x.Kind == catalog.StepGrant && x.UntilMS == 0 {
			x.UntilMS = v.UntilMS // what was asked for
		}
		x.At = n.group.Clock().Now()
		op, err := v.Check(x, n.opts.Now().UnixMilli())
		return []crdt.Op{op}, err
	}})
	return err
}

func (n *Node) grantStatus(v catalog.GrantView) api.GrantStatus {
	return api.GrantStatus{GrantView: v, Now: v.StateAt(n.opts.Now().UnixMilli())}
}

// RequestGrant implements [api.Sharing].
func (b backend) RequestGrant(ctx context.Context, r api.GrantRequest) (api.GrantStatus, error) {
	id, err := b.n.RequestGrant(ctx, "api:"+r.Key, catalog.Grant{Resource: r.Resource, Owner: r.Owner, Purpose: r.Purpose, UntilMS: r.UntilMS})
	if err != nil {
		return api.GrantStatus{}, translate(err)
	}
	return b.Grant(ctx, id)
}

// StepGrant implements [api.Sharing].
func (b backend) StepGrant(ctx context.Context, r api.GrantStepRequest) (api.GrantStatus, error) {
	err := b.n.StepGrant(ctx, "api:"+r.Key, r.Grant, catalog.Step{Kind: r.Step, Note: r.Note, UntilMS: r.UntilMS})
	if err != nil {
		return api.GrantStatus{}, translate(err)
	}
	return b.Grant(ctx, r.Grant)
}

// Grant implements [api.Sharing].
func (b backend) Grant(_ context.Context, id tiers.DocID) (api.GrantStatus, error) {
	v, err := b.n.Grant(id)
	return b.n.grantStatus(v), translate(err)
}

// Grants implements [api.Sharing].
func (b backend) Grants(ctx context.Context, q api.ListQuery) (api.GrantList, error) {
	q.Kind = catalog.KindGrant
	page, err := b.List(ctx, q)
	out := api.GrantList{Grants: []api.GrantStatus{}, Next: page.Next}
	for _, raw := range page.Items {
		var v catalog.GrantView
		if err := json.Unmarshal(raw, &v); err != nil {
			return out, fmt.Errorf("view of a grant: %w", err)
		}
		out.Grants = append(out.Grants, b.n.grantStatus(v))
	}
	return out, err
}
