package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// Responders is what a node offers about dispatch and the units that are sent.
// Implementations are safe for concurrent use; their errors wrap this package's
// sentinels.
type Responders interface {
	// Explain is a dry run of the dispatch of an event.
	Explain(ctx context.Context, event string) (Explanation, error)
	// PublishRules writes dispatch rules to this site's catalog, all or none.
	PublishRules(ctx context.Context, r RulesRequest) (RulesResult, error)
	// Units lists the units that this site knows, by home and code.
	Units(ctx context.Context) (UnitList, error)
	// RegisterUnit adds a unit to this site's registry.
	RegisterUnit(ctx context.Context, r UnitRequest) (UnitStatus, error)
	// SetUnit sets a unit's availability and place.
	SetUnit(ctx context.Context, code string, r UnitSetRequest) (UnitStatus, error)
	// ClaimUnit gives a unit to a holder.
	ClaimUnit(ctx context.Context, code string, r UnitClaimRequest) (responder.Order, error)
	// ReleaseUnit frees a unit.
	ReleaseUnit(ctx context.Context, code string, r UnitReleaseRequest) (UnitStatus, error)
	// CheckUnit tells what a unit's terminal would do about an epoch.
	CheckUnit(ctx context.Context, code string, r UnitCheckRequest) (UnitVerdict, error)
	// AskUnit asks another site for a unit, ReturnUnit gives it back.
	AskUnit(ctx context.Context, r UnitAskRequest) (responder.RequestView, error)
	ReturnUnit(ctx context.Context, name string, r KeyRequest) (responder.RequestView, error)
	// Lend lends units to a site below, ChangePool ends or extends that.
	Lend(ctx context.Context, r LendRequest) (responder.PoolView, error)
	ChangePool(ctx context.Context, name string, r PoolRequest) (responder.PoolView, error)
}

// Explanation tells how an event would be dispatched at this site now.
type Explanation struct {
	Event    tiers.DocID `json:"event"`
	State    string      `json:"state"`
	Category string      `json:"category,omitempty"`
	// Mode is the mode of the event's site as this site knows it.
	Mode command.Standing `json:"mode"`
	// Rules are all rules in the order in which they are tried.
	Rules []dispatch.Tried `json:"rules"`
	// Decision is what the first that matched decides, nil when none did; Site is
	// where the task goes.
	Decision *dispatch.Decision `json:"decision,omitempty"`
	Site     tiers.SiteID       `json:"site,omitempty"`
	// Units are those that were considered, the chosen one first.
	Units []dispatch.Candidate `json:"units"`
	Notes []string             `json:"notes"`
}

// RulesRequest publishes dispatch rules under an idempotency key.
type RulesRequest struct {
	Key string `json:"key"`
	// DryRun checks them and writes nothing.
	DryRun bool            `json:"dry_run"`
	Rules  []dispatch.Rule `json:"rules"`
}

// RulesResult says how many rules were good, and whether they were written.
type RulesResult struct {
	Rules     int  `json:"rules"`
	Published bool `json:"published"`
}

// UnitStatus is a unit with its place and who has it.
type UnitStatus struct {
	responder.UnitView
	Position *responder.Position `json:"position,omitempty"`
	// Pool is the pool that this site borrowed it in.
	Pool tiers.DocID `json:"pool,omitempty"`
	// Holder and Epoch are of the last grant of this site; empty of units that
	// other sites send.
	Holder string          `json:"holder,omitempty"`
	Epoch  responder.Epoch `json:"epoch,omitzero"`
	// Free says that this site can send it now, Why why not.
	Free bool   `json:"free"`
	Why  string `json:"why,omitempty"`
}

// UnitList is every unit that a site knows.
type UnitList struct {
	Items []UnitStatus `json:"items"`
}

// UnitRequest registers a unit.
type UnitRequest struct {
	Key  string         `json:"key"`
	Unit responder.Unit `json:"unit"`
}

// UnitSetRequest sets a unit's availability and place; what is left out stays.
type UnitSetRequest struct {
	Key    string   `json:"key"`
	Status string   `json:"status,omitempty"`
	Lat    *float64 `json:"lat,omitempty"`
	Lon    *float64 `json:"lon,omitempty"`
}

