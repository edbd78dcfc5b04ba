package node_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// mode is the mode of a site as another one knows it, as text.
func (m *mesh) mode(at, site tiers.SiteID) string {
	m.t.Helper()
	s, err := m.Node(at).Mode(site)
	if err != nil {
		m.t.Fatal(err)
	}
	b, err := json.Marshal(s)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

// inMode reports whether a site knows itself to be in a mode at a level.
func (m *mesh) inMode(at tiers.SiteID, mode string, level int) bool {
	m.t.Helper()
	s, err := m.Node(at).Mode(at)
	return err == nil && s.Mode == mode && s.Level == level
}

func (m *mesh) switchMode(at tiers.SiteID, r api.ModeRequest) command.Standing {
	m.t.Helper()
	m.n++
	r.Key, r.Reason = fmt.Sprintf("mode%d", m.n), "洪峰"
	out, err := m.Node(at).Backend().SwitchMode(limited(m.t), r)
	if err != nil {
		m.t.Fatal(err)
	}
	return out.Standing
}

// dispatched reports an event and returns the brief of the task that it gets.
func (m *mesh) dispatched(at tiers.SiteID) (b dispatch.Brief) {
	m.t.Helper()
	m.n++
	w, err := m.Node(at).Report(limited(m.t), fmt.Sprintf("k%d", m.n), event.Report{Type: "01001", Title: "井盖", Priority: 3})
	if err != nil {
		m.t.Fatal(err)
	}
	m.wait("a task", func() bool {
		_, v, err := m.Node(at).Task(dispatch.TaskID(w.Doc))
		b = v.Brief
		return err == nil
	})
	for _, a := range m.event(at, w.Doc).Actions {
		if a.Kind == event.KindDispatch && a.Mode != b.Mode {
			m.t.Errorf("the event says %q, its task %q", a.Mode, b.Mode)
		}
	}
	return b
}

// TestModeAcrossCut: a switch of the city takes effect where it is known; a township
// that is cut off goes on as before, switches by itself, and after the heal all know
// the same mode of each site. Tasks keep the limits that they went out with, and
// nobody lifts what another one holds.
func TestModeAcrossCut(t *testing.T) {
	m := newCommanded(t)
	rules := []dispatch.Rule{
		{Code: "flood", Order: 1, Mode: dispatch.ModeEmergency, When: "level <= 2", Organ: "防汛指挥部", Limit: dispatch.Limit{Amount: 2, Unit: dispatch.UnitHour}},
		{Code: "rest", Order: 9, Organ: "值班室", Limit: dispatch.Limit{Amount: 3, Unit: dispatch.UnitDay}},
	}
	if err := m.Node(city).PublishRules(limited(t), "rules", rules, false); err != nil {
		t.Fatal(err)
	}
	for _, site := range []tiers.SiteID{township, neighbour} {
		m.wait("the rules", func() bool { return m.dispatched(site).Rule == "rest" })
	}
	m.Isolate(township)
	m.switchMode(city, api.ModeRequest{Area: district, Mode: command.ModeEmergency, Level: 1, Hours: command.HoursUrgent})
	m.wait("the neighbour to hear", func() bool { return m.inMode(neighbour, command.ModeEmergency, 1) })
	if b := m.dispatched(neighbour); b.Rule != "flood" || b.Mode != "emergency" || b.ModeLevel != 1 || b.Limit != (dispatch.Limit{Amount: 2, Unit: dispatch.UnitUrgentHour}) {
		t.Errorf("where it is known: %+v", b)
	}
	three := dispatch.Limit{Amount: 3, Unit: dispatch.UnitDay}
	if b := m.dispatched(township); b.Rule != "rest" || b.Mode != "" || b.Limit != three {
		t.Errorf("where it is not: %+v", b)
	}
	if s := m.switchMode(township, api.ModeRequest{Mode: command.ModeEmergency, Level: 3}); s.Level != 3 {
		t.Errorf("by itself: %+v", s)
	}
	if b := m.dispatched(township); b.Rule != "rest" || b.Mode != "emergency" || b.ModeLevel != 3 || b.Limit != three {
		t.Errorf("by itself: %+v", b)
	}
	m.Heal()
	m.wait("the township to hear", func() bool { return m.inMode(township, command.ModeEmergency, 1) })
	m.wait("sites agree", m.agreed)
	m.wait("all to know the same", func() bool {
		return m.mode(city, township) == m.mode(township, township) && m.mode(district, township) == m.mode(township, township) && m.mode(city, neighbour) == m.mode(neighbour, neighbour)
	})
	if b := m.dispatched(township); b.Rule != "flood" || b.Limit.Unit != dispatch.UnitUrgentHour {
		t.Errorf("after the heal: %+v", b)
	}

	// The city lifts its own; the township's stands until that lifts it.
	_, err := m.Node(district).Backend().SwitchMode(limited(t), api.ModeRequest{Key: "lift", Area: district, Mode: command.ModeNormal, Reason: "x"})
	if !errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), "held by site 500000 for 500101: it alone can lift it") {
		t.Errorf("a district lifts the city's: %v", err)
	}
	m.switchMode(city, api.ModeRequest{Area: district, Mode: command.ModeNormal})
	m.wait("the neighbour to be in normal mode", func() bool { return m.inMode(neighbour, command.ModeNormal, 0) })
	m.wait("the township to hold its own", func() bool { return m.inMode(township, command.ModeEmergency, 3) })
	if s := m.switchMode(township, api.ModeRequest{Mode: command.ModeNormal}); s.Mode != command.ModeNormal {
		t.Errorf("%+v", s)
	}
	h, err := m.Node(township).Backend().ModeHistory(limited(t), township)
	if err != nil || len(h.Switches) != 4 || h.Switches[0].By != township || h.Switches[0].Mode != command.ModeNormal {
		t.Errorf("%+v, %v", h, err)
	}
}

