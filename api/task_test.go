package api_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// tasked is what of tasks reached a backend.
type tasked struct {
	query  api.TaskQuery
	action api.TaskActionRequest
	start  api.StartTasksRequest
	plan   api.PlanRequest
	days   api.CalendarRequest
}

func (b *backend) ListTasks(_ context.Context, q api.TaskQuery) (api.Page, error) {
	b.tasked.query = q
	return api.Page{Items: []json.RawMessage{[]byte(`{"id":"t"}`)}}, b.err
}

func (b *backend) ActOnTask(_ context.Context, r api.TaskActionRequest) (api.TaskResult, error) {
	b.tasked.action = r
	return api.TaskResult{State: "signed", Next: []string{"dispose"}}, b.err
}

func (b *backend) StartTasks(_ context.Context, r api.StartTasksRequest) (api.StartTasksResult, error) {
	b.tasked.start = r
	return api.StartTasksResult{Event: r.Event, Tasks: []tiers.DocID{"task:1"}}, b.err
}

func (b *backend) PublishPlan(_ context.Context, r api.PlanRequest) (api.WriteResult, error) {
	b.tasked.plan = r
	return api.WriteResult{Seq: 1}, b.err
}

func (b *backend) PublishCalendar(_ context.Context, r api.CalendarRequest) (api.WriteResult, error) {
	b.tasked.days = r
	return api.WriteResult{Seq: 1}, b.err
}

// TestTasks: what the client asks about tasks reaches the backend as it was asked.
func TestTasks(t *testing.T) {
	b := &backend{}
	c, path := serve(t, b)
	ctx := context.Background()
	q := api.TaskQuery{
		ListQuery: api.ListQuery{Kind: "task", Site: "500101", Limit: 7, After: "x"},
		State:     "signed", Organ: "城管/一队", Custodian: "500101001", Overdue: true, DueWithin: 2 * time.Hour,
	}
	if page, err := c.ListTasks(ctx, q); err != nil || len(page.Items) != 1 || b.tasked.query != q {
		t.Errorf("%+v, %v; asked %+v", page, err, b.tasked.query)
	}
	a := dispatch.Action{Kind: dispatch.ActionReturn, Reason: "not_ours", Who: "张三"}
	if r, err := c.ActOnTask(ctx, "task:1", "k", a); err != nil || r.State != "signed" || b.tasked.action.Task != "task:1" || b.tasked.action.Action.Reason != "not_ours" {
		t.Errorf("%+v, %v; asked %+v", r, err, b.tasked.action)
	}
	if r, err := c.StartTasks(ctx, "e1", api.StartTasksRequest{Key: "k", Plan: "flood"}); err != nil || r.Event != "event:e1" || b.tasked.start.Plan != "flood" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := c.PublishPlan(ctx, api.PlanRequest{Key: "k", Plan: dispatch.Plan{Code: "flood"}}); err != nil || b.tasked.plan.Plan.Code != "flood" {
		t.Errorf("%v, %+v", err, b.tasked.plan)
	}
	if _, err := c.PublishCalendar(ctx, api.CalendarRequest{Key: "k", Calendar: dispatch.DefaultCalendar()}); err != nil || b.tasked.days.Calendar.Code != "default" {
		t.Errorf("%v, %+v", err, b.tasked.days)
	}
	for _, row := range []struct{ method, target, body, want string }{
		{"GET", "/v1/tasks?overdue=maybe", "", `overdue`},
		{"GET", "/v1/tasks?due_within=-1h", "", `due_within`},
		{"GET", "/v1/tasks?limit=0", "", `limit`},
		{"GET", "/v1/tasks?colour=red", "", `colour`},
		{"POST", "/v1/tasks/x/actions", `{}`, `key`},
		{"POST", "/v1/tasks/x/actions", `{"key":"k","action":{"colour":1}}`, `colour`},
		{"POST", "/v1/tasks/x/actions", `{"key":"k","action":{"note":"` + strings.Repeat("x", 1<<20) + `"}}`, `body is over`},
	} {
		if status, text := raw(t, path, row.method, row.target, row.body); status != 400 || !strings.Contains(text, row.want) {
			t.Errorf("%s %s: %d %s", row.method, row.target, status, text)
		}
	}
}
