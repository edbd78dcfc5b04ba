package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/aggregate"
)

// Aggregates is the part of a node that shows numbers of many sites.
type Aggregates interface {
	// Overview counts the open events and tasks of an area.
	Overview(ctx context.Context, q OverviewQuery) (Overview, error)
	// RollUp adds up the last values of an indicator over an area.
	RollUp(ctx context.Context, q RollUpQuery) (RollUp, error)
}

// What the rows of an overview are.
const (
	// ByArea makes a row for each site right below the area, with all below it, and
	// one for the area's own.
	ByArea = "area"
	// BySite makes a row for each site of the area.
	BySite = "site"
	// ByTrack makes a row for each track, ByType for each type of event, ByState for
	// each state.
	ByTrack = "track"
	ByType  = "type"
	ByState = "state"
)

// overviewRows are the values of [OverviewQuery].By.
var overviewRows = []string{ByArea, BySite, ByTrack, ByType, ByState}

// How recent a site must be known to be covered, by default and at most.
const (
	withinDefault = time.Hour
	withinMax     = 366 * 24 * time.Hour
)

// OverviewQuery selects an overview.
type OverviewQuery struct {
	// Area is the site that it is of, with all below it; empty means this one.
	Area tiers.SiteID
	// By says what the rows are; empty means area.
	By string
	// Within is how recent a site must be known to be covered; zero means an hour.
	Within time.Duration
}

// Numbers count what is open.
type Numbers struct {
	// Events are open ones, Urgent those of them of priority 1 or 2.
	Events int64 `json:"events"`
	Urgent int64 `json:"urgent"`
	// Tasks are open ones, Overdue those of them whose time has run out.
	Tasks   int64 `json:"tasks"`
	Overdue int64 `json:"overdue"`
}

// OverviewRow is one row of an overview. By type and track, urgent events are not
// counted; by state, done ones are, too, and Overdue is not.
type OverviewRow struct {
	Key  string `json:"key"`
	Name string `json:"name,omitempty"`
	Numbers
	// Coverage is that of a row that is of sites.
	Coverage *aggregate.Coverage `json:"coverage,omitempty"`
}

// Overview counts the open events and tasks of an area, from counters that are kept
// up with every change.
type Overview struct {
	// Site is who says it, Area of whom.
	Site     tiers.SiteID  `json:"site"`
	Area     tiers.SiteID  `json:"area"`
	AreaName string        `json:"area_name"`
	AtMS     int64         `json:"at_ms"`
	By       string        `json:"by"`
	Total    Numbers       `json:"total"`
	Rows     []OverviewRow `json:"rows"`
	// Coverage says of how many of the area's sites the numbers are.
	Coverage aggregate.Coverage `json:"coverage"`
	// Behind is how many documents changed that are not counted yet.
	Behind uint64 `json:"behind,omitempty"`
	// Recounting says that the counters are being made for the first time, so that
	// they leave something out.
	Recounting bool `json:"recounting,omitempty"`
	// Elsewhere are open events that this site holds of sites that ended or moved
	// away; they are in no number above.
	Elsewhere int64 `json:"elsewhere,omitempty"`
}

// RollUpQuery selects a roll-up.
type RollUpQuery struct {
	Area tiers.SiteID
	// Code is the indicator's.
	Code   string
	Within time.Duration
}

// RollUp adds up the last value of each series of an indicator in an area.
type RollUp struct {
	Site tiers.SiteID `json:"site"`
	Area tiers.SiteID `json:"area"`
	AtMS int64        `json:"at_ms"`
	Code string       `json:"code"`
	Name string       `json:"name"`
	Unit string       `json:"unit,omitempty"`
	// DefinedBy is the site whose definition grades the values.
	DefinedBy tiers.SiteID `json:"defined_by"`
	// Series is how many series there are, Reporting at how many sites.
	Series    int `json:"series"`
	Reporting int `json:"reporting"`
	Values
	// Coverage says which of the sites that report are known, and since when.
	Coverage aggregate.Coverage `json:"coverage"`
}

// Values are what last values come to together.
type Values struct {
	Sum  float64 `json:"sum"`
	Mean float64 `json:"mean"`
	Min  float64 `json:"min"`
	Max  float64 `json:"max"`
	// Grades counts the values of each grade; "" is of none.
	Grades map[string]int `json:"grades"`
	// OldestMS is the time of the oldest.
	OldestMS int64 `json:"oldest_ms,omitempty"`
}

func (s *Server) aggregateRoutes(mux *http.ServeMux) {
	mux.Handle("GET /v1/aggregates/overview", s.handle(s.overview))
	mux.Handle("GET /v1/aggregates/indicators/{code}", s.handle(s.rollUp))
}

func (s *Server) overview(r *http.Request) (any, error) {
	q := OverviewQuery{By: ByArea, Within: withinDefault}
	err := eachParameter(r, map[string]func(string) error{
		"area":     func(v string) error { q.Area = tiers.SiteID(v); return nil },
		"within_s": func(v string) (err error) { q.Within, err = within(v); return err },
		"by": func(v string) error {
			if q.By = v; !slices.Contains(overviewRows, v) {
				return fmt.Errorf("%w: by %.20q: want %s", ErrInvalid, v, strings.Join(overviewRows, ", "))
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return s.cfg.Backend.Overview(r.Context(), q)
}

func (s *Server) rollUp(r *http.Request) (any, error) {
	q := RollUpQuery{Code: r.PathValue("code"), Within: withinDefault}
	err := eachParameter(r, map[string]func(string) error{
		"area":     func(v string) error { q.Area = tiers.SiteID(v); return nil },
		"within_s": func(v string) (err error) { q.Within, err = within(v); return err },
	})
	if err != nil {
		return nil, err
	}
	return s.cfg.Backend.RollUp(r.Context(), q)
}

// eachParameter hands a request's parameters out by name; an unknown one is refused.
func eachParameter(r *http.Request, take map[string]func(string) error) error {
	for name, values := range r.URL.Query() {
		if name == "read" { // place has looked at it
			continue
		}
		f := take[name]
		if f == nil {
			var known []string
			for k := range take {
				known = append(known, k)
			}
			slices.Sort(known)
			return fmt.Errorf("%w: unknown parameter %.40q: want %s", ErrInvalid, name, strings.Join(known, ", "))
		}
		if err := f(values[0]); err != nil {
			return err
		}
	}
	return nil
}

// within reads a number of seconds.
func within(text string) (time.Duration, error) {
	s, err := strconv.ParseInt(text, 10, 64)
	if err != nil || s < 1 || s > int64(withinMax/time.Second) {
		return 0, fmt.Errorf("%w: within_s %.40q: want 1 to %d", ErrInvalid, text, int64(withinMax/time.Second))
	}
	return time.Duration(s) * time.Second, nil
}
