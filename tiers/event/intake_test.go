package event_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/tiers/event"
)

// TestParseItemRefuses: what encoding/json would alter, or drop, is refused with its
// field, and its bytes stay.
func TestParseItemRefuses(t *testing.T) {
	for name, c := range map[string]struct{ raw, field, says string }{
		"GBK":                     {"{\"type\":\"01001\",\"title\":\"\xbe\xae\"}", "report", "not UTF-8: byte 0xbe"},
		"half a pair":             {`{"title":"emoji \ud83d\ude00 lone \ud83d"}`, "report", `half of a surrogate pair, \ud83d`},
		"a name twice":            {`{"title":"a","title":"b"}`, "title", `"title" comes twice`},
		"a name in two cases":     {`{"title":"a","Title":"b"}`, "Title", `"Title" comes twice`},
		"a name twice in extra":   {`{"extra":{"a":1,"a":2}}`, "a", `"a" comes twice`},
		"a time that is none":     {`{"reported_at":"soon"}`, "reported_at", `reported_at: time "soon"`},
		"seconds":                 {`{"reported_at":"1793499000"}`, "reported_at", "probably seconds"},
		"a time of another order": {`{"reported_at":"02/28/2023 04:44:26 PM"}`, "reported_at", "%m/%d/%Y %I:%M:%S %p"},
		"two times":               {`{"reported_at":"2026-11-01","reported_at_ms":1793467800000}`, "reported_at", "want one of them"},
		"a time that is a number": {`{"reported_at":1793467800000}`, "reported_at", "reported_at is a number"},
		"an unknown field":        {`{"colour":"red"}`, "colour", "reported_at_ms"},
		"extra that is no object": {`{"extra":[1]}`, "report", "want an object"},
		"an empty envelope":       {`{"quarantine":{"bytes":"","reason":"x"}}`, "quarantine", "empty"},
		"more than an envelope":   {`{"quarantine":{"bytes":"/w==","reason":"x"},"type":"01001"}`, "type", "unknown field"},
	} {
		it := event.ParseItem([]byte(c.raw))
		if !errors.Is(it.Err, event.ErrInvalid) || event.FieldOf(it.Err) != c.field || !strings.Contains(it.Err.Error(), c.says) || string(it.Raw) != c.raw {
			t.Errorf("%s: %v, field %q; want %q, saying %q", name, it.Err, event.FieldOf(it.Err), c.field, c.says)
		}
		h, err := event.Hold(it.Raw, "", "x", 1)
		if err != nil || string(h.Content()) != c.raw || strings.Contains(h.ID+h.Channel+h.Reporter+h.Type, "\ufffd") {
			t.Errorf("%s: held as %+v, %v", name, h, err)
		}
	}
}

// TestParseItem: a time as people write it, and what no field is for.
func TestParseItem(t *testing.T) {
	it := event.ParseItem([]byte(`{"type":"01001","title":"x","priority":3,"reported_at":"2026-11-01 01:30","extra":{ "status": "closed", "n":[1, 2]}}`))
	if it.Err != nil || it.Report.ReportedAtMS != 1793467800000 || it.Report.Extra != `{"status":"closed","n":[1,2]}` {
		t.Fatalf("%+v", it)
	}
	if err := it.Report.Validate(time.UnixMilli(1793467800000)); err != nil {
		t.Error(err)
	}
	for _, text := range []string{`{"reported_at":null}`, `{"reported_at":" "}`, `{"extra":null}`, `{"extra":{}}`} {
		if it := event.ParseItem([]byte(text)); it.Err != nil || it.Report != (event.Report{}) {
			t.Errorf("%s: %+v", text, it)
		}
	}
}

// TestUnreadable: a row of a file that cannot be read is held with its bytes and the
// reason that its reader gave.
func TestUnreadable(t *testing.T) {
	raw := []byte("01001,\xbe\xae")
	envelope, err := json.Marshal(map[string]any{"quarantine": map[string]string{
		"bytes": base64.StdEncoding.EncodeToString(raw), "reason": "not UTF-8: byte 0xbe at 7", "field": "row",
	}})
	if err != nil {
		t.Fatal(err)
	}
	items, err := event.ParseBatch(envelope, true)
	if err != nil || len(items) != 1 || string(items[0].Raw) != string(raw) || event.FieldOf(items[0].Err) != "row" || !strings.Contains(items[0].Err.Error(), "byte 0xbe at 7") {
		t.Fatalf("%+v, %v", items, err)
	}
	h, err := event.Hold(items[0].Raw, "row", items[0].Err.Error(), 1)
	if err != nil || h.Raw != "" || string(h.Bytes) != string(raw) {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestExtra: what a source says besides is kept as it is written, and compared.
func TestExtra(t *testing.T) {
	r := event.Report{Type: "01001", Title: "x", Priority: 3, ReportedAtMS: 1793467800000, Extra: `{"a":"<é>"}`}
	b, err := json.Marshal(r)
	var again event.Report
	if err != nil || event.DecodeReport(string(b), &again) != nil || !event.Same(r, again) || !utf8.Valid(b) {
		t.Fatalf("%s became %+v, %v", b, again, err)
	}
	other := again
	if other.Extra = `{"a":"b"}`; event.Same(r, other) {
		t.Error("another extra is the same")
	}
	now := time.UnixMilli(r.ReportedAtMS)
	for _, bad := range []event.Extra{`7`, `{"a":1,"a":2}`, `{"a":"\ud800"}`, event.Extra(`{"a":"` + strings.Repeat("x", 16<<10) + `"}`)} {
		if r.Extra = bad; event.FieldOf(r.Validate(now)) != "extra" {
			t.Errorf("%.40s: %v", bad, r.Validate(now))
		}
	}
}

// TestMisreadTimes: a number in another unit is refused, with what it probably is.
func TestMisreadTimes(t *testing.T) {
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for ms, says := range map[int64]string{
		1793499000: "probably seconds: 2026-11-01", 1793499000000000: "probably microseconds: 2026-11-01", 20261101: "probably the date 2026-11-01",
		now.Add(48 * time.Hour).UnixMilli(): "want 1973 to one day from now",
	} {
		r := event.Report{Type: "01001", Title: "x", Priority: 3, ReportedAtMS: ms}
		if err := r.Validate(now); event.FieldOf(err) != "reported_at_ms" || !strings.Contains(err.Error(), says) {
			t.Errorf("%d: %v, want %q", ms, err, says)
		}
	}
}

// TestReleasedTime: a time that could not be read is set as people write it.
func TestReleasedTime(t *testing.T) {
	h, err := event.Hold([]byte(`{"type":"01001","title":"x","priority":3,"reported_at_ms":7}`), "", "x", 7)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := h.Released(map[string]string{"reported_at": "2026-11-01 01:30"}); err != nil || r.ReportedAtMS != 1793467800000 {
		t.Errorf("%+v, %v", r, err)
	}
}
