package replication_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
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
				case err != nil && (!shared || !errors.Is(err, store.ErrMoved)):
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

// TestEntryWaitsForOthers: an entry takes all that waits; where there are too few it
// waits for others, and not for long.
func TestEntryWaitsForOthers(t *testing.T) {
	const soon = replication.Linger / 2
	for name, c := range map[string]struct {
		waiting, later, enough, want int
		after, waits                 time.Duration
	}{
		"alone":          {want: 1},
		"all that waits": {waiting: 10, enough: 4, want: 11},
		"others come":    {waiting: 1, later: 2, after: soon, enough: 4, want: 4, waits: soon},
		"too few come":   {waiting: 1, later: 1, after: soon, enough: 4, want: 3, waits: replication.Linger},
		"none comes":     {later: 3, after: 2 * replication.Linger, enough: 4, want: 1, waits: replication.Linger},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			if got := replication.Gather(c.waiting, c.later, c.after, c.enough); got != c.want {
				t.Errorf("%s: %d commands, want %d", name, got, c.want)
			}
			if waited := time.Since(began); waited != c.waits {
				t.Errorf("%s: after %v, want %v", name, waited, c.waits)
			}
		})
	}
}

// TestSalvageReadsCombinedEntries: an incarnation that began among other commands
// is one that a salvage knows of, and does not begin again.
func TestSalvageReadsCombinedEntries(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	puts(t, g, "a", 1)
	if err := g.Abandon(); err != nil {
		t.Fatal(err)
	}
	if found, err := replication.LogIncarnation(dir, 6, stream.Site); err != nil || found != 7 {
		t.Errorf("incarnation %d, %v; want 7", found, err)
	}
}

// TestAsideInSharedEntry: what an entry comes to does not depend on Raft's
// batches, also not one that no combiner makes.
func TestAsideInSharedEntry(t *testing.T) {
	var codes [2]int
	for i, together := range []bool{false, true} {
		g := open(t, t.TempDir())
		puts(t, g, "a", 3)
		st := g.Store()
		chain := crdt.ChainID{Stream: stream, Author: crdt.Author{Site: stream.Site, Incarnation: 1}}
		hash, err := st.HashAt(chain, 2)
		if err != nil {
			t.Fatal(err)
		}
		if codes[i], err = replication.ApplyAside(st, stream.Site, store.Evict{Chain: chain, Keep: 1, Hash: hash}, together); err != nil {
			t.Fatal(err)
		}
		if n := st.Counts().Records; n != 3 {
			t.Errorf("together %v: %d records, want 3", together, n)
		}
		_ = g.Abandon()
	}
	if codes[0] != codes[1] || codes[0] == 0 {
		t.Errorf("outcomes %v", codes)
	}
}
