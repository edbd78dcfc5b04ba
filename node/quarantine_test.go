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
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// heldBy lists what a site holds, by a filter.
func (m *mesh) heldBy(site tiers.SiteID, state string, f api.QuarantineFilter) (out []event.QuarantineView) {
	m.t.Helper()
	m.wait("views are made", func() bool { return m.Node(site).Group().Store().Counts().Dirty == 0 })
	page, err := m.Node(site).Backend().ListQuarantine(limited(m.t), api.QuarantineQuery{ListQuery: api.ListQuery{Limit: 1000}, State: state, QuarantineFilter: f})
	if err != nil {
		m.t.Fatal(err)
	}
	for _, raw := range page.Items {
		var v event.QuarantineView
		if err := json.Unmarshal(raw, &v); err != nil {
			m.t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

// items are reports of a batch as they came, with bytes that cannot be read among them.
func (m *mesh) items(site tiers.SiteID, key string, items ...event.Item) api.BatchResult {
	m.t.Helper()
	out, err := m.Node(site).Backend().ReportBatch(limited(m.t), api.BatchRequest{Key: key, Items: items})
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func unreadable(raw string) event.Item {
	return event.Item{Raw: []byte(raw), Err: fmt.Errorf("%w: the bytes are not UTF-8", event.ErrInvalid)}
}

// TestHeldIsTriedAgain: the same batch again makes events of what can be read now, also
// of other bytes at the same place; what is still bad stays the one that is held, and
// shows what came last. However often it comes, no row makes two events.
func TestHeldIsTriedAgain(t *testing.T) {
	m := newMesh(t)
	m.publishType("01001")
	good := func(title string) event.Item {
		return event.ParseItem([]byte(`{"type":"01001","title":"` + title + `","priority":3}`))
	}
	bad := event.ParseItem([]byte(`{"type":"01001","title":" \u3000 ","priority":3}`))
	first := m.items(township, "file", good("a"), unreadable("\xbe\xae\xb8\xc7"), unreadable("\xc2\xb7\xb5\xc6"), bad)
	if first.Counts["done"] != 1 || first.Counts["quarantined"] != 3 {
		t.Fatalf("%+v", first)
	}
	// The second row reads now; the third does with another fault; the fourth is as it was.
	second := m.items(township, "file", good("a"), good("井盖"), event.ParseItem([]byte(`{"type":"99","title":"路灯","priority":3}`)), bad)
	if c := second.Counts; c["done"] != 1 || c["duplicate"] != 1 || c["quarantined"] != 2 {
		t.Fatalf("%+v", second)
	}
	for i := 2; i < 4; i++ {
		if second.Items[i].ID != first.Items[i].ID {
			t.Errorf("row %d is held twice: %+v, %+v", i, first.Items[i], second.Items[i])
		}
	}
	third := m.items(township, "file", good("a"), good("井盖"), good("路灯"), bad)
	fourth := m.items(township, "file", good("a"), good("井盖"), good("路灯"), bad)
	if c := third.Counts; c["done"] != 1 || c["duplicate"] != 2 || c["quarantined"] != 1 {
		t.Errorf("%+v", third)
	}
	if c := fourth.Counts; c["done"] != 0 || c["duplicate"] != 3 || c["quarantined"] != 1 {
		t.Errorf("%+v", fourth)
	}
	m.wait("sites agree", m.agreed)
	for _, site := range []tiers.SiteID{township, district, city} {
		if events, held := m.count(site); events != 3 || held != 1 {
			t.Errorf("%s: %d events, %d held", site, events, held)
		}
		all := m.heldBy(site, event.QuarantineReleased, api.QuarantineFilter{File: "file"})
		if len(all) != 2 || all[0].Held.Origin.Row != 2 || all[1].Held.Origin.Row != 3 {
			t.Fatalf("%s: %+v", site, all)
		}
		if x := all[1]; x.First == nil || string(x.First.Bytes) != "\xc2\xb7\xb5\xc6" || x.Held.Type != "99" || x.Event == "" {
			t.Errorf("%s: %+v", site, x)
		}
	}
	// A person decides on the last: the batch does not bring it back.
	if _, err := m.Node(township).Backend().Discard(limited(t), api.DiscardRequest{Key: "d", ID: first.Items[3].ID, Reason: "测试"}); err != nil {
		t.Fatal(err)
	}
	if last := m.items(township, "file", good("a"), good("井盖"), good("路灯"), good("x")).Items[3]; last.Outcome != api.OutcomeDuplicate || !strings.Contains(last.Message, "测试") {
		t.Errorf("%+v", last)
	}
}

// TestRowsAreTheirPlaces: a row of a file is its place there, whatever another mapping
// makes of it and however many rows it finds before it: none makes two events, what is
// held is tried again, and rows that were never taken in are. A dry run says the same.
func TestRowsAreTheirPlaces(t *testing.T) {
	m := newMesh(t)
	m.publishType("01001")
	row := func(fields string) event.Item {
		return event.ParseItem([]byte(`{"type":"01001","priority":3,` + fields + `}`))
	}
	const id = "0190f1c2-0000-7000-8000-00000000000"
	send := func(places string, items ...event.Item) (out []string) {
		t.Helper()
		r := api.BatchRequest{Key: "file", Items: items, Places: strings.Split(places, " ")}
		if places == "" {
			r.Places = nil
		}
		for _, dry := range []bool{true, false} {
			r.DryRun = dry
			done, err := m.Node(township).Backend().ReportBatch(limited(t), r)
			if err != nil {
				t.Fatal(err)
			}
			var outcomes []string
			for _, it := range done.Items {
				outcomes = append(outcomes, it.Outcome)
			}
			if !dry && !slices.Equal(out, outcomes) {
				t.Errorf("rehearsed %v, then %v", out, outcomes)
			}
			out = outcomes
		}
		return out
	}
	for i, step := range []struct {
		places string
		items  []event.Item
		want   string
	}{
		// As builds before sent it: the first two rows alone.
		{"", []event.Item{row(`"title":"a"`), row(`"title":" "`)}, "done quarantined"},
		{"2 3 4 5 6.1 7", []event.Item{
			row(`"title":"a"`), row(`"title":" "`), unreadable("\xbe\xae"), row(`"title":"b","source_key":"s"`), row(`"title":"c","id":"` + id + `1"`), row(`"title":" ","source_key":"t"`),
		}, "duplicate quarantined quarantined done done quarantined"},
		// Another mapping: two rows are one now, and there is one more behind them.
		{"2 3 5 6.1 7 8", []event.Item{
			row(`"title":"a"`), row(`"title":"x"`), row(`"title":"B"`), row(`"title":"C","id":"` + id + `2"`), row(`"title":"t","id":"` + id + `3"`), row(`"title":"new"`),
		}, "duplicate done duplicate duplicate done done"},
		// What was an event is there before, also if it cannot be read now.
		{"2 3 4 5 6.1 7 8", []event.Item{
			row(`"title":"a"`), unreadable("x"), row(`"title":"井盖"`), unreadable("x"), row(`"title":"D"`), unreadable("x"), unreadable("x"),
		}, "duplicate duplicate done duplicate duplicate duplicate duplicate"},
		// With a key of one's own, other bytes are another report.
		{"", []event.Item{row(`"title":"z"`)}, "done"},
	} {
		if got := strings.Join(send(step.places, step.items...), " "); got != step.want {
			t.Errorf("step %d: %s, want %s", i+1, got, step.want)
		}
	}
	if events, held := m.count(township); events != 8 || held != 0 {
		t.Errorf("%d events, %d held", events, held)
	}
}

// TestTwoRowsWithOneSourceKey: rows that share a source key are not each other's retry;
// those that are equal in all are one.
func TestTwoRowsWithOneSourceKey(t *testing.T) {
	m := newMesh(t)
	row := func(title string) string {
		return `{"type":"01001","title":"` + title + `","priority":3,"source_key":"s"}`
	}
	out := m.batch(township, "b", row(""), row("a"), row(""), row("b"))
	if c := out.Counts; c["done"] != 2 || c["quarantined"] != 2 || out.Items[0].ID != out.Items[2].ID || out.Items[1].ID == out.Items[3].ID {
		t.Errorf("%+v", out)
	}
	if events, held := m.count(township); events != 2 || held != 1 {
		t.Errorf("%d events, %d held: %+v", events, held, out)
	}
}

// TestManyAtOnce: what a filter selects is released or discarded page by page, whatever
// is invalid stays and says why, and the numbers add up; what is held is listed in the
// order of its file; and of all of it there is one alarm, which drives none out.
func TestManyAtOnce(t *testing.T) {
	m := newMesh(t)
	m.publishType("01001")
	m.wait("the township to know types", func() bool { return m.Node(township).Group().Store().Counts().Dirty == 0 })
	var lines []string
	for i := range 70 {
		lines = append(lines, fmt.Sprintf(`{"type":"99999","title":"U%d","priority":1}`, i))
	}
	lines = append(lines, `{"type":"99999","title":"U70","priority":9}`)
	if out := m.batch(township, "urgent70", lines...); out.Counts["quarantined"] != 71 {
		t.Fatalf("%+v", out.Counts)
	}
	alarms := m.Node(township).Alarms()
	if n := strings.Count(strings.Join(alarms, "\n"), "in quarantine"); n != 1 || !strings.Contains(strings.Join(alarms, "\n"), "(70 times)") {
		t.Errorf("%d alarms: %q", n, alarms)
	}
	for i, v := range m.heldBy(township, event.QuarantineHeld, api.QuarantineFilter{}) {
		if v.Held.Origin == nil || v.Held.Origin.Row != i+1 {
			t.Fatalf("place %d has %+v", i, v.Held.Origin)
		}
	}
	b := m.Node(township).Backend()
	sum, err := b.SummarizeQuarantine(limited(t), api.QuarantineQuery{State: event.QuarantineHeld})
	if err != nil || sum.Count != 71 || len(sum.Reasons) != 2 || sum.Reasons[0].Count+sum.Reasons[1].Count != 71 || sum.Types[0] != (api.QuarantineCount{Text: "99999", Count: 71, Example: sum.Types[0].Example}) {
		t.Errorf("%+v, %v", sum, err)
	}
	r := api.ManyRequest{Key: "r", Filter: api.QuarantineFilter{Type: "99999"}, Set: map[string]string{"type": "01001"}, DryRun: true}
	if done, invalid, _ := m.many(r, false); done != 70 || invalid != 1 {
		t.Errorf("a dry run: %d done, %d invalid", done, invalid)
	}
	if n := len(m.heldBy(township, event.QuarantineHeld, api.QuarantineFilter{Reason: "type"})); n != 70 {
		t.Errorf("%d are held for their type after a dry run", n)
	}
	r.DryRun = false
	if done, invalid, decided := m.many(r, false); done != 70 || invalid != 1 || decided != 0 {
		t.Errorf("%d done, %d invalid, %d decided", done, invalid, decided)
	}
	left := m.heldBy(township, event.QuarantineHeld, api.QuarantineFilter{})
	if len(left) != 1 || left[0].Held.Origin.Row != 71 {
		t.Errorf("%+v", left)
	}
	if done, invalid, _ := m.many(r, false); done != 0 || invalid != 1 {
		t.Errorf("again: %d done, %d invalid", done, invalid)
	}
	if done, _, _ := m.many(api.ManyRequest{Key: "d", All: true, Reason: "测试"}, true); done != 1 {
		t.Errorf("%d discarded", done)
	}
	if events, held := m.count(township); events != 70 || held != 0 {
		t.Errorf("%d events, %d held", events, held)
	}
}

// many decides on all pages of a request.
func (m *mesh) many(r api.ManyRequest, discard bool) (done, invalid, decided int) {
	m.t.Helper()
	m.wait("views are made", func() bool { return m.Node(township).Group().Store().Counts().Dirty == 0 })
	b := m.Node(township).Backend()
	for r.Limit = 16; ; {
		decide := b.ReleaseMany
		if discard {
			decide = b.DiscardMany
		}
		out, err := decide(limited(m.t), r)
		if err != nil || out.Done+out.Invalid+out.Decided+out.Unknown != len(out.Items) || len(out.Items) > r.Limit {
			m.t.Fatalf("%+v, %v", out, err)
		}
		done, invalid, decided = done+out.Done, invalid+out.Invalid, decided+out.Decided
		if r.After = out.Next; r.After == "" {
			return done, invalid, decided
		}
	}
}

// TestPlaces: the rows of an export with places of all kinds: each is an event, a
// doubtful event, or held with a reason that says what is wrong.
func TestPlaces(t *testing.T) {
	area := node.Area{Box: []float64{28.1, 105.2, 32.3, 110.3}}
	rows := []struct{ name, place, want, doubt string }{
		{"null", `"lat":0,"lon":0`, "0,0 stands for unknown", ""},
		{"swap", `"lat":106.55,"lon":29.56`, "seem to be swapped: lat 29.56, lon 106.55", ""},
		{"comma", `"lat":"29,56","lon":"106,55"`, "lat is a string", ""},
		{"space", `"lat":" 29.56","lon":" 106.55"`, "lat is a string", ""},
		{"degrees", `"lat":"29°33'N","lon":"106°33'E"`, "lat is a string", ""},
		{"half", `"lat":29.56`, "lat 29.56 without lon", ""},
		{"other half", `"lon":106.55`, "lon 106.55 without lat", ""},
		{"not a number", `"lat":"NaN","lon":"NaN"`, "lat is a string", ""},
		{"far", `"lat":40.7,"lon":-73.9`, "", "outside the area"},
		{"inside", `"lat":29.560001,"lon":106.550001`, "", ""},
		{"none", `"place":"高笋塘"`, "", ""},
		{" \\u3000 ", `"place":"x"`, "title is blank", ""},
	}
	for _, outside := range []string{"", node.OutsideRefuse} {
		area.Outside = outside
		m := newMeshWith(t, local.Config{Configured: local.Configured{Area: area}})
		var lines []string
		for _, r := range rows {
			lines = append(lines, `{"type":"01001","title":"`+r.name+`","priority":3,`+r.place+`}`)
		}
		for i, it := range m.batch(township, "places", lines...).Items {
			r := rows[i]
			if r.doubt != "" && outside == node.OutsideRefuse {
				r.want, r.doubt = r.doubt, ""
			}
			if r.want != "" {
				if it.Outcome != api.OutcomeQuarantined || !strings.Contains(it.Message, r.want) {
					t.Errorf("%s: %+v, want %s", r.name, it, r.want)
				}
				continue
			}
			if it.Outcome != api.OutcomeDone {
				t.Errorf("%s: %+v", r.name, it)
				continue
			}
			if v := m.event(township, it.ID); (v.Report.Doubt != "") != (r.doubt != "") || !strings.Contains(v.Report.Doubt, r.doubt) {
				t.Errorf("%s: doubt %q", r.name, v.Report.Doubt)
			}
		}
	}
}

// TestTypeComes: what waits for its type becomes events by itself when the type is
// published above, at the site that holds it, once, in pages; what then turns out to be
// bad for another reason says so and stays, as does what waits for another type.
func TestTypeComes(t *testing.T) {
	m := newMesh(t)
	m.publishType("01001")
	m.wait("the township to know types", func() bool { return m.Node(township).Group().Store().Counts().Dirty == 0 })
	const n = 300
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf(`{"type":"02.01","title":"U%d","priority":3}`, i))
	}
	other := m.batch(township, "other", `{"id":"`+uuid1+`","type":"02","title":"other","priority":3}`, `{"id":"`+uuid1+`","type":"02","title":"not the same","priority":3}`)
	if out := m.batch(township, "many", lines...); out.Counts["quarantined"] != n || other.Counts["quarantined"] != 2 {
		t.Fatalf("%+v, %+v", out.Counts, other.Counts)
	}
	m.wait("sites agree", m.agreed)
	m.publishType("02.01")
	m.wait("what waits is let in", func() bool { events, held := m.count(township); return events == n && held == 2 })
	m.publishType("02")
	m.wait("what waits is let in", func() bool { events, held := m.count(township); return events == n+1 && held == 1 })
	m.wait("sites agree", m.agreed)
	records := m.Node(township).Group().Store().Counts().Records
	for _, site := range []tiers.SiteID{township, district, city} {
		if events, held := m.count(site); events != n+1 || held != 1 {
			t.Errorf("%s: %d events, %d held", site, events, held)
		}
		for _, v := range m.heldBy(site, event.QuarantineReleased, api.QuarantineFilter{}) {
			if len(v.Actions) != 1 || v.Actions[0].By != township || v.Actions[0].Reason != "its type came" {
				t.Fatalf("%s: %+v", site, v.Actions)
			}
		}
		if left := m.heldBy(site, event.QuarantineHeld, api.QuarantineFilter{}); len(left) != 1 || left[0].Held.Field != "id" {
			t.Errorf("%s: %+v", site, left)
		}
	}
	m.publishType("03")
	m.report(1)
	m.wait("sites agree", m.agreed)
	if now := m.Node(township).Group().Store().Counts().Records; now > records+20 {
		t.Errorf("%d records were written after all was done", now-records)
	}
}

// TestHeldByOlderBuild: what a build held that noted no type of it is found by its raw
// text, and let in when the type comes.
func TestHeldByOlderBuild(t *testing.T) {
	m := newMesh(t)
	m.publishType("01001")
	h, err := event.Hold([]byte(`{"type":"77","title":"x","priority":3}`), "type", "event: invalid: type", time.Now().UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	h.Type = ""
	ops, err := event.HoldOps(h)
	if err != nil {
		t.Fatal(err)
	}
	k := store.DocKey{Stream: tiers.StreamID{Site: township, Class: tiers.ClassRoutine}, Doc: "quarantine:0190f1c2-0000-7000-8000-00000000000a"}
	if err := m.Node(township).Create(limited(t), k, ops); err != nil {
		t.Fatal(err)
	}
	m.heldBy(township, event.QuarantineHeld, api.QuarantineFilter{})
	if old, err := m.Node(township).HeldBefore(); err != nil || len(old) != 1 || old["77"] != 1 {
		t.Errorf("%v, %v", old, err)
	}
	// Such a build ended before this one began.
	if err := errors.Join(m.Crash(township), m.Start(limited(t), township)); err != nil {
		t.Fatal(err)
	}
	m.publishType("77")
	m.wait("it is let in", func() bool { events, held := m.count(township); return events == 1 && held == 0 })
}
