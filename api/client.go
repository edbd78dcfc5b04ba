package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client talks to one node.
type Client struct {
	addr string
	base string
	http *http.Client
	read string
	note func(Waits) // nil for nobody
}

// bearing adds a token to each request.
type bearing struct {
	token string
	http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (b bearing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.RoundTripper.RoundTrip(r)
}

// CloseIdleConnections does what [http.Client.CloseIdleConnections] asks for.
func (b bearing) CloseIdleConnections() {
	if t, ok := b.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Bearing returns a client whose requests bear a token, which a node asks for over a
// loopback port; see [Token].
func (c *Client) Bearing(token string) *Client {
	other := *c
	h := *c.http
	h.Transport = bearing{token, h.Transport}
	other.http = &h
	return &other
}

// Reading returns a client whose lists and views are read at a level:
// [ReadStale], [ReadLeader] or [ReadLinearizable].
func (c *Client) Reading(level string) *Client {
	other := *c
	other.read = level
	return &other
}

// NewNodeClient returns a client of a node that dial opens connections to.
func NewNodeClient(name string, dial func(ctx context.Context) (net.Conn, error)) *Client {
	return &Client{addr: name, base: "http://" + name, http: &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableKeepAlives: true,
	}}}
}

// NewClient returns a client of the node at "unix:/path" or a host:port. It
// does not connect yet.
func NewClient(addr string) *Client {
	// Of the two idle connections that Go keeps by default, a client that is used
	// by many goroutines would open nearly all of its connections anew.
	pool := &http.Transport{MaxIdleConnsPerHost: idleConnections, IdleConnTimeout: time.Minute}
	c := &Client{addr: addr, base: "http://" + addr, http: &http.Client{Transport: pool}}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		c.base = "http://node"
		pool.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	return c
}

// idleConnections is how many idle connections a client keeps.
const idleConnections = 256

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// do sends a request and decodes the answer. The error wraps one of this
// package's sentinels where the node said which, or [ErrUnreachable].
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var payload io.Reader
	if in != nil {
		b, err := encodeRequest(in)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, payload)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.failed(err, method)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return c.failed(err, method)
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusAccepted {
		if err := json.Unmarshal(b, out); err != nil {
			return fmt.Errorf("decode answer of %s: %w", c.addr, err)
		}
		c.noted(resp.Header)
		return nil
	}
	return c.refusal(resp.Status, b)
}

// encodeRequest makes a request's JSON. A text that is no UTF-8 would be sent as another one:
// the error wraps [ErrInvalid].
func encodeRequest(in any) ([]byte, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("%w: the request cannot be written as JSON: %w", ErrInvalid, err)
	}
	// The encoder writes what it cannot as this escape, and U+FFFD itself as it is.
	for rest := b; ; {
		i := bytes.Index(rest, []byte(`\ufffd`))
		if i < 0 {
			return b, nil
		}
		if slashes := i - len(bytes.TrimRight(rest[:i], `\`)); slashes%2 == 0 {
			return nil, fmt.Errorf("%w: a text is not UTF-8: behind %.40q", ErrInvalid, rest[max(0, i-40):i])
		}
		rest = rest[i+2:]
	}
}

// refusal is the error that an answer carries.
func (c *Client) refusal(status string, b []byte) error {
	var e struct {
		Error Refusal `json:"error"`
	}
	if err := json.Unmarshal(b, &e); err != nil || e.Error.Code == "" {
		return fmt.Errorf("%s answered %s", c.addr, status)
	}
	return e.Error.err()
}

// err is the error that was refused with.
func (r Refusal) err() error {
	if sentinel := fromCode(r.Code); sentinel != nil {
		return fmt.Errorf("%w: %s", sentinel, strings.TrimPrefix(r.Message, sentinel.Error()+": "))
	}
	return errors.New(r.Message)
}

// failed tells a node that was never reached from a write whose answer was
// lost on the way.
func (c *Client) failed(err error, method string) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("%w at %s: is it running, and is --api right? (%w)", ErrUnreachable, c.addr, op.Err)
	}
	if method != http.MethodGet {
		return fmt.Errorf("%w: %s: %w", ErrUnknownOutcome, c.addr, err)
	}
	return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.addr, err)
}

// Status returns the state of the node and its links.
func (c *Client) Status(ctx context.Context) (out Status, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/status", nil, &out)
}

// Scrub reads everything at the node again.
func (c *Client) Scrub(ctx context.Context) (out ScrubReport, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/scrub", nil, &out)
}

// Repair lets the node mend its store from another node of its site.
func (c *Client) Repair(ctx context.Context, r RepairRequest) (out RepairReport, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/repair", r, &out)
}

// Backup copies a backup of the site to w. Only an archive that checks is
// complete.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v1/backup", nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.failed(err, http.MethodGet)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", c.addr, resp.Status)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("backup of %s: %w", c.addr, err)
	}
	return nil
}

// Report reports an event.
func (c *Client) Report(ctx context.Context, r ReportRequest) (out WriteResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/events", r, &out)
}

// List returns a page of a collection: events, tasks, tracks and so on.
func (c *Client) List(ctx context.Context, collection string, q ListQuery) (out Page, err error) {
	v := c.values()
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Site != "" {
		v.Set("site", string(q.Site))
	}
	if q.After != "" {
		v.Set("after", q.After)
	}
	return out, c.do(ctx, http.MethodGet, "/v1/"+collection+"?"+v.Encode(), nil, &out)
}

// View returns the documents of a collection with a name.
func (c *Client) View(ctx context.Context, collection, name string) ([]json.RawMessage, error) {
	var out Page
	err := c.do(ctx, http.MethodGet, "/v1/"+collection+"/"+url.PathEscape(name)+"?"+c.values().Encode(), nil, &out)
	return out.Items, err
}

func (c *Client) values() url.Values {
	v := url.Values{}
	if c.read != "" {
		v.Set("read", c.read)
	}
	return v
}

// Node returns what the node says of itself.
func (c *Client) Node(ctx context.Context) (out NodeInfo, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/node", nil, &out)
}

// Members returns the members of the node's site.
func (c *Client) Members(ctx context.Context) ([]MemberStatus, error) {
	var out MemberList
	err := c.do(ctx, http.MethodGet, "/v1/members", nil, &out)
	return out.Members, err
}

// ChangeMember changes the membership of the node's site.
func (c *Client) ChangeMember(ctx context.Context, change MemberChange) (out MemberStatus, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/members", change, &out)
}
