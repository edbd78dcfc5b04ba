package node_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// TestLinksFollowLeaders: a city and a district of three nodes each stay linked
// whichever of their nodes lead, and nothing that was acknowledged is lost.
func TestLinksFollowLeaders(t *testing.T) {
	dir := t.TempDir()
	c, err := local.Open(limited(t), local.Config{Dir: dir, Federation: "cq", Nodes: 3, RedialMax: 200 * time.Millisecond, LinkIdle: 2 * time.Second, Sites: []tiers.Site{
		{ID: city, Tier: tiers.TierCity, Name: "重庆市"},
		{ID: district, Tier: tiers.TierDistrict, Name: "万州区", Parent: city},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{Cluster: c, t: t, dir: dir}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	m.voters(city, 3)
	m.voters(district, 3)
	m.report3(district, 5)
	m.linked(5)
	lost := m.leader(city)
	if err := c.CrashNode(city, lost); err != nil {
		t.Fatal(err)
	}
	m.report3(district, 5)
	m.linked(10)
	cut := m.leader(district)
	c.IsolateNode(district, cut)
	m.wait("another node to lead the district", func() bool {
		n := c.Node(district)
		return n.Group().Leads() && n.ID().Node != cut && !c.NodeOf(district, cut).Group().Leads()
	})
	m.report3(district, 5)
	m.linked(15)
	if err := c.StartNode(city, lost); err != nil {
		t.Fatal(err)
	}
	c.Heal()
	for _, id := range []tiers.SiteID{city, district} {
		m.wait("all nodes of a site to hold the same", func() bool {
			want := c.Node(id).Group()
			for i := range uint32(3) {
				g := c.NodeOf(id, i+1).Group()
				if g.Digest() != want.Digest() || g.Store().Counts().Records != want.Store().Counts().Records {
					return false
				}
			}
			return true
		})
	}
	m.linked(15)
}

// voters waits until so many of a site's nodes have a vote.
func (m *mesh) voters(id tiers.SiteID, n int) {
	m.t.Helper()
	m.wait("voters of "+string(id), func() bool {
		all, err := m.Node(id).Group().Members()
		return err == nil && len(slices.DeleteFunc(all, func(r replication.Member) bool { return !r.Voter })) == n
	})
}

// leader waits until a site has a leader and returns its number.
func (m *mesh) leader(id tiers.SiteID) uint32 {
	m.t.Helper()
	m.wait("a leader of "+string(id), func() bool { return m.Node(id).Group().Leads() })
	return m.Node(id).ID().Node
}

// report3 reports n events at a site of several nodes, again until they are
// acknowledged.
func (m *mesh) report3(id tiers.SiteID, n int) {
	m.t.Helper()
	for range n {
		m.n++
		m.wait("a report to be acknowledged", func() bool {
			_, err := m.Node(id).Report(limited(m.t), fmt.Sprintf("k%d", m.n), event.Report{
				Type: "01001", Title: fmt.Sprintf("井盖 %d", m.n), Priority: 3, SourceKey: fmt.Sprintf("k%d", m.n),
			})
			return err == nil
		})
	}
}

// linked waits until the city's leader holds n routine records of the district
// and both ends show that they hold the same.
func (m *mesh) linked(n uint64) {
	m.t.Helper()
	stream := tiers.StreamID{Site: district, Class: tiers.ClassRoutine}
	m.wait(fmt.Sprintf("the city to hold %d records and the link to be equal", n), func() bool {
		var held uint64
		for _, head := range m.Node(city).Group().Store().Vector(stream) {
			held += head.Seq
		}
		up, down := m.link(district, city), m.link(city, district)
		return held == n && up.Equal && down.Equal && up.Digest == down.Digest
	})
}

// TestScrubComparesNodes: a node of a site that holds something else than the
// others is named by a scrub, also by that of another node.
func TestScrubComparesNodes(t *testing.T) {
	dir := t.TempDir()
	c, err := local.Open(limited(t), local.Config{Dir: dir, Federation: "cq", Nodes: 3, API: true, Sites: []tiers.Site{
		{ID: city, Tier: tiers.TierCity, Name: "重庆市"},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{Cluster: c, t: t, dir: dir}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	m.wait("three members", func() bool { all, err := c.Node(city).Group().Members(); return err == nil && len(all) == 3 })
	m.report3(city, 3)
	scrub := func() []api.ScrubFinding {
		client := api.NewClient(c.APIOf(city, c.Node(city).ID().Node))
		defer client.Close()
		r, err := client.Scrub(limited(t))
		if err != nil {
			t.Fatal(err)
		}
		return r.Findings
	}
	if f := scrub(); len(f) != 0 {
		t.Errorf("found %+v where nothing is wrong", f)
	}
	leader := c.Node(city).ID().Node
	wrong := leader%3 + 1
	st := c.NodeOf(city, wrong).Group().Store()
	forge(t, st)
	f := scrub()
	if len(f) != 1 || !strings.Contains(f[0].What, fmt.Sprintf("node %d ", wrong)) {
		t.Errorf("found %+v, want node %d", f, wrong)
	}
}

// forge writes a record to a store that no log has.
func forge(t *testing.T, st *store.Store) {
	t.Helper()
	author := crdt.Author{Site: city, Incarnation: 1}
	built, err := engine.New().Build(nil, crdt.NewActor(author, [8]byte{1}), 1, []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: "v"}})
	if err != nil {
		t.Fatal(err)
	}
	tx := st.Begin()
	_, err = tx.Append(author, []store.Item{{Stream: tiers.StreamID{Site: city, Class: tiers.ClassUrgent}, Doc: "event:nobody", Time: 1, Change: built.Raw}})
	if err := errors.Join(err, tx.Commit(st.AppliedIndex())); err != nil {
		t.Fatal(err)
	}
}
