package node_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// publishType gives the city's only event type to everybody.
func (m *mesh) publishType(code string) {
	m.t.Helper()
	ops, err := catalog.EventTypeOps(catalog.EventType{Code: code, Category: "市政", Name: "井盖"})
	if err != nil {
		m.t.Fatal(err)
	}
	if err := m.Node(city).Publish(limited(m.t), "types "+code, []node.Entry{{Doc: tiers.NewDocID(catalog.KindEventType, code), Ops: ops}}); err != nil {
		m.t.Fatal(err)
	}
	m.wait("sites agree", m.agreed)
}

// batch reports lines at a site.
func (m *mesh) batch(site tiers.SiteID, key string, lines ...string) api.BatchResult {
	m.t.Helper()
	items, err := event.ParseBatch([]byte(strings.Join(lines, "\n")), true)
	if err != nil {
		m.t.Fatal(err)
	}
	out, err := m.Node(site).Backend().ReportBatch(limited(m.t), api.BatchRequest{Key: key, Items: items})
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// rehearse says what a batch would come to.
func (m *mesh) rehearse(site tiers.SiteID, key string, lines ...string) api.BatchResult {
	m.t.Helper()
	items, err := event.ParseBatch([]byte(strings.Join(lines, "\n")), true)
	if err != nil {
		m.t.Fatal(err)
	}
	out, err := m.Node(site).Backend().ReportBatch(limited(m.t), api.BatchRequest{Key: key, Items: items, DryRun: true})
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// count is how many events, or held reports, a site lists.
func (m *mesh) count(site tiers.SiteID) (events, held int) {
	m.t.Helper()
	m.wait("views are made", func() bool { return m.Node(site).Group().Store().Counts().Dirty == 0 })
	b := m.Node(site).Backend()
	list, err := b.List(limited(m.t), api.ListQuery{Kind: "event", Limit: 1000})
	if err != nil {
		m.t.Fatal(err)
	}
	kept, err := b.ListQuarantine(limited(m.t), api.QuarantineQuery{ListQuery: api.ListQuery{Limit: 1000}, State: event.QuarantineHeld})
	if err != nil {
		m.t.Fatal(err)
	}
	return len(list.Items), len(kept.Items)
}

const (
	uuid1 = "0190f1c2-0000-7000-8000-000000000001"
	uuid2 = "0190f1c2-0000-7000-8000-000000000002"
)

// TestBatchAcrossCut: a batch that is taken in at a cut-off township, retried there
// and again after the heal, is there once at every site: what is an event as one,
// what is none in quarantine, with the identifiers that the client gave.
func TestBatchAcrossCut(t *testing.T) {
	m := newMesh(t)
	m.publishType("01001")
	m.Isolate(township)
	lines := batchLines()
	before := m.Node(township).Group().Store().Counts().Records
	dry := m.rehearse(township, "b1", lines...)
	checkBatch(t, dry)
	if now := m.Node(township).Group().Store().Counts().Records; now != before {
		t.Errorf("a dry run wrote %d records", now-before)
	}
	first := m.batch(township, "b1", lines...)
	checkBatch(t, first)
	if again := m.rehearse(township, "b1", lines...); again.Counts[api.OutcomeDone] != 0 || again.Counts[api.OutcomeQuarantined] != first.Counts[api.OutcomeQuarantined] {
		t.Errorf("a dry run of what is there: %v", again.Counts)
	}
	again := m.batch(township, "b1", lines...)
	m.Heal()
	m.wait("sites agree", m.agreed)
	third := m.batch(township, "b1", lines...)
	for _, r := range []api.BatchResult{again, third} {
		for i, it := range r.Items {
			if it.ID != first.Items[i].ID || it.Outcome == api.OutcomeDone {
				t.Errorf("again %d: %+v, first %+v", i, it, first.Items[i])
			}
		}
	}
	m.wait("sites agree", m.agreed)
	for _, site := range []tiers.SiteID{township, district, city} {
		if events, held := m.count(site); events != 4 || held != 7 {
			t.Errorf("%s lists %d events and %d held", site, events, held)
		}
	}
	if v := m.event(city, tiers.NewDocID("event", uuid1)); v.Report.Type != "01001" || v.Site != township {
		t.Errorf("%+v", v)
	}
	b := m.Node(township).Backend()
	_, err := b.Report(limited(t), api.ReportRequest{Key: "x", ID: uuid2, Report: event.Report{Type: "01001", Title: "other", Priority: 3}})
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), uuid2) {
		t.Errorf("another report with an identifier: %v", err)
	}
	w, err := b.Report(limited(t), api.ReportRequest{Key: "y", ID: uuid2, Report: event.Report{Type: "01001", Title: "井盖", Priority: 3}})
	if err != nil || w.ID.Name() != uuid2 || w.Seq == 0 {
		t.Errorf("the same report with it: %+v, %v", w, err)
	}
	if _, err := b.Report(limited(t), api.ReportRequest{Key: "z", ID: "7", Report: event.Report{Type: "01001", Title: "x", Priority: 3}}); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "UUID") {
		t.Errorf("no UUID: %v", err)
	}
}

