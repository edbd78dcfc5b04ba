package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/tiermesh/tiermesh/tiers"
)

// fromLeader is the query of reads that only the leader can answer: it has the
// links.
func fromLeader() url.Values { return url.Values{"read": {ReadLeader}} }

// SyncStatus returns the state of the site's links.
func (c *Client) SyncStatus(ctx context.Context, q SyncQuery) (out SyncStatus, err error) {
	v := fromLeader()
	if q.Peer != "" {
		v.Set("peer", string(q.Peer))
	}
	if q.Streams {
		v.Set("streams", "true")
	}
	return out, c.do(ctx, http.MethodGet, "/v1/sync?"+v.Encode(), nil, &out)
}

// Forecast says what a reconnection to a peer would move.
func (c *Client) Forecast(ctx context.Context, q ForecastQuery) (out Forecast, err error) {
	v := fromLeader()
	if q.RateBPS != 0 {
		v.Set("rate_bps", strconv.FormatFloat(q.RateBPS, 'f', -1, 64))
	}
	return out, c.do(ctx, http.MethodGet, "/v1/sync/"+url.PathEscape(string(q.Peer))+"/forecast?"+v.Encode(), nil, &out)
}

// Prove asks a peer whether both sites hold the same.
func (c *Client) Prove(ctx context.Context, peer tiers.SiteID) (out ProveResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/sync/"+url.PathEscape(string(peer))+"/prove", nil, &out)
}

// ExportBundle copies a bundle to w. Only one that checks is complete.
func (c *Client) ExportBundle(ctx context.Context, q ExportQuery, w io.Writer) error {
	v := url.Values{"for": {string(q.For)}}
	if q.Full {
		v.Set("full", "true")
	}
	return c.copy(ctx, http.MethodPost, "/v1/bundle/export?"+v.Encode(), bytes.NewReader(q.Have), w)
}

// RequestBundle copies to w what the node's site holds of what it shares with
// another.
func (c *Client) RequestBundle(ctx context.Context, from tiers.SiteID, w io.Writer) error {
	v := fromLeader()
	v.Set("from", string(from))
	return c.copy(ctx, http.MethodGet, "/v1/bundle/request?"+v.Encode(), nil, w)
}

// ImportBundle hands a bundle over. Memory is bounded whatever its size.
func (c *Client) ImportBundle(ctx context.Context, r io.Reader) (out ImportReport, err error) {
	var b bytes.Buffer
	if err := c.copy(ctx, http.MethodPost, "/v1/bundle/import", r, &b); err != nil {
		return out, err
	}
	if err := json.Unmarshal(b.Bytes(), &out); err != nil {
		return out, fmt.Errorf("decode answer of %s: %w", c.addr, err)
	}
	return out, nil
}

// copy sends a request and copies the answer to w as it comes.
func (c *Client) copy(ctx context.Context, method, path string, in io.Reader, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, in)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.failed(err, method)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return c.failed(err, method)
		}
		return c.refusal(resp.Status, b)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("%w: the answer of %s broke off: %w", ErrUnavailable, c.addr, err)
	}
	return nil
}
