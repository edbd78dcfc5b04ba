package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// counted is a backend that counts reports.
type counted struct {
	*backend
	reports atomic.Int64
}

func (c *counted) Report(ctx context.Context, r api.ReportRequest) (api.WriteResult, error) {
	c.reports.Add(1)
	return c.backend.Report(ctx, r)
}

// servePort serves a backend over a loopback port and returns its address and token.
func servePort(t *testing.T, b *counted) (addr, token string) {
	t.Helper()
	token, err := api.Token(filepath.Join(t.TempDir(), "api.token"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := api.Open(api.Config{
		Listen: "127.0.0.1:0", Token: token, Inner: newPipes(), Backend: b, Site: b.backend, Logger: slog.New(slog.DiscardHandler), Gatherer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // ends with ctx
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addr().String(), token
}

const aReport = `{"key":"k","report":{"type":"01001","title":"井盖","priority":3}}`

// TestDoor: what comes over a loopback port names this node as its host, bears its
// token, has a body that no form sends, and comes from no page of another origin; what
// is refused has no effect.
func TestDoor(t *testing.T) {
	b := &counted{backend: &backend{}}
	addr, token := servePort(t, b)
	_, port, _ := strings.Cut(addr, ":")
	bearer := "Bearer " + token
	const jsonType = "application/json"
	for name, c := range map[string]struct {
		method, path, host string
		header             map[string]string
		body               string
		status             int
	}{
		"a report":               {"POST", "/v1/events", addr, map[string]string{"Authorization": bearer, "Content-Type": jsonType}, aReport, 200},
		"by the name localhost":  {"POST", "/v1/events", "localhost:" + port, map[string]string{"Authorization": bearer, "Content-Type": jsonType}, aReport, 200},
		"JSON with a charset":    {"POST", "/v1/events", addr, map[string]string{"Authorization": bearer, "Content-Type": jsonType + "; charset=utf-8"}, aReport, 200},
		"its own page":           {"POST", "/v1/events", addr, map[string]string{"Authorization": bearer, "Content-Type": jsonType, "Sec-Fetch-Site": "same-origin"}, aReport, 200},
		"health without a token": {"GET", "/healthz", addr, nil, "", 200},
		"a list":                 {"GET", "/v1/status", addr, map[string]string{"Authorization": bearer}, "", 200},
		"no token":               {"POST", "/v1/events", addr, map[string]string{"Content-Type": jsonType}, aReport, 401},
		"another token":          {"POST", "/v1/events", addr, map[string]string{"Authorization": bearer + "x", "Content-Type": jsonType}, aReport, 401},
		"a list without a token": {"GET", "/v1/status", addr, nil, "", 401},
		"metrics without one":    {"GET", "/metrics", addr, nil, "", 401},
		"a backup without one":   {"GET", "/v1/backup", addr, nil, "", 401},
		"a rebound name":         {"GET", "/v1/status", "page.example:" + port, map[string]string{"Authorization": bearer}, "", 403},
		"a rebound name, health": {"GET", "/healthz", "page.example:" + port, nil, "", 403},
		"another port":           {"GET", "/v1/status", "127.0.0.1:1", map[string]string{"Authorization": bearer}, "", 403},
		"a page's post":          {"POST", "/v1/events", addr, map[string]string{"Authorization": bearer, "Content-Type": jsonType, "Sec-Fetch-Site": "cross-site"}, aReport, 403},
		"a page's post, by origin": {"POST", "/v1/events", addr, map[string]string{
			"Authorization": bearer, "Content-Type": jsonType, "Origin": "http://page.example",
		}, aReport, 403},
		"another port's page": {"GET", "/v1/status", addr, map[string]string{"Authorization": bearer, "Sec-Fetch-Site": "same-site"}, "", 403},
		"a form":              {"POST", "/v1/events", addr, map[string]string{"Authorization": bearer, "Content-Type": "text/plain"}, aReport, 400},
		"no type":             {"POST", "/v1/events", addr, map[string]string{"Authorization": bearer}, aReport, 400},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+addr+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			for k, v := range c.header {
				req.Header.Set(k, v)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			if err := errors.Join(err, resp.Body.Close()); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d: %s", resp.StatusCode, c.status, text)
			}
		})
	}
	if n := b.reports.Load(); n != 4 {
		t.Errorf("%d reports came in, want 4", n)
	}
}

// TestFeedThroughDoor: a feed over a port needs the token, and no page of another origin
// opens one.
func TestFeedThroughDoor(t *testing.T) {
	b := &counted{backend: &backend{}}
	addr, token := servePort(t, b)
	c := api.NewClient(addr).Bearing(token)
	defer c.Close()
	feed := c.Feed()
	defer feed.Close()
	sent, err := feed.Send(t.Context(), api.ReportRequest{Key: "k", Report: event.Report{Type: "01001", Title: "x", Priority: 3}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sent.Result(t.Context()); err != nil {
		t.Error(err)
	}
	for name, header := range map[string]http.Header{
		"no token":        {},
		"another origin":  {"Authorization": {"Bearer " + token}, "Origin": {"http://page.example"}},
		"a page's socket": {"Authorization": {"Bearer " + token}, "Sec-Fetch-Site": {"cross-site"}},
	} {
		ws, resp, err := websocket.Dial(t.Context(), "ws://"+addr+"/v1/events:feed", &websocket.DialOptions{HTTPHeader: header, Subprotocols: []string{"tiermesh.reports.v1"}}) //nolint:bodyclose // Dial sees to it
		if err == nil {
			t.Errorf("%s: a feed is open", name)
			_ = ws.CloseNow()
			continue
		}
		if resp == nil || resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %v, %v", name, resp, err)
		}
	}
}

// TestTokenRefusals: a token's file is its owner's alone; a new one is made where there
// is none, and the same one comes back.
func TestTokenRefusals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.token")
	first, err := api.Token(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if again, err := api.Token(path); err != nil || again != first {
		t.Errorf("%q, then %q, %v", first, again, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Token(path); !errors.Is(err, api.ErrAddress) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file for all: %v", err)
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("short\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Token(path); !errors.Is(err, api.ErrAddress) {
		t.Errorf("a short token: %v", err)
	}
}
