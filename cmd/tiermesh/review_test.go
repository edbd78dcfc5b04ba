package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
)

// fakeReview answers as a node that holds so many documents, of which every third is a
// task, and that looks at most at so many for one answer.
func fakeReview(holds, most int) func(api.ReviewQuery) (api.Review, error) {
	return func(q api.ReviewQuery) (api.Review, error) {
		if q.Limit < 0 || q.Limit > reviewPage {
			return api.Review{}, fmt.Errorf("limit %d", q.Limit)
		}
		from, _ := strconv.Atoi(q.After)
		out := api.Review{AtMS: 7, By: "500101"}
		counts := map[string]int{}
		at, full := from, false
		for ; at < holds && at < from+most; at++ {
			kind := []string{"event", "event", "task"}[at%3]
			counts[kind]++
			if len(out.Documents) == q.Limit {
				if !full && q.Limit > 0 {
					out.Next = strconv.Itoa(at)
				}
				full = true
				continue
			}
			out.Documents = append(out.Documents, api.ReviewDocument{ID: tiers.DocID(fmt.Sprintf("%s:%d", kind, at))})
		}
		for kind, n := range counts {
			out.Kinds = append(out.Kinds, api.KindKnown{Kind: kind, Known: n, Changed: 1, Later: 1})
		}
		out.Counted = at == holds
		if !out.Counted && (!full || q.Limit == 0) {
			out.Next = strconv.Itoa(at)
		}
		return out, nil
	}
}

// TestWholeReview: however few documents one answer looks at, all are counted, and as
// many are shown as are wanted, each once and in order.
func TestWholeReview(t *testing.T) {
	for _, row := range []struct{ holds, most, want int }{
		{0, 20, 50}, {12, 20, 50}, {12, 20, 0}, {12, 20, math.MaxInt}, {12_500, 20_000, 50},
		{12_500, 7_880, 0}, {12_500, 7_880, 50}, {12_500, 700, 3_000}, {12_500, 7_880, math.MaxInt}, {12_500, 500, math.MaxInt},
	} {
		r, err := wholeReview(api.ReviewQuery{Limit: row.want}, fakeReview(row.holds, row.most))
		if err != nil {
			t.Fatalf("%+v: %v", row, err)
		}
		all := 0
		for _, k := range r.Kinds {
			all += k.Known
		}
		if all != row.holds || !r.Counted {
			t.Errorf("%+v: %d counted, to the end is %v", row, all, r.Counted)
		}
		shown := min(row.want, row.holds)
		if len(r.Documents) != shown {
			t.Errorf("%+v: %d shown", row, len(r.Documents))
		}
		for i, d := range r.Documents {
			if want := fmt.Sprintf("%s:%d", []string{"event", "event", "task"}[i%3], i); string(d.ID) != want {
				t.Fatalf("%+v: document %d is %s, want %s", row, i, d.ID, want)
			}
		}
		if more := r.Next != ""; row.want > 0 && more != (shown < row.holds) {
			t.Errorf("%+v: there is more is %v", row, more)
		}
	}
	behind, err := wholeReview(api.ReviewQuery{Limit: 5, After: "10"}, fakeReview(100, 20))
	if err != nil || len(behind.Documents) != 5 || behind.Documents[0].ID != "event:10" || behind.Counted {
		t.Errorf("behind a page: %+v, %v", behind, err)
	}
	lost := errors.New("lost")
	n := 0
	if _, err := wholeReview(api.ReviewQuery{}, func(q api.ReviewQuery) (api.Review, error) {
		if n++; n > 2 {
			return api.Review{}, lost
		}
		return fakeReview(100, 20)(q)
	}); !errors.Is(err, lost) {
		t.Errorf("a node that goes away meanwhile: %v", err)
	}
}
