package sim

import (
	"context"
	"fmt"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/tiers"
)

// site talks to the node that leads a site at each call.
type site struct {
	w  *World
	id tiers.SiteID
}

var _ run.Site = site{}

// Site implements [run.World].
func (w *World) Site(id tiers.SiteID) (run.Site, error) {
	if _, err := w.speaker(id, false); err != nil {
		return nil, err
	}
	return site{w, id}, nil
}

// ask calls a site. What it answers after the instant at which it crashed, or while
// it is paused, nobody hears: the outcome is not known.
func ask[T any](s site, f func(n *node.Node) (T, error)) (out T, err error) {
	l, err := s.w.speaker(s.id, false)
	if err != nil {
		return out, err
	}
	got, err := f(l.node)
	if l.dead.Load() || s.w.silent(l) {
		return out, fmt.Errorf("site %s did not answer: %w", s.id, run.ErrDown)
	}
	return got, err
}

// silent reports whether a node is paused.
func (w *World) silent(l *life) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.members {
		if m.life == l {
			return m.paused
		}
	}
	return false
}

// Status implements [run.Site].
func (s site) Status(ctx context.Context) (api.Status, error) {
	return ask(s, func(n *node.Node) (api.Status, error) { return n.Backend().Status(ctx) })
}

// Report implements [run.Site].
func (s site) Report(ctx context.Context, r api.ReportRequest) (api.WriteResult, error) {
	return ask(s, func(n *node.Node) (api.WriteResult, error) { return n.Backend().Report(ctx, r) })
}

// EditTrack implements [run.Site].
func (s site) EditTrack(ctx context.Context, r api.EditRequest) (api.WriteResult, error) {
	return ask(s, func(n *node.Node) (api.WriteResult, error) { return n.Backend().EditTrack(ctx, r) })
}

// PublishTopology implements [run.Site].
func (s site) PublishTopology(ctx context.Context, r api.TopologyRequest) (api.TopologyResult, error) {
	return ask(s, func(n *node.Node) (api.TopologyResult, error) { return n.Backend().PublishTopology(ctx, r) })
}

// Publish implements [run.Site].
func (s site) Publish(ctx context.Context, key string, entries []node.Entry) error {
	_, err := ask(s, func(n *node.Node) (struct{}, error) { return struct{}{}, n.Publish(ctx, key, entries) })
	return err
}
