package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/track"
)

// Tracks is what a node offers about boards, tracks and change proposals.
type Tracks interface {
	// DefineBoard writes a board to this site's catalog.
	DefineBoard(ctx context.Context, r BoardRequest) (WriteResult, error)
	// PublishTracks adds boards and tracks to the city's catalog, all or none.
	PublishTracks(ctx context.Context, r TracksRequest) (TracksResult, error)
	// EditTrack sets fields of a track.
	EditTrack(ctx context.Context, r EditRequest) (WriteResult, error)
	// AdoptTrack takes over a track from above, or brings what was taken over up to
	// date.
	AdoptTrack(ctx context.Context, r AdoptRequest) (AdoptResult, error)
	// TrackConflicts lists the tracks with unresolved conflicts.
	TrackConflicts(ctx context.Context) (ConflictList, error)
	// ResolveTrack writes a field that has a conflict again.
	ResolveTrack(ctx context.Context, r ResolveRequest) (WriteResult, error)
	// TrackTree returns boards, tracks and sub-tracks as they are at a site, as far as
	// this one knows; an empty site is this one.
	TrackTree(ctx context.Context, site tiers.SiteID) (TrackTree, error)
	// DraftProposal writes a proposal of this site.
	DraftProposal(ctx context.Context, r ProposalRequest) (ProposalStatus, error)
	// ActOnProposal takes a proposal one step on.
	ActOnProposal(ctx context.Context, r ProposalActionRequest) (ProposalStatus, error)
	// ListProposals returns a page of [ProposalStatus], the newest first.
	ListProposals(ctx context.Context, q ProposalQuery) (Page, error)
	// Proposal returns one.
	Proposal(ctx context.Context, id tiers.DocID) (ProposalStatus, error)
}

// BoardRequest defines a board.
type BoardRequest struct {
	Key   string      `json:"key"`
	Board track.Board `json:"board"`
}

// PublishMax is how many boards and tracks a request may hold.
const PublishMax = 500

// TracksRequest adds boards and tracks to the city's catalog. An entry that is there
// stays as it is.
type TracksRequest struct {
	Key    string        `json:"key"`
	Boards []track.Board `json:"boards,omitempty"`
	Tracks []track.Track `json:"tracks,omitempty"`
	// New refuses the request when an entry is there.
	New bool `json:"new,omitempty"`
}

// TracksResult counts what was added.
type TracksResult struct {
	Boards int `json:"boards"`
	Tracks int `json:"tracks"`
}

// AdoptRequest adopts a track, or refreshes what was adopted.
type AdoptRequest struct {
	Key  string `json:"key"`
	Code string `json:"code"`
	// From is the site in whose catalog the original stands; empty for the nearest
	// above.
	From tiers.SiteID `json:"from,omitempty"`
	Who  string       `json:"who,omitempty"`
	// Fields are values of this site's own.
	Fields map[string]string `json:"fields,omitempty"`
	// Refresh takes over what the original changed since; All also what this site has
	// a value of its own of.
	Refresh bool `json:"refresh,omitempty"`
	All     bool `json:"all,omitempty"`
}

// AdoptResult is a receipt, and what a refresh did.
type AdoptResult struct {
	Adoption track.AdoptionView `json:"adoption"`
	// Set are the fields that were taken over, Kept those that the original changed
	// and this site has its own value of.
	Set  map[string]string `json:"set"`
	Kept []string          `json:"kept"`
}

// ConflictList lists tracks with their conflicts.
type ConflictList struct {
	Tracks []TrackConflicts `json:"tracks"`
}

// TrackConflicts are the unresolved conflicts of one track.
type TrackConflicts struct {
	Code      string           `json:"code"`
	Site      tiers.SiteID     `json:"site"`
	Conflicts []track.Conflict `json:"conflicts"`
}

// ResolveRequest settles the conflict of a field.
type ResolveRequest struct {
	Key string `json:"key"`
	// Site and Code are those in the path.
	Site  tiers.SiteID `json:"-"`
	Code  string       `json:"-"`
	Field string       `json:"field"`
	// Take is the number of the value to keep, from 1, in the order in which the
	// conflict shows them; Value is another one. One of both.
	Take  int     `json:"take,omitempty"`
	Value *string `json:"value,omitempty"`
}

// TrackTree is the tree of a site.
type TrackTree struct {
	Site tiers.SiteID `json:"site"`
	Name string       `json:"name"`
	Tier tiers.Tier   `json:"tier"`
	// Heard says, of each other site that has a part in the tree, how old this
	// site's knowledge of it is.
	Heard  []Heard        `json:"heard"`
	Boards []track.Branch `json:"boards"`
}

// Heard is how another site was last heard.
type Heard struct {
	Site tiers.SiteID `json:"site"`
	Name string       `json:"name"`
	// Via is the peer through whose link it is heard, and Link how that link is; both
	// empty when there never was one since this node started. Link is [LinkHere] for
	// this site itself.
	Via  tiers.SiteID `json:"via,omitempty"`
	Link string       `json:"link,omitempty"`
	// LastContact is when the peer was last heard.
	LastContact *time.Time `json:"last_contact,omitempty"`
	// AsOf is when both ends of that link last were proven to hold the same: what
	// this site knows is at least of then.
	AsOf *time.Time `json:"as_of,omitempty"`
}

