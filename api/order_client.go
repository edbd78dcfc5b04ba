package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// IssueOrder gives an order.
func (c *Client) IssueOrder(ctx context.Context, r OrderRequest) (out OrderResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/orders", r, &out)
}

// StepOrder makes a step of an order.
func (c *Client) StepOrder(ctx context.Context, name, key string, s OrderStep) (out OrderStepResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/orders/"+url.PathEscape(name)+"/steps", OrderStepRequest{Key: key, Step: s}, &out)
}

// ListOrders returns a page of orders.
func (c *Client) ListOrders(ctx context.Context, q ListQuery) (out OrdersPage, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/orders?"+c.page(q).Encode(), nil, &out)
}

// Order tells how far an order is.
func (c *Client) Order(ctx context.Context, name string) (out OrderDetail, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/orders/"+url.PathEscape(name)+"?"+c.values().Encode(), nil, &out)
}

// ListReceipts returns a page of orders at single targets.
func (c *Client) ListReceipts(ctx context.Context, q ReceiptQuery) (out ReceiptsPage, err error) {
	v := c.page(q.ListQuery)
	if q.State != "" {
		v.Set("state", q.State)
	}
	if q.Undelivered {
		v.Set("undelivered", "true")
	}
	if q.Overdue {
		v.Set("overdue", "true")
	}
	return out, c.do(ctx, http.MethodGet, "/v1/receipts?"+v.Encode(), nil, &out)
}

// page is a list's query.
func (c *Client) page(q ListQuery) url.Values {
	v := c.values()
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	for name, value := range map[string]string{"site": string(q.Site), "after": q.After} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return v
}

// SwitchMode switches the mode of an area.
func (c *Client) SwitchMode(ctx context.Context, r ModeRequest) (out ModeResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/mode", r, &out)
}

// Mode returns the mode of a site; of the node's own when it is empty.
func (c *Client) Mode(ctx context.Context, site tiers.SiteID) (out command.Standing, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/mode?"+c.page(ListQuery{Site: site}).Encode(), nil, &out)
}

// ModeHistory returns the switches that reach a site; all when it is empty.
func (c *Client) ModeHistory(ctx context.Context, site tiers.SiteID) (out ModeHistory, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/mode/history?"+c.page(ListQuery{Site: site}).Encode(), nil, &out)
}

// Silence tells which sites below are heard.
func (c *Client) Silence(ctx context.Context, all bool) (out SilenceReport, err error) {
	v := url.Values{"all": {strconv.FormatBool(all)}}
	return out, c.do(ctx, http.MethodGet, silencePath+"?"+v.Encode(), nil, &out)
}

// SetSilence sets a limit of silence.
func (c *Client) SetSilence(ctx context.Context, key string, l command.Limit) (out WriteResult, err error) {
	return out, c.do(ctx, http.MethodPost, silencePath, SilenceRequest{Key: key, Limit: l}, &out)
}
