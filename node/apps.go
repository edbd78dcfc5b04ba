package node

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
)

// Replicate orders a site, this one or one below, to run a release of the catalog
// that holds here. The order stands in the target's command stream; the target
// decides, when it gets it. The error wraps [catalog.ErrInvalid], [catalog.ErrNow],
// [ErrNoStream] or what a write returns.
func (n *Node) Replicate(ctx context.Context, key, code string, to tiers.SiteID, note string) (tiers.DocID, error) {
	c, _ := catalog.Find(catalog.Apps)
	e, ok, err := n.lookup(c, code)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", fmt.Errorf("%w: code %.64q: catalog apps has no such release from this site up", catalog.ErrInvalid, code)
	}
	if e.Retired() {
		return "", fmt.Errorf("%w: release %s is retired", catalog.ErrNow, code)
	}
	self := n.creds.ID.Site
	if to == "" {
		to = self
	}
	site, ok := n.Topology().Site(to)
	stream := tiers.StreamID{Site: to, Class: tiers.ClassCommand}
	if !ok || site.Retired || !n.Topology().MayWrite(stream, self) {
		return "", fmt.Errorf("%w: to %.64q: want %s or a site below it", ErrNoStream, to, self)
	}
	ops, err := catalog.ReplicationOps(catalog.Replication{
		Code: code, To: to, By: self, At: n.group.Clock().Now(), Fields: e.Fields, Used: e.used, Note: note,
	})
	if err != nil {
		return "", err
	}
	return n.createNamed(ctx, key, stream, catalog.KindReplication, ops)
}

// runApps decides on the replications that were ordered to this site, whenever they
// come: with its declared capacity, what it runs already, and nothing else. The work
// list is an index, as that of the dispatcher is.
func (n *Node) runApps(ctx context.Context, changed <-chan struct{}) error {
	return n.onChange(ctx, changed, nil, func(ctx context.Context) (bool, error) { return false, n.appsPass(ctx) })
}

func (n *Node) appsPass(ctx context.Context) error {
	hits, err := n.group.Store().Index(store.IndexQuery{Name: catalog.IndexReplicationPending, Prefix: string(n.creds.ID.Site) + "/"})
	if err != nil {
		return err
	}
	for _, h := range hits {
		err := n.decideReplication(ctx, h.Key)
		switch {
		case errors.Is(err, crdt.ErrUnavailable):
			n.alarms.raise(alarmApp, h.Key.String(), fmt.Sprintf("%s cannot be decided on: %v", h.Key, err))
		case n.passOver(fmt.Sprintf("%s cannot be decided on", h.Key), err):
		case err != nil && !isNotFound(err):
			return fmt.Errorf("decide on %s: %w", h.Key, err)
		}
	}
	return nil
}

// decideReplication writes the outcome and, of one that fits, that it runs here, in
// one.
func (n *Node) decideReplication(ctx context.Context, k store.DocKey) error {
	done, err := n.catalogs.alone(ctx)
	if err != nil {
		return err
	}
	defer done()
	var v catalog.ReplicationView
	if err := n.read(k, &v); err != nil {
		return err
	}
	if v.State != catalog.ReplicationOrdered || v.Code == "" {
		return nil // the index is behind
	}
	app, missing, err := n.lacks(v)
	if err != nil {
		return err
	}
	edits := []Edit{{Key: k, Make: func() ([]crdt.Op, error) {
		if err := n.read(k, &v); err != nil || v.State != catalog.ReplicationOrdered {
			return nil, err
		}
		_, op, err := v.Decide(n.group.Clock().Now(), missing)
		return []crdt.Op{op}, err
	}}}
	if len(missing) == 0 {
		ops, err := catalog.InstallOps(catalog.Install{
			App: app.App, Version: app.Version, Needs: app.Needs, AtMS: n.opts.Now().UnixMilli(), Order: v.ID, Used: v.Used,
		})
		if err != nil {
			return err
		}
		edits = append(edits, Edit{Key: docKey(n.creds.ID.Site, tiers.ClassCatalog, catalog.InstallDoc(app.App)), Ops: ops})
	}
	_, err = n.docs.write(ctx, "decide:"+string(k.Doc), edits...)
	return err
}

