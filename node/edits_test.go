package node_test

import (
	"fmt"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
)

// TestEditsCostWhatIsNew: at the site that edits a document over and over, and at
// those that receive the edits one by one and as a catch-up, each change is decoded
// about once for edits and views, however many there were before, and all sites come
// to the view that the whole history gives.
func TestEditsCostWhatIsNew(t *testing.T) {
	m := newMesh(t)
	id := m.reported(township, at(0, "甲"))
	m.wait("sites agree", m.agreed)
	edit := func(from, to int) {
		for i := from; i < to; i++ {
			fields := map[string]string{"title": fmt.Sprint("edit ", i), "place": fmt.Sprint("p", i)}
			if _, err := m.Node(township).Backend().CorrectEvent(limited(t), api.CorrectRequest{Key: fmt.Sprint("e", i), Event: id, Fields: fields}); err != nil {
				t.Fatal(err)
			}
		}
	}
	const edits = 150
	edit(0, edits)
	m.wait("sites agree", m.agreed)
	m.Isolate(city)
	edit(edits, 2*edits)
	m.Heal()
	m.wait("sites agree", m.agreed)
	for _, site := range []tiers.SiteID{township, district, city} {
		n := m.Node(site)
		k, v, err := n.Event(id)
		if err != nil || v.Report.Title != fmt.Sprint("edit ", 2*edits-1) || v.Report.Place != fmt.Sprint("p", 2*edits-1) || len(v.Corrected) != 2 {
			t.Fatalf("%s: %+v, %v", site, v, err)
		}
		if got := n.DecodedForDocuments(); got < 2*edits+1 || got > 2*edits+10 {
			t.Errorf("%s decoded %d changes, there are %d", site, got, 2*edits+1)
		}
		h, err := n.Group().Store().Changes(k)
		if err != nil || len(h.Raw) != 2*edits+1 {
			t.Fatalf("%s: %d changes, %v", site, len(h.Raw), err)
		}
		kept, err := n.Views().View(k)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := n.Views().Fold(k, h)
		if err != nil || string(kept.JSON) != string(whole.JSON) {
			t.Errorf("%s: the view is\n%s, want\n%s (%v)", site, kept.JSON, whole.JSON, err)
		}
	}
}
