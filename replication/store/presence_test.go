package store_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tiermesh/tiermesh/replication/store"
)

// TestPresence: what was stored is never taken for absent, before and after the store
// was opened again or replaced, also while it is being read; nearly everything
// else is.
func TestPresence(t *testing.T) {
	const n, batch = 30_000, 1000 // several filters, and several chunks to read
	fs := vfs.NewMem()
	s := open(t, fs)
	write := func(from, to int) {
		t.Helper()
		tx := s.Begin()
		for i := from; i < to; i++ {
			if err := tx.SetOutcome(fmt.Sprintf("key-%d", i), []byte("o")); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(s.AppliedIndex() + 1); err != nil {
			t.Fatal(err)
		}
	}
	for from := 0; from < n; from += batch {
		write(from, from+batch)
	}
	appendPut(t, s, newWriter(self), store.DocKey{Stream: stream, Doc: "event:a"}, "v")
	check := func(when string, known bool) {
		t.Helper()
		absent := 0
		for i := range n {
			if o, err := s.Outcome(fmt.Sprintf("key-%d", i)); len(o) == 0 || err != nil {
				t.Fatalf("%s: outcome %d: %q, %v", when, i, o, err)
			}
			if s.Absent(fmt.Sprintf("other-%d", i)) {
				absent++
			}
		}
		if known && absent < n*99/100 {
			t.Errorf("%s: of %d others %d are known to be absent", when, n, absent)
		}
		dump(t, s)
	}
	check("written", true)
	if err := errors.Join(s.Checkpoint("copy"), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = open(t, fs)
	defer func() { _ = s.Close() }()
	check("opened", false)
	s.PresenceRead()
	check("read", true)
	write(n, n+batch)
	if absent := absentKeys(s, n, n+batch); absent > 0 {
		t.Errorf("of %d keys just written %d are taken for absent", batch, absent)
	}
	if err := s.Replace("copy"); err != nil {
		t.Fatal(err)
	}
	check("replaced", false)
	s.PresenceRead()
	check("read again", true)
	// A filter lets a few through by chance.
	if absent := absentKeys(s, n, n+batch); absent < batch*9/10 {
		t.Errorf("of %d keys of the store that was replaced %d are known to be absent", batch, absent)
	}
}

// absentKeys counts the keys of a range that a store knows to be absent.
func absentKeys(s *store.Store, from, to int) int {
	absent := 0
	for i := from; i < to; i++ {
		if s.Absent(fmt.Sprintf("key-%d", i)) {
			absent++
		}
	}
	return absent
}
