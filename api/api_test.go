package api_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend records what reached it and answers with what a test wants.
type backend struct {
	err     error
	query   api.ListQuery
	edit    api.EditRequest
	hang    chan struct{}
	synced  synced
	tasked  tasked
	tracked tracked
	events  evented

	// leader is the member that leads; empty for this node. other is that
	// member's API.
	leader     string
	other      net.Listener
	linearized int
	change     api.MemberChange
	moves      []string // the leaders that are heard of next
	upward     api.Upward
	acked      api.AlarmAck
}

// pipes accepts what is dialled in memory.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.once.Do(func() { close(p.done) }); return nil }

func (*pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (b *backend) Leader(context.Context) (string, bool, error) {
	if len(b.moves) > 0 {
		b.leader, b.moves = b.moves[0], b.moves[1:]
	}
	return b.leader, b.leader == "", nil
}

func (b *backend) Upward() api.Upward { return b.upward }

func (b *backend) Linearize(context.Context) error { b.linearized++; return nil }

func (b *backend) DialMember(ctx context.Context, id string) (net.Conn, error) {
	p, ok := b.other.(*pipes)
	if !ok || id != b.leader {
		return nil, errors.New("nobody there")
	}
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *backend) Node(context.Context) (api.NodeInfo, error) {
	return api.NodeInfo{Node: 1, ID: "1-x"}, b.err
}

func (b *backend) Members(context.Context) ([]api.MemberStatus, error) {
	return []api.MemberStatus{{ID: "1-x", Role: "leader"}}, b.err
}

func (b *backend) ChangeMember(_ context.Context, c api.MemberChange) (api.MemberStatus, error) {
	b.change = c
	return api.MemberStatus{ID: "2-x"}, b.err
}

func (b *backend) Status(context.Context) (api.Status, error) {
	return api.Status{Site: "500101", Links: []api.LinkStatus{{Peer: "500000"}}, Findings: api.Findings{Alarms: []string{}}}, b.err
}

func (b *backend) Report(_ context.Context, r api.ReportRequest) (api.WriteResult, error) {
	if b.hang != nil {
		<-b.hang
	}
	return api.WriteResult{ID: "event:" + "x", Stream: r.Key, Seq: 7, Held: b.events.held}, b.err
}

func (b *backend) List(_ context.Context, q api.ListQuery) (api.Page, error) {
	b.query = q
	return api.Page{Items: []json.RawMessage{[]byte(`{"id":"a"}`)}, Next: "n"}, b.err
}

func (b *backend) View(_ context.Context, kind, name string) ([]json.RawMessage, error) {
	return []json.RawMessage{[]byte(fmt.Sprintf(`{"id":"%s:%s"}`, kind, name))}, b.err
}

func (b *backend) Resolve(_ context.Context, kind, text string) (tiers.DocID, error) {
	return tiers.NewDocID(kind, "whole-"+text), b.err
}

func (b *backend) EditTrack(_ context.Context, r api.EditRequest) (api.WriteResult, error) {
	b.edit = r
	return api.WriteResult{Seq: 1}, b.err
}

func (b *backend) Backup(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "archive")
	return errors.Join(err, b.err)
}

func (b *backend) Repair(_ context.Context, r api.RepairRequest) (api.RepairReport, error) {
	return api.RepairReport{From: r.From, Before: []api.ScrubFinding{{What: "x"}}}, b.err
}
func (b *backend) Scrub(context.Context) (api.ScrubReport, error) {
	return api.ScrubReport{Records: 3, Findings: []api.ScrubFinding{{What: "x"}}}, b.err
}

func (b *backend) Topology(context.Context) (tiers.TopologyDoc, error) {
	return tiers.TopologyDoc{Federation: "cq", Version: 3, Sites: []tiers.Site{{ID: "500000", Tier: tiers.TierCity}}}, b.err
}

func (b *backend) PublishTopology(_ context.Context, r api.TopologyRequest) (api.TopologyResult, error) {
	return api.TopologyResult{Base: r.Base, Version: r.Topology.Version, Published: !r.DryRun}, b.err
}

