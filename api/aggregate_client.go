package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Overview counts the open events and tasks of an area.
func (c *Client) Overview(ctx context.Context, q OverviewQuery) (out Overview, err error) {
	v := c.values()
	if q.By != "" {
		v.Set("by", q.By)
	}
	c.setArea(v, string(q.Area), q.Within)
	return out, c.do(ctx, http.MethodGet, "/v1/aggregates/overview?"+v.Encode(), nil, &out)
}

// RollUp adds up the last values of an indicator over an area.
func (c *Client) RollUp(ctx context.Context, q RollUpQuery) (out RollUp, err error) {
	v := c.values()
	c.setArea(v, string(q.Area), q.Within)
	return out, c.do(ctx, http.MethodGet, "/v1/aggregates/indicators/"+url.PathEscape(q.Code)+"?"+v.Encode(), nil, &out)
}

func (c *Client) setArea(v url.Values, area string, within time.Duration) {
	if area != "" {
		v.Set("area", area)
	}
	if within != 0 {
		v.Set("within_s", strconv.FormatInt(int64(within/time.Second), 10))
	}
}