// batchLines is a batch of good reports and of all kinds of bad ones.
func batchLines() []string {
	return []string{
		`{"id":"` + uuid1 + `","type":"01001","title":"井盖","priority":2,"place":"高笋塘"}`,
		`{"type":"01001","title":"路灯","priority":3,"source_key":"s1"}`,
		`{"type":"01001","title":"同一个键","priority":3,"source_key":"s1"}`,
		`{"type":"99","title":"没有的类型","priority":3}`,
		`{"type":"01001","title":"","priority":3}`,
		`{"type":"01001","title":"早","priority":3,"reported_at_ms":-5}`,
		`{"type":"01001","title":"九千年","priority":3,"reported_at_ms":253402300799000}`,
		`{"type":"01001","priority":"high"}`,
		`not even JSON`,
		`{"id":"` + uuid1 + `","type":"01001","title":"another","priority":3}`,
		`{"id":"` + uuid2 + `","type":"01001","title":"井盖","priority":3}`,
		`{"id":"` + uuid2 + `","type":"01001","title":"井盖","priority":3}`,
		`{"type":"01001","title":"大","priority":3,"text":"` + strings.Repeat("x", event.RawBytesMax) + `"}`,
	}
}

// checkBatch checks what became of batchLines.
func checkBatch(t *testing.T, first api.BatchResult) {
	t.Helper()
	outcomes := func(r api.BatchResult) (out []string) {
		for _, it := range r.Items {
			out = append(out, it.Outcome)
		}
		return out
	}
	got := outcomes(first)
	// Two of one identifier come at once: whichever is first is the event.
	if !slices.Contains([]string{"done", "quarantined"}, got[0]) || got[0] == got[9] {
		t.Errorf("one identifier, two reports: %s and %s", got[0], got[9])
	}
	slices.Sort(got[10:12])
	if want := []string{"done", "done", "quarantined", "quarantined", "quarantined", "quarantined", "quarantined", "quarantined"}; !slices.Equal(got[1:9], want) || got[12] != "rejected" || got[11] == "quarantined" || got[11] == "rejected" {
		t.Errorf("%v: %+v", got, first)
	}
	for i, field := range map[int]string{3: "type", 4: "title", 5: "reported_at_ms", 6: "reported_at_ms", 7: "priority", 12: "report"} {
		if it := first.Items[i]; it.Field != field && i != 12 || it.Message == "" {
			t.Errorf("%d: %+v, want field %s", i, it, field)
		}
	}
}

