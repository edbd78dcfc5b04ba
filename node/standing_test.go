package node_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// TestWritersAreTold: who reports at a site is told what becomes of the report: nothing
// while it is linked, that it waits while it is cut off, also where the city stands in,
// and that it is refused at a site that heard that it is retired, which still shows what
// it took in before.
func TestWritersAreTold(t *testing.T) {
	dir := t.TempDir()
	c, err := local.Open(limited(t), local.Config{
		Dir: dir, Federation: "cq", API: true, RedialMax: 200 * time.Millisecond, LinkIdle: 2 * time.Second, StandInAfter: 300 * time.Millisecond,
		Sites: []tiers.Site{
			{ID: city, Tier: tiers.TierCity, Name: "重庆市"},
			{ID: district, Tier: tiers.TierDistrict, Name: "万州区", Parent: city},
			{ID: township, Tier: tiers.TierTownship, Name: "高笋塘街道", Parent: district},
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{Cluster: c, t: t, dir: dir}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	client := api.NewClient(c.API(township))
	defer client.Close()
	key := 0
	report := func() (api.WriteResult, error) {
		key++
		return client.Report(limited(t), api.ReportRequest{
			Key: strconv.Itoa(key), Report: event.Report{Type: "01001", Title: "井盖", Priority: 3},
		})
	}
	told := func(what string, is func(*api.Waits) bool) {
		t.Helper()
		m.wait(what, func() bool {
			w, err := report()
			if err != nil {
				t.Fatal(err)
			}
			return is(w.Waits)
		})
	}
	told("a linked site says nothing", func(w *api.Waits) bool { return w == nil })
	c.Cut(district, township)
	told("the city stands in", func(w *api.Waits) bool { return w != nil && w.Site == district && w.StandIn == city })
	c.Isolate(township)
	told("a site that is cut off says so", func(w *api.Waits) bool {
		return w != nil && w.Site == district && w.StandIn == "" && time.Since(w.Since) < time.Hour
	})
	before, err := report()
	if err != nil {
		t.Fatal(err)
	}

	doc := c.Node(city).Topology().Doc()
	doc.Sites, doc.Version = slices.DeleteFunc(slices.Clone(doc.Sites), func(s tiers.Site) bool { return s.ID == township }), doc.Version+1
	if _, _, err := c.Node(city).PublishTopology(limited(t), "retire", doc, false); err != nil {
		t.Fatal(err)
	}
	if _, err := report(); err != nil {
		t.Errorf("before it heard that it is retired: %v", err)
	}
	c.Heal()
	m.wait("it hears that it is retired", func() bool { _, err = report(); return err != nil })
	if !errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), "write at "+string(district)) {
		t.Errorf("at a retired site: %v", err)
	}
	if items, err := client.View(limited(t), "events", before.ID.Name()); err != nil || len(items) != 1 {
		t.Errorf("what it took in before: %d documents, %v", len(items), err)
	}
}
