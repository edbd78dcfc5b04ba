package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/aggregate"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/indicator"
	"github.com/tiermesh/tiermesh/tiers/track"
)

// area is the sites that a number is of.
type area struct {
	site   tiers.Site
	sites  []tiers.SiteID
	inside map[tiers.SiteID]bool
	known  map[tiers.SiteID]int64
	now    time.Time
	since  int64 // a site that is known since then is covered
}

// areaOf returns the sites of an area that this site holds the records of.
func (n *Node) areaOf(site tiers.SiteID, within time.Duration) (a area, err error) {
	self, t := n.creds.ID.Site, n.Topology()
	if site == "" {
		site = self
	}
	if err := site.Validate(); err != nil {
		return a, err
	}
	if site != self && !t.IsAncestor(self, site) {
		return a, fmt.Errorf("%w: area %s: want %s or a site below it", api.ErrInvalid, site, self)
	}
	a.sites, a.now = aggregate.Area(t, site), n.opts.Now()
	if a.sites == nil {
		return a, fmt.Errorf("%w: area %s has ended", api.ErrInvalid, site)
	}
	a.site, _ = t.Site(site)
	a.since = a.now.Add(-within).UnixMilli()
	a.inside = make(map[tiers.SiteID]bool, len(a.sites))
	for _, s := range a.sites {
		a.inside[s] = true
	}
	a.known, err = n.knownSites()
	return a, err
}

func (a area) cover(sites []tiers.SiteID) aggregate.Coverage {
	return aggregate.Cover(sites, a.known, a.since)
}

// cells returns a cube's cells, summed over the area: from the sums over all sites
// when it is most of them.
func (n *Node) cells(cube string, a area) map[string]int64 {
	st := n.group.Store()
	var outside []tiers.SiteID
	for _, s := range st.TallySites(cube) {
		if !a.inside[s] {
			outside = append(outside, s)
		}
	}
	if len(outside) > len(a.sites) {
		out := map[string]int64{}
		st.EachTally(cube, a.sites, func(_ tiers.SiteID, cell string, c int64) { out[cell] += c })
		return out
	}
	out := st.Tally(cube)
	if len(outside) > 0 {
		st.EachTally(cube, outside, func(_ tiers.SiteID, cell string, c int64) { out[cell] -= c })
	}
	return out
}

// Overview implements [api.Backend].
func (b backend) Overview(_ context.Context, q api.OverviewQuery) (api.Overview, error) {
	n := b.n
	a, err := n.areaOf(q.Area, cmp.Or(q.Within, time.Hour))
	if err != nil {
		return api.Overview{}, translate(err)
	}
	st := n.group.Store()
	out := api.Overview{
		Site: n.creds.ID.Site, Area: a.site.ID, AreaName: a.site.Name, AtMS: a.now.UnixMilli(), By: cmp.Or(q.By, api.ByArea),
		Coverage: a.cover(a.sites), Behind: st.Counts().Dirty, Rows: []api.OverviewRow{},
	}
	if out.Recounting, err = st.Recounting(); err != nil {
		return out, translate(err)
	}
	bySite, elsewhere, err := n.numbersBySite(a)
	if err != nil {
		return out, translate(err)
	}
	for _, x := range bySite {
		addNumbers(&out.Total, *x)
	}
	if a.site.ID == n.creds.ID.Site {
		out.Elsewhere = elsewhere
	}
	switch out.By {
	case api.ByType, api.ByTrack:
		out.Rows, err = n.rowsByType(a, out.By == api.ByTrack)
	case api.ByState:
		out.Rows = n.rowsByState(a)
	default:
		out.Rows = n.rowsBySite(a, bySite, out.By == api.BySite)
	}
	return out, translate(err)
}

func addNumbers(to *api.Numbers, x api.Numbers) {
	to.Events += x.Events
	to.Urgent += x.Urgent
	to.Tasks += x.Tasks
	to.Overdue += x.Overdue
}

// numbersBySite counts what is open of each site of an area, and the open events of
// sites outside of it.
func (n *Node) numbersBySite(a area) (map[tiers.SiteID]*api.Numbers, int64, error) {
	out, elsewhere := make(map[tiers.SiteID]*api.Numbers, len(a.sites)), int64(0)
	at := func(s tiers.SiteID) *api.Numbers {
		x := out[s]
		if x == nil {
			x = &api.Numbers{}
			if a.inside[s] {
				out[s] = x
			}
		}
		return x
	}
	st := n.group.Store()
	st.EachTally(event.CubeState, nil, func(s tiers.SiteID, cell string, c int64) {
		state, urgent := event.SplitStateCell(cell)
		if !event.Open(state) {
			return
		}
		if !a.inside[s] {
			elsewhere += c
			return
		}
		x := at(s)
		if x.Events += c; urgent {
			x.Urgent += c
		}
	})
	st.EachTally(dispatch.CubeTask, a.sites, func(s tiers.SiteID, state string, c int64) {
		if dispatch.OpenTask(state) {
			at(s).Tasks += c
		}
	})
	err := n.overdue(a, func(s tiers.SiteID, _ string, c int64) { at(s).Overdue += c })
	return out, elsewhere, err
}

