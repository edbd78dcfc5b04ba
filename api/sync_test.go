package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
)

// synced is what reached the backend's part for links and bundles.
type synced struct {
	status   api.SyncQuery
	forecast api.ForecastQuery
	export   api.ExportQuery
	peer     tiers.SiteID
	taken    int64
	// early answers an import before its body was read.
	early bool
}

func (b *backend) SyncStatus(_ context.Context, q api.SyncQuery) (api.SyncStatus, error) {
	b.synced.status = q
	return api.SyncStatus{Site: "500101"}, b.err
}

func (b *backend) Forecast(_ context.Context, q api.ForecastQuery) (api.Forecast, error) {
	b.synced.forecast = q
	return api.Forecast{Peer: q.Peer}, b.err
}

func (b *backend) Prove(_ context.Context, peer tiers.SiteID) (api.ProveResult, error) {
	b.synced.peer = peer
	return api.ProveResult{Equal: true, Certificate: []byte(`{"a":1}`)}, b.err
}

func (b *backend) ExportBundle(_ context.Context, q api.ExportQuery, w io.Writer) error {
	b.synced.export = q
	if b.synced.early {
		return b.err
	}
	_, err := io.WriteString(w, "bundle")
	return errors.Join(err, b.err)
}

func (b *backend) ImportBundle(_ context.Context, r io.Reader) (api.ImportReport, error) {
	if b.synced.early {
		return api.ImportReport{}, b.err
	}
	n, err := io.Copy(io.Discard, r)
	b.synced.taken = n
	return api.ImportReport{New: 7}, errors.Join(err, b.err)
}

func (b *backend) RequestBundle(_ context.Context, from tiers.SiteID, w io.Writer) error {
	_, err := fmt.Fprintf(w, "request %s", from)
	return errors.Join(err, b.err)
}

// endless yields n bytes.
func endless(n int64) io.Reader { return io.LimitReader(zeros{}, n) }

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// bundleBytes is more than any buffer or limit of other bodies.
const bundleBytes = 40 << 20

func TestSyncRoundTrip(t *testing.T) {
	b := &backend{}
	c, path := serve(t, b)
	ctx := limited(t)
	if s, err := c.SyncStatus(ctx, api.SyncQuery{Peer: "500000", Streams: true}); err != nil || s.Site != "500101" || b.synced.status != (api.SyncQuery{Peer: "500000", Streams: true}) {
		t.Errorf("status: %+v, %v", s, err)
	}
	if f, err := c.Forecast(ctx, api.ForecastQuery{Peer: "500000", RateBPS: 62500}); err != nil || f.Peer != "500000" || b.synced.forecast.RateBPS != 62500 {
		t.Errorf("forecast: %+v, %v", f, err)
	}
	if r, err := c.Prove(ctx, "500000"); err != nil || !r.Equal || string(r.Certificate) != `{"a":1}` || b.synced.peer != "500000" {
		t.Errorf("prove: %+v, %v", r, err)
	}
	var out bytes.Buffer
	if err := c.ExportBundle(ctx, api.ExportQuery{For: "500000", Full: true, Have: []byte("have")}, &out); err != nil || out.String() != "bundle" ||
		b.synced.export.For != "500000" || !b.synced.export.Full || string(b.synced.export.Have) != "have" {
		t.Errorf("export: %q, %v, %+v", out.String(), err, b.synced.export)
	}
	if r, err := c.ImportBundle(ctx, endless(bundleBytes)); err != nil || r.New != 7 || b.synced.taken != bundleBytes {
		t.Errorf("import: %+v, %v, %d bytes", r, err, b.synced.taken)
	}
	out.Reset()
	if err := c.RequestBundle(ctx, "500000", &out); err != nil || out.String() != "request 500000" {
		t.Errorf("request: %q, %v", out.String(), err)
	}
	for target, want := range map[string]string{
		"/v1/sync?streams=perhaps": "true or false", "/v1/sync/1/forecast?rate_bps=-1": "bytes a second", "/v1/sync/1/forecast?rate_bps=NaN": "bytes a second",
	} {
		if status, body := raw(t, path, "GET", target, ""); status != 400 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", target, status, body)
		}
	}
	if status, body := raw(t, path, "POST", "/v1/bundle/export?full=perhaps", ""); status != 400 {
		t.Errorf("full=perhaps: %d %s", status, body)
	}
}

// TestBundleErrors: an error before the first byte arrives as itself, also when
// the body is still on its way; a later one breaks the answer off.
func TestBundleErrors(t *testing.T) {
	b := &backend{err: fmt.Errorf("%w: for a reason", api.ErrInvalid), synced: synced{early: true}}
	c, _ := serve(t, b)
	if _, err := c.ImportBundle(limited(t), endless(bundleBytes)); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "for a reason") {
		t.Errorf("import: %v", err)
	}
	if err := c.ExportBundle(limited(t), api.ExportQuery{}, io.Discard); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "for a reason") {
		t.Errorf("export: %v", err)
	}
	b.synced.early = false
	if err := c.ExportBundle(limited(t), api.ExportQuery{}, io.Discard); err == nil {
		t.Error("an export that broke off passes")
	}
}

// TestBundleForward: a node that does not lead passes a bundle on while it comes,
// however large.
func TestBundleForward(t *testing.T) {
	inner := newPipes()
	leader, follower := &backend{}, &backend{leader: "2-x", other: inner}
	serveInner(t, leader, inner)
	c, _ := serve(t, follower)
	if r, err := c.ImportBundle(limited(t), endless(bundleBytes)); err != nil || r.New != 7 || leader.synced.taken != bundleBytes || follower.synced.taken != 0 {
		t.Errorf("import: %+v, %v, %d bytes at the leader", r, err, leader.synced.taken)
	}
	var out bytes.Buffer
	if err := c.ExportBundle(limited(t), api.ExportQuery{For: "500000"}, &out); err != nil || out.String() != "bundle" || leader.synced.export.For != "500000" {
		t.Errorf("export: %q, %v", out.String(), err)
	}
	if _, err := c.SyncStatus(limited(t), api.SyncQuery{Peer: "1"}); err != nil || leader.synced.status.Peer != "1" {
		t.Errorf("status: %v, %+v", err, leader.synced.status)
	}
	lost, _ := serve(t, &backend{leader: "3-x"})
	if _, err := lost.ImportBundle(limited(t), endless(bundleBytes)); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("no leader that answers: %v", err)
	}
}
