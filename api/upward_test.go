package api_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// TestWritesSayThatTheyWait: the answer to a write says when there is no link to the
// parent: in the result, and to whoever the client tells; from this node, from the one
// that leads, and on a feed. Reads, rehearsals and a linked site say nothing.
func TestWritesSayThatTheyWait(t *testing.T) {
	since := time.Date(2026, 12, 1, 1, 2, 3, 0, time.UTC)
	waits := &api.Waits{Site: "500101", Since: since, StandIn: "500000"}
	report := api.ReportRequest{Key: "k", Report: event.Report{Type: "1", Title: "x", Priority: 3}}
	leader := newPipes()
	lead := &backend{upward: api.Upward{Waits: waits}}
	serveInner(t, lead, leader)
	for name, row := range map[string]struct {
		b     *backend
		waits bool
	}{
		"here":          {&backend{upward: api.Upward{Waits: waits}}, true},
		"linked":        {&backend{}, false},
		"at the leader": {&backend{leader: "2-x", other: leader}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c, path := serve(t, row.b)
			var noted []api.Waits
			c = c.Noting(func(w api.Waits) { noted = append(noted, w) })
			check := func(what string, got *api.Waits) {
				t.Helper()
				if (got != nil) != row.waits || got != nil && *got != *waits {
					t.Errorf("%s: the result says %+v", what, got)
				}
				if (len(noted) == 1) != row.waits || row.waits && noted[0] != *waits {
					t.Errorf("%s: the client was told %+v", what, noted)
				}
				noted = nil
			}
			w, err := c.Report(limited(t), report)
			if err != nil {
				t.Fatal(err)
			}
			check("report", w.Waits)
			feed := c.Feed()
			w, err = feed.Report(limited(t), report)
			feed.Close()
			if err != nil {
				t.Fatal(err)
			}
			check("feed", w.Waits)
			moved, err := c.ActOnTask(limited(t), "task:x", "k", dispatch.Action{Kind: dispatch.ActionSign})
			if err != nil {
				t.Fatal(err)
			}
			check("task", moved.Waits)
			line := []byte(`{"type":"1","title":"x","priority":3}`)
			many, err := c.ReportBatch(limited(t), "k", 0, nil, line)
			if err != nil {
				t.Fatal(err)
			}
			check("batch", many.Waits)
			if many, err = c.RehearseBatch(limited(t), "k", 0, nil, line); err != nil || many.Waits != nil || len(noted) > 0 {
				t.Errorf("a rehearsal: %+v, told %+v, %v", many, noted, err)
			}
			in, err := c.ImportReadings(limited(t), api.ReadingsRequest{Key: "k", Readings: []api.ReadingRow{{Series: "a"}}})
			if err != nil {
				t.Fatal(err)
			}
			check("readings", in.Waits)
			if _, text := raw(t, path, http.MethodGet, "/v1/events", ""); strings.Contains(text, "waits") {
				t.Errorf("a list says %s", text)
			}
			if _, err := c.Status(limited(t)); err != nil || len(noted) > 0 {
				t.Errorf("status: told %+v, %v", noted, err)
			}
		})
	}
}

// TestRetiredTakesNothingIn: a site that knows that it has ended refuses every write of
// the API, those on a feed, too, and says where to write instead; what concerns its
// nodes, proofs and bundles go on.
func TestRetiredTakesNothingIn(t *testing.T) {
	b := &backend{upward: api.Upward{Retired: true, Instead: "500101"}}
	c, path := serve(t, b)
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	_, text := raw(t, path, http.MethodGet, "/v1/openapi.json", "")
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	goOn := map[string]bool{
		"/v1/repair": true, "/v1/members": true, "/v1/sync/{peer}/prove": true, "/v1/bundle/export": true, "/v1/bundle/import": true,
		"/v1/responders/{code}/check": true, "/v1/alarms:ack": true,
	}
	refused := 0
	for route, methods := range doc.Paths {
		if methods["post"] == nil {
			continue
		}
		name := strings.NewReplacer("{", "", "}", "").Replace(route)
		_, text := raw(t, path, http.MethodPost, name, "{}")
		if is := strings.Contains(text, "this site is retired") && strings.Contains(text, "500101") && strings.Contains(text, `"rejected"`); is == goOn[route] {
			t.Errorf("POST %s: %s", route, text)
		} else if is {
			refused++
		}
	}
	if refused < 30 {
		t.Errorf("%d writes were tried", refused)
	}
	feed := c.Feed()
	defer feed.Close()
	_, err := feed.Report(limited(t), api.ReportRequest{Key: "k", Report: event.Report{Type: "1", Title: "x", Priority: 3}})
	if !errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), "500101") {
		t.Errorf("on a feed: %v", err)
	}
}
