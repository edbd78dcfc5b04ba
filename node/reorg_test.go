package node_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/data"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// reorganised is a part of the real city around the merger of 2025-11-06: its two
// districts that end, the new one, a third that wins and loses townships, and two
// townships of each kind of move.
type reorganised struct {
	*mesh
	moves []data.ReorgMove
	kept  map[tiers.SiteID]map[string]uint64 // records of townships by site, when it moved
}

// newReorganised starts the sites as they were, the new district left out.
func newReorganised(t *testing.T) *reorganised {
	t.Helper()
	all, err := data.Reorganised()
	if err != nil {
		t.Fatal(err)
	}
	names := map[tiers.SiteID]string{data.MergedDistrict: "两江新区"}
	districts, err := data.Districts()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range districts {
		names[d.Code] = d.Name
	}
	r := &reorganised{mesh: &mesh{t: t, dir: t.TempDir()}}
	count := map[[2]tiers.SiteID]int{}
	sites := []tiers.Site{{ID: city, Tier: tiers.TierCity, Name: "重庆市"}, {ID: data.MergedDistrict, Tier: tiers.TierDistrict, Name: names[data.MergedDistrict], Parent: city}}
	known := map[tiers.SiteID]bool{data.MergedDistrict: true}
	for _, m := range all {
		if count[[2]tiers.SiteID{m.From, m.To}]++; count[[2]tiers.SiteID{m.From, m.To}] > 2 {
			continue
		}
		r.moves = append(r.moves, m)
		if !known[m.From] {
			known[m.From] = true
			sites = append(sites, tiers.Site{ID: m.From, Tier: tiers.TierDistrict, Name: names[m.From], Parent: city})
		}
	}
	for _, m := range r.moves {
		sites = append(sites, tiers.Site{ID: m.Township, Tier: tiers.TierTownship, Name: m.Name, Parent: m.From})
	}
	r.Cluster, err = local.Open(limited(t), local.Config{
		Dir: r.dir, Federation: "cq", RedialMax: 200 * time.Millisecond, LinkIdle: 2 * time.Second, StandInAfter: time.Second, Sites: sites,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// at reports one event at a site.
func (m *mesh) at(site tiers.SiteID) {
	m.t.Helper()
	m.n++
	_, err := m.Node(site).Report(limited(m.t), fmt.Sprintf("k%d", m.n), event.Report{
		Type: "01001", Title: fmt.Sprintf("井盖 %d", m.n), Priority: 3, SourceKey: fmt.Sprintf("k%d", m.n),
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// linkedEqual reports whether both ends of a link show that they hold the same.
func (m *mesh) linkedEqual(a, b tiers.SiteID) bool {
	x, y := m.link(a, b), m.link(b, a)
	return x.Equal && y.Equal && x.Digest == y.Digest
}

// next is the topology after the merger: the districts without townships are gone.
func (r *reorganised) next() tiers.TopologyDoc {
	doc := r.Topology().Doc()
	doc.Sites, doc.Version = slices.Clone(doc.Sites), doc.Version+1
	left := map[tiers.SiteID]bool{}
	for i := range doc.Sites {
		s := &doc.Sites[i]
		for _, m := range r.moves {
			if m.Township == s.ID {
				s.Parent = m.To
			}
		}
		left[s.Parent] = true
	}
	doc.Sites = slices.DeleteFunc(doc.Sites, func(s tiers.Site) bool { return s.Tier == tiers.TierDistrict && !left[s.ID] })
	return doc
}

// holdings are the records of townships' own streams that a site holds.
func (r *reorganised) holdings(site tiers.SiteID) map[string]uint64 {
	out := map[string]uint64{}
	st := r.Node(site).Group().Store()
	for _, s := range st.Streams() {
		if row, _ := r.Topology().Site(s.Site); row.Tier != tiers.TierTownship {
			continue
		}
		for a, h := range st.Vector(s) {
			out[s.String()+":"+a.String()] = h.Seq
		}
	}
	return out
}

// TestReorganisation: the real merger, with one of each pair of moved townships
// offline while it is published. Every township ends up under its new parent,
// which holds its whole history; the former parents keep what they had and receive
// nothing new; the retired districts are in nobody's links.
func TestReorganisation(t *testing.T) {
	r := newReorganised(t)
	old := map[tiers.SiteID]bool{}
	for _, m := range r.moves {
		r.at(m.Township)
		r.at(m.Township)
		old[m.From] = true
	}
	for _, m := range r.moves {
		r.wait("the old links to be equal", func() bool { return r.linkedEqual(m.Township, m.From) && r.linkedEqual(m.From, city) })
	}
	offline := map[tiers.SiteID]bool{}
	for i, m := range r.moves {
		if i%2 == 0 {
			offline[m.Township] = true
			if err := r.Crash(m.Township); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, diff, err := r.Node(city).PublishTopology(limited(t), "merge", r.next(), false)
	if err != nil || len(diff.Moved) != len(r.moves) || len(diff.Retired) != 2 {
		t.Fatalf("%+v, %v", diff, err)
	}
	remaining := tiers.SiteID("500109") // 北碚区 wins and loses townships
	r.wait("the districts to know", func() bool {
		return r.Node(remaining).Topology().Version() == 2 && r.Node(data.MergedDistrict).Topology().Version() == 2
	})
	r.kept = map[tiers.SiteID]map[string]uint64{}
	for d := range old {
		r.kept[d] = r.holdings(d)
	}
	for id := range offline { // back, and it calls its old parent
		if err := r.Start(limited(t), id); err != nil {
			t.Fatal(err)
		}
		r.at(id)
	}
	for _, m := range r.moves {
		r.wait("township "+string(m.Township)+" under its new parent", func() bool {
			return r.Node(m.Township).Topology().Version() == 2 && r.linkedEqual(m.Township, m.To) && r.linkedEqual(m.To, city)
		})
		r.at(m.Township)
	}
	r.checkReorganised(offline)
}

func (r *reorganised) checkReorganised(offline map[tiers.SiteID]bool) {
	for _, m := range r.moves {
		want := uint64(3)
		if offline[m.Township] {
			want++
		}
		for _, id := range []tiers.SiteID{m.To, city} {
			r.wait("the whole history of "+string(m.Township)+" at "+string(id), func() bool {
				return r.holdings(id)[string(m.Township)+"/routine:"+string(m.Township)+"@1"] == want
			})
		}
		got := r.holdings(m.From)[string(m.Township)+"/routine:"+string(m.Township)+"@1"]
		if was := r.kept[m.From][string(m.Township)+"/routine:"+string(m.Township)+"@1"]; was != 2 || got > want-1 || m.From == "500109" && got != was {
			r.t.Errorf("former parent %s held %d records of %s and holds %d", m.From, was, m.Township, got)
		}
	}
	for _, n := range r.Nodes() { // the oracle: nobody holds what was never its to hold
		st, before, after := n.Group().Store(), r.Topology(), r.Node(city).Topology()
		for _, s := range st.Streams() {
			if id := n.ID().Site; !before.InAudience(s, id) && !after.InAudience(s, id) {
				r.t.Errorf("%s holds %s, which it was never in the audience of", id, s)
			}
		}
	}
	for _, s := range r.Node(city).Topology().Sites() {
		if s.Retired && r.link(city, s.ID).State == "connected" {
			r.t.Errorf("the city is linked to %s, which is retired", s.ID)
		}
	}
}

// TestRedirect: a township that missed its move calls its old district, which is
// still there: it is handed the topology, and sent on.
func TestRedirect(t *testing.T) {
	m := newMove(t, 0)
	m.at(township)
	m.wait("the old link to be equal", func() bool { return m.linkedEqual(township, district) })
	m.Isolate(township)
	m.at(township)
	m.move()
	m.wait("both districts to know", func() bool {
		return m.Node(district).Topology().Version() == 2 && m.Node(other).Topology().Version() == 2
	})
	was := m.Node(district).Group().Store().Vector(tiers.StreamID{Site: township, Class: tiers.ClassRoutine})
	m.Mend(township, district) // the only one that it reaches
	m.wait("the township to be told", func() bool { return m.Node(township).Topology().Version() == 2 })
	m.Heal()
	m.wait("it to be under its new parent", func() bool { return m.linkedEqual(township, other) && m.linkedEqual(other, city) })
	m.at(township)
	m.wait("all of its history there", func() bool { return records(m.Node(other), township) == 3 && records(m.Node(city), township) == 3 })
	now := m.Node(district).Group().Store().Vector(tiers.StreamID{Site: township, Class: tiers.ClassRoutine})
	for a, h := range was {
		if now[a] != h || len(was) != 1 || h.Seq != 1 {
			t.Errorf("the former parent held %v and holds %v", was, now)
		}
	}
}

// TestRedirectIsFollowed: a former parent that knows better before the city has
// published it can hand nothing over; the township follows its redirect all the
// same, comes back when that leads nowhere yet, and ends up there in the end.
func TestRedirectIsFollowed(t *testing.T) {
	m := newMove(t, time.Minute)
	m.at(township)
	m.wait("the sites to agree", m.agreed)
	doc := m.Topology().Doc()
	doc.Version, doc.Sites = 2, slices.Clone(doc.Sites)
	for i := range doc.Sites {
		if doc.Sites[i].ID == township {
			doc.Sites[i].Parent, doc.Sites[i].Former = other, []tiers.SiteID{district}
		}
	}
	next, err := tiers.NewTopology(doc)
	if err != nil {
		t.Fatal(err)
	}
	b, err := next.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(m.dir, "topology.json"), b, 0o600), m.Crash(district), m.Start(limited(t), district)); err != nil {
		t.Fatal(err)
	}
	m.wait("the township to try the other district", func() bool {
		return strings.Contains(m.link(township, other).LastError, "neither above nor below")
	})
	if v := m.Node(township).Topology().Version(); v != 1 {
		t.Errorf("the township believes in version %d, which the city did not sign", v)
	}
	if err := errors.Join(m.Crash(city), m.Start(limited(t), city)); err != nil {
		t.Fatal(err)
	}
	m.wait("it to be under its new parent", func() bool { return m.linkedEqual(township, other) && m.linkedEqual(other, city) })
}

const other = tiers.SiteID("500102")

// newMove starts a city with two districts and a township under the first.
func newMove(t *testing.T, standIn time.Duration) *mesh {
	t.Helper()
	dir := t.TempDir()
	c, err := local.Open(limited(t), local.Config{Dir: dir, Federation: "cq", RedialMax: 200 * time.Millisecond, LinkIdle: 2 * time.Second, StandInAfter: standIn, Sites: []tiers.Site{
		{ID: city, Tier: tiers.TierCity, Name: "重庆市"},
		{ID: district, Tier: tiers.TierDistrict, Name: "万州区", Parent: city},
		{ID: other, Tier: tiers.TierDistrict, Name: "涪陵区", Parent: city},
		{ID: township, Tier: tiers.TierTownship, Name: "高笋塘街道", Parent: district},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return &mesh{Cluster: c, t: t, dir: dir}
}

// move publishes that the township is under the other district.
func (m *mesh) move() {
	m.t.Helper()
	doc := m.Topology().Doc()
	doc.Version, doc.Sites = 2, slices.Clone(doc.Sites)
	for i := range doc.Sites {
		if doc.Sites[i].ID == township {
			doc.Sites[i].Parent = other
		}
	}
	if _, _, err := m.Node(city).PublishTopology(limited(m.t), "move", doc, false); err != nil {
		m.t.Fatal(err)
	}
}

// records counts a site's records of an owner's routine stream.
func records(n *node.Node, owner tiers.SiteID) (sum uint64) {
	for _, h := range n.Group().Store().Vector(tiers.StreamID{Site: owner, Class: tiers.ClassRoutine}) {
		sum += h.Seq
	}
	return sum
}

// TestStandIn: a township whose district is silent links straight to the city,
// brings everything there and takes everything from there, and goes back when the
// district is there again, which then lacks nothing; nothing is stored twice.
func TestStandIn(t *testing.T) {
	m := newMove(t, time.Second)
	m.publishRules()
	m.at(township)
	m.wait("the sites to agree", m.agreed)
	if err := m.Crash(district); err != nil {
		t.Fatal(err)
	}
	m.at(township)
	m.wait("the city to stand in", func() bool {
		l := m.link(township, city)
		return l.Findings.StandIn && m.linkedEqual(township, city) && m.events(city) == 2
	})
	if err := m.Start(limited(t), district); err != nil {
		t.Fatal(err)
	}
	m.at(township)
	m.wait("the sites to agree again", m.agreed)
	m.wait("the township to go back", func() bool {
		l := m.link(township, city)
		return !l.Findings.StandIn && l.State == "down"
	})
	m.at(township)
	m.wait("the sites to agree at last", func() bool {
		return m.agreed() && m.events(city) == 4 && records(m.Node(city), township) == records(m.Node(township), township)
	})
	for _, id := range []tiers.SiteID{district, city} {
		if n := m.events(id); n != 4 {
			t.Errorf("%s holds %d events of 4", id, n)
		}
		if got, want := records(m.Node(id), township), records(m.Node(township), township); got != want {
			t.Errorf("%s stores %d records of the township's %d", id, got, want)
		}
	}
}

// events counts the events whose views a site has.
func (m *mesh) events(id tiers.SiteID) int {
	m.t.Helper()
	hits, err := m.Node(id).Group().Store().Index(store.IndexQuery{Name: "event"})
	if err != nil {
		m.t.Fatal(err)
	}
	return len(hits)
}

// TestRetiredSite: a retired site's key opens no link, and its children do not
// wait for it although they know of nothing: it tells them to go on.
func TestRetiredSite(t *testing.T) {
	m := newMove(t, time.Minute) // nobody is silent for that long
	m.at(township)
	m.wait("the sites to agree", m.agreed)
	m.Cut(district, city) // the two never hear of it
	doc := m.Topology().Doc()
	doc.Version, doc.Sites = 2, slices.DeleteFunc(slices.Clone(doc.Sites), func(s tiers.Site) bool { return s.ID == district })
	for i := range doc.Sites {
		if doc.Sites[i].ID == township {
			doc.Sites[i].Parent = other
		}
	}
	if _, _, err := m.Node(city).PublishTopology(limited(t), "retire", doc, false); err != nil {
		t.Fatal(err)
	}
	m.at(township)
	m.Heal()
	m.wait("the township to be under the other district", func() bool { return m.linkedEqual(township, other) && m.linkedEqual(other, city) })
	m.wait("the district to be refused", func() bool { return strings.Contains(m.link(district, city).LastError, "retired") })
	if got := m.link(city, district); got.State != "retired" || got.Findings.Refused["retired"] == 0 || strings.Contains(got.LastError, "topology changed") {
		t.Errorf("the city's link to the retired site: %+v", got)
	}
	if records(m.Node(city), township) < 2 || records(m.Node(other), township) < 2 {
		t.Error("records of the township are missing")
	}
}

// TestHerd: a city that comes back is dialled by all of its children at once and
// has one place: each is served, those that are sent away come back.
func TestHerd(t *testing.T) {
	dir := t.TempDir()
	sites := []tiers.Site{{ID: city, Tier: tiers.TierCity, Name: "重庆市"}}
	for i := range 12 {
		sites = append(sites, tiers.Site{ID: tiers.SiteID(fmt.Sprintf("5001%02d", i+1)), Tier: tiers.TierDistrict, Name: "区", Parent: city})
	}
	c, err := local.Open(limited(t), local.Config{Dir: dir, Federation: "cq", RedialMax: 50 * time.Millisecond, LinkIdle: 2 * time.Second, Configured: local.Configured{Comparing: 1}, Sites: sites}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{Cluster: c, t: t, dir: dir}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	all := func() bool {
		for _, s := range sites[1:] {
			if !m.linkedEqual(s.ID, city) {
				return false
			}
		}
		return true
	}
	m.wait("every child", all)
	if err := c.Crash(city); err != nil {
		t.Fatal(err)
	}
	for _, s := range sites[1:] {
		m.at(s.ID)
	}
	if err := c.Start(limited(t), city); err != nil {
		t.Fatal(err)
	}
	m.wait("every child again", all)
	for _, s := range sites[1:] {
		if records(m.Node(city), s.ID) != 1 {
			t.Errorf("the city lacks the record of %s", s.ID)
		}
	}
}