// silences are the alerts that a site's own stream holds.
func (m *mesh) silences(at tiers.SiteID) (out []command.SilenceView) {
	m.t.Helper()
	page, err := m.Node(at).Backend().List(limited(m.t), api.ListQuery{Kind: command.KindSilence, Site: at, Limit: 100})
	if err != nil {
		m.t.Fatal(err)
	}
	for _, b := range page.Items {
		v, err := command.SilenceFromView(b)
		if err != nil {
			m.t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

// listen makes a site look who is silent, and waits for its views.
func (m *mesh) listen(at tiers.SiteID) {
	m.t.Helper()
	if err := m.Node(at).ListenNow(limited(m.t)); err != nil {
		m.t.Fatal(err)
	}
	m.wait("views", func() bool { return m.Node(at).Group().Store().Counts().Dirty == 0 })
}

// heard is what a site says of another one.
func (m *mesh) heard(at, site tiers.SiteID) api.SilentSite {
	m.t.Helper()
	r, err := m.Node(at).Backend().Silence(limited(m.t), true)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, row := range r.Rows {
		if row.Site == site {
			return row
		}
	}
	m.t.Fatalf("%s says nothing of %s", at, site)
	return api.SilentSite{}
}

func (m *mesh) setSilence(at tiers.SiteID, l command.Limit) {
	m.t.Helper()
	m.n++
	if _, err := m.Node(at).Backend().SetSilence(limited(m.t), api.SilenceRequest{Key: fmt.Sprintf("silence%d", m.n), Limit: l}); err != nil {
		m.t.Fatal(err)
	}
}

// TestSilenceOfTownship: a township that is cut off for its limit is silent at its
// district, which raises one alert and opens one event, also when it is started again
// in between; the city has it from the district and raises none. What is known of the
// township is shown with how old it is. It ends when the township is heard again.
func TestSilenceOfTownship(t *testing.T) {
	m := newCommanded(t)
	m.setSilence(city, command.Limit{Tier: tiers.TierTownship, AfterMS: 600_000, Event: 2})
	m.report(1)
	m.wait("sites agree", m.agreed)
	m.wait("the neighbour's link", func() bool { return m.link(district, neighbour).Equal })
	m.listen(district)
	if r := m.heard(district, township); r.State != "heard" || !r.Contact.Live || r.LimitMS != 600_000 {
		t.Errorf("%+v", r)
	}
	m.Isolate(township)
	m.wait("the link to end", func() bool { return m.link(district, township).State != "connected" })
	m.ahead[district].Store(int64(9 * time.Minute))
	m.listen(district)
	if got := m.silences(district); len(got) != 0 {
		t.Errorf("too early: %+v", got)
	}
	m.ahead[district].Store(int64(11 * time.Minute))
	for range 3 {
		m.listen(district)
	}
	alerts := m.silences(district)
	if len(alerts) != 1 || !alerts[0].Open || alerts[0].Alert.Site != township || alerts[0].Alert.SinceMS == 0 || alerts[0].Alert.Event == "" {
		t.Fatalf("%+v", alerts)
	}
	r := m.heard(district, township)
	if r.State != "silent" || r.SilentMS < 600_000 || r.Alert != alerts[0].ID || r.Behind != "" || r.Stale.Events != 1 || r.Stale.NewestMS["routine"] == 0 {
		t.Errorf("%+v", r)
	}
	if r := m.heard(district, neighbour); r.State != "heard" {
		t.Errorf("%+v", r)
	}
	m.ahead[city].Store(int64(11 * time.Minute))
	m.wait("the city to know", func() bool { return m.heard(city, township).State == "silent" })
	m.listen(city)
	if r := m.heard(city, township); r.By != district || len(m.silences(city)) != 0 {
		t.Errorf("%+v, %+v", r, m.silences(city))
	}

	if err := m.Crash(district); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(limited(t), district); err != nil {
		t.Fatal(err)
	}
	m.wait("it to listen", func() bool { return m.heard(district, township).State == "unknown" })
	m.wait("the neighbour's link", func() bool { return m.link(district, neighbour).Equal })
	m.listen(district)
	if got := m.silences(district); len(got) != 1 || !got[0].Open {
		t.Errorf("after a restart: %+v", got)
	}
	m.ahead[district].Store(int64(30 * time.Minute))
	m.listen(district)
	if got := m.silences(district); len(got) != 1 || len(got[0].Steps) != 1 {
		t.Errorf("after a restart: %+v", got)
	}
	events, err := m.Node(district).Backend().List(limited(t), api.ListQuery{Kind: event.Kind, Site: district, Limit: 10})
	if err != nil || len(events.Items) != 1 || !strings.Contains(string(events.Items[0]), string(alerts[0].Alert.Event)) {
		t.Errorf("%s, %v", events.Items, err)
	}

	m.Heal()
	m.wait("the link", func() bool { return m.link(district, township).Equal })
	m.listen(district)
	if got := m.silences(district); len(got) != 1 || got[0].Open || got[0].ClearedMS == 0 {
		t.Errorf("after the heal: %+v", got)
	}
	m.wait("the city to know", func() bool { return m.heard(city, township).State == "heard" })
}

// TestSilenceOfDistrict: when a district is silent the city raises its alert, and one
// for each township that it does not hear otherwise, behind the district; an event is
// opened for the district alone. All end after the heal. Of a site that never wrote
// anything it says so.
func TestSilenceOfDistrict(t *testing.T) {
	m := newCommanded(t)
	m.setSilence(city, command.Limit{Tier: tiers.TierDistrict, AfterMS: 60_000, Event: 1})
	m.setSilence(city, command.Limit{Site: neighbour, AfterMS: 7_200_000})
	m.report(1)
	m.wait("sites agree", m.agreed)
	m.Isolate(district)
	m.wait("the link to end", func() bool { return m.link(city, district).State != "connected" })
	m.ahead[city].Store(int64(time.Hour))
	for range 2 {
		m.listen(city)
	}
	alerts := map[tiers.SiteID]command.SilenceView{}
	for _, v := range m.silences(city) {
		alerts[v.Alert.Site] = v
	}
	if len(alerts) != 2 || len(m.silences(city)) != 2 || alerts[district].Alert.Event == "" || alerts[township].Alert.Event != "" || alerts[township].Alert.Behind != district {
		t.Fatalf("%+v", m.silences(city))
	}
	if r := m.heard(city, township); r.State != "silent" || r.Behind != district || r.Contact.How != command.HeardByRecord {
		t.Errorf("%+v", r)
	}
	m.ahead[city].Store(int64(3 * time.Hour))
	m.listen(city)
	if r := m.heard(city, neighbour); r.State != "never heard" || r.Behind != district {
		t.Errorf("%+v", r)
	}
	m.ahead[city].Store(0)
	m.Heal()
	m.wait("the link", func() bool { return m.link(city, district).Equal })
	m.listen(city)
	for _, v := range m.silences(city) {
		if v.Open {
			t.Errorf("after the heal: %+v", v)
		}
	}
	all := m.silences(city)
	newestFirst := func(x, y command.SilenceView) int { return cmp.Compare(y.RaisedMS, x.RaisedMS) }
	if len(all) != 3 || all[0].Alert.Site != neighbour || !slices.IsSortedFunc(all, newestFirst) {
		t.Errorf("want 3 alerts, the newest first: %+v", all)
	}
	for want, l := range map[string]command.Limit{
		`site "500000": want one below`: {Site: city, AfterMS: 60_000}, "tier district: want one below": {Tier: tiers.TierDistrict, AfterMS: 60_000}, "after 1 ms": {Site: township, AfterMS: 1},
	} {
		if _, err := m.Node(district).Backend().SetSilence(limited(t), api.SilenceRequest{Key: want, Limit: l}); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
