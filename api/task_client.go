package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// ListTasks returns a page of tasks.
func (c *Client) ListTasks(ctx context.Context, q TaskQuery) (out Page, err error) {
	v := c.values()
	for name, value := range map[string]string{
		"site": string(q.Site), "after": q.After, "state": q.State, "organ": q.Organ, "custodian": string(q.Custodian),
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Overdue {
		v.Set("overdue", "true")
	}
	if q.DueWithin != 0 {
		v.Set("due_within", q.DueWithin.String())
	}
	return out, c.do(ctx, http.MethodGet, "/v1/tasks?"+v.Encode(), nil, &out)
}

// ActOnTask makes an action on a task.
func (c *Client) ActOnTask(ctx context.Context, name, key string, a dispatch.Action) (out TaskResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/tasks/"+url.PathEscape(name)+"/actions", TaskActionRequest{Key: key, Action: a}, &out)
}

// StartTasks fans an event out into tasks.
func (c *Client) StartTasks(ctx context.Context, event string, r StartTasksRequest) (out StartTasksResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/events/"+url.PathEscape(event)+"/tasks", r, &out)
}

// PublishPlan publishes a response plan in the node's site's catalog.
func (c *Client) PublishPlan(ctx context.Context, r PlanRequest) (out WriteResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/plans", r, &out)
}

// PublishCalendar publishes a calendar in the node's site's catalog.
func (c *Client) PublishCalendar(ctx context.Context, r CalendarRequest) (out WriteResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/calendars", r, &out)
}