// TestTopology: the client reads and publishes topologies.
func TestTopology(t *testing.T) {
	c, path := serve(t, &backend{})
	top, err := c.Topology(limited(t))
	if err != nil || top.Version() != 3 || top.City() != "500000" {
		t.Fatalf("%+v, %v", top, err)
	}
	r, err := c.PublishTopology(limited(t), api.TopologyRequest{Key: "k", Base: 3, DryRun: true, Topology: tiers.TopologyDoc{Version: 4}})
	if err != nil || r.Base != 3 || r.Version != 4 || r.Published {
		t.Errorf("%+v, %v", r, err)
	}
	if status, _ := raw(t, path, "POST", "/v1/topology", `{"topology":{"version":4}}`); status != 400 {
		t.Errorf("without a key: %d", status)
	}
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// serve starts a server on a Unix socket.
func serve(t *testing.T, b *backend) (*api.Client, string) {
	t.Helper()
	return serveInner(t, b, newPipes())
}

// serveInner starts a server that other nodes reach through inner, too.
func serveInner(t *testing.T, b *backend, inner net.Listener) (*api.Client, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "api.sock")
	s, err := api.Open(api.Config{Listen: "unix:" + path, Inner: inner, Backend: b, Site: b, Logger: slog.New(slog.DiscardHandler), Gatherer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- s.Run(ctx) }() // ends with ctx
	c := api.NewClient("unix:" + path)
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c, path
}

// raw sends a request as it is and returns status and body.
func raw(t *testing.T, path, method, target, body string) (int, string) {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(limited(t), method, "http://node"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestRoundTrip(t *testing.T) {
	b := &backend{}
	c, _ := serve(t, b)
	if s, err := c.Status(limited(t)); err != nil || s.Site != "500101" || s.Links[0].Peer != "500000" {
		t.Errorf("status: %+v, %v", s, err)
	}
	if w, err := c.Report(limited(t), api.ReportRequest{Key: "k"}); err != nil || w.Stream != "k" || w.Seq != 7 {
		t.Errorf("report: %+v, %v", w, err)
	}
	p, err := c.List(limited(t), "events", api.ListQuery{Site: "500101", Limit: 3, After: "x"})
	if err != nil || p.Next != "n" || len(p.Items) != 1 || b.query != (api.ListQuery{Kind: "event", Site: "500101", Limit: 3, After: "x"}) {
		t.Errorf("list: %+v, %v, %+v", p, err, b.query)
	}
	if v, err := c.View(limited(t), "tracks", "flood control"); err != nil || string(v[0]) != `{"id":"track:flood control"}` {
		t.Errorf("view: %s, %v", v, err)
	}
	if r, err := c.Scrub(limited(t)); err != nil || r.Records != 3 || r.Findings[0].What != "x" {
		t.Errorf("scrub: %+v, %v", r, err)
	}
	var archive strings.Builder
	if err := c.Backup(limited(t), &archive); err != nil || archive.String() != "archive" {
		t.Errorf("backup: %q, %v", archive.String(), err)
	}
	if _, err := c.EditTrack(limited(t), api.EditRequest{Key: "k", Site: "500101", Code: "flood", Fields: map[string]string{"target": "x"}}); err != nil ||
		b.edit.Site != "500101" || b.edit.Code != "flood" || b.edit.Key != "k" || b.edit.Fields["target"] != "x" {
		t.Errorf("edit: %+v, %v", b.edit, err)
	}
}

// TestForward: a node that does not lead passes writes on to the one that does,
// and reads that ask for it; what it cannot pass on had no effect, or is
// unknown, and says so.
func TestForward(t *testing.T) {
	inner := newPipes()
	leader, follower := &backend{}, &backend{leader: "2-x", other: inner}
	serveInner(t, leader, inner)
	c, _ := serve(t, follower)
	if w, err := c.Report(limited(t), api.ReportRequest{Key: "k"}); err != nil || w.Stream != "k" {
		t.Errorf("report: %+v, %v", w, err)
	}
	if _, err := c.ChangeMember(limited(t), api.MemberChange{Do: api.MemberPromote, ID: "3"}); err != nil || leader.change.ID != "3" || follower.change.ID != "" {
		t.Errorf("change: %+v at the leader, %+v here, %v", leader.change, follower.change, err)
	}
	for _, row := range []struct {
		read             string
		atLeader, atSelf string
		linearized       int
	}{
		{"", "", "a", 0}, {api.ReadStale, "", "a", 0}, {api.ReadLeader, "a", "", 0}, {api.ReadLinearizable, "a", "", 1},
	} {
		leader.query, follower.query, leader.linearized = api.ListQuery{}, api.ListQuery{}, 0
		if _, err := c.Reading(row.read).List(limited(t), "events", api.ListQuery{After: "a"}); err != nil ||
			leader.query.After != row.atLeader || follower.query.After != row.atSelf || leader.linearized != row.linearized {
			t.Errorf("read %q: leader %+v, self %+v, %d barriers, %v", row.read, leader.query, follower.query, leader.linearized, err)
		}
	}
	// It lost the leadership: the follower hears of the new one, itself, and
	// serves the request.
	leader.leader = "1-x"
	follower.moves = []string{"2-x", "2-x", ""}
	if w, err := c.Report(limited(t), api.ReportRequest{Key: "again"}); err != nil || w.Stream != "again" {
		t.Errorf("the leadership moved: %+v, %v", w, err)
	}
}

// TestForwardFails: what cannot be passed on had no effect, or is unknown, and
// says so.
func TestForwardFails(t *testing.T) {
	follower := &backend{leader: "3-x"}
	c, _ := serve(t, follower)
	short, cancel := context.WithTimeout(limited(t), 300*time.Millisecond)
	defer cancel()
	if _, err := c.Report(short, api.ReportRequest{Key: "k"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a leader that is not reached: %v", err)
	}
	broken := newPipes()
	c, _ = serve(t, &backend{leader: "3-x", other: broken}) // the first one may still be trying
	attempts := make(chan struct{}, 100)
	go func() { // ends with broken
		for {
			far, err := broken.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadAtLeast(far, make([]byte, 4096), 100)
			attempts <- struct{}{}
			_ = far.Close()
		}
	}()
	defer func() { _ = broken.Close() }()
	if _, err := c.ChangeMember(limited(t), api.MemberChange{Do: api.MemberRemove, ID: "3"}); !errors.Is(err, api.ErrUnknownOutcome) {
		t.Errorf("a leader that breaks off: %v", err)
	}
	if n := len(attempts); n != 1 {
		t.Errorf("a change of membership was tried %d times", n)
	}
	<-attempts
	again, cancel := context.WithCancel(limited(t))
	defer cancel()
	go func() { // ends with the second attempt, or the write
		for range 2 {
			select {
			case <-attempts:
			case <-again.Done():
			}
		}
		cancel()
	}()
	if _, err := c.Report(again, api.ReportRequest{Key: "k"}); err == nil {
		t.Error("reported to nobody")
	}
	if !errors.Is(context.Cause(again), context.Canceled) {
		t.Error("a write with a key was not tried again")
	}
}

// TestInnerClosedFirst: a node that is killed closes its endpoint before its
// server; that is no failure of the server, whose Run goes on.
func TestInnerClosedFirst(t *testing.T) {
	inner := newPipes()
	c, _ := serveInner(t, &backend{}, inner) // fails the test when Run does
	if err := inner.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(limited(t)); err != nil {
		t.Error(err)
	}
}

// TestMemberRefusals: a change that lacks what it needs is refused by name.
func TestMemberRefusals(t *testing.T) {
	_, path := serve(t, &backend{})
	for body, want := range map[string]string{
		`{"do":"add","node":2}`: "addr", `{"do":"remove"}`: "id", `{"do":"promote"}`: "id", `{"do":"x"}`: "transfer", `{"x":1}`: "x",
	} {
		if status, text := raw(t, path, "POST", "/v1/members", body); status != 400 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	if status, text := raw(t, path, "GET", "/v1/events?read=soon", ""); status != 400 || !strings.Contains(text, "linearizable") {
		t.Errorf("read=soon: %d %s", status, text)
	}
}

// TestBrokenBackup: a backup that breaks off half-way is an error.
func TestBrokenBackup(t *testing.T) {
	c, _ := serve(t, &backend{err: errors.New("half-way")})
	var archive strings.Builder
	if err := c.Backup(limited(t), &archive); err == nil {
		t.Errorf("it passes, with %q", archive.String())
	}
}

// TestErrorsArrive: what a backend's error wraps, the client's error wraps,
// with its text.
func TestErrorsArrive(t *testing.T) {
	for sentinel, status := range map[error]int{
		api.ErrInvalid: 400, api.ErrNotFound: 404, api.ErrRejected: 409, api.ErrUnknownOutcome: 504, api.ErrUnavailable: 503,
	} {
		b := &backend{err: fmt.Errorf("%w: for a reason", sentinel)}
		c, path := serve(t, b)
		_, err := c.Report(limited(t), api.ReportRequest{Key: "k"})
		if !errors.Is(err, sentinel) || err.Error() != sentinel.Error()+": for a reason" {
			t.Errorf("%v arrives as %v", sentinel, err)
		}
		if got, _ := raw(t, path, "GET", "/v1/status", ""); got != status {
			t.Errorf("%v: status %d, want %d", sentinel, got, status)
		}
	}
	c, _ := serve(t, &backend{err: errors.New("disk on fire")})
	if _, err := c.Status(limited(t)); err == nil || !strings.Contains(err.Error(), "disk on fire") || errors.Is(err, api.ErrInvalid) {
		t.Errorf("an internal error: %v", err)
	}
}

func TestRequestRefusals(t *testing.T) {
	_, path := serve(t, &backend{})
	for name, row := range map[string]struct {
		method, target, body string
		status               int
		want                 string
	}{
		"no JSON":           {"POST", "/v1/events", "{", 400, "body"},
		"unknown field":     {"POST", "/v1/events", `{"key":"k","colour":1}`, 400, "colour"},
		"unknown in report": {"POST", "/v1/events", `{"key":"k","report":{"x":1}}`, 400, `x`},
		"two values":        {"POST", "/v1/events", `{"key":"k"}{}`, 400, "more than one"},
		"no key":            {"POST", "/v1/events", `{}`, 400, "retry safe"},
		"long key":          {"POST", "/v1/events", `{"key":"` + strings.Repeat("k", 129) + `"}`, 400, "129"},
		"2 MB":              {"POST", "/v1/events", `{"key":"` + strings.Repeat("k", 2<<20) + `"}`, 400, "over 1048576"},
		"limit 0":           {"GET", "/v1/events?limit=0", "", 400, "1 to 1000"},
		"limit 1001":        {"GET", "/v1/events?limit=1001", "", 400, "1 to 1000"},
		"unknown parameter": {"GET", "/v1/events?colour=red", "", 400, "colour"},
		"unknown list":      {"GET", "/v1/colours", "", 404, "/v1/colours"},
		"unknown view":      {"GET", "/v1/colours/red", "", 404, "/v1/colours"},
		"bad site":          {"PATCH", "/v1/tracks/a%2Fb/x", `{"key":"k"}`, 400, "site"},
		"no path":           {"GET", "/", "", 404, ""},
		"wrong method":      {"DELETE", "/v1/events", "", 405, ""},
	} {
		if status, body := raw(t, path, row.method, row.target, row.body); status != row.status || !strings.Contains(body, row.want) {
			t.Errorf("%s: %d %s, want %d with %q", name, status, body, row.status, row.want)
		}
	}
	if status, body := raw(t, path, "GET", "/healthz", ""); status != 200 || body != "ok\n" {
		t.Errorf("health: %d %q", status, body)
	}
	if status, _ := raw(t, path, "GET", "/metrics", ""); status != 200 {
		t.Errorf("metrics: %d", status)
	}
}

// TestOpenAPI: the document that the node serves names what the node answers,
// with the fields that the structs have.
func TestOpenAPI(t *testing.T) {
	_, path := serve(t, &backend{})
	_, text := raw(t, path, "GET", "/v1/openapi.json", "")
	var doc struct {
		Paths      map[string]map[string]any `json:"paths"`
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any `json:"properties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	for p, methods := range doc.Paths {
		for method := range methods {
			target := strings.NewReplacer("{name}", "x", "{site}", "500101", "{code}", "x", "{peer}", "500000").Replace(p)
			request := cmp.Or(map[string]string{"/v1/members": `{"do":"transfer"}`, "/v1/repair": `{"from":"2"}`, "/v1/alarms:ack": `{"ids":["4f"],"who":"x"}`, "/v1/responders/{code}/check": `{"epoch":"1"}`, "/v1/quarantine:release": `{"key":"k","all":true}`, "/v1/quarantine:discard": `{"key":"k","all":true}`}[p], `{"key":"k"}`)
			if p == "/v1/events:batch" {
				target += "?key=k"
			}
			want := cmp.Or(map[string]int{"/v1/events:feed": 426}[p], 200)
			if status, body := raw(t, path, strings.ToUpper(method), target, request); status != want {
				t.Errorf("%s %s: %d %s", method, p, status, body)
			}
		}
	}
	for _, collection := range []string{"events", "tasks", "tracks", "boards", "types", "rules", "plans", "calendars", "unitrequests", "pools", "responders", "indicators", "adoptions", "proposals", "installs", "replications", "capacities"} {
		if doc.Paths["/v1/"+collection] == nil || doc.Paths["/v1/"+collection+"/{name}"] == nil {
			t.Errorf("%s is not documented", collection)
		}
	}
	now, waits := time.Now(), api.WriteResult{Waits: &api.Waits{}}
	for name, v := range map[string]any{
		"Page": api.Page{Next: "x"}, "ResolveResult": api.ResolveResult{}, "WriteResult": api.WriteResult{Held: "x", Field: "x", Waits: &api.Waits{}}, "Waits": api.Waits{StandIn: "x"}, "ReportRequest": api.ReportRequest{ID: "x", Quarantine: true}, "EditRequest": api.EditRequest{Confirm: true},
		"Status": api.Status{Findings: api.Findings{CertificateEnds: &now}}, "ScrubReport": api.ScrubReport{}, "ScrubFinding": api.ScrubFinding{Stream: "x", Author: "x", Seq: 1, Doc: "x", File: "x"},
		"RepairRequest": api.RepairRequest{From: "x"}, "RepairReport": api.RepairReport{},
		"NodeInfo": api.NodeInfo{NodeFormats: api.NodeFormats{Format: 1, SiteFormat: 1, ComparedAt: 1, ComparedDigest: "x"}}, "MemberList": api.MemberList{}, "MemberStatus": api.MemberStatus{Info: &api.NodeInfo{}, Error: "x"},
		"MemberChange": api.MemberChange{ID: "x", Node: 1, Addr: "x"},
		"SyncStatus":   api.SyncStatus{}, "Rate": api.Rate{}, "StreamSync": api.StreamSync{}, "Owed": api.Owed{Oldest: &now},
		"LinkSync": api.LinkSync{
			Since: &now, LastContact: &now, ProvenEqualAt: &now, LastError: "x", Out: &api.Owed{}, In: &api.Owed{}, Streams: []api.StreamSync{{}},
		},
		"Forecast": api.Forecast{}, "LaneForecast": api.LaneForecast{}, "Move": api.Move{Owed: api.Owed{Oldest: &now}, DoneS: new(float64)},
		"ProveResult":     api.ProveResult{Certificate: []byte("{}"), Reason: "x", Differences: []api.ChainDifference{{}}, More: true},
		"ChainDifference": api.ChainDifference{}, "ImportReport": api.ImportReport{}, "ImportGap": api.ImportGap{}, "ImportRefusal": api.ImportRefusal{},
		"LinkStatus":        api.LinkStatus{LastContact: &now, ProvenEqualAt: &now, Digest: "x", LastError: "x", LinkFindings: api.LinkFindings{Disputed: []string{"x"}, Refused: map[string]uint64{"x": 1}, PacketBytes: 1, Path: "x"}},
		"ForkStatus":        api.ForkStatus{},
		"TaskActionRequest": api.TaskActionRequest{}, "TaskResult": api.TaskResult{WriteResult: waits}, "StartTasksRequest": api.StartTasksRequest{}, "StartTasksResult": api.StartTasksResult{Waits: waits.Waits},
		"PlanRequest": api.PlanRequest{}, "CalendarRequest": api.CalendarRequest{},
		"TopologyRequest": api.TopologyRequest{}, "TopologyResult": api.TopologyResult{}, "Topology": tiers.TopologyDoc{},
		"TopologyDiff": tiers.TopologyDiff{},
	} {
		schema(t, doc.Components.Schemas[name].Properties, name, v)
	}
	for name, v := range eventSchemas() {
		schema(t, doc.Components.Schemas[name].Properties, name, v)
	}
	for name, v := range responderSchemas() {
		schema(t, doc.Components.Schemas[name].Properties, name, v)
	}
}

func TestListenRefusals(t *testing.T) {
	open := func(addr string) error {
		s, err := api.Open(api.Config{Listen: addr, Inner: newPipes(), Backend: &backend{}, Logger: slog.New(slog.DiscardHandler), Gatherer: prometheus.NewRegistry()})
		if err == nil {
			err = s.Close()
		}
		return err
	}
	for _, addr := range []string{"0.0.0.0:0", "example.com:80", ":0", "127.0.0.1", "unix:/nowhere/at/all.sock"} {
		if err := open(addr); !errors.Is(err, api.ErrAddress) {
			t.Errorf("%q: %v", addr, err)
		}
	}
	for _, addr := range []string{"127.0.0.1:0", "localhost:0"} {
		if err := open(addr); err != nil {
			t.Errorf("%q: %v", addr, err)
		}
	}
	_, path := serve(t, &backend{})
	if err := open("unix:" + path); !errors.Is(err, api.ErrBusy) || !strings.Contains(err.Error(), path) {
		t.Errorf("a socket in use: %v", err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	if err := open(taken.Addr().String()); !errors.Is(err, api.ErrBusy) {
		t.Errorf("a port in use: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	// A socket that a killed process left behind is taken over.
	stale := filepath.Join(t.TempDir(), "stale.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open("unix:" + stale); err != nil {
		t.Errorf("a stale socket: %v", err)
	}
}

// TestLostAnswerIsUnknown: a write whose answer does not come is told apart
// from a node that was never reached.
func TestLostAnswerIsUnknown(t *testing.T) {
	if _, err := api.NewClient("unix:/nowhere.sock").Status(limited(t)); !errors.Is(err, api.ErrUnreachable) || !strings.Contains(err.Error(), "/nowhere.sock") {
		t.Errorf("no node: %v", err)
	}
	if _, err := api.NewClient("unix:/nowhere.sock").Report(limited(t), api.ReportRequest{Key: "k"}); !errors.Is(err, api.ErrUnreachable) {
		t.Errorf("a write to no node: %v", err)
	}
	b := &backend{hang: make(chan struct{})}
	c, _ := serve(t, b)
	ctx, cancel := context.WithTimeout(limited(t), 50*time.Millisecond)
	defer cancel()
	_, err := c.Report(ctx, api.ReportRequest{Key: "k"})
	if !errors.Is(err, api.ErrUnknownOutcome) {
		t.Errorf("no answer: %v", err)
	}
	close(b.hang)
}
