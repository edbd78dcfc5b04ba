package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// evented is what of events reached a backend.
type evented struct {
	got  any
	held string
}

func (b *backend) ReportBatch(_ context.Context, r api.BatchRequest) (api.BatchResult, error) {
	b.events.got = r
	return api.BatchResult{Counts: map[string]int{"done": len(r.Items)}}, b.err
}

func (b *backend) ListEvents(_ context.Context, q api.EventQuery) (api.Page, error) {
	b.events.got = q
	return api.Page{Items: []json.RawMessage{[]byte(`{"id":"e"}`)}}, b.err
}

func (b *backend) ActOnEvent(_ context.Context, r api.EventActionRequest) (api.EventResult, error) {
	b.events.got = r
	return api.EventResult{State: "closed"}, b.err
}

func (b *backend) CorrectEvent(_ context.Context, r api.CorrectRequest) (api.EventResult, error) {
	b.events.got = r
	return api.EventResult{Priority: 1}, b.err
}

func (b *backend) MergeEvents(_ context.Context, r api.MergeRequest) (api.EventResult, error) {
	b.events.got = r
	return api.EventResult{State: "merged"}, b.err
}

func (b *backend) UnmergeEvents(_ context.Context, r api.MergeRequest) (api.EventResult, error) {
	b.events.got = r
	return api.EventResult{State: "reported"}, b.err
}

func (b *backend) Suspects(_ context.Context, id tiers.DocID) (api.SuspectList, error) {
	b.events.got = id
	return api.SuspectList{Suspects: []event.Suspect{{Event: "event:2"}}}, b.err
}

func (b *backend) SuspectPairs(_ context.Context, q api.SuspectQuery) (api.SuspectPairList, error) {
	b.events.got = q
	return api.SuspectPairList{Pairs: []api.SuspectPair{{Event: "event:2"}}}, b.err
}

func (b *backend) Attach(_ context.Context, r api.AttachRequest) (api.EventResult, error) {
	b.events.got = r
	return api.EventResult{State: "reported"}, b.err
}

func (b *backend) Attachments(_ context.Context, id tiers.DocID) (api.AttachmentList, error) {
	b.events.got = id
	return api.AttachmentList{Attachments: []api.AttachmentState{{PartsHere: 3}}}, b.err
}

func (b *backend) PutBlob(_ context.Context, data []byte) (api.BlobResult, error) {
	b.events.got = data
	return api.BlobResult{ID: event.BlobID(data)}, b.err
}

func (b *backend) Blob(_ context.Context, id tiers.DocID) ([]byte, error) {
	b.events.got = id
	return []byte("part"), b.err
}

func (b *backend) ListQuarantine(_ context.Context, q api.QuarantineQuery) (api.Page, error) {
	b.events.got = q
	return api.Page{Items: []json.RawMessage{[]byte(`{"id":"q"}`)}}, b.err
}

func (b *backend) Quarantined(_ context.Context, id tiers.DocID) (json.RawMessage, error) {
	b.events.got = id
	return json.RawMessage(`{"id":"q"}`), b.err
}

func (b *backend) Release(_ context.Context, r api.ReleaseRequest) (api.WriteResult, error) {
	b.events.got = r
	return api.WriteResult{ID: "event:1"}, b.err
}

func (b *backend) Discard(_ context.Context, r api.DiscardRequest) (api.WriteResult, error) {
	b.events.got = r
	return api.WriteResult{ID: r.ID}, b.err
}

func (b *backend) SummarizeQuarantine(_ context.Context, q api.QuarantineQuery) (api.QuarantineSummary, error) {
	b.events.got = q
	return api.QuarantineSummary{Count: 1}, b.err
}

func (b *backend) ReleaseMany(_ context.Context, r api.ManyRequest) (api.ManyResult, error) {
	b.events.got = r
	return api.ManyResult{Done: 1}, b.err
}

