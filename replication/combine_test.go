package replication_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// TestCombinedCommands: commands that come together share log entries, and each
// gets its own outcome: of those that create the same document one succeeds, and
// a rejection takes nothing else with it. A restart replays the entries to the
// same end.
func TestCombinedCommands(t *testing.T) {
	const clients, rounds = 64, 10
	dir := t.TempDir()
	g := open(t, dir)
	before := g.Store().AppliedIndex()
	var won [rounds]atomic.Int64
	var all sync.WaitGroup
	for c := range clients {
		var items []store.Item
		for r := range rounds {
			items = append(items, item(t, g, tiers.DocID(fmt.Sprintf("event:shared-%d", r)), &store.Changes{}, fmt.Sprint(c)),
				item(t, g, tiers.DocID(fmt.Sprintf("event:own-%d-%d", c, r)), &store.Changes{}, "v"))
		}
		all.Go(func() {
			for i, it := range items {
				_, err := g.Append(limited(t), fmt.Sprintf("%d-%d", c, i), []store.Item{it})
				shared := i%2 == 0
				switch {
				case err == nil && shared:
					won[i/2].Add(1)
				case err != nil && !(shared && errors.Is(err, store.ErrMoved)):
					t.Errorf("client %d, item %d: %v", c, i, err)
				}
			}
		})
	}
	all.Wait()
	const commands = clients * rounds * 2
	if grown := g.Store().AppliedIndex() - before; grown > commands/2 {
		t.Errorf("%d commands took %d entries: they do not share", commands, grown)
	}
	for r := range rounds {
		if n := won[r].Load(); n != 1 {
			t.Errorf("document %d was created %d times", r, n)
		}
	}
	want := uint64(clients*rounds + rounds)
	if got := g.Store().Counts().Records; got != want {
		t.Errorf("%d records, want %d", got, want)
	}
	vector := g.Store().Vector(stream).Digest(stream)
	if err := g.Abandon(); err != nil {
		t.Fatal(err)
	}
	g = open(t, dir)
	defer func() { _ = g.Close() }()
	if got := g.Store().Vector(stream).Digest(stream); got != vector {
		t.Errorf("after a replay: %s, want %s", got, vector)
	}
}
