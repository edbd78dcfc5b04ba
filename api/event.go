package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/instant"
)

// Events is what a node offers about events, besides reporting one.
type Events interface {
	// ReportBatch takes in many reports, each on its own: one that is no event is kept
	// in quarantine.
	ReportBatch(ctx context.Context, r BatchRequest) (BatchResult, error)
	// ListEvents returns a page of events that a query selects, the newest first.
	ListEvents(ctx context.Context, q EventQuery) (Page, error)
	// ActOnEvent makes an action on an event in the site's name.
	ActOnEvent(ctx context.Context, r EventActionRequest) (EventResult, error)
	// CorrectEvent corrects fields of an event's report.
	CorrectEvent(ctx context.Context, r CorrectRequest) (EventResult, error)
	// MergeEvents says that two events are one, UnmergeEvents that they are not.
	MergeEvents(ctx context.Context, r MergeRequest) (EventResult, error)
	UnmergeEvents(ctx context.Context, r MergeRequest) (EventResult, error)
	// Suspects lists what an event may be a duplicate of; SuspectPairs, which recent
	// events may be of which earlier ones.
	Suspects(ctx context.Context, id tiers.DocID) (SuspectList, error)
	SuspectPairs(ctx context.Context, q SuspectQuery) (SuspectPairList, error)
	// Attach attaches a file, whose parts PutBlob took in; Attachments lists them, with
	// how much of them is here; Blob returns a part.
	Attach(ctx context.Context, r AttachRequest) (EventResult, error)
	Attachments(ctx context.Context, id tiers.DocID) (AttachmentList, error)
	PutBlob(ctx context.Context, data []byte) (BlobResult, error)
	Blob(ctx context.Context, id tiers.DocID) ([]byte, error)
	// ListQuarantine lists what is held, Quarantined returns one of it; Release makes
	// an event of it, Discard says why it is none.
	ListQuarantine(ctx context.Context, q QuarantineQuery) (Page, error)
	Quarantined(ctx context.Context, id tiers.DocID) (json.RawMessage, error)
	Release(ctx context.Context, r ReleaseRequest) (WriteResult, error)
	Discard(ctx context.Context, r DiscardRequest) (WriteResult, error)
	// SummarizeQuarantine counts what a query selects. ReleaseMany and DiscardMany decide
	// on a page of what is held here.
	SummarizeQuarantine(ctx context.Context, q QuarantineQuery) (QuarantineSummary, error)
	ReleaseMany(ctx context.Context, r ManyRequest) (ManyResult, error)
	DiscardMany(ctx context.Context, r ManyRequest) (ManyResult, error)
}

// BatchRequest is a batch of reports.
type BatchRequest struct {
	// Key makes a retry of the whole safe: each report's own follows from it, its
	// source key, or else its place, and its bytes.
	Key string
	// First is the place of the first report, when the batch is a part of something
	// longer.
	First int
	// DryRun only says what would become of each, and writes nothing.
	DryRun bool
	// Places are where in a file each report stands, of a client whose key follows from
	// the file's bytes: a report is then the one of its place, whatever it says, and its
	// own key does not follow from its bytes. Nil for none.
	Places []string
	Items  []event.Item
}

// The outcomes of a report of a batch.
const (
	OutcomeDone        = "done"
	OutcomeDuplicate   = "duplicate"
	OutcomeQuarantined = "quarantined"
	OutcomeRejected    = "rejected"
	OutcomeUnknown     = "unknown"
)

// ItemOutcome says what became of a report of a batch.
type ItemOutcome struct {
	// Index is its place in the batch, from 0.
	Index int `json:"index"`
	// Outcome is done, duplicate (it was taken in before), quarantined, rejected, or
	// unknown: then the whole batch may be sent again, with the same key.
	Outcome string      `json:"outcome"`
	ID      tiers.DocID `json:"id,omitempty"`
	Stream  string      `json:"stream,omitempty"`
	Seq     uint64      `json:"seq,omitempty"`
	Field   string      `json:"field,omitempty"`
	Message string      `json:"message,omitempty"`
}

