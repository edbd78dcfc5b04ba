package node_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// TestTypeKnownAfterCrash: a site that just started, and whose indexes lack what had
// not been flushed when it crashed, knows every type that its catalogs hold.
func TestTypeKnownAfterCrash(t *testing.T) {
	m := newMesh(t)
	for part := range 4 {
		r := api.EntriesRequest{Key: fmt.Sprintf("types %d", part), Catalog: catalog.Types}
		for i := range 1000 {
			r.Entries = append(r.Entries, catalog.Row{Row: i + 1, Fields: catalog.Fields{"code": fmt.Sprintf("t%04d", 1000*part+i), "category": "c", "name": "n"}})
		}
		if _, err := m.Node(city).Backend().PutEntries(limited(t), r); err != nil {
			t.Fatal(err)
		}
	}
	m.wait("types arrive", m.agreed)
	for round := range 5 {
		if err := errors.Join(m.Crash(township), m.Start(limited(t), township)); err != nil {
			t.Fatal(err)
		}
		for i := 3999; i > 3990; i-- {
			w, err := m.Node(township).Report(limited(t), fmt.Sprintf("%d-%d", round, i), event.Report{Type: fmt.Sprintf("t%04d", i), Title: "x", Priority: 3})
			for errors.Is(err, replication.ErrNotLeader) {
				w, err = m.Node(township).Report(limited(t), fmt.Sprintf("%d-%d", round, i), event.Report{Type: fmt.Sprintf("t%04d", i), Title: "x", Priority: 3})
			}
			if err != nil || w.Doc.Kind() != event.Kind {
				t.Fatalf("round %d: %+v, %v", round, w, err)
			}
		}
	}
	m.wait("an unknown type is noticed", func() bool {
		m.n++
		w, err := m.Node(township).Report(limited(t), fmt.Sprintf("unknown-%d", m.n), event.Report{Type: "none", Title: "x", Priority: 3})
		return err == nil && w.Doc.Kind() == event.KindQuarantine
	})
}
