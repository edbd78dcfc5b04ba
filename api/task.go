package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// Tasks is what a node offers about tasks.
type Tasks interface {
	// ListTasks returns a page of tasks that a query selects, the next due first.
	ListTasks(ctx context.Context, q TaskQuery) (Page, error)
	// ActOnTask makes an action on a task in the site's name.
	ActOnTask(ctx context.Context, r TaskActionRequest) (TaskResult, error)
	// StartTasks fans an event out into tasks.
	StartTasks(ctx context.Context, r StartTasksRequest) (StartTasksResult, error)
	// PublishPlan and PublishCalendar write an entry of this site's own catalog.
	PublishPlan(ctx context.Context, r PlanRequest) (WriteResult, error)
	PublishCalendar(ctx context.Context, r CalendarRequest) (WriteResult, error)
}

// TaskQuery selects tasks; conditions that are empty match everything.
type TaskQuery struct {
	// ListQuery has the page and the site; its Kind is not used.
	ListQuery
	State     string
	Organ     string
	Custodian tiers.SiteID
	// Overdue selects open tasks that are due by now, DueWithin those that are due
	// in that time from now; both, either.
	Overdue   bool
	DueWithin time.Duration
}

// Filtered reports whether there is any condition.
func (q TaskQuery) Filtered() bool {
	return q.State != "" || q.Organ != "" || q.Custodian != "" || q.Overdue || q.DueWithin != 0
}

// dueWithinMax bounds how far ahead a list of what is due looks.
const dueWithinMax = 10 * 365 * 24 * time.Hour

// TaskActionRequest makes an action on a task.
type TaskActionRequest struct {
	// Key makes a retry safe.
	Key string `json:"key"`
	// Task is the one in the path.
	Task tiers.DocID `json:"-"`
	// Action is what to do; the node sets its time, site and tiers.
	Action dispatch.Action `json:"action"`
}

// TaskResult is where a task stands after an action.
type TaskResult struct {
	WriteResult
	State     string       `json:"state"`
	Custodian tiers.SiteID `json:"custodian"`
	DueMS     int64        `json:"due_ms"`
	// Next are the actions that this site may make now.
	Next []string `json:"next"`
}

// StartTasksRequest fans an event out: by a plan, or into one task.
type StartTasksRequest struct {
	Key string `json:"key"`
	// Event is the one in the path.
	Event tiers.DocID    `json:"-"`
	Plan  string         `json:"plan"`
	Title string         `json:"title"`
	Organ string         `json:"organ"`
	Limit dispatch.Limit `json:"limit"`
	// To is the site that gets them; empty for the node's own.
	To tiers.SiteID `json:"to"`
}

// StartTasksResult names the tasks that an event was fanned out into.
type StartTasksResult struct {
	Event tiers.DocID   `json:"event"`
	Tasks []tiers.DocID `json:"tasks"`
	// Waits says that they are not on their way up yet, and since when.
	Waits *Waits `json:"waits,omitempty"`
}

// PlanRequest publishes a response plan.
type PlanRequest struct {
	Key  string        `json:"key"`
	Plan dispatch.Plan `json:"plan"`
}

// CalendarRequest publishes a calendar.
type CalendarRequest struct {
	Key      string            `json:"key"`
	Calendar dispatch.Calendar `json:"calendar"`
}

func (s *Server) taskRoutes(mux *http.ServeMux) {
	mux.Handle("GET /v1/tasks", s.handle(s.listTasks))
	mux.Handle("POST /v1/tasks/{name}/actions", s.handle(func(r *http.Request) (any, error) {
		var req TaskActionRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		req.Task = named(dispatch.KindTask, r)
		return s.cfg.Backend.ActOnTask(r.Context(), req)
	}))
	mux.Handle("POST /v1/events/{name}/tasks", s.handle(func(r *http.Request) (any, error) {
		var req StartTasksRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		req.Event = named("event", r)
		return s.cfg.Backend.StartTasks(r.Context(), req)
	}))
	mux.Handle("POST /v1/plans", s.handle(func(r *http.Request) (any, error) {
		var req PlanRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return s.cfg.Backend.PublishPlan(r.Context(), req)
	}))
	mux.Handle("POST /v1/calendars", s.handle(func(r *http.Request) (any, error) {
		var req CalendarRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return s.cfg.Backend.PublishCalendar(r.Context(), req)
	}))
}

// keyed decodes a request that has an idempotency key.
func keyed(r *http.Request, into any, key *string) error {
	if err := body(r, into); err != nil {
		return err
	}
	return checkKey(*key)
}

// named is the document that a path names, with or without its kind and its stream.
func named(kind string, r *http.Request) tiers.DocID { return tiers.OfKind(kind, r.PathValue("name")) }

func (s *Server) listTasks(r *http.Request) (any, error) {
	q := TaskQuery{ListQuery: ListQuery{Kind: dispatch.KindTask, Limit: limitDefault}}
	for name, values := range r.URL.Query() {
		var err error
		switch v := values[0]; name {
		case "limit", "site", "after", "read":
			if err = page(&q.ListQuery, name, v); err != nil {
				return nil, err
			}
		case "state":
			q.State = v
		case "organ":
			q.Organ = v
		case "custodian":
			q.Custodian = tiers.SiteID(v)
		case "overdue":
			if q.Overdue, err = strconv.ParseBool(v); err != nil {
				return nil, fmt.Errorf("%w: overdue %q: want true or false", ErrInvalid, v)
			}
		case "due_within":
			if q.DueWithin, err = time.ParseDuration(v); err != nil || q.DueWithin <= 0 || q.DueWithin > dueWithinMax {
				return nil, fmt.Errorf("%w: due_within %q: want a duration such as 2h, at most %s", ErrInvalid, v, dueWithinMax)
			}
		default:
			return nil, fmt.Errorf("%w: unknown parameter %q: want limit, site, after, state, organ, custodian, overdue or due_within", ErrInvalid, name)
		}
	}
	if !q.Filtered() {
		return s.cfg.Backend.List(r.Context(), q.ListQuery)
	}
	return s.cfg.Backend.ListTasks(r.Context(), q)
}