// overdue calls f with the tasks of an area whose time has run out, by site and type:
// the counters of the hours that are over, and those of the present hour one by one.
func (n *Node) overdue(a area, f func(site tiers.SiteID, typeCode string, c int64)) error {
	st, now := n.group.Store(), a.now.UnixMilli()
	hour := now / dispatch.DueHourMS
	st.EachTally(dispatch.CubeTaskDue, a.sites, func(s tiers.SiteID, cell string, c int64) {
		if h, typeCode := dispatch.SplitDueCell(cell); h < hour {
			f(s, typeCode, c)
		}
	})
	q := store.IndexQuery{Name: dispatch.IndexTaskDue, After: &store.IndexHit{Value: dispatch.DueValue(hour * dispatch.DueHourMS)}, Limit: 1024}
	for {
		hits, err := st.Index(q)
		if err != nil {
			return err
		}
		for _, h := range hits {
			if dispatch.DueOf(h.Value) > now {
				return nil
			}
			if a.inside[h.Key.Stream.Site] {
				f(h.Key.Stream.Site, n.dueType(h.Key), 1)
			}
		}
		if len(hits) < q.Limit {
			return nil
		}
		q.After = &hits[len(hits)-1]
	}
}

// dueType is the type that a task counts under.
func (n *Node) dueType(k store.DocKey) string {
	v, err := n.group.Store().View(k)
	if err != nil {
		return event.TypeOther // it is being remade
	}
	for _, c := range v.Counts {
		if c.Cube == dispatch.CubeTaskDue {
			_, typeCode := dispatch.SplitDueCell(c.Cell)
			return typeCode
		}
	}
	return event.TypeOther
}

// rowsBySite makes a row for each site, or for each site right below the area with
// all below it.
func (n *Node) rowsBySite(a area, bySite map[tiers.SiteID]*api.Numbers, each bool) []api.OverviewRow {
	t := n.Topology()
	row := func(head tiers.SiteID, sites []tiers.SiteID) api.OverviewRow {
		s, _ := t.Site(head)
		cover := a.cover(sites)
		out := api.OverviewRow{Key: string(head), Name: s.Name, Coverage: &cover}
		for _, s := range sites {
			if x := bySite[s]; x != nil {
				addNumbers(&out.Numbers, *x)
			}
		}
		return out
	}
	own := a.site.ID
	out := []api.OverviewRow{row(own, []tiers.SiteID{own})}
	if each {
		for _, s := range slices.Sorted(slices.Values(a.sites)) {
			if s != own {
				out = append(out, row(s, []tiers.SiteID{s}))
			}
		}
		return out
	}
	for _, c := range t.Children(own) {
		out = append(out, row(c, aggregate.Area(t, c)))
	}
	return out
}

// noTrack is the row of types that belong to no track.
const noTrack = "none"

// rowsByType makes a row for each type of event, or for each track.
func (n *Node) rowsByType(a area, tracks bool) ([]api.OverviewRow, error) {
	_, categories, err := n.route(false)
	if err != nil {
		return nil, err
	}
	rows := map[string]*api.OverviewRow{}
	at := func(typeCode string) *api.Numbers {
		key, name := typeCode, n.typeEntry(typeCode)["name"]
		if tracks {
			key, name = n.trackOf(typeCode, categories)
		}
		if rows[key] == nil {
			rows[key] = &api.OverviewRow{Key: key, Name: name}
		}
		return &rows[key].Numbers
	}
	for cell, c := range n.cells(event.CubeType, a) {
		if c != 0 {
			at(cell).Events += c
		}
	}
	for cell, c := range n.cells(dispatch.CubeTaskType, a) {
		if c != 0 {
			at(cell).Tasks += c
		}
	}
	err = n.overdue(a, func(_ tiers.SiteID, typeCode string, c int64) { at(typeCode).Overdue += c })
	return inOrder(rows), err
}