func (b *backend) DiscardMany(_ context.Context, r api.ManyRequest) (api.ManyResult, error) {
	b.events.got = r
	return api.ManyResult{Done: 2}, b.err
}

// TestManyOfQuarantine: what the client asks about many that are held reaches the
// backend; which they are must be said.
func TestManyOfQuarantine(t *testing.T) {
	b := &backend{}
	c, path := serve(t, b)
	ctx := context.Background()
	q := api.QuarantineQuery{ListQuery: api.ListQuery{Kind: event.KindQuarantine, Limit: 9}, State: "held", QuarantineFilter: api.QuarantineFilter{Reason: "r", Type: "t", File: "f"}}
	if _, err := c.ListQuarantine(ctx, q); err != nil || !reflect.DeepEqual(b.events.got, q) {
		t.Errorf("list: %+v, %v", b.events.got, err)
	}
	if sum, err := c.SummarizeQuarantine(ctx, q); err != nil || sum.Count != 1 || !reflect.DeepEqual(b.events.got, q) {
		t.Errorf("summary: %+v, %v", b.events.got, err)
	}
	r := api.ManyRequest{Key: "k", Filter: q.QuarantineFilter, Set: map[string]string{"priority": "3"}, Who: "w", DryRun: true, After: "a", Limit: 5}
	if out, err := c.ReleaseMany(ctx, r); err != nil || out.Done != 1 || !reflect.DeepEqual(b.events.got, r) {
		t.Errorf("release: %+v, %v", b.events.got, err)
	}
	all := api.ManyRequest{Key: "k", All: true, Reason: "测试"}
	if out, err := c.DiscardMany(ctx, all); err != nil || out.Done != 2 {
		t.Errorf("discard: %+v, %v", out, err)
	} else if all.Limit = 200; !reflect.DeepEqual(b.events.got, all) {
		t.Errorf("discard: %+v", b.events.got)
	}
	for body, want := range map[string]string{
		`{"key":"k"}`: "say which", `{"key":"k","all":true,"filter":{"type":"1"}}`: "say which", `{"key":"k","all":true,"limit":1001}`: "limit", `{"all":true}`: "key",
	} {
		for _, verb := range []string{"release", "discard"} {
			if status, text := raw(t, path, "POST", "/v1/quarantine:"+verb, body); status != 400 || !strings.Contains(text, want) {
				t.Errorf("%s %s: %d %s", verb, body, status, text)
			}
		}
	}
}