// TestQuarantine: a report of an unknown type is kept and becomes an event when
// somebody says of which type it is; what is discarded stays to be seen.
func TestQuarantine(t *testing.T) {
	m := newMesh(t)
	b := m.Node(township).Backend()
	if w, err := b.Report(limited(t), api.ReportRequest{Key: "0", Report: event.Report{Type: "99", Title: "x", Priority: 3}}); err != nil || w.Held != "" {
		t.Errorf("without a catalog: %+v, %v", w, err)
	}
	m.publishType("01001")
	m.wait("the township to know types", func() bool { return m.Node(township).Group().Store().Counts().Dirty == 0 })
	r := event.Report{Type: "99", Title: "井盖", Priority: 1, Place: "高笋塘", Reporter: "张三", Channel: "app"}
	w, err := b.Report(limited(t), api.ReportRequest{Key: "1", Report: r})
	if err != nil || w.ID.Kind() != event.KindQuarantine || !strings.Contains(w.Held, `"99"`) || w.Field != "type" {
		t.Fatalf("%+v, %v", w, err)
	}
	if again, err := b.Report(limited(t), api.ReportRequest{Key: "1", Report: r}); err != nil || again.ID != w.ID || again.Held == "" {
		t.Errorf("%+v, %v", again, err)
	}
	if !strings.Contains(strings.Join(m.Node(township).Alarms(), "\n"), "urgent reports are in quarantine") {
		t.Errorf("%v", m.Node(township).Alarms())
	}
	bad := event.Report{Type: "01001", Title: "x", Priority: 9}
	if _, err := b.Report(limited(t), api.ReportRequest{Key: "2", Report: bad}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a bad field: %v", err)
	}
	other, err := b.Report(limited(t), api.ReportRequest{Key: "3", Report: bad, Quarantine: true})
	if err != nil || other.Held == "" {
		t.Fatalf("%+v, %v", other, err)
	}
	m.wait("sites agree", m.agreed)
	if _, err := m.Node(district).Backend().Release(limited(t), api.ReleaseRequest{Key: "r", ID: w.ID}); !errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), "site 500101001 holds it") {
		t.Errorf("released elsewhere: %v", err)
	}
	m.badReleases(w.ID)
	release := api.ReleaseRequest{Key: "r", ID: w.ID, Set: map[string]string{"type": "01001"}, Who: "李四"}
	done, err := b.Release(limited(t), release)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.Release(limited(t), release); err != nil || again.ID != done.ID {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := b.Discard(limited(t), api.DiscardRequest{Key: "d", ID: w.ID, Reason: "x"}); !errors.Is(err, api.ErrRejected) {
		t.Errorf("discarded after all: %v", err)
	}
	if _, err := b.Discard(limited(t), api.DiscardRequest{Key: "d2", ID: other.ID}); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "reason") {
		t.Errorf("without a reason: %v", err)
	}
	if _, err := b.Discard(limited(t), api.DiscardRequest{Key: "d3", ID: other.ID, Reason: "测试"}); err != nil {
		t.Error(err)
	}
	m.wait("sites agree", m.agreed)
	v := m.event(city, done.ID)
	if v.Report.Type != "01001" || v.Report.Reporter != "张三" || len(v.Actions) != 1 || v.Actions[0].Note != string(w.ID) || v.Stream != "500101001/urgent" {
		t.Errorf("%+v", v)
	}
	raw, err := m.Node(city).Backend().Quarantined(limited(t), w.ID)
	var held event.QuarantineView
	if err != nil || json.Unmarshal(raw, &held) != nil || held.State != event.QuarantineReleased || held.Event != done.ID {
		t.Errorf("%s, %v", raw, err)
	}
}

// badReleases tries to release what is held with fields that break a rule.
func (m *mesh) badReleases(id tiers.DocID) {
	m.t.Helper()
	for name, row := range map[string]struct {
		set  map[string]string
		want string
	}{
		"as it is":        {nil, `"99"`},
		"a bad priority":  {map[string]string{"type": "01001", "priority": "9"}, "priority 9"},
		"a bad field":     {map[string]string{"type": "01001", "colour": "red"}, "colour"},
		"1 MB of text":    {map[string]string{"type": "01001", "text": strings.Repeat("x", 1<<20)}, "1048576 bytes"},
		"before all time": {map[string]string{"type": "01001", "reported_at_ms": "-1"}, "1970"},
	} {
		if _, err := m.Node(township).Backend().Release(limited(m.t), api.ReleaseRequest{Key: "r-" + name, ID: id, Set: row.set}); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), row.want) {
			m.t.Errorf("%s: %v", name, err)
		}
	}
}

// reported reports at a site and returns the event.
func (m *mesh) reported(site tiers.SiteID, r event.Report) tiers.DocID {
	m.t.Helper()
	m.n++
	w, err := m.Node(site).Report(limited(m.t), fmt.Sprintf("k%d", m.n), r)
	if err != nil {
		m.t.Fatal(err)
	}
	return w.Doc
}

func (m *mesh) merge(site, a, b string) tiers.DocID {
	m.t.Helper()
	m.n++
	r, err := m.Node(tiers.SiteID(site)).Backend().MergeEvents(limited(m.t), api.MergeRequest{Key: fmt.Sprintf("m%d", m.n), Event: tiers.DocID(a), With: tiers.DocID(b)})
	if err != nil {
		m.t.Fatalf("merge %s and %s at %s: %v", a, b, site, err)
	}
	return r.ID
}

