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
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// put writes entries to a site's catalog; none may be bad.
func (m *mesh) put(at tiers.SiteID, name string, rows ...catalog.Fields) api.EntriesResult {
	m.t.Helper()
	m.n++
	r := api.EntriesRequest{Key: fmt.Sprintf("put%d", m.n), Catalog: name}
	for i, f := range rows {
		r.Entries = append(r.Entries, catalog.Row{Row: i + 1, Fields: f})
	}
	out, err := m.Node(at).Backend().PutEntries(limited(m.t), r)
	if err != nil || len(out.Problems) > 0 {
		m.t.Fatalf("put %s at %s: %+v, %v", name, at, out, err)
	}
	return out
}

// entries returns what a site shows of a catalog, by code.
func (m *mesh) entries(at tiers.SiteID, q api.EntriesQuery) map[string]catalog.Entry {
	m.t.Helper()
	q.Limit = 2 // so that there are pages
	out := map[string]catalog.Entry{}
	for {
		page, err := m.Node(at).Backend().Entries(limited(m.t), q)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, e := range page.Entries {
			out[e.Code] = e
		}
		if q.After = page.Next; q.After == "" {
			return out
		}
	}
}

// briefs waits until an event has tasks at a site and returns their briefs.
func (m *mesh) briefs(at tiers.SiteID, ev tiers.DocID) (out []dispatch.Brief) {
	m.t.Helper()
	m.wait("the event is dispatched", func() bool { return m.event(at, ev).State == event.StateDispatched })
	for _, id := range m.event(at, ev).Tasks {
		out = append(out, m.task(at, id).Brief)
	}
	return out
}

// TestCatalogAcrossACut: a township that is cut off goes on with the rule, plan,
// calendar and type that it last saw, and its tasks name their versions; a change
// that the city makes meanwhile counts after the heal, and versions show what was.
func TestCatalogAcrossACut(t *testing.T) {
	m := newMesh(t)
	days := catalog.Fields{"code": "default", "offset": "480", "hours": "09:00-12:00 14:00-18:00", "weekend": "0 6"}
	steps := `[{"code":"a","title":"处置","organ":"城管","role":"lead","limit":{"amount":2,"unit":"day"}}]`
	m.put(city, catalog.Types, catalog.Fields{"code": "01001", "category": "市政公用设施", "name": "供水井盖"}, catalog.Fields{"code": "01002", "category": "市政公用设施", "name": "污水井盖"})
	m.put(city, catalog.Calendars, days)
	m.put(city, catalog.Plans, catalog.Fields{"code": "cover", "name": "井盖", "steps": steps})
	rule := catalog.Fields{"code": "covers", "organ": "城管", "limit_amount": "2", "limit_unit": "day", "plan": "cover", "category": "市政公用设施"}
	m.put(city, catalog.Rules, rule)
	m.wait("sites agree", m.agreed)

	m.Isolate(township)
	rule["organ"], rule["plan"] = "水务", ""
	if r := m.put(city, catalog.Rules, rule); r.Version != 2 || r.Changed != 1 {
		t.Fatalf("%+v", r)
	}
	m.put(city, catalog.Types, catalog.Fields{"code": "01001", "name": "供水井盖异常"})
	old := m.report(1)[0]
	want := map[string]string{dispatch.UsedRule: "500000/1", dispatch.UsedPlan: "500000/1", dispatch.UsedCalendar: "500000/1", dispatch.UsedType: "500000/1"}
	for _, b := range m.briefs(township, old.Doc) {
		if b.Organ != "城管" || fmt.Sprint(b.Versions) != fmt.Sprint(want) {
			t.Errorf("cut off: %+v", b)
		}
	}
	m.Heal()
	m.wait("sites agree", m.agreed)
	m.wait("the new rule is used", func() bool {
		ev := m.report(1)[0]
		b := m.briefs(township, ev.Doc)[0]
		return b.Organ == "水务" && b.Versions[dispatch.UsedRule] == "500000/2" && b.Versions[dispatch.UsedType] == "500000/2" && b.Versions[dispatch.UsedPlan] == ""
	})

	// What the versions held, at a site that only received them.
	if e := m.entries(township, api.EntriesQuery{Catalog: catalog.Rules, Version: 1}); e["covers"].Fields["organ"] != "城管" || e["covers"].Site != city {
		t.Errorf("%+v", e)
	}
	if e := m.entries(township, api.EntriesQuery{Catalog: catalog.Types, Version: 1}); len(e) != 2 || e["01001"].Fields["name"] != "供水井盖" {
		t.Errorf("%+v", e)
	}
	d, err := m.Node(township).Backend().CatalogDiff(limited(t), api.DiffQuery{Catalog: catalog.Rules, From: 1, To: 2, Limit: 10})
	if err != nil || len(d.Changes) != 1 || d.Changes[0].Fields["organ"] != (catalog.Delta{From: "城管", To: "水务"}) || d.Changes[0].Fields["plan"].To != "" {
		t.Errorf("%+v, %v", d, err)
	}
	m.checkSums(township, city)
}

