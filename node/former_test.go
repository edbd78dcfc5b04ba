package node_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// held is what a site holds of the township's streams, but for what it wrote itself.
func (m *mesh) held(site tiers.SiteID) map[crdt.ChainID]uint64 {
	out := map[crdt.ChainID]uint64{}
	for s, v := range m.Node(site).Group().Store().Vectors() {
		for a, h := range v {
			if s.Site == township && a.Site != site {
				out[crdt.ChainID{Stream: s, Author: a}] = h.Seq
			}
		}
	}
	return out
}

// taskBeforeMove reports an event at the township and makes its task, which all sites
// then hold.
func (m *mesh) taskBeforeMove() tiers.DocID {
	m.t.Helper()
	id := m.start(township, api.StartTasksRequest{Event: m.report(1)[0].Doc, Organ: "城管", Limit: twoHours})[0]
	m.wait("the sites to agree", m.agreed)
	return id
}

// TestWritesOfFormerParent: a district takes a task of its township's over while
// nobody hears of it, and the township, which signs for the task meanwhile, gets
// another district. After the heal the override is at the city, the new district and
// the township, the conflict is recorded, and the township is told to stand down;
// the former district receives nothing of what the township wrote.
func TestWritesOfFormerParent(t *testing.T) {
	m := newMove(t, time.Second)
	id := m.taskBeforeMove()
	m.Isolate(district)
	had := m.held(district)
	m.act(township, id, dispatch.Action{Kind: dispatch.ActionSign})
	m.act(district, id, dispatch.Action{Kind: dispatch.ActionOverride, Reason: "no_answer"})
	m.move()
	m.wait("the township under its new district", func() bool { return m.linkedEqual(township, other) && m.linkedEqual(other, city) })
	if v := m.task(city, id); v.Custodian != township || len(v.Conflicts) != 0 {
		t.Fatalf("before the heal: %+v", v)
	}
	m.Heal()
	all := []tiers.SiteID{city, other, township}
	m.wait("the override everywhere", func() bool {
		return !slices.ContainsFunc(all, func(site tiers.SiteID) bool { return m.task(site, id).Custodian != district })
	})
	m.wait("the sites to agree", func() bool {
		return m.linkedEqual(township, other) && m.linkedEqual(other, city) && m.linkedEqual(district, city)
	})
	for _, site := range all {
		if v := m.task(site, id); len(v.Conflicts) != 1 || len(v.StandDown) != 1 || v.StandDown[0].Site != township {
			t.Errorf("%s: %+v", site, v)
		}
	}
	if now := m.held(district); !maps.Equal(now, had) {
		t.Errorf("the former district held %v and holds %v", had, now)
	}
	m.checkOneWay()
}

// checkOneWay checks what the link between a former district and the city says of
// itself: the township's stream among what is equal, nothing owed, and proof.
func (m *mesh) checkOneWay() {
	m.t.Helper()
	for _, ends := range [][2]tiers.SiteID{{district, city}, {city, district}} {
		st, err := m.Node(ends[0]).Backend().SyncStatus(limited(m.t), api.SyncQuery{Peer: ends[1], Streams: true})
		if err != nil {
			m.t.Fatal(err)
		}
		found := false
		for _, s := range st.Links[0].Streams {
			found = found || s.Stream == string(township)+"/command" && s.State == "equal"
		}
		if l := st.Links[0]; !found || !l.Equal || l.Out.Records+l.In.Records > 0 {
			m.t.Errorf("%v: %+v", ends, st.Links[0])
		}
		if p, err := m.prove(ends[0], ends[1]); err != nil || !p.Equal {
			m.t.Errorf("%v: %+v, %v", ends, p, err)
		}
	}
}