// BatchResult says what became of a batch; Counts is by outcome.
type BatchResult struct {
	Counts map[string]int `json:"counts"`
	Items  []ItemOutcome  `json:"items"`
	// Waits says that they are not on their way up yet, and since when.
	Waits *Waits `json:"waits,omitempty"`
}

// EventQuery selects events; conditions that are empty match everything. A page may
// hold fewer than its limit, even none, and have a next one: it looks at so many
// events and no more.
type EventQuery struct {
	// ListQuery has the page and the site; its Kind is not used.
	ListQuery
	State    string
	Type     string
	Priority int
	// SinceMS and UntilMS bound the time of report, the latter exclusively; 0 for none.
	SinceMS, UntilMS int64
}

// Filtered reports whether there is any condition.
func (q EventQuery) Filtered() bool {
	return q.State != "" || q.Type != "" || q.Priority != 0 || q.SinceMS != 0 || q.UntilMS != 0
}

// EventActionRequest makes an action on an event.
type EventActionRequest struct {
	Key string `json:"key"`
	// Event is the one in the path.
	Event tiers.DocID `json:"-"`
	// Action is what to do: its kind, who, note, organ, evidence and score.
	Action event.Action `json:"action"`
}

// EventResult is where an event stands after a write.
type EventResult struct {
	WriteResult
	State    string `json:"state"`
	Priority int    `json:"priority"`
	// Into is the original that it hangs at; empty for none.
	Into tiers.DocID `json:"into,omitempty"`
}

// CorrectRequest corrects fields of an event's report.
type CorrectRequest struct {
	Key    string            `json:"key"`
	Event  tiers.DocID       `json:"-"`
	Fields map[string]string `json:"fields"`
}

// MergeRequest says that the event in the path and another are one, or are not.
type MergeRequest struct {
	Key   string      `json:"key"`
	Event tiers.DocID `json:"-"`
	// With is the other one; empty, of an unmerge, for the original.
	With tiers.DocID `json:"with"`
	Note string      `json:"note"`
	Who  string      `json:"who"`
}

// SuspectQuery asks for recent events that may be duplicates.
type SuspectQuery struct {
	SinceMS int64
	// Events is how many of the newest events are looked at, 1 to 1,000; zero means 200.
	Events int
}

// SuspectList is what an event may be a duplicate of.
type SuspectList struct {
	Suspects []event.Suspect `json:"suspects"`
}

// SuspectPairList is which events may be duplicates of which.
type SuspectPairList struct {
	Pairs []SuspectPair `json:"pairs"`
}

// SuspectPair is an event with the earlier ones that it may be a duplicate of.
type SuspectPair struct {
	Event    tiers.DocID     `json:"event"`
	Stream   string          `json:"stream"`
	Title    string          `json:"title"`
	Suspects []event.Suspect `json:"suspects"`
}

// AttachRequest attaches a file to the event in the path.
type AttachRequest struct {
	Key        string           `json:"key"`
	Event      tiers.DocID      `json:"-"`
	Attachment event.Attachment `json:"attachment"`
	Who        string           `json:"who"`
}

// AttachmentState is an attachment and how much of it this site holds.
type AttachmentState struct {
	event.Attachment
	PartsHere int `json:"parts_here"`
	// Comes says that what is not here is on its way, or will be: false for what no
	// stream brings to this site.
	Comes bool `json:"comes"`
}

// AttachmentList is what is attached to an event.
type AttachmentList struct {
	Attachments []AttachmentState `json:"attachments"`
}

// BlobResult names a part that was taken in.
type BlobResult struct {
	ID tiers.DocID `json:"id"`
}

// ReleaseRequest makes an event of what is held.
type ReleaseRequest struct {
	Key string      `json:"key"`
	ID  tiers.DocID `json:"-"`
	// Set are fields of the report that are set, or left out where empty.
	Set map[string]string `json:"set"`
	Who string            `json:"who"`
}