// LinkHere stands for a link where none is needed: it is this site that is meant.
const LinkHere = "here"

// ProposalRequest drafts a proposal.
type ProposalRequest struct {
	Key     string        `json:"key"`
	Content track.Content `json:"content"`
	// Submit submits it at once.
	Submit bool `json:"submit,omitempty"`
}

// ProposalActionRequest takes a proposal one step on.
type ProposalActionRequest struct {
	Key string `json:"key"`
	// Proposal is the one in the path.
	Proposal tiers.DocID `json:"-"`
	// Kind is submit, revise, withdraw, approve, reject or undo.
	Kind    string         `json:"kind"`
	Who     string         `json:"who,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	StandIn bool           `json:"stand_in,omitempty"`
	Anyway  bool           `json:"anyway,omitempty"`
	Content *track.Content `json:"content,omitempty"`
}

// ProposalStatus is a proposal as this site sees it.
type ProposalStatus struct {
	track.ProposalView
	// Waiting is the site whose turn it is; nil when nothing is submitted.
	Waiting *Heard `json:"waiting,omitempty"`
	// Differences are the fields that are not any more what the author saw; of a
	// proposal that is open.
	Differences []track.Difference `json:"differences,omitempty"`
}

// ProposalQuery selects proposals.
type ProposalQuery struct {
	// ListQuery has the page and the proposing site; its Kind is not used.
	ListQuery
	// State is one of [track.ProposalStates]; empty for all.
	State string
	// Waiting selects those that this site has to decide about.
	Waiting bool
}

func (s *Server) trackRoutes(mux *http.ServeMux) {
	b := s.cfg.Backend
	mux.Handle("POST /v1/boards", s.handle(func(r *http.Request) (any, error) {
		var req BoardRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return b.DefineBoard(r.Context(), req)
	}))
	mux.Handle("POST /v1/tracks", s.handle(func(r *http.Request) (any, error) {
		var req TracksRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		if n := len(req.Boards) + len(req.Tracks); n > PublishMax {
			return nil, fmt.Errorf("%w: boards, tracks: %d of them: want at most %d", ErrInvalid, n, PublishMax)
		}
		return b.PublishTracks(r.Context(), req)
	}))
	mux.Handle("PATCH /v1/tracks/{site}/{code}", s.handle(s.edit))
	mux.Handle("POST /v1/tracks/{site}/{code}/resolve", s.handle(func(r *http.Request) (any, error) {
		var req ResolveRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		req.Site, req.Code = tiers.SiteID(r.PathValue("site")), r.PathValue("code")
		if err := req.Site.Validate(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return b.ResolveTrack(r.Context(), req)
	}))
	mux.Handle("GET /v1/trackconflicts", s.handle(func(r *http.Request) (any, error) { return b.TrackConflicts(r.Context()) }))
	mux.Handle("GET /v1/tracktree", s.handle(func(r *http.Request) (any, error) {
		return b.TrackTree(r.Context(), tiers.SiteID(r.URL.Query().Get("site")))
	}))
	mux.Handle("POST /v1/adoptions", s.handle(func(r *http.Request) (any, error) {
		var req AdoptRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return b.AdoptTrack(r.Context(), req)
	}))
	mux.Handle("POST /v1/proposals", s.handle(func(r *http.Request) (any, error) {
		var req ProposalRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return b.DraftProposal(r.Context(), req)
	}))
	mux.Handle("POST /v1/proposals/{name}/actions", s.handle(func(r *http.Request) (any, error) {
		var req ProposalActionRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		req.Proposal = named(track.KindProposal, r)
		return b.ActOnProposal(r.Context(), req)
	}))
	mux.Handle("GET /v1/proposals", s.handle(s.listProposals))
	mux.Handle("GET /v1/proposals/{name}", s.handle(func(r *http.Request) (any, error) {
		return b.Proposal(r.Context(), named(track.KindProposal, r))
	}))
}

func (s *Server) listProposals(r *http.Request) (any, error) {
	q := ProposalQuery{ListQuery: ListQuery{Kind: track.KindProposal, Limit: limitDefault}}
	for name, values := range r.URL.Query() {
		var err error
		switch v := values[0]; name {
		case "limit", "site", "after", "read":
			if err = page(&q.ListQuery, name, v); err != nil {
				return nil, err
			}
		case "state":
			q.State = v
		case "waiting":
			if q.Waiting, err = strconv.ParseBool(v); err != nil {
				return nil, fmt.Errorf("%w: waiting %q: want true or false", ErrInvalid, v)
			}
		default:
			return nil, fmt.Errorf("%w: unknown parameter %q: want limit, site, after, state or waiting", ErrInvalid, name)
		}
	}
	return s.cfg.Backend.ListProposals(r.Context(), q)
}