func at(minutes int, who string) event.Report {
	lat, lon := 30.81+float64(minutes)*0.0001, 108.38
	return event.Report{
		Type: "01001", Title: "井盖 " + who, Text: who + "说井盖坏了", Priority: 3, Lat: &lat, Lon: &lon, Reporter: who, Channel: "app",
		ReportedAtMS: time.Now().Add(time.Duration(minutes-60) * time.Minute).UnixMilli(),
	}
}

// TestDuplicatesAtTwoTiers: one thing that is reported at a township and at its
// district is suspected where both reports are, merged there, and shown with all its
// reporters also at the township, which never holds the district's report; what is
// merged in opposite directions across a cut hangs at the earliest report in the
// end; the open tasks of duplicates go on as the original's.
func TestDuplicatesAtTwoTiers(t *testing.T) {
	m := newMesh(t)
	a := m.reported(township, at(0, "甲"))
	b := m.reported(district, at(1, "乙"))
	c := m.reported(township, at(2, "丙"))
	d := m.reported(township, at(3, "丁"))
	far := at(4, "戊")
	*far.Lat += 0.01
	m.reported(township, far)
	ta := m.start(township, api.StartTasksRequest{Event: a, Organ: "城管", Limit: twoHours})[0]
	tc := m.start(township, api.StartTasksRequest{Event: c, Organ: "城管", Limit: twoHours})[0]
	td := m.start(township, api.StartTasksRequest{Event: d, Organ: "水利", Limit: twoHours})[0]
	m.wait("sites agree", m.agreed)
	m.wait("views are made", func() bool { return m.Node(district).Group().Store().Counts().Dirty == 0 })
	m.suspected(b, a, c, d)
	m.Isolate(township)
	// Opposite directions, and two that have only the third in common.
	if root := m.merge(string(township), string(a), string(c)); root != a {
		t.Errorf("merged into %s", root)
	}
	m.merge(string(township), string(d), string(c))
	if root := m.merge(string(district), string(c), string(b)); root != b {
		t.Errorf("merged into %s", root)
	}
	if _, err := m.Node(district).Backend().MergeEvents(limited(t), api.MergeRequest{Key: "again", Event: c, With: b}); !errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), "one already") {
		t.Errorf("merged again: %v", err)
	}
	m.Heal()
	m.wait("all hang at the earliest", func() bool {
		for _, id := range []tiers.DocID{b, c, d} {
			if v := m.event(district, id); v.Into != a || v.State != event.StateMerged {
				return false
			}
		}
		return len(m.event(district, a).Reporters) == 4
	})
	m.wait("sites agree", m.agreed)
	for _, site := range []tiers.SiteID{township, district, city} {
		var who []string
		v := m.event(site, a)
		for _, r := range v.Reporters {
			who = append(who, r.Reporter+r.Text)
		}
		if fmt.Sprint(who) != "[甲甲说井盖坏了 乙乙说井盖坏了 丙丙说井盖坏了 丁丁说井盖坏了]" || v.Into != "" {
			t.Errorf("%s: reported by %v", site, who)
		}
	}
	m.wait("tasks go on as the original's", func() bool {
		return m.task(township, tc).State == dispatch.StateMerged && slices.Contains(m.event(township, a).Tasks, td)
	})
	if v := m.task(township, tc); v.Into != ta {
		t.Errorf("%+v", v)
	}
	m.wait("sites agree", m.agreed)
	m.endTasks(a, ta, td)
	m.wait("the original closes with the last", func() bool { return m.event(township, a).State == event.StateClosed })
	if _, err := m.Node(township).Backend().UnmergeEvents(limited(t), api.MergeRequest{Key: "u0", Event: a, With: b}); err == nil {
		t.Error("the township took apart what it does not hold")
	}
	if r, err := m.Node(district).Backend().UnmergeEvents(limited(t), api.MergeRequest{Key: "u", Event: b, With: a, Note: "两处"}); err != nil || r.Into == a {
		t.Errorf("%+v, %v", r, err)
	}
	if v := m.event(district, a); slices.Contains(v.Merged, b) {
		t.Errorf("%v", v.Merged)
	}
}