// DiscardRequest says why what is held is no event.
type DiscardRequest struct {
	Key    string      `json:"key"`
	ID     tiers.DocID `json:"-"`
	Reason string      `json:"reason"`
	Who    string      `json:"who"`
}

func (s *Server) eventRoutes(mux *http.ServeMux) {
	b := s.cfg.Backend
	mux.Handle("GET /v1/events", s.handle(s.listEvents))
	mux.Handle("POST "+batchPath, s.handleUpTo(event.BatchBytesMax, s.reportBatch))
	mux.Handle("PATCH /v1/events/{name}", s.handle(func(r *http.Request) (any, error) {
		req := CorrectRequest{Event: named(event.Kind, r)}
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return b.CorrectEvent(r.Context(), req)
	}))
	mux.Handle("POST /v1/events/{name}/actions", s.handle(func(r *http.Request) (any, error) {
		req := EventActionRequest{Event: named(event.Kind, r)}
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return b.ActOnEvent(r.Context(), req)
	}))
	mux.Handle("POST /v1/events/{name}/merge", s.handle(merging(b.MergeEvents)))
	mux.Handle("POST /v1/events/{name}/unmerge", s.handle(merging(b.UnmergeEvents)))
	mux.Handle("GET /v1/events/{name}/suspects", s.handle(func(r *http.Request) (any, error) {
		return b.Suspects(r.Context(), named(event.Kind, r))
	}))
	mux.Handle("GET /v1/events:suspects", s.handle(s.suspectPairs))
	mux.Handle("GET /v1/events/{name}/attachments", s.handle(func(r *http.Request) (any, error) {
		return b.Attachments(r.Context(), named(event.Kind, r))
	}))
	mux.Handle("POST /v1/events/{name}/attachments", s.handle(func(r *http.Request) (any, error) {
		req := AttachRequest{Event: named(event.Kind, r)}
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return b.Attach(r.Context(), req)
	}))
	mux.Handle("POST /v1/blobs", s.handle(s.putBlob))
	mux.Handle("GET /v1/blobs/{name}", s.within(s.blob))
	s.quarantineRoutes(mux)
}

func merging(f func(context.Context, MergeRequest) (EventResult, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		req := MergeRequest{Event: named(event.Kind, r)}
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return f(r.Context(), req)
	}
}

// batchPath is the one request whose body may be larger than the others'.
const batchPath = "/v1/events:batch"

// ndjson is the media type of JSON lines: a batch of it is not taken for an array,
// whatever its first line is.
const ndjson = "application/x-ndjson"

// bodyMax is how large a request's body may be.
func bodyMax(path string) int64 {
	if path == batchPath {
		return event.BatchBytesMax
	}
	return bodyBytesMax
}

func (s *Server) reportBatch(r *http.Request) (any, error) {
	req := BatchRequest{Key: r.URL.Query().Get("key")}
	for name, values := range r.URL.Query() {
		switch name {
		case "key":
		case "first":
			n, err := strconv.Atoi(values[0])
			if err != nil || n < 0 {
				return nil, fmt.Errorf("%w: first %.40q: want 0 or more", ErrInvalid, values[0])
			}
			req.First = n
		case "dry_run":
			dry, err := strconv.ParseBool(values[0])
			if err != nil {
				return nil, fmt.Errorf("%w: dry_run %.40q: want true or false", ErrInvalid, values[0])
			}
			req.DryRun = dry
		case "places":
			req.Places = strings.Split(values[0], ",")
		default:
			return nil, fmt.Errorf("%w: unknown parameter %q: want key, first, dry_run or places", ErrInvalid, name)
		}
	}
	if err := checkKey(req.Key); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, tooLarge(err)
	}
	if req.Items, err = event.ParseBatch(b, r.Header.Get("Content-Type") == ndjson); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := checkPlaces(req); err != nil {
		return nil, err
	}
	return s.cfg.Backend.ReportBatch(r.Context(), req)
}

