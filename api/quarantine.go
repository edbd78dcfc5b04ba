package api

import (
	"fmt"
	"net/http"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// QuarantineFilter selects what is held; conditions that are empty match everything.
type QuarantineFilter struct {
	// Reason is part of the reason, or the field that it is about.
	Reason string `json:"reason,omitempty"`
	// Type is the report's type code.
	Type string `json:"type,omitempty"`
	// File is the key of the batch that it came in: an import prints it.
	File string `json:"file,omitempty"`
}

// QuarantineQuery selects what is held; an empty state means held.
type QuarantineQuery struct {
	ListQuery
	State string
	QuarantineFilter
}

// SummaryMax bounds the reasons, types and files that a summary tells apart.
const SummaryMax = 200

// QuarantineSummary counts what is held.
type QuarantineSummary struct {
	Count int `json:"count"`
	// Reasons are the kinds of reasons, without the values in them, Types the types and
	// Files the batches; each up to [SummaryMax].
	Reasons []QuarantineCount `json:"reasons"`
	Types   []QuarantineCount `json:"types"`
	Files   []QuarantineCount `json:"files"`
	// Next goes on where this ended: one answer counts no more than so many.
	Next string `json:"next,omitempty"`
}

// QuarantineCount is how many have something in common, and one of them.
type QuarantineCount struct {
	Text    string      `json:"text"`
	Count   int         `json:"count"`
	Example tiers.DocID `json:"example"`
}

// ManyRequest decides on all that is held at this site and a filter selects, a page at
// a time: After is the Next of the page before.
type ManyRequest struct {
	Key    string           `json:"key"`
	Filter QuarantineFilter `json:"filter"`
	// All says that an empty filter is meant.
	All bool `json:"all,omitempty"`
	// Set are fields of the reports that are set, or left out where empty, of a release;
	// Reason is why they are no events, of a discard.
	Set    map[string]string `json:"set,omitempty"`
	Reason string            `json:"reason,omitempty"`
	Who    string            `json:"who,omitempty"`
	// DryRun only says what would become of them.
	DryRun bool   `json:"dry_run,omitempty"`
	After  string `json:"after,omitempty"`
	// Limit is the page size, 1 to 1,000; zero means 200.
	Limit int `json:"limit,omitempty"`
}

// The outcomes of one of many, besides [OutcomeUnknown].
const (
	ManyDone    = "done"
	ManyInvalid = "invalid"
	ManyDecided = "decided"
)

// ManyItem says what became of one of many.
type ManyItem struct {
	ID tiers.DocID `json:"id"`
	// Outcome is done, invalid (it is no event yet, and stays held), decided (somebody
	// else was first), or unknown: then the same request may be made again.
	Outcome string      `json:"outcome"`
	Event   tiers.DocID `json:"event,omitempty"`
	Message string      `json:"message,omitempty"`
}

// ManyResult says what became of a page: Done, Invalid, Decided and Unknown add up to
// its items.
type ManyResult struct {
	Done    int        `json:"done"`
	Invalid int        `json:"invalid"`
	Decided int        `json:"decided"`
	Unknown int        `json:"unknown"`
	Items   []ManyItem `json:"items"`
	// Next continues behind this page; empty at the end.
	Next string `json:"next,omitempty"`
}

func (s *Server) quarantineRoutes(mux *http.ServeMux) {
	b := s.cfg.Backend
	mux.Handle("GET /v1/quarantine", s.handle(s.listQuarantine))
	mux.Handle("GET /v1/quarantine:summary", s.handle(func(r *http.Request) (any, error) {
		q, err := quarantineQuery(r)
		if err != nil {
			return nil, err
		}
		return b.SummarizeQuarantine(r.Context(), q)
	}))
	mux.Handle("POST /v1/quarantine:release", s.handle(func(r *http.Request) (any, error) {
		req, err := many(r)
		if err != nil {
			return nil, err
		}
		return b.ReleaseMany(r.Context(), req)
	}))
	mux.Handle("POST /v1/quarantine:discard", s.handle(func(r *http.Request) (any, error) {
		req, err := many(r)
		if err != nil {
			return nil, err
		}
		return b.DiscardMany(r.Context(), req)
	}))
	mux.Handle("GET /v1/quarantine/{name}", s.handle(func(r *http.Request) (any, error) {
		return b.Quarantined(r.Context(), named(event.KindQuarantine, r))
	}))
	mux.Handle("POST /v1/quarantine/{name}/release", s.handle(func(r *http.Request) (any, error) {
		req := ReleaseRequest{ID: named(event.KindQuarantine, r)}
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return b.Release(r.Context(), req)
	}))
	mux.Handle("POST /v1/quarantine/{name}/discard", s.handle(func(r *http.Request) (any, error) {
		req := DiscardRequest{ID: named(event.KindQuarantine, r)}
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return b.Discard(r.Context(), req)
	}))
}

// many reads a request that decides on many.
func many(r *http.Request) (ManyRequest, error) {
	var req ManyRequest
	if err := keyed(r, &req, &req.Key); err != nil {
		return req, err
	}
	if req.Limit == 0 {
		req.Limit = manyDefault
	}
	if req.Limit < 1 || req.Limit > limitMax {
		return req, fmt.Errorf("%w: limit %d: want 1 to %d", ErrInvalid, req.Limit, limitMax)
	}
	if empty := req.Filter == (QuarantineFilter{}); empty != req.All {
		return req, fmt.Errorf("%w: filter: say which by reason, type or file, or all of them by \"all\"", ErrInvalid)
	}
	return req, nil
}

// manyDefault is how many are decided on at once.
const manyDefault = 200

func quarantineQuery(r *http.Request) (QuarantineQuery, error) {
	q := QuarantineQuery{ListQuery: ListQuery{Kind: event.KindQuarantine, Limit: limitDefault}, State: event.QuarantineHeld}
	for name, values := range r.URL.Query() {
		var err error
		switch v := values[0]; name {
		case "limit", "site", "after", "read":
			err = page(&q.ListQuery, name, v)
		case "state":
			if q.State = v; v != event.QuarantineHeld && v != event.QuarantineReleased && v != event.QuarantineDiscarded {
				err = fmt.Errorf("%w: state %.40q: want held, released or discarded", ErrInvalid, v)
			}
		case "reason":
			q.Reason = v
		case "type":
			q.Type = v
		case "file":
			q.File = v
		default:
			err = fmt.Errorf("%w: unknown parameter %q: want limit, site, after, state, reason, type or file", ErrInvalid, name)
		}
		if err != nil {
			return q, err
		}
	}
	return q, nil
}

func (s *Server) listQuarantine(r *http.Request) (any, error) {
	q, err := quarantineQuery(r)
	if err != nil {
		return nil, err
	}
	return s.cfg.Backend.ListQuarantine(r.Context(), q)
}
