package api

import (
	"context"
	"net/http"
	"net/url"

	"github.com/tiermesh/tiermesh/tiers/responder"
)

// Explain is a dry run of the dispatch of an event.
func (c *Client) Explain(ctx context.Context, event string) (out Explanation, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/dispatch/"+url.PathEscape(event)+"/explanation?"+c.values().Encode(), nil, &out)
}

// PublishRules writes dispatch rules to the site's catalog.
func (c *Client) PublishRules(ctx context.Context, r RulesRequest) (out RulesResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/rules", r, &out)
}

// Units lists the units that the site knows.
func (c *Client) Units(ctx context.Context) (out UnitList, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/responders?"+c.values().Encode(), nil, &out)
}

// RegisterUnit adds a unit to the site's registry.
func (c *Client) RegisterUnit(ctx context.Context, r UnitRequest) (out UnitStatus, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/responders", r, &out)
}

func unitPath(code, what string) string { return "/v1/responders/" + url.PathEscape(code) + what }

// SetUnit sets a unit's availability and place.
func (c *Client) SetUnit(ctx context.Context, code string, r UnitSetRequest) (out UnitStatus, err error) {
	return out, c.do(ctx, http.MethodPatch, unitPath(code, ""), r, &out)
}

// ClaimUnit gives a unit to a holder.
func (c *Client) ClaimUnit(ctx context.Context, code string, r UnitClaimRequest) (out responder.Order, err error) {
	return out, c.do(ctx, http.MethodPost, unitPath(code, "/claim"), r, &out)
}

// ReleaseUnit frees a unit.
func (c *Client) ReleaseUnit(ctx context.Context, code string, r UnitReleaseRequest) (out UnitStatus, err error) {
	return out, c.do(ctx, http.MethodPost, unitPath(code, "/release"), r, &out)
}

// CheckUnit tells what a unit's terminal would do about an epoch.
func (c *Client) CheckUnit(ctx context.Context, code string, r UnitCheckRequest) (out UnitVerdict, err error) {
	return out, c.do(ctx, http.MethodPost, unitPath(code, "/check"), r, &out)
}

// AskUnit asks another site for a unit.
func (c *Client) AskUnit(ctx context.Context, r UnitAskRequest) (out responder.RequestView, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/unitrequests", r, &out)
}

// ReturnUnit gives a unit back that another site granted.
func (c *Client) ReturnUnit(ctx context.Context, name string, r KeyRequest) (out responder.RequestView, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/unitrequests/"+url.PathEscape(name)+"/return", r, &out)
}

// Lend lends units of the site to a site below.
func (c *Client) Lend(ctx context.Context, r LendRequest) (out responder.PoolView, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/pools", r, &out)
}

// ChangePool extends or ends a lease.
func (c *Client) ChangePool(ctx context.Context, name string, r PoolRequest) (out responder.PoolView, err error) {
	return out, c.do(ctx, http.MethodPatch, "/v1/pools/"+url.PathEscape(name), r, &out)
}
