package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/tiers"
)

// site talks to the node that leads a site at each call.
type site struct {
	w     *World
	id    tiers.SiteID
	clone bool // ask the latest clone
}

var (
	_ run.Site    = site{}
	_ run.Claimer = site{}
)

// Site implements [run.World].
func (w *World) Site(id tiers.SiteID) (run.Site, error) {
	if _, err := w.speaker(id, false); err != nil {
		return nil, err
	}
	return site{w: w, id: id}, nil
}

// ask calls a site. What it answers after the instant at which it crashed, or while
// it is paused, nobody hears: the outcome is not known.
func ask[T any](s site, f func(n *node.Node) (T, error)) (out T, err error) {
	l, err := s.life()
	if err != nil {
		return out, err
	}
	got, err := f(l.node)
	if l.dead.Load() || s.w.silent(l) {
		return out, fmt.Errorf("site %s did not answer: %w", s.id, run.ErrDown)
	}
	return got, err
}

// life returns the node to ask.
func (s site) life() (*life, error) {
	if s.clone {
		for _, m := range slices.Backward(s.w.of(s.id, 0, true)) {
			s.w.mu.Lock()
			l := m.life
			s.w.mu.Unlock()
			if m.at.clone > 0 && l != nil && !l.dead.Load() {
				return l, nil
			}
		}
	}
	return s.w.speaker(s.id, false)
}

// either returns the site, or every other time its clone if it has one.
func (s site) either() site {
	s.clone = s.w.turn.Add(1)%2 == 0
	return s
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

// Report implements [run.Site]. While there are clones of the site, every other
// report reaches one of them: who reports cannot tell them apart.
func (s site) Report(ctx context.Context, r api.ReportRequest) (api.WriteResult, error) {
	return ask(s.either(), func(n *node.Node) (api.WriteResult, error) { return n.Backend().Report(ctx, r) })
}

// EditTrack implements [run.Site].
func (s site) EditTrack(ctx context.Context, r api.EditRequest) (api.WriteResult, error) {
	return ask(s, func(n *node.Node) (api.WriteResult, error) { return n.Backend().EditTrack(ctx, r) })
}

// PublishTopology implements [run.Site].
func (s site) PublishTopology(ctx context.Context, r api.TopologyRequest) (api.TopologyResult, error) {
	return ask(s, func(n *node.Node) (api.TopologyResult, error) { return n.Backend().PublishTopology(ctx, r) })
}

// SyncStatus implements [run.Site].
func (s site) SyncStatus(ctx context.Context, q api.SyncQuery) (api.SyncStatus, error) {
	return ask(s, func(n *node.Node) (api.SyncStatus, error) { return n.Backend().SyncStatus(ctx, q) })
}

// View implements [run.Site].
func (s site) View(ctx context.Context, kind, name string) ([]json.RawMessage, error) {
	return ask(s, func(n *node.Node) ([]json.RawMessage, error) { return n.Backend().View(ctx, kind, name) })
}

// Ask implements [run.Site].
func (s site) Ask(_ context.Context, f func(run.Domain) error) error {
	_, err := ask(s, func(n *node.Node) (struct{}, error) { return struct{}{}, f(n.Backend()) })
	return err
}

// Claim implements [run.Claimer].
func (s site) Claim(ctx context.Context, key, unit, holder string, force bool) (uint64, error) {
	return ask(s, func(n *node.Node) (uint64, error) { return n.Group().Claim(ctx, key, unit, holder, force) })
}

// Release implements [run.Claimer].
func (s site) Release(ctx context.Context, key, unit string, epoch uint64) error {
	_, err := ask(s, func(n *node.Node) (struct{}, error) { return struct{}{}, n.Group().Release(ctx, key, unit, epoch) })
	return err
}

// Publish implements [run.Site].
func (s site) Publish(ctx context.Context, key string, entries []node.Entry) error {
	_, err := ask(s, func(n *node.Node) (struct{}, error) { return struct{}{}, n.Publish(ctx, key, entries) })
	return err
}