// checkSums holds the versions that a site made against what another one shows of
// them.
func (m *mesh) checkSums(at, of tiers.SiteID) {
	m.t.Helper()
	n := 0
	for _, name := range catalog.Names() {
		list, err := m.Node(at).Backend().CatalogVersions(limited(m.t), api.EntriesQuery{Catalog: name, Site: of, Limit: 100})
		if err != nil {
			m.t.Fatal(err)
		}
		for _, v := range list.Versions {
			n++
			sums := map[string]crdt.Hash{}
			for code, e := range m.entries(at, api.EntriesQuery{Catalog: name, Site: of, Version: v.Number}) {
				sums[code] = e.Fields.Sum()
			}
			sum := catalog.Sum(sums)
			if v.Count != len(sums) || v.Sum != fmt.Sprintf("%x", sum[:]) {
				m.t.Errorf("%s version %d of %s at %s: %d entries with sum %s, it shows %d with %x", name, v.Number, of, at, v.Count, v.Sum, len(sums), sum[:])
			}
		}
	}
	if n == 0 {
		m.t.Error("no version to check")
	}
}

// TestCatalogNearestHolds: a lower site's own entry takes the place of the one from
// above, for it and those below; retired, it is out of force there; two sites that
// change one entry apart show the conflict, until one of them resolves it.
func TestCatalogNearestHolds(t *testing.T) {
	m := newMesh(t)
	m.put(city, catalog.Types, catalog.Fields{"code": "1", "category": "c", "name": "city's"}, catalog.Fields{"code": "2", "category": "c", "name": "both"})
	m.wait("sites agree", m.agreed)
	if r := m.put(district, catalog.Types, catalog.Fields{"code": "1", "category": "c", "name": "city's"}); r.Written || r.Unchanged != 1 {
		t.Errorf("a copy of what holds was written: %+v", r)
	}
	if r := m.put(district, catalog.Types, catalog.Fields{"code": "1", "name": "district's"}); !r.Written || r.Version != 1 || r.Changed != 1 {
		t.Errorf("%+v", r)
	}
	m.wait("sites agree", m.agreed)
	for at, want := range map[tiers.SiteID]string{city: "city's", district: "district's", township: "district's"} {
		if e := m.entries(at, api.EntriesQuery{Catalog: catalog.Types}); e["1"].Fields["name"] != want || e["1"].Fields["category"] != "c" || e["2"].Site != city {
			t.Errorf("%s: %+v", at, e)
		}
	}
	all, err := m.Node(township).Backend().Catalogs(limited(t), catalog.Types)
	if err != nil || all[0].Entries != 2 || len(all[0].Sources) != 2 || all[0].Sources[0].Site != district || len(all[0].Fields) == 0 {
		t.Errorf("%+v, %v", all, err)
	}

	// The city may write to the district's catalog; what it changes there after the
	// last version is shown as such.
	m.Isolate(district)
	stream := tiers.StreamID{Site: district, Class: tiers.ClassCatalog}
	if _, err := m.Node(city).Edit(limited(t), "edit", stream, "type:1", []crdt.Op{{Kind: crdt.OpPut, Key: "name", Value: "city again"}}); err != nil {
		t.Fatal(err)
	}
	m.put(district, catalog.Types, catalog.Fields{"code": "1", "name": "district again"})
	m.Heal()
	m.wait("sites agree", m.agreed)
	if e := m.entries(township, api.EntriesQuery{Catalog: catalog.Types}); len(e["1"].Conflicts) != 1 || len(e["1"].Conflicts[0].Values) != 2 {
		t.Errorf("%+v", e["1"])
	}
	if e := m.entries(city, api.EntriesQuery{Catalog: catalog.Types, Site: district, Version: 2}); e["1"].Fields["name"] != "district again" {
		t.Errorf("version 2 holds what came after it: %+v", e)
	}
	if e := m.entries(city, api.EntriesQuery{Catalog: catalog.Types, Site: district, Version: 1}); e["1"].Fields["name"] != "district's" {
		t.Errorf("version 1: %+v", e)
	}
	id := m.start(township, api.StartTasksRequest{Event: m.report(1)[0].Doc, Organ: "o", Limit: twoHours})[0]
	if v := m.task(township, id).Brief.Versions; v != nil {
		t.Errorf("no catalog has type 01001, but: %v", v)
	}
	w, err := m.Node(township).Report(limited(t), "one", event.Report{Type: "1", Title: "x", Priority: 3})
	if err != nil {
		t.Fatal(err)
	}
	id = m.start(township, api.StartTasksRequest{Event: w.Doc, Organ: "o", Limit: twoHours})[0]
	if v := m.task(township, id).Brief.Versions[dispatch.UsedType]; v != "500101/2+" {
		t.Errorf("the entry was changed after version 2, but: %q", v)
	}
	r, err := m.Node(district).Backend().PutEntries(limited(t), api.EntriesRequest{
		Key: "resolve", Catalog: catalog.Types, Resolve: true, Entries: []catalog.Row{{Row: 1, Fields: catalog.Fields{"code": "1", "name": "district again"}}},
	})
	if err != nil || r.Version != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	m.wait("sites agree", m.agreed)
	if e := m.entries(township, api.EntriesQuery{Catalog: catalog.Types}); len(e["1"].Conflicts) != 0 || e["1"].Fields["name"] != "district again" {
		t.Errorf("%+v", e["1"])
	}

	m.aboveBelongs(stream)
	m.checkSums(city, district)
	m.checkSums(township, city)
}