// suspected checks what a district suspects b, and others, to be.
func (m *mesh) suspected(b, a, c, d tiers.DocID) {
	m.t.Helper()
	list, err := m.Node(district).Backend().Suspects(limited(m.t), b)
	var got []tiers.DocID
	for _, s := range list.Suspects {
		got = append(got, s.Event)
	}
	slices.Sort(got)
	want := []tiers.DocID{a, c, d}
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		m.t.Errorf("suspects %v, want %v; %v", got, want, err)
	}
	pairs, err := m.Node(district).Backend().SuspectPairs(limited(m.t), api.SuspectQuery{Events: 100})
	if err != nil || len(pairs.Pairs) != 3 || pairs.Pairs[0].Event != d || len(pairs.Pairs[0].Suspects) != 3 {
		m.t.Errorf("%+v, %v", pairs, err)
	}
}

// endTasks ends the tasks of an event at the township.
func (m *mesh) endTasks(of tiers.DocID, tasks ...tiers.DocID) {
	m.t.Helper()
	for _, id := range tasks {
		if s := m.event(township, of).State; s != event.StateDispatched {
			m.t.Errorf("before %s the original is %s", id, s)
		}
		m.act(township, id, dispatch.Action{Kind: dispatch.ActionSign})
		m.act(township, id, dispatch.Action{Kind: dispatch.ActionFeedback, Who: "赵六", ActionDetails: dispatch.ActionDetails{Evidence: []string{"photo"}}})
		m.act(township, id, dispatch.Action{Kind: dispatch.ActionVerify, Who: "李四"})
		m.act(township, id, dispatch.Action{Kind: dispatch.ActionClose, Who: "李四"})
	}
}