// typeEntry is what the catalog in force holds of a type of event; nil where it has none.
func (n *Node) typeEntry(typeCode string) catalog.Fields {
	if c, ok := catalog.Find(catalog.Types); ok {
		if e, found, err := n.lookup(c, typeCode); found && err == nil {
			return e.Fields
		}
	}
	return nil
}

// trackOf is the track that the catalog in force names for a type of event, and what it
// is called. Of a type without one the board, or else the category, stands for it.
func (n *Node) trackOf(typeCode string, categories map[string]string) (key, name string) {
	of := n.typeEntry(typeCode)
	if code := of["track"]; code != "" {
		return code, n.trackName(track.Kind, code)
	}
	if code := of["board"]; code != "" {
		return code, n.trackName(track.KindBoard, code)
	}
	return cmp.Or(categories[typeCode], noTrack), ""
}

// trackName is what a board or track is called in the nearest catalog that has it; empty
// where none has.
func (n *Node) trackName(kind, code string) string {
	v, err := n.nearest(n.catalogSites(), tiers.NewDocID(kind, code))
	if err != nil {
		return "" // the code alone is shown
	}
	return v.Get(track.FieldName)
}

// rowsByState makes a row for each state of events and of tasks.
func (n *Node) rowsByState(a area) []api.OverviewRow {
	rows := map[string]*api.OverviewRow{}
	at := func(key string) *api.Numbers {
		if rows[key] == nil {
			rows[key] = &api.OverviewRow{Key: key}
		}
		return &rows[key].Numbers
	}
	for cell, c := range n.cells(event.CubeState, a) {
		state, urgent := event.SplitStateCell(cell)
		x := at("event:" + state)
		if x.Events += c; urgent {
			x.Urgent += c
		}
	}
	for state, c := range n.cells(dispatch.CubeTask, a) {
		at("task:" + state).Tasks += c
	}
	for key, r := range rows {
		if r.Numbers == (api.Numbers{}) {
			delete(rows, key)
		}
	}
	return inOrder(rows)
}

func inOrder(rows map[string]*api.OverviewRow) []api.OverviewRow {
	out := []api.OverviewRow{}
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		out = append(out, *rows[key])
	}
	return out
}

// RollUp implements [api.Backend].
func (b backend) RollUp(_ context.Context, q api.RollUpQuery) (api.RollUp, error) {
	n := b.n
	a, err := n.areaOf(q.Area, cmp.Or(q.Within, time.Hour))
	if err == nil {
		err = indicator.Doc(q.Code).Validate()
	}
	if err != nil {
		return api.RollUp{}, translate(err)
	}
	out := api.RollUp{Site: n.creds.ID.Site, Area: a.site.ID, AtMS: a.now.UnixMilli(), Code: q.Code, Values: api.Values{Grades: map[string]int{}}}
	owner, d, err := n.definitionAt(a.site.ID, q.Code)
	if err != nil {
		return out, translate(err)
	}
	if owner == "" {
		return out, fmt.Errorf("%w: this site knows no indicator %q that holds at site %s", api.ErrNotFound, q.Code, a.site.ID)
	}
	out.DefinedBy, out.Name, out.Unit = owner, d.Name, d.Unit
	var reporting []tiers.SiteID
	for _, site := range a.sites {
		count := out.Series
		if err := n.rollUpSite(&out, site, d); err != nil {
			return out, translate(err)
		}
		if out.Series > count {
			reporting = append(reporting, site)
		}
	}
	if out.Reporting = len(reporting); out.Series > 0 {
		out.Mean = out.Sum / float64(out.Series)
	}
	out.Coverage = a.cover(reporting)
	return out, nil
}

// rollUpSite adds the last values of one site's series.
func (n *Node) rollUpSite(out *api.RollUp, site tiers.SiteID, d indicator.Definition) error {
	st := n.group.Store()
	if len(st.Vector(tiers.StreamID{Site: site, Class: tiers.ClassReading})) == 0 {
		return nil
	}
	names, err := st.Series(site, d.Code, "", seriesMax)
	if err != nil {
		return err
	}
	for _, name := range names {
		end, _, err := st.LastReading(site, name, d.Range())
		if err != nil {
			return err
		}
		if !end.Known {
			continue
		}
		last := end.Value
		if out.Series == 0 {
			out.Min, out.Max, out.OldestMS = last.Value, last.Value, last.AtMS
		}
		out.Series++
		out.Sum += last.Value
		out.Min, out.Max, out.OldestMS = min(out.Min, last.Value), max(out.Max, last.Value), min(out.OldestMS, last.AtMS)
		out.Grades[d.Grade(last.Value)]++
	}
	return nil
}