// UnitClaimRequest claims a unit for a holder.
type UnitClaimRequest struct {
	Key string `json:"key"`
	// Home is the unit's home site; empty for this one.
	Home   tiers.SiteID `json:"home,omitempty"`
	Holder string       `json:"holder"`
	// Force takes it from whoever has it, for a reason that is written down.
	Force  bool   `json:"force,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// UnitReleaseRequest frees a unit that was claimed in an epoch.
type UnitReleaseRequest struct {
	Key   string          `json:"key"`
	Home  tiers.SiteID    `json:"home,omitempty"`
	Epoch responder.Epoch `json:"epoch"`
}

// UnitCheckRequest asks what a terminal would do about an epoch.
type UnitCheckRequest struct {
	Home  tiers.SiteID    `json:"home,omitempty"`
	Epoch responder.Epoch `json:"epoch"`
	// Last is the highest epoch that the terminal has obeyed.
	Last responder.Epoch `json:"last,omitzero"`
}

// UnitVerdict is what a terminal would do about an order.
type UnitVerdict struct {
	// Obey says that it would obey, Reason why not.
	Obey   bool            `json:"obey"`
	Reason string          `json:"reason,omitempty"`
	Order  responder.Order `json:"order"`
	// Held is the grant that stands at this site; of epoch 0 when nobody has the
	// unit.
	Held responder.Order `json:"held"`
}

// UnitAskRequest asks a unit's home site for it.
type UnitAskRequest struct {
	Key  string       `json:"key"`
	Home tiers.SiteID `json:"home"`
	// Unit or Skill says which one.
	Unit   string   `json:"unit,omitempty"`
	Skill  string   `json:"skill,omitempty"`
	For    string   `json:"for"`
	Reason string   `json:"reason"`
	Lat    *float64 `json:"lat,omitempty"`
	Lon    *float64 `json:"lon,omitempty"`
}

// KeyRequest is a write that needs nothing but its idempotency key.
type KeyRequest struct {
	Key string `json:"key"`
}

// LendRequest lends units of this site to a site below.
type LendRequest struct {
	Key   string       `json:"key"`
	Child tiers.SiteID `json:"child"`
	Units []string     `json:"units"`
	// UntilMS is the lease's end, in Unix milliseconds.
	UntilMS int64  `json:"until_ms"`
	Reason  string `json:"reason"`
}

// The changes of a pool.
const (
	PoolExtend   = "extend"
	PoolHandBack = "handback"
	PoolTakeBack = "takeback"
)

// PoolRequest changes a pool.
type PoolRequest struct {
	Key string `json:"key"`
	// Do is extend (at the home, with UntilMS), handback (at the borrower) or
	// takeback (at the home, with Reason; Force before the lease is over).
	Do      string `json:"do"`
	UntilMS int64  `json:"until_ms,omitempty"`
	Force   bool   `json:"force,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

func (s *Server) responderRoutes(mux *http.ServeMux) {
	b := s.cfg.Backend
	mux.Handle("GET /v1/dispatch/{name}/explanation", s.handle(func(r *http.Request) (any, error) {
		return b.Explain(r.Context(), r.PathValue("name"))
	}))
	mux.Handle("POST /v1/rules", s.handle(func(r *http.Request) (any, error) {
		var in RulesRequest
		if err := keyed(r, &in, &in.Key); err != nil {
			return nil, err
		}
		return b.PublishRules(r.Context(), in)
	}))
	mux.Handle("GET /v1/responders", s.handle(func(r *http.Request) (any, error) {
		for name := range r.URL.Query() {
			if name != "read" {
				return nil, fmt.Errorf("%w: unknown parameter %q: want none", ErrInvalid, name)
			}
		}
		return b.Units(r.Context())
	}))
	s.unitRoutes(mux)
	s.requestRoutes(mux)
}

func (s *Server) unitRoutes(mux *http.ServeMux) {
	b := s.cfg.Backend
	mux.Handle("POST /v1/responders", s.handle(func(r *http.Request) (any, error) {
		var in UnitRequest
		if err := keyed(r, &in, &in.Key); err != nil {
			return nil, err
		}
		return b.RegisterUnit(r.Context(), in)
	}))
	mux.Handle("PATCH /v1/responders/{code}", s.handle(func(r *http.Request) (any, error) {
		var in UnitSetRequest
		if err := keyed(r, &in, &in.Key); err != nil {
			return nil, err
		}
		return b.SetUnit(r.Context(), r.PathValue("code"), in)
	}))
	mux.Handle("POST /v1/responders/{code}/claim", s.handle(func(r *http.Request) (any, error) {
		var in UnitClaimRequest
		if err := keyed(r, &in, &in.Key); err != nil {
			return nil, err
		}
		return b.ClaimUnit(r.Context(), r.PathValue("code"), in)
	}))
	mux.Handle("POST /v1/responders/{code}/release", s.handle(func(r *http.Request) (any, error) {
		var in UnitReleaseRequest
		if err := keyed(r, &in, &in.Key); err != nil {
			return nil, err
		}
		return b.ReleaseUnit(r.Context(), r.PathValue("code"), in)
	}))
	mux.Handle("POST /v1/responders/{code}/check", s.handle(func(r *http.Request) (any, error) {
		var in UnitCheckRequest
		if err := body(r, &in); err != nil {
			return nil, err
		}
		return b.CheckUnit(r.Context(), r.PathValue("code"), in)
	}))
}

func (s *Server) requestRoutes(mux *http.ServeMux) {
	b := s.cfg.Backend
	mux.Handle("POST /v1/unitrequests", s.handle(func(r *http.Request) (any, error) {
		var in UnitAskRequest
		if err := keyed(r, &in, &in.Key); err != nil {
			return nil, err
		}
		return b.AskUnit(r.Context(), in)
	}))
	mux.Handle("POST /v1/unitrequests/{name}/return", s.handle(func(r *http.Request) (any, error) {
		var in KeyRequest
		if err := keyed(r, &in, &in.Key); err != nil {
			return nil, err
		}
		return b.ReturnUnit(r.Context(), r.PathValue("name"), in)
	}))
	mux.Handle("POST /v1/pools", s.handle(func(r *http.Request) (any, error) {
		var in LendRequest
		if err := keyed(r, &in, &in.Key); err != nil {
			return nil, err
		}
		return b.Lend(r.Context(), in)
	}))
	mux.Handle("PATCH /v1/pools/{name}", s.handle(func(r *http.Request) (any, error) {
		var in PoolRequest
		if err := keyed(r, &in, &in.Key); err != nil {
			return nil, err
		}
		return b.ChangePool(r.Context(), r.PathValue("name"), in)
	}))
}