// lacks says what this site lacks for a replication. Who wrote it may have checked
// nothing.
func (n *Node) lacks(v catalog.ReplicationView) (catalog.App, []string, error) {
	c, _ := catalog.Find(catalog.Apps)
	fields, bad := c.Merge(nil, catalog.Row{Fields: v.Fields})
	if len(bad) > 0 || fields["code"] != v.Code {
		return catalog.App{}, []string{fmt.Sprintf("release: the order's description of %.64q is not good: %v", v.Code, bad)}, nil
	}
	runs, err := n.installs()
	if err != nil {
		return catalog.App{}, nil, err
	}
	app := catalog.AppOf(fields)
	capacity, err := n.views.View(docKey(n.creds.ID.Site, tiers.ClassCatalog, catalog.CapacityDoc))
	if isNotFound(err) {
		return app, []string{"capacity: site " + string(n.creds.ID.Site) + " has declared none; see tiermesh app capacity"}, nil
	}
	if err != nil {
		return app, nil, err
	}
	e, err := catalog.EntryFromView(capacity.JSON)
	return app, catalog.Lacks(app, catalog.CapacityOf(e.Fields), runs), err
}

// installs returns what this site runs.
func (n *Node) installs() (out []catalog.Install, err error) {
	docs, err := n.group.Store().DocumentsOf(catalogStream(n.creds.ID.Site), catalog.KindInstall, "", 0)
	for _, k := range docs {
		var v catalog.InstallView
		if err := n.read(k, &v); isNotFound(err) {
			continue
		} else if err != nil {
			return nil, err
		}
		if !v.Removed {
			out = append(out, v.Install)
		}
	}
	return out, err
}

// SetCapacity declares what this site has to run applications on. The error wraps
// [catalog.ErrInvalid] or what a write returns.
func (n *Node) SetCapacity(ctx context.Context, key string, c catalog.Capacity) error {
	if _, err := catalog.CapacityOps(nil, c); err != nil {
		return err
	}
	done, err := n.catalogs.alone(ctx)
	if err != nil {
		return err
	}
	defer done()
	k := docKey(n.creds.ID.Site, tiers.ClassCatalog, catalog.CapacityDoc)
	_, err = n.docs.write(ctx, key, Edit{Key: k, Make: func() ([]crdt.Op, error) {
		v, err := n.views.View(k)
		if isNotFound(err) {
			return catalog.CapacityOps(nil, c)
		}
		if err != nil {
			return nil, err
		}
		e, err := catalog.EntryFromView(v.JSON)
		if err != nil {
			return nil, err
		}
		return catalog.CapacityOps(e.Fields, c)
	}})
	return err
}

// RemoveApp writes down that this site runs an application no more. The error wraps
// [store.ErrNotFound], or [catalog.ErrNow] while another one needs it.
func (n *Node) RemoveApp(ctx context.Context, key, app string) error {
	if err := catalog.InstallDoc(app).Validate(); err != nil {
		return err
	}
	done, err := n.catalogs.alone(ctx)
	if err != nil {
		return err
	}
	defer done()
	k := docKey(n.creds.ID.Site, tiers.ClassCatalog, catalog.InstallDoc(app))
	_, err = n.docs.write(ctx, key, Edit{Key: k, Make: func() ([]crdt.Op, error) {
		var v catalog.InstallView
		if err := n.read(k, &v); err != nil && !isNotFound(err) {
			return nil, err
		}
		if v.App == "" || v.Removed {
			return nil, fmt.Errorf("%w: site %s does not run %.64q", store.ErrNotFound, n.creds.ID.Site, app)
		}
		runs, err := n.installs()
		if err != nil {
			return nil, err
		}
		if by := catalog.NeededBy(app, runs); len(by) > 0 {
			return nil, fmt.Errorf("%w: %s is needed by %s", catalog.ErrNow, app, strings.Join(by, ", "))
		}
		v.Removed, v.AtMS = true, max(v.AtMS+1, n.opts.Now().UnixMilli())
		return catalog.InstallOps(v.Install)
	}})
	return err
}

// SetCapacity implements [api.Sharing].
func (b backend) SetCapacity(ctx context.Context, r api.CapacityRequest) (api.CapacityRequest, error) {
	err := b.n.SetCapacity(ctx, "api:"+r.Key, r.Capacity)
	return r, translate(err)
}

// Replicate implements [api.Sharing].
func (b backend) Replicate(ctx context.Context, r api.ReplicateRequest) (catalog.ReplicationView, error) {
	var v catalog.ReplicationView
	id, err := b.n.Replicate(ctx, "api:"+r.Key, r.Code, r.To, r.Note)
	if err == nil {
		var k store.DocKey
		if k, err = b.n.find(id, tiers.ClassCommand); err == nil {
			err = b.n.read(k, &v)
		}
	}
	return v, translate(err)
}

// RemoveApp implements [api.Sharing].
func (b backend) RemoveApp(ctx context.Context, r api.RemoveAppRequest) (catalog.InstallView, error) {
	var v catalog.InstallView
	err := b.n.RemoveApp(ctx, "api:"+r.Key, r.App)
	if err == nil {
		err = b.n.read(docKey(b.n.creds.ID.Site, tiers.ClassCatalog, catalog.InstallDoc(r.App)), &v)
	}
	return v, translate(err)
}
