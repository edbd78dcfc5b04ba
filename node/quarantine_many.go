package node

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// Bounds of a look at the quarantine.
const (
	// heldLookedAt is how many documents one request looks at, heldPage how many of them
	// at once.
	heldLookedAt = 20_000
	heldPage     = 256
)

// heldDocument is something in quarantine.
type heldDocument struct {
	hit  store.IndexHit
	view event.QuarantineView
}

// eachHeld calls f with what a query selects, oldest first, until f has enough. It looks
// at no more than so many: next says where to go on, nil that this is the end.
func (n *Node) eachHeld(q api.QuarantineQuery, f func(heldDocument) (enough bool, err error)) (next *store.IndexHit, err error) {
	after, err := parseCursor(q.After)
	if err != nil {
		return nil, err
	}
	query := store.IndexQuery{Name: event.IndexQuarantine, Prefix: event.QuarantinePrefix(q.State), After: after, Limit: heldPage}
	if q.File != "" {
		query.Name, query.Prefix = event.IndexOrigin, event.OriginAt(q.File)
	}
	for looked := 0; looked < heldLookedAt; {
		hits, err := n.group.Store().Index(query)
		if err != nil {
			return nil, err
		}
		for _, h := range hits {
			looked++
			query.After = &h
			if q.Site != "" && h.Key.Stream.Site != q.Site {
				continue
			}
			d := heldDocument{hit: h}
			if err := n.read(h.Key, &d.view); errors.Is(err, store.ErrNotFound) {
				continue
			} else if err != nil {
				return nil, err
			}
			if d.view.State != q.State || !d.view.Held.Matches(q.Reason, q.Type) {
				continue
			}
			if enough, err := f(d); enough || err != nil {
				return query.After, err
			}
		}
		if len(hits) < query.Limit {
			return nil, nil
		}
	}
	return query.After, nil
}

// SummarizeQuarantine implements [api.Events].
func (b backend) SummarizeQuarantine(_ context.Context, q api.QuarantineQuery) (api.QuarantineSummary, error) {
	out := api.QuarantineSummary{Reasons: []api.QuarantineCount{}, Types: []api.QuarantineCount{}, Files: []api.QuarantineCount{}}
	add := func(to *[]api.QuarantineCount, text string, id tiers.DocID) {
		for i := range *to {
			if (*to)[i].Text == text {
				(*to)[i].Count++
				return
			}
		}
		if len(*to) < api.SummaryMax {
			*to = append(*to, api.QuarantineCount{Text: text, Count: 1, Example: id})
		}
	}
	next, err := b.n.eachHeld(q, func(d heldDocument) (bool, error) {
		out.Count++
		add(&out.Reasons, event.ReasonKind(d.view.Held.Reason), d.view.ID)
		if t := d.view.Held.TypeCode(); t != "" {
			add(&out.Types, t, d.view.ID)
		}
		if o := d.view.Held.Origin; o != nil {
			add(&out.Files, o.Batch, d.view.ID)
		}
		return false, nil
	})
	if next != nil {
		out.Next = cursor(*next)
	}
	return out, translate(err)
}

// manyWriters is how many decisions of one request are under way at once.
const manyWriters = 64

// ReleaseMany implements [api.Events].
func (b backend) ReleaseMany(ctx context.Context, r api.ManyRequest) (api.ManyResult, error) {
	return b.decideMany(r, func(d heldDocument) (tiers.DocID, error) {
		if r.DryRun {
			_, err := b.n.wouldRelease(d.view, r.Set)
			return "", err
		}
		w, err := b.n.Release(ctx, manyKey(r, d), d.view.ID, r.Set, r.Who)
		return w.Doc, err
	})
}

// DiscardMany implements [api.Events].
func (b backend) DiscardMany(ctx context.Context, r api.ManyRequest) (api.ManyResult, error) {
	if tiers.Blank(r.Reason) {
		return api.ManyResult{}, fmt.Errorf("%w: reason is empty: say why they are no events", api.ErrInvalid)
	}
	return b.decideMany(r, func(d heldDocument) (tiers.DocID, error) {
		if r.DryRun {
			return "", nil
		}
		_, err := b.n.Discard(ctx, manyKey(r, d), d.view.ID, r.Reason, r.Who)
		return "", err
	})
}

// manyKey is the idempotency key of one decision of many.
func manyKey(r api.ManyRequest, d heldDocument) string {
	return "many:" + r.Key + ":" + d.view.ID.Name()
}

// decideMany decides on a page of what is held here and a filter selects.
func (b backend) decideMany(r api.ManyRequest, decide func(heldDocument) (tiers.DocID, error)) (api.ManyResult, error) {
	out := api.ManyResult{Items: []api.ManyItem{}}
	q := api.QuarantineQuery{ListQuery: api.ListQuery{Site: b.n.creds.ID.Site, After: r.After}, State: event.QuarantineHeld, QuarantineFilter: r.Filter}
	var page []heldDocument
	next, err := b.n.eachHeld(q, func(d heldDocument) (bool, error) {
		page = append(page, d)
		return len(page) == r.Limit, nil
	})
	if err != nil {
		return out, translate(err)
	}
	out.Items = make([]api.ManyItem, len(page))
	var g errgroup.Group // ends with the page
	g.SetLimit(manyWriters)
	for i, d := range page {
		g.Go(func() error {
			id, err := decide(d)
			out.Items[i] = api.ManyItem{ID: d.view.ID, Outcome: api.ManyDone, Event: id}
			switch err := translate(err); {
			case errors.Is(err, event.ErrNotNow):
				out.Items[i].Outcome, out.Items[i].Message = api.ManyDecided, err.Error()
			case errors.Is(err, api.ErrInvalid):
				out.Items[i].Outcome, out.Items[i].Message = api.ManyInvalid, err.Error()
			case err != nil:
				out.Items[i].Outcome, out.Items[i].Message = api.OutcomeUnknown, err.Error()
			}
			return nil
		})
	}
	_ = g.Wait() // each says what became of it
	for _, it := range out.Items {
		switch it.Outcome {
		case api.ManyDone:
			out.Done++
		case api.ManyDecided:
			out.Decided++
		case api.ManyInvalid:
			out.Invalid++
		default:
			out.Unknown++
		}
	}
	if next != nil {
		out.Next = cursor(*next)
	}
	return out, nil
}
