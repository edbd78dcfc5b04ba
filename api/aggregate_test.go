package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/aggregate"
	"github.com/tiermesh/tiermesh/tiers/review"
)

func (b *backend) Overview(_ context.Context, q api.OverviewQuery) (api.Overview, error) {
	return api.Overview{Area: q.Area, By: q.By, Behind: uint64(q.Within / time.Second)}, b.err
}

func (b *backend) RollUp(_ context.Context, q api.RollUpQuery) (api.RollUp, error) {
	return api.RollUp{Area: q.Area, Code: q.Code, Series: int(q.Within / time.Second)}, b.err
}

func (b *backend) Review(_ context.Context, q api.ReviewQuery) (api.Review, error) {
	return api.Review{Site: q.Site, AtMS: q.AtMS, Next: q.After, Basis: q.Kind + " " + q.Doc, Held: uint64(q.Limit)}, b.err
}

func (b *backend) Timeline(_ context.Context, name string) (api.Timeline, error) {
	return api.Timeline{Timeline: review.Timeline{Event: tiers.DocID(name)}}, b.err
}

// TestAggregateRoutes: requests reach the backend as they are meant, and what breaks
// a rule is refused with what is allowed.
func TestAggregateRoutes(t *testing.T) {
	c, path := serve(t, &backend{})
	ctx := context.Background()
	if o, err := c.Overview(ctx, api.OverviewQuery{Area: "500101", By: api.ByTrack, Within: 7 * time.Second}); err != nil || o.Area != "500101" || o.By != "track" || o.Behind != 7 {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := c.Overview(ctx, api.OverviewQuery{}); err != nil || o.By != "area" || o.Behind != 3600 {
		t.Errorf("%+v, %v", o, err)
	}
	if r, err := c.RollUp(ctx, api.RollUpQuery{Area: "500101", Code: "on_time"}); err != nil || r.Area != "500101" || r.Code != "on_time" || r.Series != 3600 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.Review(ctx, api.ReviewQuery{Site: "500101", AtMS: 5, Kind: "task", Doc: "x", After: "n", Limit: 7}); err != nil ||
		r.Site != "500101" || r.AtMS != 5 || r.Basis != "task x" || r.Next != "n" || r.Held != 7 {
		t.Errorf("%+v, %v", r, err)
	}
	if l, err := c.Timeline(ctx, "event:x"); err != nil || l.Event != "event:x" {
		t.Errorf("%+v, %v", l, err)
	}
	for _, row := range []struct{ target, want string }{
		{"/v1/aggregates/overview?by=colour", "want area, site, track, type, state"},
		{"/v1/aggregates/overview?within_s=0", "want 1 to 31622400"},
		{"/v1/aggregates/overview?within_s=soon", "want 1 to 31622400"},
		{"/v1/aggregates/overview?colour=red", "want area, by, within_s"},
		{"/v1/aggregates/indicators/x?by=area", "want area, within_s"},
		{"/v1/review?at_ms=noon", "want Unix milliseconds"},
		{"/v1/review?at_ms=5&kind=colour", "want one of"},
		{"/v1/review?at_ms=5&doc=x", "without kind"},
		{"/v1/review?at_ms=5&limit=1001", "want 0 to 1000"},
		{"/v1/review?at_ms=5&when=now", "unknown parameter"},
	} {
		if status, body := raw(t, path, "GET", row.target, ""); status != http.StatusBadRequest || !strings.Contains(body, row.want) {
			t.Errorf("%s: %d %s", row.target, status, body)
		}
	}
}

// TestReviewTime: only times at which a site can have known something.
func TestReviewTime(t *testing.T) {
	const now = 1_800_000_000_000
	for ms, want := range map[int64]string{0: "", now: "", now + 1: "future", -1: "1970", 253_370_764_800_000: "1970"} {
		err := api.CheckReviewTime(ms, now)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%d: %v", ms, err)
		}
	}
}

// TestAggregateSchemas: the document describes every field.
func TestAggregateSchemas(t *testing.T) {
	described(t, map[string]any{
		"Coverage": aggregate.Coverage{OldestMS: 1, Missing: []aggregate.Missing{{}}}, "Missing": aggregate.Missing{KnownMS: 1},
		"Numbers": api.Numbers{}, "OverviewRow": api.OverviewRow{Name: "x", Coverage: &aggregate.Coverage{}},
		"Overview": api.Overview{Behind: 1, Recounting: true, Elsewhere: 1}, "RollUp": api.RollUp{Unit: "x", Values: api.Values{OldestMS: 1}},
		"AuthorHeld": api.AuthorHeld{Unsure: 1}, "KindKnown": api.KindKnown{},
		"ReviewDocument": api.ReviewDocument{Waiting: 1, Unsure: 1, View: []byte("{}"), Fault: "x"},
		"Review":         api.Review{Held: 1, Now: 1, Unsure: 1, Authors: []api.AuthorHeld{{}}, Next: "x"},
		"Learnt":         review.Learnt{AtMS: 1}, "Step": review.Step{Note: "x"}, "Timeline": api.Timeline{Timeline: review.Timeline{Title: "x"}},
	})
}
