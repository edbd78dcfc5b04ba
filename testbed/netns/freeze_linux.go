package netns

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/replication/view"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/tiers"
)

// Freeze implements [run.World]: every process ends in order, which brings its
// store to all that it had applied. A site of several nodes is read at the one
// that applied most.
func (w *World) Freeze(ctx context.Context) error {
	up := map[tiers.SiteID][]*member{}
	for _, id := range w.order {
		up[id] = w.upOf(id)
	}
	if err := w.stopAll(ctx); err != nil {
		return fmt.Errorf("freeze world: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = up
	return nil
}

// Read implements [run.World].
func (w *World) Read(id tiers.SiteID) (oracle.Site, error) {
	if err := w.known(id); err != nil {
		return oracle.Site{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.frozen == nil {
		return oracle.Site{}, fmt.Errorf("%w: read %s before the end", run.ErrUnsupported, id)
	}
	if len(w.frozen[id]) == 0 {
		return oracle.Site{}, fmt.Errorf("%w: %s", run.ErrDown, id)
	}
	if w.stores[id] == nil {
		st, err := w.furthest(id)
		if err != nil {
			return oracle.Site{}, err
		}
		w.stores[id] = st
	}
	st := w.stores[id]
	views := view.New(view.Config{Store: st, Site: id, Engine: engine.New(), Folds: node.Folds(), Logger: w.cfg.Logger})
	return oracle.Site{ID: id, Store: st, View: views.View}, nil
}

// furthest opens the store of the node of a site that applied most. The world's
// lock is held.
func (w *World) furthest(id tiers.SiteID) (best *store.Store, err error) {
	for _, m := range w.frozen[id] {
		st, err := w.openStore(m)
		if err != nil {
			if best != nil {
				_ = best.Close()
			}
			return nil, err
		}
		if best != nil && best.AppliedIndex() >= st.AppliedIndex() {
			best, st = st, best
		}
		if best != nil {
			if err := best.Close(); err != nil {
				return nil, fmt.Errorf("close store: %w", err)
			}
		}
		best = st
	}
	return best, nil
}

// readCacheBytes is enough to read a store once.
const readCacheBytes = 8 << 20

// openStore opens a store whose process has ended. It is not compacted: damage in
// it must not end this process.
func (w *World) openStore(m *member) (*store.Store, error) {
	st, err := store.Open(store.Config{
		Dir: filepath.Join(m.data(), "store"), Federation: w.cfg.Federation, Site: m.site,
		CacheBytes: readCacheBytes, MemTableBytes: readCacheBytes / 4, Salvaging: true, Logger: w.cfg.Logger,
		Fatal: func(err error) { w.cfg.Logger.Error("store damaged", "site", string(m.site), "err", err) },
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m, err)
	}
	return st, nil
}
