package view

import (
	"context"
	"errors"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
)

// recount makes the next views of a recount, and returns how many; see
// [store.Store.Recount].
func (m *Materialiser) recount(ctx context.Context) (int, error) {
	keys, err := m.cfg.Store.ToRecount(chunk)
	if err != nil || len(keys) == 0 || ctx.Err() != nil {
		return 0, err
	}
	docs := make([]store.Dirty, len(keys))
	for i, k := range keys {
		docs[i] = store.Dirty{Key: k}
	}
	if err := m.chunk(docs); err != nil {
		return 0, err
	}
	return len(docs), m.cfg.Store.Recounted(keys)
}

// Fold makes the view of a history that is not the document's present one, such as
// what a site held of it at some time; nothing is stored. An error is the
// document's, or wraps [crdt.ErrUnavailable].
func (m *Materialiser) Fold(k store.DocKey, h *store.Changes) (crdt.View, error) {
	return m.fold(k, h, false)
}

// Read reads a history's document through the engine that is right for it.
func (m *Materialiser) Read(h *store.Changes) (*crdt.Document, error) {
	if len(h.Raw) == 0 {
		return nil, errors.New("view: no change to read")
	}
	return m.engineFor(h.Authors).Read(h.Raw, h.Decoded...)
}
