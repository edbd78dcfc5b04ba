package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// act makes an action at a site that must be allowed.
func (m *mesh) act(site tiers.SiteID, id tiers.DocID, a dispatch.Action) api.TaskResult {
	m.t.Helper()
	m.n++
	r, err := m.Node(site).Backend().ActOnTask(limited(m.t), api.TaskActionRequest{Key: fmt.Sprintf("act%d", m.n), Task: id, Action: a})
	if err != nil {
		m.t.Fatalf("%s of %s at %s: %v", a.Kind, id, site, err)
	}
	return r
}

// refused makes an action that must be rejected with a text.
func (m *mesh) refused(site tiers.SiteID, id tiers.DocID, a dispatch.Action, sentinel error, text string) {
	m.t.Helper()
	m.n++
	_, err := m.Node(site).Backend().ActOnTask(limited(m.t), api.TaskActionRequest{Key: fmt.Sprintf("act%d", m.n), Task: id, Action: a})
	if !errors.Is(err, sentinel) || !strings.Contains(err.Error(), text) {
		m.t.Errorf("%s of %s at %s: %v, want %q", a.Kind, id, site, err, text)
	}
}

func (m *mesh) task(site tiers.SiteID, id tiers.DocID) dispatch.TaskView {
	m.t.Helper()
	_, v, err := m.Node(site).Task(id)
	if err != nil {
		m.t.Fatal(err)
	}
	return v
}

// start fans an event of the township out into one task of a site.
func (m *mesh) start(at tiers.SiteID, r api.StartTasksRequest) []tiers.DocID {
	m.t.Helper()
	m.n++
	r.Key = fmt.Sprintf("start%d", m.n)
	out, err := m.Node(at).Backend().StartTasks(limited(m.t), r)
	if err != nil {
		m.t.Fatal(err)
	}
	return out.Tasks
}

var twoHours = dispatch.Limit{Amount: 2, Unit: dispatch.UnitUrgentHour}

// TestTaskLife: a task goes through its whole life at a township without a link,
// and its event is closed with it; what is out of turn is refused with what is not.
func TestTaskLife(t *testing.T) {
	m := newMesh(t)
	m.Isolate(township)
	ev := m.report(1)[0]
	id := m.start(township, api.StartTasksRequest{Event: ev.Doc, Organ: "城管", Limit: twoHours})[0]

	m.refused(township, id, dispatch.Action{Kind: dispatch.ActionDispose, Who: "张三"}, api.ErrRejected, "may now: accept")
	m.refused(township, id, dispatch.Action{Kind: "sing"}, api.ErrInvalid, "want one of accept")
	m.refused(township, id, dispatch.Action{Kind: dispatch.ActionReturn, Reason: "tired"}, api.ErrInvalid, "want one of not_ours")
	m.refused(township, id, dispatch.Action{Kind: dispatch.ActionEscalate, Reason: "no_means", To: "500999"}, api.ErrInvalid, "500999")
	m.refused(township, id, dispatch.Action{Kind: dispatch.ActionSupervise, Reason: "overdue", Note: strings.Repeat("x", 1<<16)}, api.ErrInvalid, "note")
	m.act(township, id, dispatch.Action{Kind: dispatch.ActionAccept})
	if r := m.act(township, id, dispatch.Action{Kind: dispatch.ActionSign}); r.State != dispatch.StateSigned || r.Custodian != township || !slices.Contains(r.Next, dispatch.ActionDispose) {
		t.Errorf("%+v", r)
	}
	m.act(township, id, dispatch.Action{Kind: dispatch.ActionDispose, Who: "张三"})
	m.act(township, id, dispatch.Action{Kind: dispatch.ActionFeedback, Who: "张三"})
	m.refused(township, id, dispatch.Action{Kind: dispatch.ActionVerify, Who: "李四"}, api.ErrRejected, "evidence")
	photo := dispatch.ActionDetails{Evidence: []string{"attachment:1"}}
	m.refused(township, id, dispatch.Action{Kind: dispatch.ActionVerify, Who: "张三", ActionDetails: photo}, api.ErrRejected, "handled")
	m.act(township, id, dispatch.Action{Kind: dispatch.ActionVerify, Who: "李四", ActionDetails: photo})
	m.act(township, id, dispatch.Action{Kind: dispatch.ActionClose, Who: "李四"})
	m.wait("the event closes with its task", func() bool { return m.event(township, ev.Doc).State == event.StateClosed })
	m.act(township, id, dispatch.Action{Kind: dispatch.ActionEvaluate, Who: "王五", ActionDetails: dispatch.ActionDetails{Score: 5}})
	m.act(township, id, dispatch.Action{Kind: dispatch.ActionReopen, Reason: "not_done"})
	m.wait("the event reopens with its task", func() bool { return m.event(township, ev.Doc).State == event.StateDispatched })
	m.Heal()
	m.wait("sites agree", m.agreed)
	if a, b := m.task(city, id), m.task(township, id); a.State != dispatch.StateSigned || b.State != a.State || len(a.Actions) != len(b.Actions) {
		t.Errorf("%+v\n%+v", a, b)
	}
}

