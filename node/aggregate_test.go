package node_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/indicator"
	"github.com/tiermesh/tiermesh/tiers/review"
	"github.com/tiermesh/tiermesh/tiers/track"
)

// passed says when a time has gone by.
func passed(d time.Duration) func() bool {
	until := time.Now().Add(d)
	return func() bool { return time.Now().After(until) }
}

// newSix is a city, two districts and three townships whose silent links live short.
func newSix(t *testing.T) *mesh {
	t.Helper()
	dir := t.TempDir()
	c, err := local.Open(limited(t), local.Config{
		Dir: dir, Federation: "cq", RedialMax: 200 * time.Millisecond, LinkIdle: time.Second, StandInAfter: time.Hour,
		Sites: []tiers.Site{
			{ID: city, Tier: tiers.TierCity, Name: "重庆市"},
			{ID: district, Tier: tiers.TierDistrict, Name: "万州区", Parent: city},
			{ID: "500102", Tier: tiers.TierDistrict, Name: "涪陵区", Parent: city},
			{ID: township, Tier: tiers.TierTownship, Name: "高笋塘街道", Parent: district},
			{ID: "500101002", Tier: tiers.TierTownship, Name: "太白街道", Parent: district},
			{ID: "500102001", Tier: tiers.TierTownship, Name: "敦仁街道", Parent: "500102"},
		},
	}, nil)
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

func (m *mesh) overview(at tiers.SiteID, q api.OverviewQuery) api.Overview {
	m.t.Helper()
	o, err := m.Node(at).Backend().Overview(limited(m.t), q)
	if err != nil {
		m.t.Fatal(err)
	}
	return o
}

func (m *mesh) reportTo(site tiers.SiteID, key, typeCode string, priority int) {
	m.t.Helper()
	_, err := m.Node(site).Report(limited(m.t), key, event.Report{Type: typeCode, Title: key, Priority: priority, SourceKey: key})
	if err != nil {
		m.t.Fatal(err)
	}
}

// TestCoverage: the city's numbers are of 6 of 6 sites, also of a township that
// writes nothing; when a township two hops away is cut off, they are of 5 of 6, and
// the missing one is named with as of when it is known; after the heal they are of
// all again.
func TestCoverage(t *testing.T) {
	m := newSix(t)
	for i, site := range []tiers.SiteID{city, district, "500102", township, "500101002"} {
		m.reportTo(site, fmt.Sprintf("c%d", i), "01001", 1+i%4)
	}
	within := 30 * time.Second
	covered := func() api.Overview { return m.overview(city, api.OverviewQuery{Within: within}) }
	m.wait("6 of 6 sites", func() bool {
		o := covered()
		return o.Coverage.Covered == 6 && o.Total.Events == 5 && o.Behind == 0 && len(o.Rows) == 3
	})
	// The township is quiet, and known as of now all the same.
	within = 5 * time.Second
	m.wait("6 of 6 sites, known of late", func() bool { return covered().Coverage.Covered == 6 })
	m.Isolate(township)
	var o api.Overview
	m.wait("5 of 6 sites", func() bool { o = covered(); return o.Coverage.Covered == 5 })
	if c := o.Coverage; c.Sites != 6 || len(c.Missing) != 1 || c.Missing[0].Site != township || c.Missing[0].KnownMS == 0 || c.OldestMS == 0 {
		t.Fatalf("%+v", c)
	}
	lost := o.Coverage.Missing[0].KnownMS
	if row := o.Rows[1]; row.Key != string(district) || row.Coverage.Sites != 3 || row.Coverage.Covered != 2 || row.Events != 3 {
		t.Errorf("%+v, %+v", row, row.Coverage)
	}
	m.reportTo(township, "unheard", "01001", 3)
	if o = covered(); o.Total.Events != 5 || o.Coverage.Missing[0].KnownMS < lost {
		t.Errorf("%+v", o)
	}
	m.Heal()
	m.wait("6 of 6 sites again", func() bool { o = covered(); return o.Coverage.Covered == 6 && o.Total.Events == 6 })
}

// TestOverviewRows: rows by area, site, type, track and state agree with each other,
// and with the documents; a district shows its own part; a site outside is refused.
func TestOverviewRows(t *testing.T) {
	m := newMesh(t)
	m.publishRules()
	m.wait("rules arrive", m.agreed)
	for i := range 4 {
		m.reportTo(township, fmt.Sprintf("t%d", i), []string{"01001", "06004", "no-catalog-has-it", "01001"}[i], 1+i)
	}
	m.reportTo(district, "d", "01001", 3)
	m.wait("all is dispatched and agreed", func() bool {
		o := m.overview(city, api.OverviewQuery{})
		return o.Total.Tasks == 5 && o.Total.Events == 5 && m.agreed()
	})
	sum := func(o api.Overview) (n api.Numbers) {
		for _, r := range o.Rows {
			n.Events, n.Urgent, n.Tasks, n.Overdue = n.Events+r.Events, n.Urgent+r.Urgent, n.Tasks+r.Tasks, n.Overdue+r.Overdue
		}
		return n
	}
	for _, by := range []string{api.ByArea, api.BySite, api.ByType, api.ByTrack, api.ByState} {
		o := m.overview(city, api.OverviewQuery{By: by})
		if got := sum(o); got.Events != 5 || got.Tasks != 5 || o.Total.Urgent != 2 {
			t.Errorf("by %s: %+v of %+v", by, got, o)
		}
	}
	if o := m.overview(city, api.OverviewQuery{By: api.ByType}); len(o.Rows) != 3 || o.Rows[0].Key != "01001" || o.Rows[0].Events != 3 {
		t.Errorf("%+v", o.Rows)
	}
	if o := m.overview(district, api.OverviewQuery{Area: township}); o.Total.Events != 4 || o.Coverage.Sites != 1 {
		t.Errorf("%+v", o)
	}
	for site, want := range map[tiers.SiteID]string{"500109": "below", city: "below", "no site!": "site"} {
		_, err := m.Node(district).Backend().Overview(limited(t), api.OverviewQuery{Area: site})
		if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", site, err)
		}
	}
}

