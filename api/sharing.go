package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
)

// Sharing is the part of a node that shares digital resources and applications
// between sites.
type Sharing interface {
	// RequestGrant asks for the use of a resource; StepGrant grants, refuses, revokes
	// or withdraws.
	RequestGrant(ctx context.Context, r GrantRequest) (GrantStatus, error)
	StepGrant(ctx context.Context, r GrantStepRequest) (GrantStatus, error)
	Grant(ctx context.Context, id tiers.DocID) (GrantStatus, error)
	Grants(ctx context.Context, q ListQuery) (GrantList, error)
	// SetCapacity declares what this site has to run applications on.
	SetCapacity(ctx context.Context, r CapacityRequest) (CapacityRequest, error)
	// Replicate orders a site to run a release of an application.
	Replicate(ctx context.Context, r ReplicateRequest) (catalog.ReplicationView, error)
	// RemoveApp writes down that this site runs an application no more.
	RemoveApp(ctx context.Context, r RemoveAppRequest) (catalog.InstallView, error)
}

// GrantRequest asks for the use of a digital resource.
type GrantRequest struct {
	Key      string `json:"key"`
	Resource string `json:"resource"`
	// Owner is the site in whose catalog it is; empty for the nearest from here up.
	Owner   tiers.SiteID `json:"owner"`
	Purpose string       `json:"purpose"`
	// UntilMS is until when, in Unix milliseconds; 0 for no end.
	UntilMS int64 `json:"until_ms"`
}

// GrantStepRequest makes a step on a grant.
type GrantStepRequest struct {
	Key string `json:"key"`
	// Grant is the one in the path.
	Grant tiers.DocID `json:"-"`
	// Step is grant, refuse, revoke or withdraw.
	Step string `json:"step"`
	Note string `json:"note"`
	// UntilMS ends a grant; 0 for what was asked for.
	UntilMS int64 `json:"until_ms"`
}

// GrantStatus is a grant as it stands now.
type GrantStatus struct {
	catalog.GrantView
	// Now is its state at the present time: one that is over is expired.
	Now string `json:"now"`
}

// GrantList is a page of grants.
type GrantList struct {
	Grants []GrantStatus `json:"grants"`
	Next   string        `json:"next,omitempty"`
}

// CapacityRequest declares a site's capacity.
type CapacityRequest struct {
	Key      string           `json:"key"`
	Capacity catalog.Capacity `json:"capacity"`
}

// ReplicateRequest orders a site to run a release.
type ReplicateRequest struct {
	Key string `json:"key"`
	// Code is the release's entry in catalog apps.
	Code string `json:"code"`
	// To is the site; empty for the node's own.
	To   tiers.SiteID `json:"to"`
	Note string       `json:"note"`
}

// RemoveAppRequest removes an application from the node's site.
type RemoveAppRequest struct {
	Key string `json:"key"`
	// App is the one in the path.
	App string `json:"-"`
}

func (s *Server) sharingRoutes(mux *http.ServeMux) {
	b := s.cfg.Backend
	mux.Handle("GET /v1/grants", s.handle(func(r *http.Request) (any, error) {
		q, err := listQuery(r, catalog.KindGrant)
		if err != nil {
			return nil, err
		}
		return b.Grants(r.Context(), q)
	}))
	mux.Handle("GET /v1/grants/{name}", s.handle(func(r *http.Request) (any, error) {
		return b.Grant(r.Context(), named(catalog.KindGrant, r))
	}))
	mux.Handle("POST /v1/grants", s.handle(func(r *http.Request) (any, error) {
		var req GrantRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return b.RequestGrant(r.Context(), req)
	}))
	mux.Handle("POST /v1/grants/{name}/steps", s.handle(func(r *http.Request) (any, error) {
		var req GrantStepRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		req.Grant = named(catalog.KindGrant, r)
		return b.StepGrant(r.Context(), req)
	}))
	mux.Handle("POST /v1/capacities", s.handle(func(r *http.Request) (any, error) {
		var req CapacityRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return b.SetCapacity(r.Context(), req)
	}))
	mux.Handle("POST /v1/replications", s.handle(func(r *http.Request) (any, error) {
		var req ReplicateRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return b.Replicate(r.Context(), req)
	}))
	mux.Handle("POST /v1/installs/{name}/remove", s.handle(func(r *http.Request) (any, error) {
		var req RemoveAppRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		req.App = r.PathValue("name")
		return b.RemoveApp(r.Context(), req)
	}))
}

// Grants returns a page of grants.
func (c *Client) Grants(ctx context.Context, q ListQuery) (out GrantList, err error) {
	v := c.values()
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.After != "" {
		v.Set("after", q.After)
	}
	if q.Site != "" {
		v.Set("site", string(q.Site))
	}
	return out, c.do(ctx, http.MethodGet, "/v1/grants?"+v.Encode(), nil, &out)
}

// Grant returns one grant.
func (c *Client) Grant(ctx context.Context, name string) (out GrantStatus, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/grants/"+url.PathEscape(name)+"?"+c.values().Encode(), nil, &out)
}

// RequestGrant asks for the use of a resource.
func (c *Client) RequestGrant(ctx context.Context, r GrantRequest) (out GrantStatus, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/grants", r, &out)
}

// StepGrant makes a step on a grant.
func (c *Client) StepGrant(ctx context.Context, name string, r GrantStepRequest) (out GrantStatus, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/grants/"+url.PathEscape(name)+"/steps", r, &out)
}

// SetCapacity declares the capacity of the node's site.
func (c *Client) SetCapacity(ctx context.Context, r CapacityRequest) (out CapacityRequest, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/capacities", r, &out)
}

// Replicate orders a site to run a release.
func (c *Client) Replicate(ctx context.Context, r ReplicateRequest) (out catalog.ReplicationView, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/replications", r, &out)
}

// RemoveApp removes an application from the node's site.
func (c *Client) RemoveApp(ctx context.Context, r RemoveAppRequest) (out catalog.InstallView, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/installs/"+url.PathEscape(r.App)+"/remove", r, &out)
}
