package view_test

import (
	"context"
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/replication/view"
)

// TestDocumentComesBack: a document whose records are set aside in a fork, and that
// is written once more, time and again while its view is made, ends nobody's work
// and has its view in the end. A node whose site was cloned ended over it (the
// simulation's TestClone).
func TestDocumentComesBack(t *testing.T) {
	f := newFixture(t)
	m := view.New(view.Config{Store: f.s, Engine: engine.New(), Workers: 4, Folds: map[string]view.Fold{"event": fold}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }() // ends with ctx or an error
	const doc = "event:back"
	for range 1500 {
		f.bases[doc] = nil
		f.put(doc, "k", "1")
		chain := crdt.ChainID{Stream: stream, Author: self}
		hash, err := f.s.HashAt(chain, 1)
		if err != nil {
			t.Fatal(err)
		}
		tx := f.s.Begin()
		if _, err := tx.SetAside(store.Evict{Chain: chain, Hash: hash}); err != nil {
			t.Fatal(err)
		}
		f.index++
		if err := tx.Commit(f.index); err != nil {
			t.Fatal(err)
		}
	}
	f.bases[doc] = nil
	f.put(doc, "k", "2")
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if v, err := m.View(key(doc)); err != nil || len(v.JSON) == 0 {
		t.Errorf("%s, %v", v.JSON, err)
	}
}