// placeForm is a line of a file, and which it is of those that begin on the line.
var placeForm = regexp.MustCompile(`^[1-9][0-9]{0,11}(\.[1-9][0-9]{0,11})?$`)

// checkPlaces checks that each report has a place of its own.
func checkPlaces(r BatchRequest) error {
	if r.Places == nil {
		return nil
	}
	if len(r.Places) != len(r.Items) {
		return fmt.Errorf("%w: %d places of %d reports: want one for each", ErrInvalid, len(r.Places), len(r.Items))
	}
	seen := map[string]bool{}
	for _, p := range r.Places {
		if !placeForm.MatchString(p) {
			return fmt.Errorf("%w: places: %.40q: want a line from 1, as 12, or 12.1 for the next one on it", ErrInvalid, p)
		}
		if seen[p] {
			return fmt.Errorf("%w: places: %s comes twice", ErrInvalid, p)
		}
		seen[p] = true
	}
	return nil
}

// tooLarge is the error of a body that was not read to its end.
func tooLarge(err error) error {
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		return fmt.Errorf("%w: body is over %d bytes", ErrInvalid, over.Limit)
	}
	return fmt.Errorf("%w: body: %w", ErrInvalid, err)
}

func (s *Server) listEvents(r *http.Request) (any, error) {
	q := EventQuery{ListQuery: ListQuery{Kind: event.Kind, Limit: limitDefault}}
	for name, values := range r.URL.Query() {
		var err error
		switch v := values[0]; name {
		case "limit", "site", "after", "read":
			err = page(&q.ListQuery, name, v)
		case "state":
			q.State = v
		case "type":
			q.Type = v
		case "priority":
			if q.Priority, err = strconv.Atoi(v); err != nil || q.Priority < 1 || q.Priority > 4 {
				err = fmt.Errorf("%w: priority %.40q: want 1 (highest) to 4", ErrInvalid, v)
			}
		case "since":
			q.SinceMS, err = at(name, v)
		case "until":
			q.UntilMS, err = at(name, v)
		default:
			err = fmt.Errorf("%w: unknown parameter %q: want limit, site, after, state, type, priority, since or until", ErrInvalid, name)
		}
		if err != nil {
			return nil, err
		}
	}
	if !q.Filtered() {
		return s.cfg.Backend.List(r.Context(), q.ListQuery)
	}
	return s.cfg.Backend.ListEvents(r.Context(), q)
}

// at reads a time of a parameter, as people and other systems write it.
func at(name, v string) (int64, error) {
	ms, err := instant.Milliseconds(v)
	if err == nil && ms < 0 {
		err = fmt.Errorf("time %.40q: want 1970 or later", v)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %s: %w", ErrInvalid, name, err)
	}
	return ms, nil
}

func (s *Server) suspectPairs(r *http.Request) (any, error) {
	q := SuspectQuery{Events: 200}
	for name, values := range r.URL.Query() {
		var err error
		switch v := values[0]; name {
		case "read":
		case "since":
			q.SinceMS, err = at(name, v)
		case "events":
			if q.Events, err = strconv.Atoi(v); err != nil || q.Events < 1 || q.Events > limitMax {
				err = fmt.Errorf("%w: events %.40q: want 1 to %d", ErrInvalid, v, limitMax)
			}
		default:
			err = fmt.Errorf("%w: unknown parameter %q: want since or events", ErrInvalid, name)
		}
		if err != nil {
			return nil, err
		}
	}
	return s.cfg.Backend.SuspectPairs(r.Context(), q)
}

func (s *Server) putBlob(r *http.Request) (any, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, tooLarge(err)
	}
	return s.cfg.Backend.PutBlob(r.Context(), b)
}

// blob answers with a part's bytes.
func (s *Server) blob(w http.ResponseWriter, r *http.Request, held *room) {
	b, err := s.cfg.Backend.Blob(r.Context(), named(event.KindBlob, r))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	s.send(w, r, held, http.StatusOK, "application/octet-stream", b)
}
