package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// Modes is what a node offers about the mode, and about silence.
type Modes interface {
	// SwitchMode switches an area to emergency, or back.
	SwitchMode(ctx context.Context, r ModeRequest) (ModeResult, error)
	// Mode returns the mode of a site, of the node's own when it is empty.
	Mode(ctx context.Context, site tiers.SiteID) (command.Standing, error)
	// ModeHistory returns the switches that this site has heard of, the latest first;
	// those that reach a site, when one is given.
	ModeHistory(ctx context.Context, site tiers.SiteID) (ModeHistory, error)
	// Silence tells which sites below are heard; all of them, or those that are not.
	Silence(ctx context.Context, all bool) (SilenceReport, error)
	// SetSilence sets after which time a site or a tier is silent.
	SetSilence(ctx context.Context, r SilenceRequest) (WriteResult, error)
}

// ModeRequest switches the mode of an area.
type ModeRequest struct {
	Key string `json:"key"`
	// Area is a site with all below it; empty for the node's own.
	Area tiers.SiteID `json:"area,omitempty"`
	// Mode is emergency or normal; Level is 1 (most severe) to 4 of an emergency.
	Mode  string `json:"mode"`
	Level int    `json:"level,omitempty"`
	// Hours is urgent when all limits are to count round the clock.
	Hours  string `json:"hours,omitempty"`
	Who    string `json:"who,omitempty"`
	Reason string `json:"reason"`
}

// ModeResult is the mode of an area after a switch.
type ModeResult struct {
	WriteResult
	Standing command.Standing `json:"standing"`
}

// ModeHistory is a list of switches.
type ModeHistory struct {
	Switches []command.Switch `json:"switches"`
}

// SilenceReport tells which sites below are heard.
type SilenceReport struct {
	// AtMS is when the node looked; it listens since SinceMS.
	AtMS    int64        `json:"at_ms"`
	SinceMS int64        `json:"since_ms"`
	Sites   int          `json:"sites"`
	Silent  int          `json:"silent"`
	Rows    []SilentSite `json:"rows"`
	// Limits are those that sites set.
	Limits []command.Limit `json:"limits"`
}

// SilentSite is a site below, and what is known of it.
type SilentSite struct {
	Site   tiers.SiteID `json:"site"`
	Name   string       `json:"name"`
	Tier   string       `json:"tier"`
	Parent tiers.SiteID `json:"parent"`
	// State is heard, silent, or never heard; unknown while the node has just begun to
	// listen.
	State string `json:"state"`
	// Behind is the silent site between; By is who says that it is silent.
	Behind tiers.SiteID `json:"behind,omitempty"`
	By     tiers.SiteID `json:"by"`
	// Contact is the last one; SilentMS for how long ago that was, LimitMS how long it
	// may be.
	Contact  command.Contact `json:"contact"`
	SilentMS int64           `json:"silent_ms,omitempty"`
	LimitMS  int64           `json:"limit_ms"`
	// Alert is this site's own that stands.
	Alert tiers.DocID `json:"alert,omitempty"`
	Stale SilentStale `json:"stale"`
}

// SilentStale is what is known of a silent site, and may not be so any more.
type SilentStale struct {
	// NewestMS is the time of the newest record that the site wrote, by class.
	NewestMS map[string]int64 `json:"newest_ms,omitempty"`
	// Tasks are open ones with custody there, Units those whose home it is, Events its
	// undispatched ones.
	Tasks  int `json:"tasks"`
	Units  int `json:"units"`
	Events int `json:"events"`
}

// SilenceRequest sets a limit of silence.
type SilenceRequest struct {
	Key   string        `json:"key"`
	Limit command.Limit `json:"limit"`
}

func (s *Server) modeRoutes(mux *http.ServeMux) {
	mux.Handle("GET /v1/mode", s.handle(func(r *http.Request) (any, error) {
		site, err := siteParam(r)
		if err != nil {
			return nil, err
		}
		return s.cfg.Backend.Mode(r.Context(), site)
	}))
	mux.Handle("GET /v1/mode/history", s.handle(func(r *http.Request) (any, error) {
		site, err := siteParam(r)
		if err != nil {
			return nil, err
		}
		return s.cfg.Backend.ModeHistory(r.Context(), site)
	}))
	mux.Handle("POST /v1/mode", s.handle(func(r *http.Request) (any, error) {
		var req ModeRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return s.cfg.Backend.SwitchMode(r.Context(), req)
	}))
	mux.Handle("GET "+silencePath, s.handle(func(r *http.Request) (any, error) {
		all := false
		if v := r.URL.Query().Get("all"); v != "" {
			var err error
			if all, err = strconv.ParseBool(v); err != nil {
				return nil, fmt.Errorf("%w: all %q: want true or false", ErrInvalid, v)
			}
		}
		return s.cfg.Backend.Silence(r.Context(), all)
	}))
	mux.Handle("POST "+silencePath, s.handle(func(r *http.Request) (any, error) {
		var req SilenceRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return s.cfg.Backend.SetSilence(r.Context(), req)
	}))
}

// silencePath is answered by the leader, whose the links are.
const silencePath = "/v1/silence"

// siteParam reads the site that a request asks about; empty for none.
func siteParam(r *http.Request) (tiers.SiteID, error) {
	for name := range r.URL.Query() {
		if name != "site" && name != "read" {
			return "", fmt.Errorf("%w: unknown parameter %q: want site", ErrInvalid, name)
		}
	}
	site := tiers.SiteID(r.URL.Query().Get("site"))
	if site == "" {
		return "", nil
	}
	if err := site.Validate(); err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return site, nil
}
