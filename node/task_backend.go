package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// ActOnTask implements [api.Tasks].
func (b backend) ActOnTask(ctx context.Context, r api.TaskActionRequest) (api.TaskResult, error) {
	w, err := b.n.Act(ctx, "api:"+r.Key, r.Task, r.Action)
	if err != nil {
		return api.TaskResult{}, translate(err)
	}
	_, v, err := b.n.Task(r.Task)
	if err != nil {
		return api.TaskResult{}, translate(err)
	}
	self, _ := b.n.Topology().Site(b.n.creds.ID.Site)
	out := api.TaskResult{
		WriteResult: api.WriteResult{ID: w.Doc, Stream: w.Stream.String(), Seq: w.Seq},
		State:       v.State, Custodian: v.Custodian, DueMS: v.DueMS, Next: v.Next(self.ID, self.Tier),
	}
	if out.Next == nil {
		out.Next = []string{}
	}
	return out, nil
}

// StartTasks implements [api.Tasks].
func (b backend) StartTasks(ctx context.Context, r api.StartTasksRequest) (api.StartTasksResult, error) {
	if (r.Plan == "") == (r.Organ == "") {
		return api.StartTasksResult{}, fmt.Errorf("%w: plan %.64q, organ %.64q: want one of the two", api.ErrInvalid, r.Plan, r.Organ)
	}
	ids, err := b.n.StartTasks(ctx, "api:"+r.Key, r.Event, Start{Plan: r.Plan, Title: r.Title, Organ: r.Organ, Limit: r.Limit, To: r.To})
	return api.StartTasksResult{Event: r.Event, Tasks: ids}, translate(err)
}

// PublishPlan implements [api.Tasks].
func (b backend) PublishPlan(ctx context.Context, r api.PlanRequest) (api.WriteResult, error) {
	ops, err := dispatch.PlanOps(r.Plan)
	return b.publishOne(ctx, r.Key, catalog.Plans, tiers.NewDocID(dispatch.KindPlan, r.Plan.Code), ops, err)
}

// PublishCalendar implements [api.Tasks].
func (b backend) PublishCalendar(ctx context.Context, r api.CalendarRequest) (api.WriteResult, error) {
	ops, err := dispatch.CalendarOps(r.Calendar)
	return b.publishOne(ctx, r.Key, catalog.Calendars, tiers.NewDocID(dispatch.KindCalendar, r.Calendar.Code), ops, err)
}

func (b backend) publishOne(ctx context.Context, key, name string, doc tiers.DocID, ops []crdt.Op, err error) (api.WriteResult, error) {
	out := api.WriteResult{ID: doc, Stream: catalogStream(b.n.creds.ID.Site).String()}
	if err == nil {
		var done []replication.Written
		if _, done, err = b.n.publishOps(ctx, "api:"+key, name, ops); len(done) > 0 {
			out.Seq = done[0].Seq
		}
	}
	return out, translate(err)
}

// taskScan is how a query is answered from one index: the entries with a prefix
// whose due time lies in a range.
type taskScan struct {
	index, prefix   string
	fromMS, untilMS int64 // untilMS is 0 for no end
}

// scanOf picks the index that a query narrows down most.
func scanOf(q api.TaskQuery, now time.Time) taskScan {
	s := taskScan{index: dispatch.IndexTaskDue}
	due := q.Overdue || q.DueWithin != 0
	switch {
	case q.Organ != "":
		s.index, s.prefix = dispatch.IndexTaskOrgan, dispatch.IndexPrefix(q.Organ, due)
	case q.Custodian != "":
		s.index, s.prefix = dispatch.IndexTaskCustodian, dispatch.IndexPrefix(string(q.Custodian), due)
	case q.State != "" && !due:
		s.index, s.prefix = dispatch.IndexTaskState, dispatch.IndexPrefix(q.State, false)
	}
	if due {
		s.untilMS = now.Add(q.DueWithin).UnixMilli()
		if !q.Overdue {
			s.fromMS = now.UnixMilli()
		}
	}
	return s
}

// ListTasks implements [api.Tasks]: it reads the entries of one index that lie in
// the asked range, and no others.
func (b backend) ListTasks(_ context.Context, q api.TaskQuery) (api.Page, error) {
	if q.State != "" && !slices.Contains(dispatch.States(), q.State) {
		return api.Page{}, fmt.Errorf("%w: state %.64q: want one of %s", api.ErrInvalid, q.State, strings.Join(dispatch.States(), ", "))
	}
	after, err := parseCursor(q.After)
	if err != nil {
		return api.Page{}, err
	}
	scan := scanOf(q, b.n.opts.Now())
	query := store.IndexQuery{Name: scan.index, Prefix: scan.prefix, After: after, Limit: q.Limit}
	if after == nil && scan.fromMS > 0 {
		query.After = &store.IndexHit{Value: scan.prefix + dispatch.DueValue(scan.fromMS)}
	}
	page := api.Page{Items: []json.RawMessage{}}
	for {
		hits, err := b.n.group.Store().Index(query)
		if err != nil {
			return api.Page{}, err
		}
		for _, h := range hits {
			if scan.untilMS > 0 && dispatch.DueOf(h.Value) >= scan.untilMS {
				page.Next = ""
				return page, nil
			}
			if len(page.Items) == q.Limit {
				return page, nil
			}
			query.After, page.Next = &h, cursor(h)
			if err := b.addTask(&page, q, h.Key); err != nil {
				return api.Page{}, translate(err)
			}
		}
		if len(hits) < q.Limit {
			page.Next = ""
			return page, nil
		}
	}
}

// addTask adds a task to a page if the conditions that its index says nothing of
// hold.
func (b backend) addTask(page *api.Page, q api.TaskQuery, k store.DocKey) error {
	if q.Site != "" && k.Stream.Site != q.Site {
		return nil
	}
	view, err := b.n.views.View(k)
	if err != nil {
		return err
	}
	var v struct {
		State     string       `json:"state"`
		Custodian tiers.SiteID `json:"custodian"`
	}
	if err := json.Unmarshal(view.JSON, &v); err != nil {
		return fmt.Errorf("view of %s: %w", k, err)
	}
	if (q.State == "" || v.State == q.State) && (q.Custodian == "" || v.Custodian == q.Custodian) {
		page.Items = append(page.Items, view.JSON)
	}
	return nil
}