// TestEvents: what the client asks about events reaches the backend as it was asked.
func TestEvents(t *testing.T) {
	b := &backend{}
	c, path := serve(t, b)
	ctx := context.Background()
	asked := func(what string, want any, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(b.events.got, want) {
			t.Errorf("%s: asked %+v, want %+v; %v", what, b.events.got, want, err)
		}
	}
	q := api.EventQuery{
		ListQuery: api.ListQuery{Kind: "event", Site: "500101", Limit: 7, After: "x"}, State: "closed", Type: "01001", Priority: 2, SinceMS: 1793467800000, UntilMS: 1793467800009,
	}
	_, err := c.ListEvents(ctx, q)
	asked("list", q, err)
	act := api.EventActionRequest{Key: "k", Event: "event:1", Action: event.Action{Kind: event.KindVerify}}
	act.Action.Who, act.Action.Evidence = "李四", []string{"attachment:1"}
	_, err = c.ActOnEvent(ctx, act)
	asked("act", act, err)
	fix := api.CorrectRequest{Key: "k", Event: "event:1", Fields: map[string]string{"priority": "1"}}
	_, err = c.CorrectEvent(ctx, fix)
	asked("correct", fix, err)
	merge := api.MergeRequest{Key: "k", Event: "event:1", With: "event:2", Note: "n", Who: "w"}
	_, err = c.MergeEvents(ctx, merge)
	asked("merge", merge, err)
	_, err = c.UnmergeEvents(ctx, merge)
	asked("unmerge", merge, err)
	_, err = c.Suspects(ctx, "event:1")
	asked("suspects", tiers.DocID("event:1"), err)
	_, err = c.SuspectPairs(ctx, api.SuspectQuery{SinceMS: 1793467800000, Events: 3})
	asked("pairs", api.SuspectQuery{SinceMS: 1793467800000, Events: 3}, err)
	attach := api.AttachRequest{Key: "k", Event: "event:1", Attachment: event.Attachment{Name: "a.jpg", Parts: []string{"x"}}, Who: "w"}
	_, err = c.Attach(ctx, attach)
	asked("attach", attach, err)
	if l, err := c.Attachments(ctx, "event:1"); err != nil || l.Attachments[0].PartsHere != 3 {
		t.Errorf("%+v, %v", l, err)
	}
	_, err = c.PutBlob(ctx, []byte{0, 1, 255})
	asked("put", []byte{0, 1, 255}, err)
	part := event.BlobID([]byte("part"))
	if got, err := c.Blob(ctx, part.Name()); err != nil || string(got) != "part" || b.events.got != part {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := c.Blob(ctx, strings.Repeat("0", 64)); !errors.Is(err, event.ErrInvalid) {
		t.Errorf("other bytes than asked for: %v", err)
	}
	held := api.QuarantineQuery{ListQuery: api.ListQuery{Kind: "quarantine", Limit: 3, Site: "s", After: "x"}, State: "released"}
	_, err = c.ListQuarantine(ctx, held)
	asked("quarantine", held, err)
	if got, err := c.Quarantined(ctx, "quarantine:1"); err != nil || string(got) != `{"id":"q"}` {
		t.Errorf("%s, %v", got, err)
	}
	release := api.ReleaseRequest{Key: "k", ID: "quarantine:1", Set: map[string]string{"type": "x"}, Who: "w"}
	_, err = c.Release(ctx, release)
	asked("release", release, err)
	discard := api.DiscardRequest{Key: "k", ID: "quarantine:1", Reason: "r", Who: "w"}
	_, err = c.Discard(ctx, discard)
	asked("discard", discard, err)
	out, err := c.ReportBatch(ctx, "k", 500, nil, []byte("{\"type\":\"x\"}\n{\n"))
	batch, ok := b.events.got.(api.BatchRequest)
	if err != nil || !ok || out.Counts["done"] != 2 || batch.Key != "k" || batch.First != 500 || batch.DryRun || batch.Items[0].Report.Type != "x" || batch.Items[1].Err == nil {
		t.Errorf("%+v, %v; %+v", out, err, b.events.got)
	}
	if status, body := raw(t, path, "GET", "/v1/events", ""); status != 200 || b.query.Kind != "event" {
		t.Errorf("no condition: %d %s %+v", status, body, b.query)
	}
}

// TestHeldIsAccepted: a report that stands in quarantine is answered with 202 and why.
func TestHeldIsAccepted(t *testing.T) {
	b := &backend{}
	b.events.held = "type 9: no catalog has it"
	c, path := serve(t, b)
	if status, body := raw(t, path, "POST", "/v1/events", `{"key":"k","report":{}}`); status != http.StatusAccepted || !strings.Contains(body, "no catalog") {
		t.Errorf("%d %s", status, body)
	}
	if w, err := c.Report(context.Background(), api.ReportRequest{Key: "k"}); err != nil || w.Held != b.events.held {
		t.Errorf("%+v, %v", w, err)
	}
}

// TestEventBadInput: a request that breaks a rule is answered with what is allowed.
func TestEventBadInput(t *testing.T) {
	_, path := serve(t, &backend{})
	many := strings.Repeat("{}\n", event.BatchMax+1)
	for _, row := range []struct{ method, target, body, want string }{
		{"GET", "/v1/events?priority=5", "", "1 (highest) to 4"},
		{"GET", "/v1/events?since=9999-01-01T00:00:00Z", "", "want 1900 to 2199"},
		{"GET", "/v1/events?until=1793499000", "", "probably seconds"},
		{"GET", "/v1/events:suspects?since=02/28/2023", "", "%m/%d/%Y would fit"},
		{"POST", "/v1/quarantine/x/release", "{\"key\":\"k\",\"who\":\"\xbe\xae\"}", "not UTF-8: byte 0xbe at 19"},
		{"POST", "/v1/events/x/actions", `{"key":"k","action":{"note":"\ud83d"}}`, "half of a surrogate pair"},
		{"POST", "/v1/events/x/actions", `{"key":"k","action":{"note":"a","note":"b"}}`, "comes twice"},
		{"GET", "/v1/events?until=-1", "", "since 1970"},
		{"GET", "/v1/events?limit=0", "", "1 to 1000"},
		{"GET", "/v1/events:suspects?events=0", "", "1 to 1000"},
		{"GET", "/v1/events:suspects?colour=red", "", "unknown parameter"},
		{"GET", "/v1/quarantine?state=lost", "", "held, released or discarded"},
		{"GET", "/v1/quarantine?colour=red", "", "unknown parameter"},
		{"POST", "/v1/events:batch", "{}", "makes a retry safe"},
		{"POST", "/v1/events:batch?key=k&first=-1", "{}", "first"},
		{"POST", "/v1/events:batch?key=k&dry_run=perhaps", "{}", "dry_run"},
		{"POST", "/v1/events:batch?key=k&places=1,2", "{}", "2 places of 1 reports"},
		{"POST", "/v1/events:batch?key=k&places=0", "{}", "want a line from 1"},
		{"POST", "/v1/events:batch?key=k&places=2.1,2.1", "[{},{}]", "2.1 comes twice"},
		{"POST", "/v1/events:batch?key=k&colour=red", "{}", "unknown parameter"},
		{"POST", "/v1/events:batch?key=k", many, "batch of 1001 reports: want 1 to 1000"},
		{"POST", "/v1/events:batch?key=k", "", "batch of 0 reports"},
		{"POST", "/v1/events:batch?key=k", "[{}", "batch"},
		{"POST", "/v1/events:batch?key=k", strings.Repeat("x", event.BatchBytesMax+1), "4194304 bytes"},
		{"POST", "/v1/blobs", strings.Repeat("x", 1<<20+1), "1048576 bytes"},
		{"PATCH", "/v1/events/x", `{"fields":{}}`, "makes a retry safe"},
		{"POST", "/v1/events/x/actions", `{"key":"k","colour":1}`, "unknown field"},
		{"POST", "/v1/events/x/merge", `{"with":"y"}`, "makes a retry safe"},
		{"POST", "/v1/quarantine/x/release", `{}`, "makes a retry safe"},
		{"POST", "/v1/quarantine/x/discard", `{}`, "makes a retry safe"},
	} {
		if status, body := raw(t, path, row.method, row.target, row.body); status != http.StatusBadRequest || !strings.Contains(body, row.want) {
			t.Errorf("%s %s: %d %s", row.method, row.target, status, body)
		}
	}
}

// TestRehearsal: a dry run of a batch says so to the node.
func TestRehearsal(t *testing.T) {
	b := &backend{}
	c, _ := serve(t, b)
	if _, err := c.RehearseBatch(t.Context(), "k", 7, []string{"9.1"}, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if dry, ok := b.events.got.(api.BatchRequest); !ok || !dry.DryRun || dry.First != 7 || dry.Key != "k" || !slices.Equal(dry.Places, []string{"9.1"}) {
		t.Errorf("%+v", b.events.got)
	}
}

// TestLargeBatchIsForwarded: a follower passes a batch on to the leader that is
// larger than other requests may be.
func TestLargeBatchIsForwarded(t *testing.T) {
	leader := &backend{}
	other := newPipes()
	serveInner(t, leader, other)
	_, path := serve(t, &backend{leader: "2-x", other: other})
	line := append(bytes.Repeat([]byte("x"), 3<<20), '\n')
	if status, body := raw(t, path, "POST", "/v1/events:batch?key=k", string(line)); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if got, ok := leader.events.got.(api.BatchRequest); !ok || len(got.Items) != 1 || len(got.Items[0].Raw) != 3<<20 {
		t.Errorf("%T", leader.events.got)
	}
}

// eventSchemas are the schemas of events, with a value of each.
func eventSchemas() map[string]any {
	score := 1.5
	details := event.ActionDetails{Who: "x", Evidence: []string{"x"}, Score: 1, Priority: 1, Other: &event.Other{}, Others: []tiers.DocID{"x"}, Attachment: &event.Attachment{}}
	file := event.Attachment{Parts: []string{"x"}, Site: "x", URL: "x"}
	like := event.Likeness{DistanceM: &score, SameSource: true, SameWords: true, SameName: true}
	return map[string]any{
		"ItemOutcome":        api.ItemOutcome{ID: "x", Stream: "x", Seq: 1, Field: "x", Message: "x"},
		"BatchResult":        api.BatchResult{Waits: &api.Waits{}},
		"FeedMessage":        api.FeedMessage{ReportRequest: api.ReportRequest{ID: "x", Quarantine: true}},
		"FeedAnswer":         api.FeedAnswer{Result: &api.WriteResult{}, Error: &api.Refusal{}},
		"Refusal":            api.Refusal{},
		"EventAction":        event.Action{Task: "x", Organ: "x", Note: "x", Outcome: "x", ActionDetails: details},
		"OtherEvent":         event.Other{Stream: "x", Priority: 1, Reporters: []event.Reporter{{}}},
		"Reporter":           event.Reporter{Reporter: "x", Channel: "x", Text: "x"},
		"Attachment":         file,
		"EventActionRequest": api.EventActionRequest{}, "EventResult": api.EventResult{Into: "x", WriteResult: api.WriteResult{Held: "x", Field: "x", Waits: &api.Waits{}}},
		"CorrectRequest": api.CorrectRequest{}, "MergeRequest": api.MergeRequest{}, "Suspect": event.Suspect{Likeness: like},
		"SuspectList": api.SuspectList{}, "SuspectPair": api.SuspectPair{}, "SuspectPairList": api.SuspectPairList{},
		"AttachRequest": api.AttachRequest{}, "AttachmentState": api.AttachmentState{Attachment: file}, "AttachmentList": api.AttachmentList{},
		"BlobResult": api.BlobResult{}, "Held": event.Held{Raw: "x", Bytes: []byte{1}, Field: "x", ID: "x", Channel: "x", Reporter: "x", Type: "x", SourceKey: "x", Origin: &event.Origin{}},
		"QuarantineAction":  event.QuarantineAction{Who: "x", Event: "x", Set: map[string]string{"x": "x"}, Reason: "x"},
		"QuarantineView":    event.QuarantineView{Event: "x", First: &event.Held{}, Pending: 1, Refused: 1},
		"QuarantineFilter":  api.QuarantineFilter{Reason: "x", Type: "x", File: "x"},
		"QuarantineSummary": api.QuarantineSummary{Next: "x"}, "QuarantineCount": api.QuarantineCount{},
		"ManyRequest": api.ManyRequest{All: true, Set: map[string]string{"x": "x"}, Reason: "x", Who: "x", DryRun: true, After: "x", Limit: 1},
		"ManyItem":    api.ManyItem{Event: "x", Message: "x"}, "ManyResult": api.ManyResult{Next: "x"},
		"ReleaseRequest": api.ReleaseRequest{}, "DiscardRequest": api.DiscardRequest{},
	}
}