// aboveBelongs: what came from above before a version belongs to it.
func (m *mesh) aboveBelongs(stream tiers.StreamID) {
	m.t.Helper()
	if _, err := m.Node(city).Edit(limited(m.t), "edit2", stream, "type:1", []crdt.Op{{Kind: crdt.OpPut, Key: "name", Value: "by the city"}}); err != nil {
		m.t.Fatal(err)
	}
	m.wait("sites agree", m.agreed)
	m.put(district, catalog.Types, catalog.Fields{"code": "3", "category": "c", "name": "third"})
	m.wait("sites agree", m.agreed)
	if e := m.entries(city, api.EntriesQuery{Catalog: catalog.Types, Site: district, Version: 4}); e["1"].Fields["name"] != "by the city" || len(e) != 2 {
		m.t.Errorf("version 4: %+v", e)
	}
}

// TestCatalogWrites: a write is whole or not at all, once for each key, and makes a
// version only when it changes something.
func TestCatalogWrites(t *testing.T) {
	m := newMesh(t)
	b := m.Node(city).Backend()
	board := func(code, name string) catalog.Row {
		return catalog.Row{Row: 1, Fields: catalog.Fields{"code": code, "name": name}}
	}
	first := api.EntriesRequest{Key: "k", Catalog: catalog.Boards, Entries: []catalog.Row{board("a", "A"), board("b", "B")}, Note: "first"}
	for i := range 2 {
		r, err := b.PutEntries(limited(t), first)
		if err != nil || r.Version != 1 || !r.Written || r.Repeated != (i == 1) || r.Added+r.Changed != 2 {
			t.Fatalf("%d: %+v, %v", i, r, err)
		}
	}
	for name, x := range map[string]struct {
		request api.EntriesRequest
		want    api.EntriesResult
	}{
		"unchanged":  {api.EntriesRequest{Key: "k2", Entries: first.Entries}, api.EntriesResult{Version: 1, Unchanged: 2}},
		"one is bad": {api.EntriesRequest{Key: "k3", Entries: []catalog.Row{board("c", "C"), board("d", "")}}, api.EntriesResult{Version: 1, Added: 1, Problems: make([]catalog.Problem, 1)}},
		"twice":      {api.EntriesRequest{Key: "k4", Entries: []catalog.Row{board("c", "C"), board("c", "D")}}, api.EntriesResult{Version: 1, Added: 1, Problems: make([]catalog.Problem, 1)}},
		"dry run":    {api.EntriesRequest{Key: "k5", DryRun: true, Entries: []catalog.Row{board("c", "C"), board("a", "X")}}, api.EntriesResult{Version: 1, Added: 1, Changed: 1}},
	} {
		x.request.Catalog = catalog.Boards
		r, err := b.PutEntries(limited(t), x.request)
		if err != nil || r.Written || r.Version != 1 || r.Added != x.want.Added || r.Changed != x.want.Changed || r.Unchanged != x.want.Unchanged || len(r.Problems) != len(x.want.Problems) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	skip := api.EntriesRequest{Key: "k6", Catalog: catalog.Boards, SkipBad: true, Entries: []catalog.Row{board("c", "C"), board("d", "")}}
	if r, err := b.PutEntries(limited(t), skip); err != nil || !r.Written || r.Version != 2 || r.Added != 1 || len(r.Problems) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := b.PutEntries(limited(t), api.EntriesRequest{Key: "k7", Catalog: "kinds", Entries: first.Entries}); !errors.Is(err, api.ErrNotFound) {
		t.Error(err)
	}
	if _, err := b.RetireEntry(limited(t), api.RetireRequest{Key: "k8", Catalog: catalog.Boards, Code: "z"}); !errors.Is(err, api.ErrNotFound) {
		t.Error(err)
	}
	if r, err := b.RetireEntry(limited(t), api.RetireRequest{Key: "k9", Catalog: catalog.Boards, Code: "a"}); err != nil || r.Version != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	if e := m.entries(city, api.EntriesQuery{Catalog: catalog.Boards}); len(e) != 3 || !e["a"].Retired() {
		t.Errorf("%+v", e)
	}
	if _, err := b.Entries(limited(t), api.EntriesQuery{Catalog: catalog.Boards, Version: 4, Limit: 1}); !errors.Is(err, api.ErrNotFound) {
		t.Error(err)
	}
	// Entries that were written in one commit, of two catalogs, each with a version.
	m.publishRules()
	if r := m.put(city, catalog.Rules, catalog.Fields{"code": "rest", "skill": "x"}); r.Version != 2 || r.Changed != 1 {
		t.Errorf("%+v", r)
	}
	m.checkSums(city, city)
}

// TestRetiredRule: a rule, plan or type that is retired is used no more.
func TestRetiredRule(t *testing.T) {
	m := newMesh(t)
	m.put(city, catalog.Rules, catalog.Fields{"code": "a", "organ": "first", "limit_amount": "1", "limit_unit": "day"},
		catalog.Fields{"code": "b", "order": "9", "organ": "second", "limit_amount": "1", "limit_unit": "day"})
	m.wait("sites agree", m.agreed)
	if b := m.briefs(township, m.report(1)[0].Doc); b[0].Organ != "first" {
		t.Errorf("%+v", b)
	}
	if _, err := m.Node(township).Backend().RetireEntry(limited(t), api.RetireRequest{Key: "r", Catalog: catalog.Rules, Code: "a"}); err != nil {
		t.Fatal(err)
	}
	if b := m.briefs(township, m.report(1)[0].Doc); b[0].Organ != "second" {
		t.Errorf("%+v", b)
	}
	plan := dispatch.DefaultPlans()[0]
	if _, err := m.Node(township).Backend().PublishPlan(limited(t), api.PlanRequest{Key: "p", Plan: plan}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Node(township).Backend().RetireEntry(limited(t), api.RetireRequest{Key: "rp", Catalog: catalog.Plans, Code: plan.Code}); err != nil {
		t.Fatal(err)
	}
	_, err := m.Node(township).Backend().StartTasks(limited(t), api.StartTasksRequest{Key: "s", Event: m.report(1)[0].Doc, Plan: plan.Code})
	if !errors.Is(err, api.ErrNotFound) {
		t.Errorf("a retired plan: %v", err)
	}
	if _, err := m.Node(township).Backend().PublishPlan(limited(t), api.PlanRequest{Key: "p2", Plan: plan}); err != nil {
		t.Fatal(err)
	}
	if ids := m.start(township, api.StartTasksRequest{Event: m.report(1)[0].Doc, Plan: plan.Code}); len(ids) != len(plan.Steps) {
		t.Errorf("published again: %v", ids)
	}
}

// TestGrants: a township asks its district for a resource while it is cut off, is
// granted it after the heal, and loses it again; a district asks a township.
func TestGrants(t *testing.T) {
	m := newMesh(t)
	m.put(district, catalog.Resources, catalog.Fields{"code": "people", "name": "人口库", "kind": "data", "access": "grant"},
		catalog.Fields{"code": "map", "name": "地图", "kind": "data", "access": "open"})
	m.put(township, catalog.Resources, catalog.Fields{"code": "cams", "name": "视频", "kind": "data", "access": "grant"})
	m.wait("sites agree", m.agreed)
	m.Isolate(township)
	until := time.Now().Add(time.Hour).UnixMilli()
	ask := api.GrantRequest{Key: "ask", Resource: "people", Purpose: "转移", UntilMS: until}
	g, err := m.Node(township).Backend().RequestGrant(limited(t), ask)
	if err != nil || g.Now != catalog.GrantRequested || g.Owner != district || g.Version != "500101/1" {
		t.Fatalf("%+v, %v", g, err)
	}
	if again, err := m.Node(township).Backend().RequestGrant(limited(t), ask); err != nil || again.ID != g.ID {
		t.Errorf("%+v, %v", again, err)
	}
	m.grantRefusals()
	m.Heal()
	m.wait("sites agree", m.agreed)
	step := func(at tiers.SiteID, id tiers.DocID, kind string) (api.GrantStatus, error) {
		m.n++
		return m.Node(at).Backend().StepGrant(limited(t), api.GrantStepRequest{Key: fmt.Sprintf("step%d", m.n), Grant: id, Step: kind})
	}
	if _, err := step(city, g.ID, catalog.StepGrant); !errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), "for site 500101") {
		t.Errorf("the city grants: %v", err)
	}
	if s, err := step(district, g.ID, catalog.StepGrant); err != nil || s.Now != catalog.GrantGranted || s.EndMS != until {
		t.Errorf("%+v, %v", s, err)
	}
	m.wait("sites agree", m.agreed)
	list, err := m.Node(township).Backend().Grants(limited(t), api.ListQuery{Limit: 10})
	if err != nil || len(list.Grants) != 1 || list.Grants[0].Now != catalog.GrantGranted {
		t.Errorf("%+v, %v", list, err)
	}
	// Apart, one gives it back and the other revokes it: the earlier has effect.
	m.Isolate(township)
	if _, err := step(township, g.ID, catalog.StepWithdraw); err != nil {
		t.Fatal(err)
	}
	if _, err := step(district, g.ID, catalog.StepRevoke); err != nil {
		t.Fatal(err)
	}
	m.Heal()
	m.wait("sites agree", m.agreed)
	for _, at := range []tiers.SiteID{city, district, township} {
		s, err := m.Node(at).Backend().Grant(limited(t), g.ID)
		if err != nil || s.Now != catalog.GrantWithdrawn || len(s.Steps) != 3 || s.Steps[2].Overruled == "" {
			t.Errorf("%s: %+v, %v", at, s, err)
		}
	}
	down, err := m.Node(district).Backend().RequestGrant(limited(t), api.GrantRequest{Key: "down", Resource: "cams", Owner: township, Purpose: "巡查"})
	if err != nil || down.Stream != "500101001/catalog" {
		t.Fatalf("%+v, %v", down, err)
	}
	m.wait("sites agree", m.agreed)
	if s, err := step(township, down.ID, catalog.StepRefuse); err != nil || s.Now != catalog.GrantRefused {
		t.Errorf("%+v, %v", s, err)
	}
}