func (m *mesh) event(site tiers.SiteID, id tiers.DocID) event.View {
	m.t.Helper()
	items, err := m.Node(site).Backend().View(limited(m.t), "event", id.Name())
	if err != nil {
		m.t.Fatal(err)
	}
	var v event.View
	if err := json.Unmarshal(items[0], &v); err != nil {
		m.t.Fatal(err)
	}
	return v
}

// TestOverrideAcrossPartition: a district takes a task over while the township that
// it does not hear of signs for it; after the heal all sites name the district, show
// the conflict, and tell the township to stand down, which it does.
func TestOverrideAcrossPartition(t *testing.T) {
	m := newMesh(t)
	ev := m.report(1)[0]
	id := m.start(township, api.StartTasksRequest{Event: ev.Doc, Organ: "城管", Limit: twoHours})[0]
	m.wait("sites agree", m.agreed)
	m.Isolate(township)
	m.act(township, id, dispatch.Action{Kind: dispatch.ActionSign})
	m.act(township, id, dispatch.Action{Kind: dispatch.ActionDispose, Who: "张三"})
	m.act(district, id, dispatch.Action{Kind: dispatch.ActionOverride, Reason: "no_answer"})
	m.Heal()
	m.wait("sites agree", m.agreed)
	for _, site := range []tiers.SiteID{city, district, township} {
		v := m.task(site, id)
		if v.Custodian != district || len(v.Conflicts) != 1 || len(v.StandDown) != 1 || v.StandDown[0].Site != township {
			t.Errorf("%s: %+v", site, v)
		}
	}
	m.refused(township, id, dispatch.Action{Kind: dispatch.ActionFeedback, Who: "张三"}, api.ErrRejected, "standdown")
	m.act(township, id, dispatch.Action{Kind: dispatch.ActionStandDown})
	m.wait("sites agree", m.agreed)
	if v := m.task(district, id); len(v.StandDown) != 0 {
		t.Errorf("%+v", v.StandDown)
	}
}

