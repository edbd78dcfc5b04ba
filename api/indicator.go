package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/indicator"
)

// Indicators is the part of a node that measures.
type Indicators interface {
	// ImportReadings takes readings in at this site, durably; those that break a rule
	// are left out and named.
	ImportReadings(ctx context.Context, r ReadingsRequest) (ReadingsResult, error)
	// Readings returns readings or rollups of a series.
	Readings(ctx context.Context, q ReadingsQuery) (ReadingsPage, error)
	// DefineIndicator writes a definition to this site's catalog.
	DefineIndicator(ctx context.Context, r IndicatorRequest) (WriteResult, error)
	// IndicatorState says what holds of an indicator at a site now.
	IndicatorState(ctx context.Context, site tiers.SiteID, code string) (IndicatorState, error)
}

// ReadingsMax is how many readings a request may hold.
const ReadingsMax = 2000

// ReadingsRequest imports readings under an idempotency key.
type ReadingsRequest struct {
	// Key makes a retry safe: the same key has an effect once.
	Key string `json:"key"`
	// Readings, at most 2,000. Of several for one series and time the last one
	// counts, also over one that was written earlier.
	Readings []ReadingRow `json:"readings"`
	// Compare asks to tell new from old: readings that are there already are counted
	// and not written again. It costs a look at each hour that is written to.
	Compare bool `json:"compare,omitempty"`
}

// ReadingRow is one reading.
type ReadingRow struct {
	// Series is CODE or CODE/INSTANCE.
	Series string `json:"series"`
	AtMS   int64  `json:"at_ms"`
	// Value is a number, or a text: of a number, or a missing-value mark of the
	// indicator. None is the empty mark.
	Value ReadingValue `json:"value"`
}

// ReadingValue is a value as its source wrote it. In JSON it is a number where it is
// one, else a text.
type ReadingValue string

// MarshalJSON writes a number as a number.
func (v ReadingValue) MarshalJSON() ([]byte, error) {
	b := []byte(v)
	if len(b) > 0 && (b[0] == '-' || b[0] >= '0' && b[0] <= '9') && json.Valid(b) {
		return b, nil
	}
	return json.Marshal(string(v))
}

// UnmarshalJSON takes a number, a text, or null.
func (v *ReadingValue) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) > 0 && b[0] == '"':
		return json.Unmarshal(b, (*string)(v))
	case len(b) > 0 && (b[0] == '-' || b[0] >= '0' && b[0] <= '9'):
		*v = ReadingValue(b)
	case string(b) == "null":
		*v = ""
	default:
		return fmt.Errorf("value %.40s: want a number, or a text that is a missing-value mark of the indicator", b)
	}
	return nil
}

// ReadingsResult says what was taken in. Accepted and Bad are all readings; with
// Compare, New, Changed and Known are all that were accepted.
type ReadingsResult struct {
	Accepted int `json:"accepted"`
	// Missing counts those that were written as missing.
	Missing int `json:"missing,omitempty"`
	// New are of times that had no reading, Changed replace another, Known were there.
	New     int `json:"new,omitempty"`
	Changed int `json:"changed,omitempty"`
	Known   int `json:"known,omitempty"`
	// Stream and Seq are where the last record stands; empty when nothing was written.
	Stream string     `json:"stream,omitempty"`
	Seq    uint64     `json:"seq,omitempty"`
	Bad    []RowError `json:"bad"`
	// Waits says that they are not on their way up yet, and since when.
	Waits *Waits `json:"waits,omitempty"`
}

// RowError says why a row was left out.
type RowError struct {
	// Row is its place in the request, from 0.
	Row     int    `json:"row"`
	Message string `json:"message"`
}

// The units that readings are shown by.
const (
	ByRaw    = "raw"
	ByMinute = "minute"
	ByHour   = "hour"
	ByDay    = "day"
)

// ReadingsQuery selects readings of a series.
type ReadingsQuery struct {
	// Site is whose series it is; empty means this one.
	Site   tiers.SiteID
	Series string
	// FromMS and ToMS bound the time: from FromMS to before ToMS.
	FromMS, ToMS int64
	// By is raw, minute, hour or day; a day begins at 00:00 of UTC+8.
	By string
	// Limit bounds the items, 1 to 10,000.
	Limit int
}

// ReadingsPage is part of a series.
type ReadingsPage struct {
	Site   tiers.SiteID `json:"site"`
	Series string       `json:"series"`
	By     string       `json:"by"`
	// Points are there by raw, Rollups otherwise. Missing are, by raw, the readings
	// without a value in the same stretch of time.
	Points  []reading.Point  `json:"points,omitempty"`
	Missing []reading.Gap    `json:"missing,omitempty"`
	Rollups []reading.Rollup `json:"rollups,omitempty"`
	// ReadingsFromMS and MinutesFromMS are from when readings and minute rollups are
	// kept; before that there are coarser ones. Zero means all.
	ReadingsFromMS int64 `json:"readings_from_ms,omitempty"`
	MinutesFromMS  int64 `json:"minutes_from_ms,omitempty"`
	// Late counts readings of the indicator that came too late to be taken in.
	Late uint64 `json:"late,omitempty"`
	// NextMS continues behind this page; zero at the end.
	NextMS int64 `json:"next_ms,omitempty"`
}