// TestOverviewByTrack: an event counts in the track that the catalog names for its
// type, in the board where there is none, and moves when the catalog does.
func TestOverviewByTrack(t *testing.T) {
	m := newMesh(t)
	types := func(key, track string) {
		t.Helper()
		_, err := m.Node(city).Backend().PutEntries(limited(t), api.EntriesRequest{Key: key, Catalog: catalog.Types, Entries: []catalog.Row{
			{Row: 1, Fields: catalog.Fields{"code": "01001", "category": "c", "name": "n", "track": track}},
			{Row: 2, Fields: catalog.Fields{"code": "01002", "category": "c", "name": "n"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		m.wait("types arrive", m.agreed)
	}
	types("1", "water-supply")
	for i, code := range []string{"01001", "01001", "01002"} {
		m.reportTo(township, fmt.Sprintf("t%d", i), code, 3)
	}
	shows := func(want map[string]int64) func() bool {
		return func() bool {
			got := map[string]int64{}
			for _, r := range m.overview(city, api.OverviewQuery{By: api.ByTrack}).Rows {
				got[r.Key] = r.Events
			}
			return maps.Equal(got, want)
		}
	}
	m.wait("a row for the track", shows(map[string]int64{"water-supply": 2, "c": 1}))
	types("2", "gas")
	m.wait("a row for the new track", shows(map[string]int64{"gas": 2, "c": 1}))
}

// TestOverviewNames: a row by type has the name of the type, not its category; one by
// track what the track, or the board in its place, is called; a track of no catalog
// has none.
func TestOverviewNames(t *testing.T) {
	m := newMesh(t)
	r := api.TracksRequest{
		Key: "tracks", Boards: []track.Board{{Code: "b1", Name: "安全"}},
		Tracks: []track.Track{{Code: "water-supply", Board: "b1", Name: "供水保障"}},
	}
	if _, err := m.Node(city).Backend().PublishTracks(limited(t), r); err != nil {
		t.Fatal(err)
	}
	_, err := m.Node(city).Backend().PutEntries(limited(t), api.EntriesRequest{Key: "types", Catalog: catalog.Types, Entries: []catalog.Row{
		{Row: 1, Fields: catalog.Fields{"code": "01001", "category": "市政", "name": "水管爆裂", "track": "water-supply"}},
		{Row: 2, Fields: catalog.Fields{"code": "01002", "category": "市政", "name": "路灯不亮", "board": "b1"}},
		{Row: 3, Fields: catalog.Fields{"code": "01003", "category": "市容", "name": "占道经营"}},
		{Row: 4, Fields: catalog.Fields{"code": "01004", "category": "市容", "name": "乱贴", "track": "no-such-track"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	m.wait("catalogs arrive", m.agreed)
	for i, code := range []string{"01001", "01002", "01003", "01004"} {
		m.reportTo(township, fmt.Sprintf("t%d", i), code, 3)
	}
	for by, want := range map[string]map[string]string{
		api.ByType:  {"01001": "水管爆裂", "01002": "路灯不亮", "01003": "占道经营", "01004": "乱贴"},
		api.ByTrack: {"water-supply": "供水保障", "b1": "安全", "市容": "", "no-such-track": ""},
	} {
		for _, site := range []tiers.SiteID{city, township} {
			var got map[string]string
			m.wait("names by "+by+" at "+string(site), func() bool {
				got = map[string]string{}
				for _, r := range m.overview(site, api.OverviewQuery{By: by}).Rows {
					got[r.Key] = r.Name
				}
				return len(got) == len(want)
			})
			if !maps.Equal(got, want) {
				t.Errorf("by %s at %s: %v, want %v", by, site, got, want)
			}
		}
	}
}

// TestRollUp: an area's roll-up is of the last value of each site's series.
func TestRollUp(t *testing.T) {
	m := newMesh(t)
	m.define(indicator.Definition{Code: "on_time", Name: "按时办结率", Kind: indicator.KPI, Unit: "%", Grades: []indicator.Grade{
		{Name: "good", Op: indicator.AtLeast, Target: 95}, {Name: "fair", Op: indicator.AtLeast, Target: 85},
	}})
	m.wait("agreed", m.agreed)
	at := time.Now().Add(-time.Hour).UnixMilli()
	for site, values := range map[tiers.SiteID][]float64{township: {50, 96}, district: {90}} {
		var in []node.Reading
		for i, v := range values {
			in = append(in, node.Reading{Series: "on_time", Point: reading.Point{AtMS: at + int64(i)*60_000, Value: v}})
		}
		if done, err := m.Node(site).Import(limited(t), "k", in, false); err != nil || len(done.Bad) > 0 {
			t.Fatal(done.Bad, err)
		}
	}
	var r api.RollUp
	m.wait("both report", func() bool {
		var err error
		if r, err = m.Node(city).Backend().RollUp(limited(t), api.RollUpQuery{Code: "on_time"}); err != nil {
			t.Fatal(err)
		}
		return r.Series == 2 && r.Max == 96
	})
	if r.Sum != 186 || r.Mean != 93 || r.Min != 90 || r.Grades["good"] != 1 || r.Grades["fair"] != 1 || r.Reporting != 2 || r.Coverage.Sites != 2 || r.OldestMS != at {
		t.Errorf("%+v", r)
	}
	if _, err := m.Node(city).Backend().RollUp(limited(t), api.RollUpQuery{Code: "nothing"}); !errors.Is(err, api.ErrNotFound) {
		t.Error(err)
	}
}

// TestReviewAcrossCut: the township acts while it is cut off; what the city knew then
// is without that; it learnt of it after the heal, and says so; what both say is put
// together into one timeline.
func TestReviewAcrossCut(t *testing.T) {
	m := newMesh(t)
	m.publishRules()
	m.wait("rules arrive", m.agreed)
	docs := m.report(1)
	m.wait("the event and its task are everywhere", func() bool {
		return m.overview(city, api.OverviewQuery{}).Total.Tasks == 1 && m.agreed()
	})
	m.Isolate(township)
	m.act(township, dispatch.TaskID(docs[0].Doc), dispatch.Action{Kind: dispatch.ActionAccept})
	m.wait("a moment goes by", passed(10*time.Millisecond))
	cut := time.Now().UnixMilli()
	m.wait("a moment goes by", passed(1100*time.Millisecond))
	healed := time.Now().UnixMilli()
	m.Heal()
	m.wait("sites agree", m.agreed)
	state := func(at tiers.SiteID, ms int64) string {
		r, err := m.Node(at).Backend().Review(limited(t), api.ReviewQuery{AtMS: ms, Kind: "task", Limit: 10})
		if err != nil || len(r.Documents) != 1 || !r.Counted {
			t.Fatalf("%+v, %v", r, err)
		}
		var v dispatch.TaskView
		if err := json.Unmarshal(r.Documents[0].View, &v); err != nil {
			t.Fatal(err)
		}
		return v.State
	}
	m.wait("a moment goes by", passed(1100*time.Millisecond))
	now := time.Now().UnixMilli()
	if a, b, c := state(township, cut), state(city, cut), state(city, now); a != "accepted" || b != "dispatched" || c != "accepted" {
		t.Errorf("the township knew %s, the city %s, and now %s", a, b, c)
	}
	line, err := m.Node(city).Backend().Timeline(limited(t), string(docs[0].Doc))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(line.Steps, func(s review.Step) bool {
		return len(s.What) > 0 && strings.HasPrefix(s.What[0], "accept") && s.Doc.Kind() == "task"
	})
	if i < 0 {
		t.Fatalf("%+v", line.Steps)
	}
	s := line.Steps[i]
	if s.By != township || s.AtMS > cut || s.Learnt[city].Basis != "arrived" || s.Learnt[city].AtMS < healed || s.Learnt[district].Basis == "arrived" {
		t.Errorf("%+v, healed at %d", s, healed)
	}
	other, err := m.Node(district).Backend().Timeline(limited(t), string(docs[0].Doc))
	if err != nil {
		t.Fatal(err)
	}
	both := review.Merge(line.Timeline, other.Timeline)
	if l := both.Steps[i].Learnt; l[district].Basis != "arrived" || l[city].Basis != "arrived" || l[township].Basis != "wrote" || l[district].AtMS < healed {
		t.Errorf("%+v", l)
	}
	// What the records at the city prove of the township.
	r, err := m.Node(city).Backend().Review(limited(t), api.ReviewQuery{Site: township, AtMS: cut, Kind: "event", Limit: 10})
	if err != nil || r.Basis != api.BasisAtLeast || len(r.Documents) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestReviewRefusals names what is wrong with a question.
func TestReviewRefusals(t *testing.T) {
	m := newMesh(t)
	now := time.Now()
	for name, row := range map[string]struct {
		q    api.ReviewQuery
		want string
	}{
		"year 9999":    {api.ReviewQuery{AtMS: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()}, "1970"},
		"before 1970":  {api.ReviewQuery{AtMS: -1}, "1970"},
		"tomorrow":     {api.ReviewQuery{AtMS: now.Add(24 * time.Hour).UnixMilli()}, "future"},
		"unknown site": {api.ReviewQuery{AtMS: now.UnixMilli(), Site: "500999"}, "500999"},
		"bad site":     {api.ReviewQuery{AtMS: now.UnixMilli(), Site: "a b"}, "site"},
		"bad cursor":   {api.ReviewQuery{AtMS: now.UnixMilli(), After: "nonsense"}, "next"},
	} {
		if _, err := m.Node(city).Backend().Review(limited(t), row.q); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := m.Node(city).Backend().Timeline(limited(t), "event:nobody"); !errors.Is(err, api.ErrNotFound) {
		t.Error(err)
	}
}

// TestOverdue: tasks are overdue by the clock of who asks, also those whose time ran
// out in the present hour.
func TestOverdue(t *testing.T) {
	var ahead atomic.Int64
	c, err := local.Open(limited(t), local.Config{
		Dir: t.TempDir(), Federation: "cq", Sites: []tiers.Site{{ID: city, Tier: tiers.TierCity, Name: "重庆市"}},
		Now: func(tiers.SiteID) time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{Cluster: c, t: t}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	m.publishRules()
	for i := range 3 {
		m.reportTo(city, fmt.Sprintf("o%d", i), "01001", 3)
	}
	m.wait("three tasks", func() bool { return m.overview(city, api.OverviewQuery{}).Total.Tasks == 3 })
	hits, err := m.Node(city).Group().Store().Index(store.IndexQuery{Name: dispatch.IndexTaskDue})
	if err != nil || len(hits) != 3 {
		t.Fatal(hits, err)
	}
	last := dispatch.DueOf(hits[2].Value)
	for _, row := range []struct {
		after time.Duration
		want  int64
	}{{-2 * time.Hour, 0}, {-time.Minute, 0}, {time.Second, 3}, {3 * time.Hour, 3}, {400 * time.Hour, 3}} {
		ahead.Store(int64(time.Until(time.UnixMilli(last).Add(row.after))))
		for _, by := range []string{api.ByArea, api.ByType, api.ByTrack} {
			o, sum := m.overview(city, api.OverviewQuery{By: by}), int64(0)
			for _, r := range o.Rows {
				sum += r.Overdue
			}
			if o.Total.Overdue != row.want || sum != row.want {
				t.Errorf("%v after the last is due, by %s: %d and %d overdue, want %d", row.after, by, o.Total.Overdue, sum, row.want)
			}
		}
	}
}

// TestOverviewAfterMove: a township that gets another parent takes its open events
// along into that district's number, at the city and at the district; the former
// parent counts it no more, and says what it still holds.
func TestOverviewAfterMove(t *testing.T) {
	m := newMove(t, time.Hour)
	m.reportTo(township, "moves", "01001", 3)
	m.reportTo(district, "stays", "01001", 3)
	open := func(at tiers.SiteID) map[string]int64 {
		out := map[string]int64{}
		for _, r := range m.overview(at, api.OverviewQuery{}).Rows {
			out[r.Key] = r.Events
		}
		return out
	}
	m.wait("the city to count under the first district", func() bool { return open(city)[string(district)] == 2 })
	m.move()
	m.wait("the city and the other district to count it there", func() bool {
		at := open(city)
		return at[string(district)] == 1 && at[string(other)] == 1 && open(other)[string(township)] == 1
	})
	m.wait("the former parent to let go", func() bool {
		o := m.overview(district, api.OverviewQuery{})
		return o.Total.Events == 1 && o.Elsewhere == 1 && o.Coverage.Sites == 1
	})
}
