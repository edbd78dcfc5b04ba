package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/review"
)

// Reviews is the part of a node that tells what a site knew, and when.
type Reviews interface {
	// Review tells what a site knew at a time.
	Review(ctx context.Context, q ReviewQuery) (Review, error)
	// Timeline tells what was done about an event, and when each site learnt of it.
	Timeline(ctx context.Context, name string) (Timeline, error)
}

// How much can be told of what a site knew.
const (
	// BasisExact is of the site that tells it, to within a second.
	BasisExact = "exact"
	// BasisAtLeast is of another site: what it had written, and what that builds on.
	BasisAtLeast = "at_least"
)

// ReviewQuery selects a review.
type ReviewQuery struct {
	// Site is whose knowledge; empty means this one's.
	Site tiers.SiteID
	// AtMS is the time, in Unix milliseconds; zero means the present.
	AtMS int64
	// Kind restricts to documents of a kind, Doc to one of that name; empty for all.
	Kind, Doc string
	// Limit bounds the documents that are shown, 0 to 1,000.
	Limit int
	// After is the Next of the page before; empty for the first.
	After string
}

// Review is what a site knew at a time.
type Review struct {
	// Site is whose knowledge, By who tells it.
	Site  tiers.SiteID `json:"site"`
	By    tiers.SiteID `json:"by"`
	AtMS  int64        `json:"at_ms"`
	Basis string       `json:"basis"`
	// Held are the records that the site held then, Now those that it holds now;
	// Unsure are those of which nobody noted when they came in. They are of the site
	// that tells it, and missing for another one.
	Held   uint64 `json:"held_records,omitempty"`
	Now    uint64 `json:"now_records,omitempty"`
	Unsure uint64 `json:"unsure_records,omitempty"`
	// Authors are, of each site of which there are records, how many of them were
	// held then.
	Authors []AuthorHeld `json:"authors,omitempty"`
	// Kinds counts documents from where this page began; Counted says that it went
	// through to the end.
	Kinds     []KindKnown      `json:"kinds"`
	Counted   bool             `json:"counted"`
	Documents []ReviewDocument `json:"documents"`
	// Next continues behind this page; empty at the end.
	Next string `json:"next,omitempty"`
}

// AuthorHeld is how much of one site's records was held.
type AuthorHeld struct {
	Site   tiers.SiteID `json:"site"`
	Then   uint64       `json:"then"`
	Now    uint64       `json:"now"`
	Unsure uint64       `json:"unsure,omitempty"`
}

// KindKnown counts the documents of one kind.
type KindKnown struct {
	Kind string `json:"kind"`
	// Known were known, Changed are those of them that look different now; Later were
	// not known.
	Known   int `json:"known"`
	Changed int `json:"changed"`
	Later   int `json:"later"`
}

// ReviewDocument is a document as a site knew it.
type ReviewDocument struct {
	ID     tiers.DocID `json:"id"`
	Stream string      `json:"stream"`
	// Changes of Of changes were known; Waiting are those that had come in, without
	// what they build on. Unsure are those of which nobody noted when.
	Changes int `json:"changes"`
	Of      int `json:"of"`
	Waiting int `json:"waiting,omitempty"`
	Unsure  int `json:"unsure,omitempty"`
	// View is what it looked like, Fault why it has none.
	View  json.RawMessage `json:"view,omitempty"`
	Fault string          `json:"fault,omitempty"`
}

// Timeline is what was done about an event, as one site tells it.
type Timeline struct {
	By   tiers.SiteID `json:"by"`
	AtMS int64        `json:"at_ms"`
	review.Timeline
}

// timeMaxMS is the end of the times that may be asked for: that of the year 2199.
var timeMaxMS = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// CheckReviewTime refuses times that no site can have known anything at. The error
// wraps [ErrInvalid].
func CheckReviewTime(ms, nowMS int64) error {
	if ms < 0 || ms >= timeMaxMS {
		return fmt.Errorf("%w: at %s: want from 1970-01-01 to the present", ErrInvalid, time.UnixMilli(ms).UTC().Format(time.RFC3339))
	}
	if ms > nowMS {
		return fmt.Errorf("%w: at %s is in the future: want from 1970-01-01 to %s", ErrInvalid,
			time.UnixMilli(ms).UTC().Format(time.RFC3339), time.UnixMilli(nowMS).UTC().Format(time.RFC3339))
	}
	return nil
}

func (s *Server) reviewRoutes(mux *http.ServeMux) {
	mux.Handle("GET /v1/review", s.handle(s.review))
	mux.Handle("GET /v1/review/events/{name}", s.handle(func(r *http.Request) (any, error) {
		return s.cfg.Backend.Timeline(r.Context(), r.PathValue("name"))
	}))
}

func (s *Server) review(r *http.Request) (any, error) {
	q := ReviewQuery{Limit: limitDefault}
	err := eachParameter(r, map[string]func(string) error{
		"site":  func(v string) error { q.Site = tiers.SiteID(v); return nil },
		"after": func(v string) error { q.After = v; return nil },
		"doc":   func(v string) error { q.Doc = v; return nil },
		"kind": func(v string) error {
			if q.Kind = v; !slices.Contains(kinds, v) {
				return fmt.Errorf("%w: kind %.40q: want one of %v", ErrInvalid, v, kinds)
			}
			return nil
		},
		"at_ms": func(v string) (err error) {
			if q.AtMS, err = strconv.ParseInt(v, 10, 64); err != nil {
				err = fmt.Errorf("%w: at_ms %.40q: want Unix milliseconds", ErrInvalid, v)
			}
			return err
		},
		"limit": func(v string) (err error) {
			if q.Limit, err = strconv.Atoi(v); err != nil || q.Limit < 0 || q.Limit > limitMax {
				return fmt.Errorf("%w: limit %.40q: want 0 to %d", ErrInvalid, v, limitMax)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	if q.Doc != "" && q.Kind == "" {
		return nil, fmt.Errorf("%w: doc %.40q without kind: want both", ErrInvalid, q.Doc)
	}
	return s.cfg.Backend.Review(r.Context(), q)
}