// TestBundleOfFormerParentCarries: what a former district could not send comes by
// bundle, straight to the township.
func TestBundleOfFormerParentCarries(t *testing.T) {
	m := newMove(t, time.Second)
	id := m.taskBeforeMove()
	m.Isolate(district)
	m.act(district, id, dispatch.Action{Kind: dispatch.ActionOverride, Reason: "no_answer"})
	m.move()
	m.wait("the township under its new district", func() bool { return m.linkedEqual(township, other) && m.linkedEqual(other, city) })
	// It learns of the move by bundle, too, and of nothing else that it may not have.
	had := m.held(district)
	m.carry(district, m.export(city, district, true, false))
	m.wait("the former district to know", func() bool { return m.Node(district).Topology().Version() == 2 })
	if now := m.held(district); !maps.Equal(now, had) {
		t.Errorf("the former district held %v and holds %v", had, now)
	}
	if r := m.carry(township, m.export(district, township, true, false)); r.New == 0 || len(r.Refused)+len(r.Gaps) > 0 {
		t.Errorf("%+v", r)
	}
	for _, site := range []tiers.SiteID{township, other, city} {
		m.wait("the override at "+string(site), func() bool { return m.task(site, id).Custodian == district })
	}
	m.Heal()
	m.wait("the sites to agree", func() bool { return m.linkedEqual(other, city) && m.linkedEqual(district, city) })
}

// TestRolledBackFormerParent: a former district comes back from an old copy of its
// disk, without an override that all others have. It is not sent to it; its operator
// is told, and the link is equal without that chain.
func TestRolledBackFormerParent(t *testing.T) {
	m := newMove(t, time.Second)
	id := m.taskBeforeMove()
	data, backup := filepath.Join(m.dir, string(district), "data"), filepath.Join(t.TempDir(), "backup")
	if err := errors.Join(m.Crash(district), os.CopyFS(backup, os.DirFS(data)), m.Start(limited(t), district)); err != nil {
		t.Fatal(err)
	}
	m.act(district, id, dispatch.Action{Kind: dispatch.ActionOverride, Reason: "no_answer"})
	m.wait("the override everywhere", func() bool {
		return m.agreed() && m.task(township, id).Custodian == district && m.task(city, id).Custodian == district
	})
	if err := m.Crash(district); err != nil {
		t.Fatal(err)
	}
	m.move()
	m.wait("the township under its new district", func() bool { return m.linkedEqual(township, other) && m.linkedEqual(other, city) })
	if err := errors.Join(os.RemoveAll(data), os.CopyFS(data, os.DirFS(backup)), m.Start(limited(t), district)); err != nil {
		t.Fatal(err)
	}
	m.wait("the former district to agree with the city", func() bool {
		return m.Node(district).Topology().Version() == 2 && m.linkedEqual(district, city)
	})
	chain := crdt.ChainID{Stream: tiers.StreamID{Site: township, Class: tiers.ClassCommand}, Author: crdt.Author{Site: district, Incarnation: 1}}
	for _, ends := range [][2]tiers.SiteID{{district, city}, {city, district}} {
		if l := m.link(ends[0], ends[1]); !slices.Equal(l.Findings.Apart, []crdt.ChainID{chain}) || l.OwedOut+l.OwedIn > 0 {
			t.Errorf("%v: %+v", ends, l)
		}
		st, err := m.Node(ends[0]).Backend().SyncStatus(limited(t), api.SyncQuery{Peer: ends[1], Streams: true})
		if err != nil {
			t.Fatal(err)
		}
		if l := st.Links[0]; !slices.ContainsFunc(l.Streams, func(s api.StreamSync) bool { return s.Stream == chain.Stream.String() && s.State == "forked" }) || l.Out.Records+l.In.Records > 0 {
			t.Errorf("%v: %+v", ends, l)
		}
	}
	st, err := m.Node(district).Backend().Status(limited(t))
	if err != nil || !slices.ContainsFunc(st.Alarms, func(a string) bool { return strings.Contains(a, "seems to have been rolled back") }) {
		t.Errorf("the operator is told %q, %v", st.Alarms, err)
	}
	if got := m.Node(district).Group().Store().Vector(chain.Stream)[chain.Author].Seq; got != 0 {
		t.Errorf("the former district was given %d records", got)
	}
	if p, err := m.prove(district, city); err != nil || p.Equal || len(p.Differences) != 1 {
		t.Errorf("proven: %+v, %v", p, err)
	}
}
