package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// batchWriters is how many reports of a batch are under way at once: they share log
// entries.
const batchWriters = 64

// ReportBatch implements [api.Events].
func (b backend) ReportBatch(ctx context.Context, r api.BatchRequest) (api.BatchResult, error) {
	out := api.BatchResult{Counts: map[string]int{}, Items: make([]api.ItemOutcome, len(r.Items))}
	at := b.n.opts.Now().UnixMilli() // one time for all, so that lists by time keep their order
	if r.DryRun {
		p := b.n.rehearse()
		for i := range r.Items {
			done, err := p.takeIn(incoming(r, i, at))
			out.Items[i] = itemOutcome(i, done, translate(err))
			out.Counts[out.Items[i].Outcome]++
		}
		return out, nil
	}
	take := func(i int) {
		done, err := b.n.TakeIn(ctx, incoming(r, i, at))
		out.Items[i] = itemOutcome(i, done, translate(err))
	}
	var g errgroup.Group // ends with the batch
	g.SetLimit(batchWriters)
	named, again := map[string]bool{}, []int(nil)
	for i, it := range r.Items {
		if it.ID != "" && named[it.ID] {
			again = append(again, i) // of two reports with one identifier the first has it
			continue
		}
		named[it.ID] = true
		g.Go(func() error {
			take(i)
			return nil
		})
	}
	_ = g.Wait() // each says what became of it
	for _, i := range again {
		take(i)
	}
	for _, it := range out.Items {
		out.Counts[it.Outcome]++
	}
	return out, nil
}

// incoming is a report of a batch.
func incoming(r api.BatchRequest, i int, at int64) Incoming {
	in := Incoming{
		Key: "batch:" + itemKey(r.Key, r.First+i, r.Items[i]), Item: r.Items[i],
		Origin: event.Origin{Batch: r.Key, Row: r.First + i + 1}, AtMS: at, Quarantine: true,
	}
	if r.Places != nil {
		in.Place, in.byContent, in.Key = r.Places[i], in.Key, "batch:"+r.Key+":@"+r.Places[i]
	}
	return in
}

// itemOutcome tells of a report what became of it.
func itemOutcome(i int, done TakenIn, err error) api.ItemOutcome {
	out := api.ItemOutcome{Index: i, Outcome: api.OutcomeDone, ID: done.Doc, Seq: done.Seq, Field: done.Field, Message: done.Held}
	if done.Doc != "" { // nothing is written of a rehearsal
		out.Stream = done.Stream.String()
	}
	switch {
	case err != nil:
		out = api.ItemOutcome{Index: i, Outcome: api.OutcomeUnknown, Field: event.FieldOf(err), Message: err.Error()}
		if errors.Is(err, api.ErrInvalid) || errors.Is(err, api.ErrRejected) {
			out.Outcome = api.OutcomeRejected
		}
	case done.Held != "":
		out.Outcome = api.OutcomeQuarantined
	case done.Again:
		out.Outcome, out.Message = api.OutcomeDuplicate, done.Note
	}
	return out
}

// ListEvents implements [api.Events].
func (b backend) ListEvents(_ context.Context, q api.EventQuery) (api.Page, error) {
	if q.State != "" && !slices.Contains(event.States(), q.State) {
		return api.Page{}, fmt.Errorf("%w: state %.64q: want one of %s", api.ErrInvalid, q.State, strings.Join(event.States(), ", "))
	}
	after, err := parseCursor(q.After)
	if err != nil {
		return api.Page{}, err
	}
	items, next, err := b.n.listEvents(eventQuery{
		after: after, limit: q.Limit, site: q.Site, state: q.State, kind: q.Type, priority: q.Priority, sinceMS: q.SinceMS, untilMS: q.UntilMS,
	})
	page := api.Page{Items: items}
	if next != nil {
		page.Next = cursor(*next)
	}
	return page, translate(err)
}

// eventResult tells where an event stands after a write.
func (b backend) eventResult(w replication.Written, id tiers.DocID, err error) (api.EventResult, error) {
	if err != nil {
		return api.EventResult{}, translate(err)
	}
	k, v, err := b.n.Event(id)
	if err != nil {
		return api.EventResult{}, translate(err)
	}
	return api.EventResult{
		WriteResult: api.WriteResult{ID: id, Stream: k.Stream.String(), Seq: w.Seq}, State: v.State, Priority: v.Report.Priority, Into: v.Into,
	}, nil
}

// ActOnEvent implements [api.Events].
func (b backend) ActOnEvent(ctx context.Context, r api.EventActionRequest) (api.EventResult, error) {
	w, err := b.n.ActOnEvent(ctx, "api:"+r.Key, r.Event, r.Action)
	return b.eventResult(w, r.Event, err)
}

