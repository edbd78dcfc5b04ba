package netns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/tiers"
)

// site is how a site is talked to: by the API of one of its nodes.
type site struct {
	w  *World
	id tiers.SiteID
}

var _ run.Site = site{}

// Site implements [run.World].
func (w *World) Site(id tiers.SiteID) (run.Site, error) {
	if err := w.known(id); err != nil {
		return nil, err
	}
	s := site{w, id}
	_, err := s.any()
	return s, err
}

// any returns a client of a node that is up; it forwards writes to the leader.
func (s site) any() (*api.Client, error) {
	up := s.w.upOf(s.id)
	if len(up) == 0 {
		return nil, fmt.Errorf("%w: %s", run.ErrDown, s.id)
	}
	return up[0].client, nil
}

// Status implements [run.Site]: the leader's, which holds the links, and any
// node's while there is none. What the site's clones found is among the findings.
func (s site) Status(ctx context.Context) (api.Status, error) {
	up := s.w.upOf(s.id)
	err := fmt.Errorf("%w: %s", run.ErrDown, s.id)
	var last api.Status
	for _, m := range up {
		status, e := m.client.Status(ctx)
		if e != nil {
			err = e
			continue
		}
		if last, err = status, nil; status.Role == "leader" {
			break
		}
	}
	if err == nil {
		s.addClones(ctx, &last)
	}
	return last, err
}

// addClones adds what the site's clones found; one that does not answer found
// nothing yet.
func (s site) addClones(ctx context.Context, to *api.Status) {
	s.w.mu.Lock()
	clones := slices.Clone(s.w.clones)
	s.w.mu.Unlock()
	for _, m := range clones {
		if m.site != s.id {
			continue
		}
		if found, err := m.client.Status(ctx); err == nil {
			to.Alarms = append(to.Alarms, found.Alarms...)
			to.Forks = append(to.Forks, found.Forks...)
		}
	}
}

// Report implements [run.Site].
func (s site) Report(ctx context.Context, r api.ReportRequest) (api.WriteResult, error) {
	c, err := s.any()
	if err != nil {
		return api.WriteResult{}, err
	}
	return c.Report(ctx, r)
}

// EditTrack implements [run.Site].
func (s site) EditTrack(ctx context.Context, r api.EditRequest) (api.WriteResult, error) {
	c, err := s.any()
	if err != nil {
		return api.WriteResult{}, err
	}
	return c.EditTrack(ctx, r)
}

// PublishTopology implements [run.Site]. Lines that the topology brings are as all
// lines are at the start.
func (s site) PublishTopology(ctx context.Context, r api.TopologyRequest) (api.TopologyResult, error) {
	c, err := s.any()
	if err != nil {
		return api.TopologyResult{}, err
	}
	out, err := c.PublishTopology(ctx, r)
	if err != nil || r.DryRun {
		return out, err
	}
	t, err := tiers.NewTopology(r.Topology)
	if err != nil {
		return out, err
	}
	return out, s.w.baseLines(t)
}

// SyncStatus implements [run.Site].
func (s site) SyncStatus(ctx context.Context, q api.SyncQuery) (api.SyncStatus, error) {
	c, err := s.any()
	if err != nil {
		return api.SyncStatus{}, err
	}
	return c.SyncStatus(ctx, q)
}

// View implements [run.Site].
func (s site) View(ctx context.Context, kind, name string) ([]json.RawMessage, error) {
	c, err := s.any()
	if err != nil {
		return nil, err
	}
	return c.View(ctx, kind+"s", name)
}

// Ask implements [run.Site].
func (s site) Ask(_ context.Context, f func(run.Domain) error) error {
	c, err := s.any()
	if err != nil {
		return err
	}
	return f(domain{c})
}

// domain is a client as a [run.Domain].
type domain struct{ *api.Client }

// List implements [run.Domain].
func (d domain) List(ctx context.Context, q api.ListQuery) (api.Page, error) {
	return d.Client.List(ctx, q.Kind+"s", q)
}

// ActOnTask implements [run.Domain].
func (d domain) ActOnTask(ctx context.Context, r api.TaskActionRequest) (api.TaskResult, error) {
	return d.Client.ActOnTask(ctx, r.Task.Name(), r.Key, r.Action)
}

// StepOrder implements [run.Domain].
func (d domain) StepOrder(ctx context.Context, r api.OrderStepRequest) (api.OrderStepResult, error) {
	return d.Client.StepOrder(ctx, r.Order, r.Key, r.Step)
}

// Publish implements [run.Site]: the API has no command for it, so the site's
// process ends in order, the entries are written here, and the site is started
// again.
func (s site) Publish(ctx context.Context, key string, entries []node.Entry) error {
	if n := len(s.w.sites[s.id]); n > 1 {
		return fmt.Errorf("%w: publish at a site of %d nodes: want one of 1", run.ErrUnsupported, n)
	}
	if _, err := s.any(); err != nil {
		return err
	}
	m := s.w.sites[s.id][0]
	if err := s.w.at(m).stop(ctx); err != nil {
		return fmt.Errorf("publish at %s: %w", s.id, err)
	}
	err := s.w.inProcess(ctx, m, func(n *node.Node) error { return n.Publish(ctx, key, entries) })
	if e := s.w.spawn(m); e != nil {
		return errors.Join(err, e)
	}
	return errors.Join(err, s.w.ready(ctx, s.id))
}
