package node_test

import (
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

const neighbour = tiers.SiteID("500101002")

// skewed is a mesh of a city, a district and two townships, each with a clock
// that can be set.
type skewed struct {
	*mesh
	ahead map[tiers.SiteID]*atomic.Int64 // nanoseconds
}

func newSkewed(t *testing.T) *skewed {
	t.Helper()
	s := &skewed{ahead: map[tiers.SiteID]*atomic.Int64{}}
	for _, id := range []tiers.SiteID{city, district, township, neighbour} {
		s.ahead[id] = &atomic.Int64{}
	}
	dir := t.TempDir()
	c, err := local.Open(limited(t), local.Config{
		Dir: dir, Federation: "cq", RedialMax: 200 * time.Millisecond, Engine: worker(),
		Now: func(id tiers.SiteID) time.Time { return time.Now().Add(time.Duration(s.ahead[id].Load())) },
		Sites: []tiers.Site{
			{ID: city, Tier: tiers.TierCity, Name: "重庆市"},
			{ID: district, Tier: tiers.TierDistrict, Name: "万州区", Parent: city},
			{ID: township, Tier: tiers.TierTownship, Name: "高笋塘街道", Parent: district},
			{ID: neighbour, Tier: tiers.TierTownship, Name: "太白街道", Parent: district},
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
	s.mesh = &mesh{Cluster: c, t: t, dir: dir}
	return s
}

func (m *mesh) register(site tiers.SiteID, code string, skills ...string) {
	m.t.Helper()
	_, err := m.Node(site).RegisterUnit(limited(m.t), "register:"+code, responder.Unit{
		Code: code, Name: code, Kind: "team", Skills: skills, Organ: "消防", Status: responder.Available,
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// view reads what a site holds of a document.
func (m *mesh) view(site tiers.SiteID, kind, name string, into any) bool {
	m.t.Helper()
	all, err := m.Node(site).Backend().View(limited(m.t), kind, name)
	if errors.Is(err, api.ErrNotFound) {
		return false
	}
	if err == nil {
		err = json.Unmarshal(all[0], into)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return true
}

func (m *mesh) request(site tiers.SiteID, name string) (r responder.RequestView) {
	m.view(site, responder.KindRequest, name, &r)
	return r
}

// TestRequestBetweenTownships: a request between two townships that are cut off
// from each other waits, is granted once when the links are back, and nobody
// else gets the unit meanwhile; it is given back, and a second one is refused
// with the reason.
func TestRequestBetweenTownships(t *testing.T) {
	m := newSkewed(t)
	ctx := limited(t)
	m.register(neighbour, "n1", "fire")
	m.Cut(neighbour, district)
	ask := func(key string) string {
		k, err := m.Node(township).AskUnit(ctx, key, responder.Request{Home: neighbour, Skill: "fire", For: "task:" + key, Reason: "火势蔓延"})
		if err != nil {
			t.Fatal(err)
		}
		return k.Doc.Name()
	}
	first, again := ask("a"), ask("a")
	if first != again {
		t.Fatalf("the same key asked twice: %s, %s", first, again)
	}
	m.wait("the district to hold the request", func() bool { return m.request(district, first).State == responder.RequestPending })
	if s := m.request(township, first).State; s != responder.RequestPending {
		t.Fatalf("answered without a link: %s", s)
	}
	m.Heal()
	m.wait("the grant to arrive", func() bool { return m.request(township, first).State == responder.RequestGranted })
	granted := m.request(township, first)
	v, err := m.Node(neighbour).CheckUnit(ctx, "", "n1", granted.Epoch, responder.Epoch{})
	if err != nil || !v.Obey || v.Order.For != "unitrequest:"+first {
		t.Errorf("the terminal says %+v, %v", v, err)
	}
	if _, err := m.Node(neighbour).ClaimUnit(ctx, "x", "", "n1", "task:own", false, ""); !errors.Is(err, store.ErrHeld) {
		t.Errorf("claimed at home meanwhile: %v", err)
	}
	second := ask("b")
	m.wait("a refusal", func() bool { return m.request(township, second).State == responder.RequestRefused })
	if r := m.request(township, second).Reason; r != "site 500101002 has no free unit with skill fire" {
		t.Errorf("reason %q", r)
	}
	if _, err := m.Node(township).ReturnUnit(ctx, "ret", first); err != nil {
		t.Fatal(err)
	}
	m.wait("the unit to be free", func() bool { return m.request(township, first).State == responder.RequestReleased })
	o, err := m.Node(neighbour).ClaimUnit(ctx, "y", "", "n1", "task:own", false, "")
	if err != nil || o.Epoch.Compare(granted.Epoch) <= 0 {
		t.Errorf("after it came back: %+v, %v", o, err)
	}
	if v, err := m.Node(neighbour).CheckUnit(ctx, "", "n1", granted.Epoch, responder.Epoch{}); err != nil || v.Obey {
		t.Errorf("the old epoch: %+v, %v", v, err)
	}
}

// TestForcedFromRequest: what is taken by force from a request is told to who
// asked.
func TestForcedFromRequest(t *testing.T) {
	m := newSkewed(t)
	ctx := limited(t)
	m.register(district, "d1", "fire")
	k, err := m.Node(township).AskUnit(ctx, "a", responder.Request{Home: district, Unit: "d1", For: "task:a", Reason: "x"})
	if err != nil {
		t.Fatal(err)
	}
	m.wait("the grant", func() bool { return m.request(township, k.Doc.Name()).State == responder.RequestGranted })
	o, err := m.Node(district).ClaimUnit(ctx, "f", "", "d1", "task:dam", true, "溃坝")
	if err != nil || o.Epoch.Compare(m.request(district, k.Doc.Name()).Epoch) <= 0 {
		t.Fatalf("%+v, %v", o, err)
	}
	m.wait("the township to know", func() bool {
		r := m.request(township, k.Doc.Name())
		return r.State == responder.RequestReclaimed && r.Reason == "溃坝"
	})
}

// TestLentPool: a township that was lent a unit sends it while its district is
// cut off, until an hour before the end by its clock; the district takes it back
// from an hour after it by its own, and never both may at once, also when the
// one clock is an hour slow and the other an hour fast.
func TestLentPool(t *testing.T) {
	m := newSkewed(t)
	ctx := limited(t)
	m.register(district, "d1", "fire")
	m.register(district, "d2", "fire")
	const lease = 6 * time.Hour
	until := time.Now().Add(lease).UnixMilli()
	p, err := m.Node(district).Lend(ctx, "l", township, []string{"d1", "d2"}, until, "汛期前置")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.Node(district).Lend(ctx, "l", township, []string{"d1", "d2"}, until, "汛期前置"); err != nil || again.ID != p.ID {
		t.Fatalf("the same key: %+v, %v", again, err)
	}
	if _, err := m.Node(district).ClaimUnit(ctx, "c", "", "d1", "task:d", true, "x"); !errors.Is(err, responder.ErrNow) {
		t.Errorf("claimed by force while lent: %v", err)
	}
	m.wait("the pool to arrive", func() bool { return m.view(township, responder.KindPool, p.ID.Name(), &responder.PoolView{}) })
	m.Cut(district, township)
	m.publishAt(township, dispatch.Rule{Code: "fire", Organ: "消防", Limit: dispatch.Limit{Amount: 1, Unit: dispatch.UnitHour}, Skill: "fire"})
	w, err := m.Node(township).Report(ctx, "e", event.Report{Type: "1", Title: "火灾", Priority: 1})
	if err != nil {
		t.Fatal(err)
	}
	task := dispatch.TaskID(w.Doc)
	var tv dispatch.TaskView
	m.wait("the task", func() bool { return m.view(township, dispatch.KindTask, task.Name(), &tv) })
	if tv.Brief.Unit != "500101/d1" {
		t.Fatalf("dispatched %+v", tv.Brief)
	}
	epoch, err := responder.ParseEpoch(tv.Brief.UnitEpoch)
	if err != nil || epoch.Home != p.Pool.Units[0].Epoch || epoch.Lent == 0 {
		t.Fatalf("epoch %s, %v", epoch, err)
	}
	m.lentUntilTheEnd(p, lease, responder.Order{Epoch: epoch, For: string(task)})
}

// lentUntilTheEnd moves the clocks over a lease's end, when d1 was sent under it.
func (m *skewed) lentUntilTheEnd(p responder.PoolView, lease time.Duration, sent responder.Order) {
	t, ctx := m.t, limited(m.t)
	t.Helper()
	set := func(child, home time.Duration) {
		m.ahead[township].Store(int64(child))
		m.ahead[district].Store(int64(home))
	}
	obeys := func() bool {
		v, err := m.Node(township).CheckUnit(ctx, district, "d1", sent.Epoch, responder.Epoch{})
		if err != nil {
			t.Fatal(err)
		}
		return v.Obey
	}
	// One hour before the end in truth; the borrower's clock an hour slow, the
	// home's an hour fast.
	set(lease-2*time.Hour-time.Minute, lease)
	if !obeys() {
		t.Error("the lease is not over, and the unit is not bound")
	}
	if _, err := m.Node(district).TakeBack(ctx, p.ID.Name(), false, "x"); !errors.Is(err, responder.ErrNow) {
		t.Errorf("taken back before: %v", err)
	}
	// The end in truth, the clocks as before: no longer the one, now the other.
	set(lease-time.Hour, lease+time.Hour+time.Minute)
	if obeys() {
		t.Error("the unit is bound after the lease")
	}
	if _, err := m.Node(township).ClaimUnit(ctx, "late", district, "d2", "task:late", false, ""); !errors.Is(err, responder.ErrNow) {
		t.Errorf("claimed after the lease: %v", err)
	}
	if taken, err := m.Node(district).TakeBack(ctx, p.ID.Name(), false, "到期"); err != nil || taken.State != responder.PoolTaken {
		t.Fatalf("taken back: %+v, %v", taken, err)
	}
	o, err := m.Node(district).ClaimUnit(ctx, "own", "", "d1", "task:own", false, "")
	if err != nil {
		t.Fatal(err)
	}
	terminal := responder.Terminal{Obeyed: sent}
	if err := terminal.Obey(o, time.Now()); err != nil {
		t.Errorf("the home's order: %v", err)
	}
	if err := terminal.Obey(sent, time.Now()); !errors.Is(err, responder.ErrFenced) {
		t.Errorf("the borrower's: %v", err)
	}
	set(0, 0)
	m.Heal()
	m.wait("the township to know", func() bool {
		var p2 responder.PoolView
		return m.view(township, responder.KindPool, p.ID.Name(), &p2) && p2.State == responder.PoolTaken
	})
}

// TestHandedBack: a pool that is handed back is free at home by itself, and the
// borrower sends none of it from then on; a unit that is out is not handed back.
func TestHandedBack(t *testing.T) {
	m := newSkewed(t)
	ctx := limited(t)
	m.register(district, "d1", "fire")
	p, err := m.Node(district).Lend(ctx, "l", township, []string{"d1"}, time.Now().Add(5*time.Hour).UnixMilli(), "x")
	if err != nil {
		t.Fatal(err)
	}
	m.wait("the pool to arrive", func() bool { return m.view(township, responder.KindPool, p.ID.Name(), &responder.PoolView{}) })
	var o responder.Order
	m.wait("the pool to be listed", func() bool {
		o, err = m.Node(township).ClaimUnit(ctx, "c", district, "d1", "task:t", false, "")
		return err == nil
	})
	if _, err := m.Node(township).HandBack(ctx, "h1", p.ID.Name()); !errors.Is(err, store.ErrHeld) {
		t.Errorf("handed back while it is out: %v", err)
	}
	if err := m.Node(township).ReleaseUnit(ctx, "r", district, "d1", o.Epoch); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Node(township).HandBack(ctx, "h2", p.ID.Name()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Node(township).ClaimUnit(ctx, "c2", district, "d1", "task:u", false, ""); err == nil {
		t.Error("claimed after it was handed back")
	}
	m.wait("the unit to be free at home", func() bool {
		_, err := m.Node(district).ClaimUnit(ctx, "c3", "", "d1", "task:d", false, "")
		return err == nil
	})
}

// TestUnitsSurviveCrash: after SIGKILL a site knows who has its units, gives a
// task the unit that it had, and goes on with higher epochs.
func TestUnitsSurviveCrash(t *testing.T) {
	m := newSkewed(t)
	ctx := limited(t)
	m.register(township, "t1", "fire")
	o, err := m.Node(township).ClaimUnit(ctx, "c", "", "t1", "task:a", false, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Crash(township), m.Start(ctx, township)); err != nil {
		t.Fatal(err)
	}
	if again, err := m.Node(township).ClaimUnit(ctx, "", "", "t1", "task:a", false, ""); err != nil || again != o {
		t.Errorf("%+v after %+v, %v", again, o, err)
	}
	if err := m.Node(township).ReleaseUnit(ctx, "r", "", "t1", o.Epoch); err != nil {
		t.Fatal(err)
	}
	if next, err := m.Node(township).ClaimUnit(ctx, "d", "", "t1", "task:b", false, ""); err != nil || next.Epoch.Compare(o.Epoch) <= 0 {
		t.Errorf("%+v after %+v, %v", next, o, err)
	}
}

// TestUnitRefusals: what is asked of units wrongly is refused, and nothing is
// half done.
func TestUnitRefusals(t *testing.T) {
	m := newSkewed(t)
	ctx := limited(t)
	n := m.Node(district)
	m.register(district, "d1", "fire")
	m.register(district, "d2", "fire")
	if _, err := n.ClaimUnit(ctx, "c", "", "d2", "task:a", false, ""); err != nil {
		t.Fatal(err)
	}
	good := time.Now().Add(5 * time.Hour).UnixMilli()
	for name, f := range map[string]func() error{
		"lent with one that is held": func() error { _, err := n.Lend(ctx, "1", township, []string{"d1", "d2"}, good, "x"); return err },
		"lent with an unknown one":   func() error { _, err := n.Lend(ctx, "2", township, []string{"d1", "d9"}, good, "x"); return err },
		"lent twice":                 func() error { _, err := n.Lend(ctx, "3", township, []string{"d1", "d1"}, good, "x"); return err },
		"lent upwards":               func() error { _, err := n.Lend(ctx, "4", city, []string{"d1"}, good, "x"); return err },
		"lent until 9999": func() error {
			_, err := n.Lend(ctx, "5", township, []string{"d1"}, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), "x")
			return err
		},
		"lent until 1969": func() error { _, err := n.Lend(ctx, "6", township, []string{"d1"}, -1, "x"); return err },
		"lent for an hour": func() error {
			_, err := n.Lend(ctx, "7", township, []string{"d1"}, time.Now().Add(time.Hour).UnixMilli(), "x")
			return err
		},
		"a made-up holder": func() error { _, err := n.ClaimUnit(ctx, "8", "", "d1", "pool:x", false, ""); return err },
		"no holder":        func() error { _, err := n.ClaimUnit(ctx, "9", "", "d1", "", false, ""); return err },
		"an unknown unit":  func() error { _, err := n.ClaimUnit(ctx, "10", "", "d9", "task:x", false, ""); return err },
		"another's unit":   func() error { _, err := n.ClaimUnit(ctx, "11", city, "d1", "task:x", false, ""); return err },
		"an unknown home": func() error {
			_, err := n.AskUnit(ctx, "12", responder.Request{Home: "999", Unit: "x", For: "task:x", Reason: "x"})
			return err
		},
		"an early end":   func() error { _, err := n.TakeBack(ctx, "none", true, "x"); return err },
		"nothing to set": func() error { return n.SetUnit(ctx, "13", "d1", node.UnitChange{}) },
	} {
		err := f()
		known := false
		for _, e := range []error{responder.ErrInvalid, responder.ErrNow, store.ErrHeld, store.ErrNotFound} {
			known = known || errors.Is(err, e)
		}
		if !known {
			t.Errorf("%s: %v", name, err)
		}
	}
	if o, err := n.ClaimUnit(ctx, "z", "", "d1", "task:z", false, ""); err != nil {
		t.Errorf("d1 after all that: %+v, %v", o, err)
	}
}

// publishAt publishes rules at a site.
func (m *mesh) publishAt(site tiers.SiteID, rules ...dispatch.Rule) {
	m.t.Helper()
	if err := m.Node(site).PublishRules(limited(m.t), "rules", rules, false); err != nil {
		m.t.Fatal(err)
	}
}

// TestVoidTaskFreesItsUnit: a unit that was dispatched to a task is free again
// when the task has ended.
func TestVoidTaskFreesItsUnit(t *testing.T) {
	m := newSkewed(t)
	ctx := limited(t)
	m.register(township, "t1", "fire")
	m.publishAt(township, dispatch.Rule{Code: "fire", Organ: "消防", Limit: dispatch.Limit{Amount: 1, Unit: dispatch.UnitHour}, Skill: "fire"})
	w, err := m.Node(township).Report(ctx, "e", event.Report{Type: "1", Title: "火灾", Priority: 1})
	if err != nil {
		t.Fatal(err)
	}
	var tv dispatch.TaskView
	m.wait("the task", func() bool { return m.view(township, dispatch.KindTask, dispatch.TaskID(w.Doc).Name(), &tv) })
	if tv.Brief.Unit != "500101001/t1" {
		t.Fatalf("dispatched %+v", tv.Brief)
	}
	if _, err := m.Node(township).ClaimUnit(ctx, "c", "", "t1", "task:other", false, ""); !errors.Is(err, store.ErrHeld) {
		t.Errorf("claimed under the task: %v", err)
	}
	if _, err := m.Node(township).Act(ctx, "v", tv.ID, dispatch.Action{Kind: dispatch.ActionVoid, Reason: dispatch.Reasons(dispatch.ActionVoid)[0]}); err != nil {
		t.Fatal(err)
	}
	m.wait("the unit to be free", func() bool {
		_, err := m.Node(township).ClaimUnit(ctx, "d", "", "t1", "task:other", false, "")
		return err == nil
	})
}