// CorrectEvent implements [api.Events].
func (b backend) CorrectEvent(ctx context.Context, r api.CorrectRequest) (api.EventResult, error) {
	w, err := b.n.CorrectEvent(ctx, "api:"+r.Key, r.Event, r.Fields)
	return b.eventResult(w, r.Event, err)
}

// MergeEvents implements [api.Events].
func (b backend) MergeEvents(ctx context.Context, r api.MergeRequest) (api.EventResult, error) {
	id, err := b.n.MergeEvents(ctx, "api:"+r.Key, r.Event, r.With, r.Note, r.Who)
	return b.eventResult(replication.Written{}, id, err)
}

// UnmergeEvents implements [api.Events].
func (b backend) UnmergeEvents(ctx context.Context, r api.MergeRequest) (api.EventResult, error) {
	w, err := b.n.UnmergeEvents(ctx, "api:"+r.Key, r.Event, r.With, r.Note, r.Who)
	return b.eventResult(w, r.Event, err)
}

// Suspects implements [api.Events].
func (b backend) Suspects(_ context.Context, id tiers.DocID) (api.SuspectList, error) {
	out, err := b.n.Suspects(id)
	return api.SuspectList{Suspects: out}, translate(err)
}

// SuspectPairs implements [api.Events].
func (b backend) SuspectPairs(_ context.Context, q api.SuspectQuery) (api.SuspectPairList, error) {
	pairs, err := b.n.SuspectPairs(q.SinceMS, q.Events)
	out := api.SuspectPairList{Pairs: make([]api.SuspectPair, len(pairs))}
	for i, p := range pairs {
		out.Pairs[i] = api.SuspectPair(p)
	}
	return out, translate(err)
}

// Attach implements [api.Events].
func (b backend) Attach(ctx context.Context, r api.AttachRequest) (api.EventResult, error) {
	w, err := b.n.Attach(ctx, "api:"+r.Key, r.Event, r.Attachment, r.Who)
	return b.eventResult(w, r.Event, err)
}

// Attachments implements [api.Events].
func (b backend) Attachments(_ context.Context, id tiers.DocID) (api.AttachmentList, error) {
	_, v, err := b.n.Event(id)
	out := api.AttachmentList{Attachments: []api.AttachmentState{}}
	for _, a := range v.Attachments {
		s := api.AttachmentState{Attachment: a}
		if s.PartsHere, s.Comes, err = b.n.Arrived(a); err != nil {
			break
		}
		out.Attachments = append(out.Attachments, s)
	}
	return out, translate(err)
}

// PutBlob implements [api.Events].
func (b backend) PutBlob(ctx context.Context, data []byte) (api.BlobResult, error) {
	id, err := b.n.PutBlob(ctx, data)
	return api.BlobResult{ID: id}, translate(err)
}

// Blob implements [api.Events].
func (b backend) Blob(_ context.Context, id tiers.DocID) ([]byte, error) {
	out, err := b.n.Blob(id)
	return out, translate(err)
}

// ListQuarantine implements [api.Events].
func (b backend) ListQuarantine(_ context.Context, q api.QuarantineQuery) (api.Page, error) {
	page := api.Page{Items: []json.RawMessage{}}
	next, err := b.n.eachHeld(q, func(d heldDocument) (bool, error) {
		v, err := b.n.views.View(d.hit.Key)
		page.Items = append(page.Items, v.JSON)
		return len(page.Items) == q.Limit, err
	})
	if next != nil {
		page.Next = cursor(*next)
	}
	return page, translate(err)
}

// Quarantined implements [api.Events].
func (b backend) Quarantined(_ context.Context, id tiers.DocID) (json.RawMessage, error) {
	k, _, err := b.n.Quarantined(id)
	if err != nil {
		return nil, translate(err)
	}
	v, err := b.n.views.View(k)
	return v.JSON, translate(err)
}

// Release implements [api.Events].
func (b backend) Release(ctx context.Context, r api.ReleaseRequest) (api.WriteResult, error) {
	w, err := b.n.Release(ctx, "api:"+r.Key, r.ID, r.Set, r.Who)
	return api.WriteResult{ID: w.Doc, Stream: w.Stream.String(), Seq: w.Seq}, translate(err)
}

// Discard implements [api.Events].
func (b backend) Discard(ctx context.Context, r api.DiscardRequest) (api.WriteResult, error) {
	w, err := b.n.Discard(ctx, "api:"+r.Key, r.ID, r.Reason, r.Who)
	return api.WriteResult{ID: w.Doc, Stream: w.Stream.String(), Seq: w.Seq}, translate(err)
}
