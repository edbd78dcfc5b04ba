package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/tiermesh/tiermesh/tiers"
)

// ImportReadings takes readings in at the node's site.
func (c *Client) ImportReadings(ctx context.Context, r ReadingsRequest) (out ReadingsResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/readings", r, &out)
}

// Readings returns readings or rollups of a series.
func (c *Client) Readings(ctx context.Context, q ReadingsQuery) (out ReadingsPage, err error) {
	v := c.values()
	v.Set("series", q.Series)
	v.Set("by", q.By)
	v.Set("from_ms", strconv.FormatInt(q.FromMS, 10))
	v.Set("to_ms", strconv.FormatInt(q.ToMS, 10))
	v.Set("limit", strconv.Itoa(q.Limit))
	if q.Site != "" {
		v.Set("site", string(q.Site))
	}
	return out, c.do(ctx, http.MethodGet, "/v1/readings?"+v.Encode(), nil, &out)
}

// DefineIndicator writes a definition.
func (c *Client) DefineIndicator(ctx context.Context, r IndicatorRequest) (out WriteResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/indicators", r, &out)
}

// IndicatorState returns what holds of an indicator at a site, this one when empty.
func (c *Client) IndicatorState(ctx context.Context, site tiers.SiteID, code string) (out IndicatorState, err error) {
	v := c.values()
	if site != "" {
		v.Set("site", string(site))
	}
	return out, c.do(ctx, http.MethodGet, "/v1/indicators/"+url.PathEscape(code)+"/state?"+v.Encode(), nil, &out)
}
