package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// IssueOrder implements [api.Commands].
func (b backend) IssueOrder(ctx context.Context, r api.OrderRequest) (api.OrderResult, error) {
	w, o, err := b.n.IssueOrder(ctx, "api:"+r.Key, command.Brief{Title: r.Title, Text: r.Text, Who: r.Who, To: r.To, DeadlineMS: r.DeadlineMS})
	return api.OrderResult{WriteResult: api.WriteResult{ID: w.Doc, Stream: w.Stream.String(), Seq: w.Seq}, Targets: o.Targets}, translate(err)
}

// StepOrder implements [api.Commands].
func (b backend) StepOrder(ctx context.Context, r api.OrderStepRequest) (api.OrderStepResult, error) {
	w, err := b.n.StepOrder(ctx, "api:"+r.Key, r.Order, command.Step{
		Kind: r.Step.Kind, Who: r.Step.Who, Note: r.Step.Note, Reason: r.Step.Reason, Evidence: r.Step.Evidence,
	})
	if err != nil {
		return api.OrderStepResult{}, translate(err)
	}
	out := api.OrderStepResult{WriteResult: api.WriteResult{ID: w.Doc, Stream: w.Stream.String(), Seq: w.Seq}, Next: []string{}}
	k := store.DocKey{Stream: w.Stream, Doc: w.Doc}
	if w.Doc.Kind() == command.KindOrder {
		var v command.OrderView
		err = b.n.read(k, &v)
		if out.State = "sent"; v.CancelledMS != 0 {
			out.State = command.StateCancelled
		} else {
			out.Next = []string{command.StepCancel, command.StepRemind}
		}
		return out, translate(err)
	}
	var v command.ReceiptView
	err = b.n.read(k, &v)
	out.State, out.Next = v.State, v.Next(b.n.creds.ID.Site)
	return out, translate(err)
}

// orderCounts counts the receipts of an order by state, from the index alone.
func (n *Node) orderCounts(order tiers.DocID, targets int) (api.OrderCounts, error) {
	prefix := command.IndexPrefix(order.Name())
	hits, err := n.group.Store().Index(store.IndexQuery{Name: command.IndexReceiptOrder, Prefix: prefix})
	c := api.OrderCounts{Targets: max(targets, len(hits)), Sent: len(hits)}
	for _, h := range hits {
		state, _, _ := strings.Cut(strings.TrimPrefix(h.Value, prefix), command.IndexPrefix(""))
		countState(&c, state)
	}
	return c, err
}

// countState counts a target: who executed an order has acknowledged it.
func countState(c *api.OrderCounts, state string) {
	switch state {
	case command.StateExecuted:
		c.Executed++
		c.Acknowledged++
		c.Delivered++
	case command.StateAcknowledged:
		c.Acknowledged++
		c.Delivered++
	case command.StateDelivered:
		c.Delivered++
	case command.StateRefused:
		c.Refused++
		c.Delivered++
	case command.StateCancelled:
		c.Cancelled++
	}
}

// ListOrders implements [api.Commands].
func (b backend) ListOrders(_ context.Context, q api.ListQuery) (api.OrdersPage, error) {
	page := api.OrdersPage{Items: []api.OrderRow{}}
	next, err := b.eachHit(store.IndexQuery{Name: command.KindOrder, Descending: true}, q, func(h store.IndexHit) (bool, error) {
		if q.Site != "" && h.Key.Stream.Site != q.Site {
			return false, nil
		}
		var v command.OrderView
		if err := b.n.read(h.Key, &v); err != nil {
			return false, err
		}
		c, err := b.n.orderCounts(v.ID, len(v.Order.Targets))
		page.Items = append(page.Items, api.OrderRow{ID: v.ID, Site: v.Site, Brief: v.Order.Brief, CancelledMS: v.CancelledMS, Counts: c})
		return true, err
	})
	page.Next = next
	return page, translate(err)
}

// eachHit calls f with the entries of an index behind a page, until f has taken as
// many as the page holds, and returns where it ended; empty at the end.
func (b backend) eachHit(query store.IndexQuery, q api.ListQuery, f func(store.IndexHit) (bool, error)) (next string, err error) {
	if query.After, err = parseCursor(q.After); err != nil {
		return "", err
	}
	query.Limit = q.Limit
	for taken := 0; ; {
		hits, err := b.n.group.Store().Index(query)
		if err != nil {
			return "", err
		}
		for _, h := range hits {
			if taken == q.Limit {
				return next, nil
			}
			query.After, next = &h, cursor(h)
			took, err := f(h)
			if err != nil && !isNotFound(err) {
				return "", err
			}
			if took {
				taken++
			}
		}
		if len(hits) < q.Limit {
			return "", nil
		}
	}
}

// ListReceipts implements [api.Commands]: it reads the index that the query narrows
// down most.
func (b backend) ListReceipts(_ context.Context, q api.ReceiptQuery) (api.ReceiptsPage, error) {
	page := api.ReceiptsPage{Items: []api.TargetRow{}}
	if q.State != "" && !slices.Contains(command.States(), q.State) {
		return page, fmt.Errorf("%w: state %.64q: want one of %s", api.ErrInvalid, q.State, strings.Join(command.States(), ", "))
	}
	query := store.IndexQuery{Name: command.KindReceipt, Descending: true}
	now := b.n.opts.Now()
	switch {
	case q.Undelivered:
		query = store.IndexQuery{Name: command.IndexReceiptUndelivered}
	case q.Overdue:
		query = store.IndexQuery{Name: command.IndexReceiptDue}
	case q.State != "":
		query = store.IndexQuery{Name: command.IndexReceiptState, Prefix: command.IndexPrefix(q.State)}
	case q.Site != "":
		query = store.IndexQuery{Name: command.IndexReceiptTarget, Prefix: command.IndexPrefix(string(q.Site)), Descending: true}
	}
	hops, err := b.n.hops(now)
	if err != nil {
		return page, translate(err)
	}
	until := command.TimeValue(now.UnixMilli())
	page.Next, err = b.eachHit(query, q.ListQuery, func(h store.IndexHit) (bool, error) {
		if q.Site != "" && h.Key.Stream.Site != q.Site || query.Name == command.IndexReceiptDue && h.Value >= until {
			return false, nil
		}
		row, err := hops.row(h.Key)
		if err != nil || q.State != "" && row.State != q.State || q.Overdue && !row.Overdue {
			return false, err
		}
		page.Items = append(page.Items, row)
		return true, nil
	})
	return page, translate(err)
}