// TestMergeNeedsBoth: only a site that may write to both events merges them, and a
// refusal says which can.
func TestMergeNeedsBoth(t *testing.T) {
	m := newMesh(t)
	a, b := m.reported(district, at(0, "甲")), m.reported(township, at(1, "乙"))
	m.wait("sites agree", m.agreed)
	for name, row := range map[string]struct {
		site  tiers.SiteID
		a, b  tiers.DocID
		kind  error
		wants string
	}{
		"not here":       {township, b, a, api.ErrNotFound, string(a)},
		"itself":         {district, b, b, api.ErrRejected, "one already"},
		"no event":       {district, b, "event:none", api.ErrNotFound, "event:none"},
		"no name":        {district, b, "", api.ErrInvalid, "document"},
		"not merged yet": {district, "", "", api.ErrInvalid, "document"},
	} {
		_, err := m.Node(row.site).Backend().MergeEvents(limited(t), api.MergeRequest{Key: name, Event: row.a, With: row.b})
		if !errors.Is(err, row.kind) || !strings.Contains(err.Error(), row.wants) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := m.Node(district).Backend().UnmergeEvents(limited(t), api.MergeRequest{Key: "u", Event: a, With: b}); !errors.Is(err, api.ErrRejected) {
		t.Errorf("taken apart before: %v", err)
	}
	r := api.MergeRequest{Key: "m", Event: a, With: b}
	for range 2 {
		if out, err := m.Node(district).Backend().MergeEvents(limited(t), r); err != nil || out.ID != a {
			t.Errorf("%+v, %v", out, err)
		}
	}
}

// TestRaise: an event that becomes urgent keeps its stream; one alert in the urgent
// stream tells of it, also when two sites raise it while they are apart, and nobody
// dispatches the alert.
func TestRaise(t *testing.T) {
	m := newMesh(t)
	id := m.reported(township, at(0, "甲"))
	m.wait("sites agree", m.agreed)
	m.Isolate(township)
	for site, to := range map[tiers.SiteID]string{township: "2", district: "1"} {
		r, err := m.Node(site).Backend().CorrectEvent(limited(t), api.CorrectRequest{Key: "c", Event: id, Fields: map[string]string{"priority": to, "place": string(site)}})
		if err != nil || fmt.Sprint(r.Priority) != to || r.Stream != "500101001/routine" {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	for name, row := range map[string]struct {
		fields map[string]string
		kind   error
		want   string
	}{
		"lowered":       {map[string]string{"priority": "4"}, api.ErrRejected, "only be raised"},
		"no priority":   {map[string]string{"priority": "0"}, api.ErrInvalid, "1 (highest) to 4"},
		"another field": {map[string]string{"title": "x", "colour": "red"}, api.ErrInvalid, "colour"},
		"nothing":       {nil, api.ErrInvalid, "none"},
		"1 MB":          {map[string]string{"text": strings.Repeat("x", 1<<20)}, api.ErrInvalid, "1048576"},
	} {
		if _, err := m.Node(district).Backend().CorrectEvent(limited(t), api.CorrectRequest{Key: name, Event: id, Fields: row.fields}); !errors.Is(err, row.kind) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m.Heal()
	m.wait("sites agree", m.agreed)
	for _, site := range []tiers.SiteID{township, district, city} {
		v := m.event(site, id)
		if v.Report.Priority != 1 || v.ReportedPriority != 3 || v.Report.Title != "井盖 甲" || len(v.Conflicts) != 1 || len(v.Corrected) != 1 || v.Corrected[0].Site == "" {
			t.Errorf("%s: %+v", site, v)
		}
		if events, _ := m.count(site); events != 2 {
			t.Errorf("%s lists %d events, want it and its alert", site, events)
		}
		page, err := m.Node(site).Backend().ListEvents(limited(t), api.EventQuery{ListQuery: api.ListQuery{Limit: 10}, State: event.StateMerged})
		var alert event.View
		if err != nil || len(page.Items) != 1 || json.Unmarshal(page.Items[0], &alert) != nil || alert.Into != id || alert.Stream != "500101001/urgent" {
			t.Errorf("%s: %s, %v", site, page.Items, err)
		}
	}
}

// TestEventWithoutTasks: an event without tasks goes through its life, which needs
// evidence and a second person; what is not its site's business is refused.
func TestEventWithoutTasks(t *testing.T) {
	m := newMesh(t)
	id := m.reported(township, at(0, "甲"))
	own := m.reported(district, at(0, "乙"))
	m.wait("sites agree", m.agreed)
	act := func(site tiers.SiteID, key string, id tiers.DocID, kind, who, note string, score int) (api.EventResult, error) {
		a := event.Action{Kind: kind, Note: note}
		a.Who, a.Score = who, score
		return m.Node(site).Backend().ActOnEvent(limited(t), api.EventActionRequest{Key: key, Event: id, Action: a})
	}
	for _, row := range []struct {
		kind, who, note string
		score           int
		want            string // the state, or what the refusal says
	}{
		{event.KindVerify, "李四", "", 0, "feedback comes first"},
		{event.KindAccept, "", "", 0, event.StateAccepted},
		{event.KindFeedback, "张三", "已更换井盖", 0, event.StateAccepted},
		{event.KindClose, "李四", "", 0, "but verified"},
		{event.KindVerify, "张三", "", 0, "has handled it"},
		{event.KindVerify, "李四", "", 0, event.StateVerified},
		{event.KindClose, "李四", "", 0, event.StateClosed},
		{event.KindEvaluate, "王五", "", 9, "score 9"},
		{event.KindEvaluate, "王五", "", 4, event.StateClosed},
	} {
		m.n++
		r, err := act(township, fmt.Sprintf("a%d", m.n), id, row.kind, row.who, row.note, row.score)
		if err == nil && r.State != row.want || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s by %s: %+v, %v, want %q", row.kind, row.who, r, err, row.want)
		}
	}
	if _, err := act(township, "x1", own, event.KindAccept, "", "", 0); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("another's: %v", err)
	}
	m.wait("sites agree", m.agreed)
	if r, err := act(district, "x2", id, event.KindReopen, "", "又坏了", 0); err != nil || r.State != event.StateAccepted {
		t.Errorf("reopened above: %+v, %v", r, err)
	}
	m.wait("sites agree", m.agreed)
	if v := m.event(city, id); v.Score != 4 || v.State != event.StateAccepted || len(v.Handlers) != 0 {
		t.Errorf("%+v", v)
	}
}

// TestFirstOfAnIdentifierHasIt: of reports of one batch with one identifier the first is
// the event, whatever their priorities; the others are held.
func TestFirstOfAnIdentifierHasIt(t *testing.T) {
	m := newMesh(t)
	for i := range 20 {
		id := fmt.Sprintf("01a22ed1-1111-7111-8111-0000000000%02d", i)
		out := m.batch(township, fmt.Sprint("b", i),
			fmt.Sprintf(`{"id":%q,"type":"01001","title":"first","priority":3}`, id),
			fmt.Sprintf(`{"id":%q,"type":"01001","title":"second","priority":1}`, id))
		if out.Items[0].Outcome != api.OutcomeDone || out.Items[1].Outcome != api.OutcomeQuarantined {
			t.Fatalf("%+v", out.Items)
		}
	}
}
