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
	"strings"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

func eventPath(id tiers.DocID, rest string) string {
	return "/v1/events/" + url.PathEscape(string(id)) + rest
}

// ReportBatch reports a batch of JSON lines; see [BatchRequest] for key, first and
// places.
func (c *Client) ReportBatch(ctx context.Context, key string, first int, places []string, body []byte) (BatchResult, error) {
	return c.reportBatch(ctx, batchValues(key, first, places), body)
}

// RehearseBatch says what [Client.ReportBatch] would do; nothing is written.
func (c *Client) RehearseBatch(ctx context.Context, key string, first int, places []string, body []byte) (BatchResult, error) {
	v := batchValues(key, first, places)
	v.Set("dry_run", "true")
	return c.reportBatch(ctx, v, body)
}

func batchValues(key string, first int, places []string) url.Values {
	v := url.Values{"key": {key}, "first": {strconv.Itoa(first)}}
	if places != nil {
		v.Set("places", strings.Join(places, ","))
	}
	return v
}

func (c *Client) reportBatch(ctx context.Context, v url.Values, body []byte) (out BatchResult, err error) {
	b, err := c.raw(ctx, http.MethodPost, batchPath+"?"+v.Encode(), ndjson, body)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	return out, err
}

// raw sends and receives bytes as they are.
func (c *Client) raw(ctx context.Context, method, path, kind string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	req.Header.Set("Content-Type", kind)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.failed(err, method)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, c.failed(err, method)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, c.refusal(resp.Status, b)
	}
	c.noted(resp.Header)
	return b, nil
}

// ListEvents returns a page of events.
func (c *Client) ListEvents(ctx context.Context, q EventQuery) (out Page, err error) {
	v := c.values()
	for name, value := range map[string]string{"site": string(q.Site), "after": q.After, "state": q.State, "type": q.Type} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, value := range map[string]int64{"limit": int64(q.Limit), "priority": int64(q.Priority), "since": q.SinceMS, "until": q.UntilMS} {
		if value != 0 {
			v.Set(name, strconv.FormatInt(value, 10))
		}
	}
	return out, c.do(ctx, http.MethodGet, "/v1/events?"+v.Encode(), nil, &out)
}

// ActOnEvent makes an action on an event.
func (c *Client) ActOnEvent(ctx context.Context, r EventActionRequest) (out EventResult, err error) {
	return out, c.do(ctx, http.MethodPost, eventPath(r.Event, "/actions"), r, &out)
}

// CorrectEvent corrects fields of an event's report.
func (c *Client) CorrectEvent(ctx context.Context, r CorrectRequest) (out EventResult, err error) {
	return out, c.do(ctx, http.MethodPatch, eventPath(r.Event, ""), r, &out)
}

// MergeEvents says that two events are one.
func (c *Client) MergeEvents(ctx context.Context, r MergeRequest) (out EventResult, err error) {
	return out, c.do(ctx, http.MethodPost, eventPath(r.Event, "/merge"), r, &out)
}

// UnmergeEvents says that two events are not one.
func (c *Client) UnmergeEvents(ctx context.Context, r MergeRequest) (out EventResult, err error) {
	return out, c.do(ctx, http.MethodPost, eventPath(r.Event, "/unmerge"), r, &out)
}

// Suspects lists what an event may be a duplicate of.
func (c *Client) Suspects(ctx context.Context, id tiers.DocID) (out SuspectList, err error) {
	return out, c.do(ctx, http.MethodGet, eventPath(id, "/suspects?"+c.values().Encode()), nil, &out)
}

// SuspectPairs lists which recent events may be duplicates of which.
func (c *Client) SuspectPairs(ctx context.Context, q SuspectQuery) (out SuspectPairList, err error) {
	v := c.values()
	if q.SinceMS != 0 {
		v.Set("since", strconv.FormatInt(q.SinceMS, 10))
	}
	if q.Events != 0 {
		v.Set("events", strconv.Itoa(q.Events))
	}
	return out, c.do(ctx, http.MethodGet, "/v1/events:suspects?"+v.Encode(), nil, &out)
}

// Attach attaches a file whose parts were put.
func (c *Client) Attach(ctx context.Context, r AttachRequest) (out EventResult, err error) {
	return out, c.do(ctx, http.MethodPost, eventPath(r.Event, "/attachments"), r, &out)
}

// Attachments lists what is attached to an event.
func (c *Client) Attachments(ctx context.Context, id tiers.DocID) (out AttachmentList, err error) {
	return out, c.do(ctx, http.MethodGet, eventPath(id, "/attachments?"+c.values().Encode()), nil, &out)
}

// PutBlob sends a part of an attachment.
func (c *Client) PutBlob(ctx context.Context, data []byte) (out BlobResult, err error) {
	b, err := c.raw(ctx, http.MethodPost, "/v1/blobs", "application/octet-stream", data)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	return out, err
}

// Blob returns a part of an attachment, by its SHA-256.
func (c *Client) Blob(ctx context.Context, sha string) ([]byte, error) {
	b, err := c.raw(ctx, http.MethodGet, "/v1/blobs/"+url.PathEscape(sha)+"?"+c.values().Encode(), "", nil)
	if err == nil && event.BlobID(b) != tiers.NewDocID(event.KindBlob, sha) {
		return nil, fmt.Errorf("%w: part %s: %s sent something else", event.ErrInvalid, sha, c.addr)
	}
	return b, err
}

func (c *Client) quarantineValues(q QuarantineQuery) url.Values {
	v := c.values()
	for name, value := range map[string]string{
		"site": string(q.Site), "after": q.After, "state": q.State, "reason": q.Reason, "type": q.Type, "file": q.File,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// ListQuarantine lists what is held in quarantine.
func (c *Client) ListQuarantine(ctx context.Context, q QuarantineQuery) (out Page, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/quarantine?"+c.quarantineValues(q).Encode(), nil, &out)
}

// SummarizeQuarantine counts what is held in quarantine.
func (c *Client) SummarizeQuarantine(ctx context.Context, q QuarantineQuery) (out QuarantineSummary, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/quarantine:summary?"+c.quarantineValues(q).Encode(), nil, &out)
}

// ReleaseMany makes events of a page of what is held.
func (c *Client) ReleaseMany(ctx context.Context, r ManyRequest) (out ManyResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/quarantine:release", r, &out)
}

// DiscardMany says of a page of what is held why it is no event.
func (c *Client) DiscardMany(ctx context.Context, r ManyRequest) (out ManyResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/quarantine:discard", r, &out)
}

func quarantinePath(id tiers.DocID, rest string) string {
	return "/v1/quarantine/" + url.PathEscape(string(id)) + rest
}

// Quarantined returns what is held under an identifier.
func (c *Client) Quarantined(ctx context.Context, id tiers.DocID) (out json.RawMessage, err error) {
	return out, c.do(ctx, http.MethodGet, quarantinePath(id, "?"+c.values().Encode()), nil, &out)
}

// Release makes an event of what is held.
func (c *Client) Release(ctx context.Context, r ReleaseRequest) (out WriteResult, err error) {
	return out, c.do(ctx, http.MethodPost, quarantinePath(r.ID, "/release"), r, &out)
}

// Discard says why what is held is no event.
func (c *Client) Discard(ctx context.Context, r DiscardRequest) (out WriteResult, err error) {
	return out, c.do(ctx, http.MethodPost, quarantinePath(r.ID, "/discard"), r, &out)
}