// hops shows receipts with how their targets are reached from here.
type hops struct {
	n        *Node
	t        *tiers.Topology
	nowMS    int64
	contacts map[tiers.SiteID]command.Contact
}

func (n *Node) hops(now time.Time) (hops, error) {
	c, err := n.lastHeard(now)
	return hops{n, n.Topology(), now.UnixMilli(), c}, err
}

// row shows one receipt.
func (h hops) row(k store.DocKey) (out api.TargetRow, err error) {
	if err := h.n.read(k, &out.ReceiptView); err != nil {
		return out, err
	}
	h.complete(&out)
	return out, nil
}

// complete adds to a row what its record does not say.
func (h hops) complete(out *api.TargetRow) {
	self := h.n.creds.ID.Site
	site, ok := h.t.Site(out.Site)
	out.Name = site.Name
	if out.State == command.StateIssued {
		out.AgeMS = max(h.nowMS-out.Brief.IssuedAtMS, 1)
	}
	out.Overdue = out.Open() && out.Brief.DeadlineMS != 0 && h.nowMS >= out.Brief.DeadlineMS
	switch {
	case !ok || site.Retired:
		out.Change = "retired"
	case out.Site != out.Brief.Issuer && !h.t.IsAncestor(out.Brief.Issuer, out.Site):
		out.Change = "moved to " + string(site.Parent)
	}
	if out.State != command.StateIssued || !h.t.IsAncestor(self, out.Site) {
		return
	}
	// The next site on the way down, or the target where it has a link to here.
	out.Hop = out.Site
	for _, up := range h.t.Ancestors(out.Site) {
		if h.contacts[out.Hop].Live || up == self {
			break
		}
		out.Hop = up
	}
	out.HopContactMS = h.contacts[out.Hop].AtMS
}

// Order implements [api.Commands].
func (b backend) Order(_ context.Context, name string) (out api.OrderDetail, err error) {
	n := b.n
	order := tiers.NewDocID(command.KindOrder, orderName(name))
	if err := order.Validate(); err != nil {
		return out, translate(err)
	}
	h, err := n.hops(n.opts.Now())
	if err != nil {
		return out, translate(err)
	}
	out = api.OrderDetail{ID: order, Steps: []command.Step{}, Targets: []api.TargetRow{}}
	k, err := n.commandNamed(order)
	if isNotFound(err) {
		return out, translate(n.heldReceipts(h, order, &out, err))
	}
	var v command.OrderView
	if err == nil {
		err = n.read(k, &v)
	}
	if err != nil {
		return out, translate(err)
	}
	out.Brief, out.CancelledMS, out.Steps = v.Order.Brief, v.CancelledMS, v.Steps
	for _, site := range v.Order.Targets {
		row, err := h.row(docKey(site, tiers.ClassCommand, command.ReceiptID(order, site)))
		if isNotFound(err) { // it has not gone out to it
			row.ReceiptView = command.ReceiptView{Site: site, State: command.StateIssued, Brief: v.Order.Brief, Steps: []command.Step{}}
			h.complete(&row)
			err = nil
		} else if err == nil {
			out.Counts.Sent++
		}
		if err != nil {
			return out, translate(err)
		}
		out.Targets = append(out.Targets, row)
	}
	countTargets(&out)
	h.added(&out, &v)
	return out, nil
}

// heldReceipts shows an order that this site holds for some targets only.
func (n *Node) heldReceipts(h hops, order tiers.DocID, out *api.OrderDetail, missing error) error {
	hits, err := n.group.Store().Index(store.IndexQuery{Name: command.IndexReceiptOrder, Prefix: command.IndexPrefix(order.Name())})
	if err != nil {
		return err
	}
	for _, hit := range hits {
		row, err := h.row(hit.Key)
		if err != nil {
			return err
		}
		out.Brief = row.Brief
		out.Targets = append(out.Targets, row)
	}
	if len(out.Targets) == 0 {
		return missing
	}
	slices.SortFunc(out.Targets, func(a, b api.TargetRow) int { return strings.Compare(string(a.Site), string(b.Site)) })
	out.Counts.Sent = len(out.Targets)
	countTargets(out)
	return nil
}

func countTargets(out *api.OrderDetail) {
	out.Counts.Targets = len(out.Targets)
	for _, t := range out.Targets {
		countState(&out.Counts, t.State)
	}
}

// added shows the sites that the order's address means now and did not then.
func (h hops) added(out *api.OrderDetail, v *command.OrderView) {
	now, err := command.Select(h.t, v.Order.Issuer, v.Order.To)
	if err != nil { // what it meant is gone
		return
	}
	for _, site := range now {
		if slices.Contains(v.Order.Targets, site) {
			continue
		}
		s, _ := h.t.Site(site)
		row := api.TargetRow{Name: s.Name, Change: "added since"}
		row.ReceiptView = command.ReceiptView{Site: site, State: command.StateIssued, Brief: v.Order.Brief, Steps: []command.Step{}}
		out.Targets = append(out.Targets, row)
	}
}