// TestDelegateToWhoMayNotHoldIt: a district's own task goes to the township, which
// never holds it, as a task with the brief; what comes of it comes back.
func TestDelegateToWhoMayNotHoldIt(t *testing.T) {
	m := newMesh(t)
	w, err := m.Node(district).Report(limited(t), "own", event.Report{Type: "01001", Title: "区县", Priority: 3})
	if err != nil {
		t.Fatal(err)
	}
	id := m.start(district, api.StartTasksRequest{Event: w.Doc, Organ: "水利局", Limit: twoHours})[0]
	m.act(district, id, dispatch.Action{Kind: dispatch.ActionSign})
	m.act(district, id, dispatch.Action{Kind: dispatch.ActionDelegate, Reason: "nearer", To: township, Organ: "水利站"})
	children := m.task(district, id).Children
	if len(children) != 1 {
		t.Fatalf("%v", children)
	}
	m.wait("sites agree", m.agreed)
	if _, _, err := m.Node(township).Task(id); err == nil {
		t.Error("the township holds the district's task")
	}
	child := children[0]
	if v := m.task(township, child); v.Brief.Parent != id || v.Brief.Organ != "水利站" || v.Brief.Title != "区县" {
		t.Errorf("%+v", v.Brief)
	}
	m.act(township, child, dispatch.Action{Kind: dispatch.ActionSign})
	m.act(township, child, dispatch.Action{Kind: dispatch.ActionFeedback, Who: "赵六", ActionDetails: dispatch.ActionDetails{Evidence: []string{"photo"}}})
	m.act(township, child, dispatch.Action{Kind: dispatch.ActionVerify, Who: "李四"})
	m.act(township, child, dispatch.Action{Kind: dispatch.ActionClose, Who: "李四"})
	m.wait("the outcome comes back", func() bool {
		return slices.ContainsFunc(m.task(district, id).Actions, func(s dispatch.Step) bool {
			return s.Kind == dispatch.ActionRelay && s.Task == child && s.Outcome == dispatch.StateClosed && s.Overruled == ""
		})
	})
}

// TestPlanFansOut: an event fans out into a plan's tasks, once, and closes when the
// last of them is done.
func TestPlanFansOut(t *testing.T) {
	m := newMesh(t)
	plan := dispatch.DefaultPlans()[1]
	if _, err := m.Node(city).Backend().PublishPlan(limited(t), api.PlanRequest{Key: "p", Plan: plan}); err != nil {
		t.Fatal(err)
	}
	days := dispatch.DefaultCalendar()
	at := func(d int) string { return time.Now().AddDate(0, 0, d).Format(time.DateOnly) }
	days.Holidays = []string{"2020-01-01..2020-01-03", at(-2) + ".." + at(4)}
	if _, err := m.Node(city).Backend().PublishCalendar(limited(t), api.CalendarRequest{Key: "c", Calendar: days}); err != nil {
		t.Fatal(err)
	}
	ev := m.report(1)[0]
	m.wait("sites agree", m.agreed)
	m.Isolate(township)
	ids := m.start(township, api.StartTasksRequest{Event: ev.Doc, Plan: plan.Code})
	if len(ids) != len(plan.Steps) {
		t.Fatalf("%v", ids)
	}
	if _, err := m.Node(township).Backend().StartTasks(limited(t), api.StartTasksRequest{Key: "again", Event: ev.Doc, Plan: plan.Code}); !errors.Is(err, api.ErrRejected) {
		t.Errorf("started again: %v", err)
	}
	if _, err := m.Node(township).Backend().StartTasks(limited(t), api.StartTasksRequest{Key: "none", Event: ev.Doc, Plan: "none"}); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("no such plan: %v", err)
	}
	for i, id := range ids {
		if s := m.event(township, ev.Doc).State; s != event.StateDispatched {
			t.Errorf("after %d tasks the event is %s", i, s)
		}
		m.act(township, id, dispatch.Action{Kind: dispatch.ActionSign})
		m.act(township, id, dispatch.Action{Kind: dispatch.ActionFeedback, Who: "赵六", ActionDetails: dispatch.ActionDetails{Evidence: []string{"photo"}}})
		m.act(township, id, dispatch.Action{Kind: dispatch.ActionVerify, Who: "李四"})
		m.act(township, id, dispatch.Action{Kind: dispatch.ActionClose, Who: "李四"})
	}
	m.wait("the event closes with the last", func() bool { return m.event(township, ev.Doc).State == event.StateClosed })
	// The calendar that the task was dispatched under goes with it, as far as it reaches.
	id := m.start(township, api.StartTasksRequest{Event: m.report(1)[0].Doc, Organ: "城管", Limit: dispatch.Limit{Amount: 1, Unit: dispatch.UnitDay}})[0]
	v := m.task(township, id)
	if c := v.Brief.Calendar; c == nil || len(c.Holidays) != 1 || v.DueMS <= v.Brief.DispatchedAtMS+3*24*3600*1000 {
		t.Errorf("%+v, due %d", c, v.DueMS)
	}
}