// IndicatorRequest writes a definition under an idempotency key.
type IndicatorRequest struct {
	Key       string               `json:"key"`
	Indicator indicator.Definition `json:"indicator"`
	// Confirm writes what the definition says already, too, as confirmed now; see
	// [EditRequest].
	Confirm bool `json:"confirm,omitempty"`
}

// IndicatorState is an indicator at a site.
type IndicatorState struct {
	Site tiers.SiteID `json:"site"`
	// DefinedBy is the site whose definition holds there.
	DefinedBy tiers.SiteID         `json:"defined_by"`
	Indicator indicator.Definition `json:"indicator"`
	// Series are in the order of their names, at most 1,000.
	Series []SeriesState `json:"series"`
	// Late counts readings that came too late to be taken in.
	Late uint64 `json:"late,omitempty"`
}

// SeriesState is a series now.
type SeriesState struct {
	Series string `json:"series"`
	// LastMS and Value are of the last reading that has a value; nil for none.
	LastMS int64    `json:"last_ms"`
	Value  *float64 `json:"value,omitempty"`
	// Missing is the last reading where that has no value.
	Missing *reading.Gap `json:"missing,omitempty"`
	// Grade is that of a KPI's last value, if any.
	Grade string `json:"grade,omitempty"`
	// Level is the most severe one that a vital sign is at, as far as the readings
	// of the last day tell; if any.
	Level *indicator.Crossing `json:"level,omitempty"`
	// Alerts is how many events this series' crossings have raised.
	Alerts int `json:"alerts"`
}

func (s *Server) indicatorRoutes(mux *http.ServeMux) {
	mux.Handle("POST /v1/readings", s.handle(s.importReadings))
	mux.Handle("GET /v1/readings", s.handle(s.readings))
	mux.Handle("POST /v1/indicators", s.handle(s.defineIndicator))
	mux.Handle("GET /v1/indicators/{name}/state", s.handle(func(r *http.Request) (any, error) {
		return s.cfg.Backend.IndicatorState(r.Context(), tiers.SiteID(r.URL.Query().Get("site")), r.PathValue("name"))
	}))
}

func (s *Server) importReadings(r *http.Request) (any, error) {
	var req ReadingsRequest
	if err := body(r, &req); err != nil {
		return nil, err
	}
	if err := checkKey(req.Key); err != nil {
		return nil, err
	}
	if len(req.Readings) > ReadingsMax {
		return nil, fmt.Errorf("%w: %d readings: want at most %d", ErrInvalid, len(req.Readings), ReadingsMax)
	}
	return s.cfg.Backend.ImportReadings(r.Context(), req)
}

// readingsLimit bounds a page of readings.
const readingsLimit = 10_000

func (s *Server) readings(r *http.Request) (any, error) {
	q := ReadingsQuery{By: ByHour, ToMS: reading.TimeMaxMS, Limit: 1000}
	for name, values := range r.URL.Query() {
		var err error
		switch v := values[0]; name {
		case "series":
			q.Series = v
		case "site":
			q.Site = tiers.SiteID(v)
		case "by":
			q.By = v
		case "from_ms":
			q.FromMS, err = strconv.ParseInt(v, 10, 64)
		case "to_ms":
			q.ToMS, err = strconv.ParseInt(v, 10, 64)
		case "limit":
			q.Limit, err = strconv.Atoi(v)
		case "read": // place has looked at it
		default:
			return nil, fmt.Errorf("%w: unknown parameter %q: want series, site, by, from_ms, to_ms or limit", ErrInvalid, name)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s %.40q: want a whole number", ErrInvalid, name, values[0])
		}
	}
	if err := q.validate(); err != nil {
		return nil, err
	}
	return s.cfg.Backend.Readings(r.Context(), q)
}

func (q ReadingsQuery) validate() error {
	switch {
	case q.By != ByRaw && q.By != ByMinute && q.By != ByHour && q.By != ByDay:
		return fmt.Errorf("%w: by %.20q: want %s, %s, %s or %s", ErrInvalid, q.By, ByRaw, ByMinute, ByHour, ByDay)
	case q.Limit < 1 || q.Limit > readingsLimit:
		return fmt.Errorf("%w: limit %d: want 1 to %d", ErrInvalid, q.Limit, readingsLimit)
	case q.FromMS < 0 || q.FromMS >= q.ToMS || q.ToMS > reading.TimeMaxMS:
		return fmt.Errorf("%w: from_ms %d, to_ms %d: want from 0 (1970) to %d (9999), the first below the second", ErrInvalid, q.FromMS, q.ToMS, int64(reading.TimeMaxMS))
	}
	return nil
}

func (s *Server) defineIndicator(r *http.Request) (any, error) {
	var req IndicatorRequest
	if err := body(r, &req); err != nil {
		return nil, err
	}
	if err := checkKey(req.Key); err != nil {
		return nil, err
	}
	return s.cfg.Backend.DefineIndicator(r.Context(), req)
}
