package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// Review tells what a site knew at a time.
func (c *Client) Review(ctx context.Context, q ReviewQuery) (out Review, err error) {
	v := c.values()
	for name, value := range map[string]string{"site": string(q.Site), "kind": q.Kind, "doc": q.Doc, "after": q.After} {
		if value != "" {
			v.Set(name, value)
		}
	}
	v.Set("at_ms", strconv.FormatInt(q.AtMS, 10))
	v.Set("limit", strconv.Itoa(q.Limit))
	return out, c.do(ctx, http.MethodGet, "/v1/review?"+v.Encode(), nil, &out)
}

// Timeline tells what was done about an event, and when each site learnt of it.
func (c *Client) Timeline(ctx context.Context, name string) (out Timeline, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/review/events/"+url.PathEscape(name)+"?"+c.values().Encode(), nil, &out)
}