// grantRefusals are requests of the township that must be refused.
func (m *mesh) grantRefusals() {
	m.t.Helper()
	for name, x := range map[string]struct {
		request api.GrantRequest
		want    error
		text    string
	}{
		"unknown": {api.GrantRequest{Resource: "nothing", Purpose: "x"}, api.ErrInvalid, "no catalog from this site up has it"},
		"open":    {api.GrantRequest{Resource: "map", Purpose: "x"}, api.ErrRejected, "needs no grant"},
		"its own": {api.GrantRequest{Resource: "cams", Purpose: "x"}, api.ErrInvalid, "its own resource"},
		"1970":    {api.GrantRequest{Resource: "people", Purpose: "x", UntilMS: 1}, api.ErrInvalid, "until_ms 1"},
		"9999":    {api.GrantRequest{Resource: "people", Purpose: "x", UntilMS: 253370764800000}, api.ErrInvalid, "to 2200"},
		"purpose": {api.GrantRequest{Resource: "people", Purpose: strings.Repeat("x", 600)}, api.ErrInvalid, "purpose is 600 bytes"},
		"aside":   {api.GrantRequest{Resource: "people", Purpose: "x", Owner: "500999"}, api.ErrInvalid, "want a site above or below"},
	} {
		x.request.Key = name
		if _, err := m.Node(township).Backend().RequestGrant(limited(m.t), x.request); !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.text) {
			m.t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReplication: an order to run an application reaches a township after the heal,
// which checks it against what it has: refused with what is missing, or installed.
func TestReplication(t *testing.T) {
	m := newMesh(t)
	app := func(code, version string, more ...string) catalog.Fields {
		f := catalog.Fields{"code": code + "_" + version, "app": code, "version": version, "name": code}
		for i := 0; i < len(more); i += 2 {
			f[more[i]] = more[i+1]
		}
		return f
	}
	m.put(city, catalog.Apps, app("base", "1.9.0", "cpu_cores", "1"), app("base", "1.10.0", "cpu_cores", "1"),
		app("flood", "2.0.0", "cpu_cores", "2", "runtimes", "k8s>=1.28.0", "needs", "base>=1.10.0"), app("old", "1.0.0"))
	m.wait("sites agree", m.agreed)
	m.Isolate(township)
	order := func(at tiers.SiteID, code string) catalog.ReplicationView {
		m.n++
		v, err := m.Node(at).Backend().Replicate(limited(t), api.ReplicateRequest{Key: fmt.Sprintf("order%d", m.n), Code: code, To: township})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	outcome := func(at tiers.SiteID, id tiers.DocID) (v catalog.ReplicationView) {
		t.Helper()
		m.wait("the order is decided on", func() bool {
			return m.view(at, catalog.KindReplication, id.Name(), &v) && v.State != catalog.ReplicationOrdered
		})
		return v
	}
	first := order(city, "base_1.9.0")
	if first.State != catalog.ReplicationOrdered || first.Used != "500000/1" || first.Stream != "500101001/command" {
		t.Errorf("%+v", first)
	}
	m.Heal()
	if v := outcome(city, first.ID); v.State != catalog.ReplicationRefused || !strings.Contains(strings.Join(v.Missing, ";"), "has declared none") {
		t.Errorf("%+v", v)
	}
	capacity := api.CapacityRequest{Key: "has", Capacity: catalog.Capacity{CPUCores: 3, Runtimes: []string{"k8s=1.29.1"}}}
	if _, err := m.Node(township).Backend().SetCapacity(limited(t), capacity); err != nil {
		t.Fatal(err)
	}
	if v := outcome(city, order(city, "base_1.9.0").ID); v.State != catalog.ReplicationInstalled {
		t.Errorf("%+v", v)
	}
	if v := outcome(city, order(city, "flood_2.0.0").ID); v.State != catalog.ReplicationRefused || !slices.Equal(v.Missing, []string{"app: needs base>=1.10.0"}) {
		t.Errorf("%+v", v)
	}
	m.Isolate(township)
	if v := outcome(township, order(township, "base_1.10.0").ID); v.State != catalog.ReplicationInstalled {
		t.Errorf("%+v", v)
	}
	last := order(district, "flood_2.0.0")
	m.Heal()
	if v := outcome(district, last.ID); v.State != catalog.ReplicationInstalled {
		t.Errorf("%+v", v)
	}
	m.wait("sites agree", m.agreed)
	var runs catalog.InstallView
	if !m.view(city, catalog.KindInstall, "base", &runs) || runs.Version != "1.10.0" || runs.Site != township || runs.Used != "500000/1" {
		t.Errorf("%+v", runs)
	}
	if v := outcome(city, order(city, "base_1.9.0").ID); v.State != catalog.ReplicationRefused || !strings.Contains(v.Missing[0], "flood 2.0.0 needs base>=1.10.0") {
		t.Errorf("a step back under what needs it: %+v", v)
	}
	m.replicationRefusals()
}

// replicationRefusals are what no order may ask for, and what may not be removed.
func (m *mesh) replicationRefusals() {
	m.t.Helper()
	if _, err := m.Node(city).Backend().RetireEntry(limited(m.t), api.RetireRequest{Key: "retire", Catalog: catalog.Apps, Code: "old_1.0.0"}); err != nil {
		m.t.Fatal(err)
	}
	for name, x := range map[string]struct {
		at   tiers.SiteID
		r    api.ReplicateRequest
		want error
	}{
		"unknown release": {city, api.ReplicateRequest{Code: "x_1.0.0", To: township}, api.ErrInvalid},
		"retired release": {city, api.ReplicateRequest{Code: "old_1.0.0", To: township}, api.ErrRejected},
		"unknown site":    {city, api.ReplicateRequest{Code: "base_1.9.0", To: "500999"}, api.ErrInvalid},
		"site above":      {township, api.ReplicateRequest{Code: "base_1.9.0", To: city}, api.ErrInvalid},
		"long note":       {city, api.ReplicateRequest{Code: "base_1.9.0", To: township, Note: strings.Repeat("x", 600)}, api.ErrInvalid},
	} {
		x.r.Key = name
		if v, err := m.Node(x.at).Backend().Replicate(limited(m.t), x.r); !errors.Is(err, x.want) {
			m.t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
	remove := func(app string) error {
		m.n++
		_, err := m.Node(township).Backend().RemoveApp(limited(m.t), api.RemoveAppRequest{Key: fmt.Sprintf("remove%d", m.n), App: app})
		return err
	}
	if err := remove("base"); !errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), "needed by flood") {
		m.t.Error(err)
	}
	if err := errors.Join(remove("flood"), remove("base")); err != nil {
		m.t.Error(err)
	}
	if err := remove("base"); !errors.Is(err, api.ErrNotFound) {
		m.t.Error(err)
	}
}

// TestMandateIsChecked: once there are organs, a rule or plan that names another
// one, or one without the mandate, is refused by field; before that nothing is.
func TestMandateIsChecked(t *testing.T) {
	m := newMesh(t)
	m.publishRules()
	m.put(city, catalog.Organs, catalog.Fields{"code": "cg", "name": "城管", "types": "01", "tiers": "township", "roles": "lead verify"})
	rule := dispatch.Rule{Code: "x", Organ: "城管", TypePrefix: "01001", Limit: twoHours}
	for name, change := range map[string]func(*dispatch.Rule){
		"":                    func(*dispatch.Rule) {},
		"that is not retired": func(r *dispatch.Rule) { r.Organ = "消防" },
		"no mandate for type": func(r *dispatch.Rule) { r.TypePrefix = "02" },
		"no mandate at tier":  func(r *dispatch.Rule) { r.Site = string(district) },
	} {
		r := rule
		change(&r)
		err := m.Node(city).PublishRules(limited(t), "rule"+name, []dispatch.Rule{r}, true)
		if name == "" && err != nil || name != "" && (err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "row 1: organ")) {
			t.Errorf("%q: %v", name, err)
		}
	}
	plan := dispatch.Plan{Code: "p", Name: "p", Steps: []dispatch.PlanStep{{Code: "a", Title: "a", Organ: "cg", Role: dispatch.RoleLead, Limit: twoHours}, {Code: "b", Title: "b", Organ: "cg", Role: dispatch.RoleCo, Limit: twoHours}}}
	if _, err := m.Node(city).Backend().PublishPlan(limited(t), api.PlanRequest{Key: "p", Plan: plan}); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "no mandate as co") {
		t.Error(err)
	}
	plan.Steps = plan.Steps[:1]
	if _, err := m.Node(city).Backend().PublishPlan(limited(t), api.PlanRequest{Key: "p2", Plan: plan}); err != nil {
		t.Error(err)
	}
}