// TestDispatchByPlan: a rule that names a plan fans the event out into its tasks; one
// that names a plan which nobody published still gives the event a task.
func TestDispatchByPlan(t *testing.T) {
	m := newMesh(t)
	plan := dispatch.DefaultPlans()[0]
	if _, err := m.Node(township).Backend().PublishPlan(limited(t), api.PlanRequest{Key: "p", Plan: plan}); err != nil {
		t.Fatal(err)
	}
	b := dispatch.Brief{Event: "event:1", Title: "x", Organ: "o", Limit: twoHours, Plan: plan.Code}
	planned, err := m.Node(district).FannedOut(township, "event:1", b)
	if err != nil || len(planned) != 1 || planned[0].ID != dispatch.TaskID("event:1") || planned[0].Brief.By != district || planned[0].Brief.ByTier != tiers.TierDistrict {
		t.Errorf("%+v, %v", planned, err)
	}
	if alarms := m.Node(district).Alarms(); !strings.Contains(strings.Join(alarms, "\n"), "not in force") {
		t.Errorf("%v", alarms)
	}
	planned, err = m.Node(township).FannedOut(township, "event:1", b)
	if err != nil || len(planned) != len(plan.Steps) || planned[0].Brief.By != "" || planned[1].Brief.Organ != plan.Steps[1].Organ {
		t.Errorf("%+v, %v", planned, err)
	}
}

// TestTaskLists: what is due is found in the indexes, page by page, as a scan of all
// tasks finds it.
func TestTaskLists(t *testing.T) {
	m := newMesh(t)
	want := map[string][]tiers.DocID{}
	for i, ev := range m.report(6) {
		organ := []string{"城管", "城管一队"}[i%2]
		id := m.start(township, api.StartTasksRequest{Event: ev.Doc, Organ: organ, Limit: dispatch.Limit{Amount: i + 1, Unit: dispatch.UnitUrgentHour}})[0]
		want[organ] = append(want[organ], id)
		if i < 3 {
			want["soon"] = append(want["soon"], id)
		}
		if i == 5 {
			m.act(township, id, dispatch.Action{Kind: dispatch.ActionSign})
			want["signed"] = []tiers.DocID{id}
			m.act(township, id, dispatch.Action{Kind: dispatch.ActionSuspend, Reason: "weather"})
		}
	}
	list := func(q api.TaskQuery) (out []tiers.DocID) {
		t.Helper()
		for q.Limit = 2; ; {
			page, err := m.Node(township).Backend().ListTasks(context.Background(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, it := range page.Items {
				var v dispatch.TaskView
				if err := json.Unmarshal(it, &v); err != nil {
					t.Fatal(err)
				}
				out = append(out, v.ID)
			}
			if q.After = page.Next; q.After == "" {
				return out
			}
		}
	}
	m.wait("views are made", func() bool { return m.Node(township).Group().Store().Counts().Dirty == 0 })
	for what, row := range map[string]struct {
		q    api.TaskQuery
		want []tiers.DocID
	}{
		"organ":     {api.TaskQuery{Organ: "城管"}, want["城管"]},
		"other":     {api.TaskQuery{Organ: "城管一队", DueWithin: 5 * time.Hour}, want["城管一队"][:2]},
		"soon":      {api.TaskQuery{DueWithin: 3*time.Hour + time.Minute}, want["soon"]},
		"overdue":   {api.TaskQuery{Overdue: true}, nil},
		"custodian": {api.TaskQuery{Custodian: township}, want["signed"]},
		"suspended": {api.TaskQuery{State: dispatch.StateSuspended}, want["signed"]},
		"paused":    {api.TaskQuery{Custodian: township, DueWithin: 100 * time.Hour}, nil},
		"elsewhere": {api.TaskQuery{ListQuery: api.ListQuery{Site: city}, Organ: "城管"}, nil},
	} {
		if got := list(row.q); !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", what, got, row.want)
		}
	}
	if _, err := m.Node(township).Backend().ListTasks(context.Background(), api.TaskQuery{State: "lost"}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("unknown state: %v", err)
	}
}
