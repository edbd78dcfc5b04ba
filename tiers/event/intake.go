package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/instant"
	"github.com/tiermesh/tiermesh/tiers/strictjson"
)

// Bounds of a batch.
const (
	BatchMax      = 1000
	BatchBytesMax = 4 << 20
)

// Item is one report of a batch.
type Item struct {
	// Raw are its bytes, as they came.
	Raw []byte
	// ID is the identifier that the client gave it; empty for none.
	ID     string
	Report Report
	// Err says why it is no report: it wraps [ErrInvalid].
	Err error
}

// uuidText is the form of an identifier that a client may give: a UUID (RFC 9562)
// in lower case.
var uuidText = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// ClientID checks an identifier that a client gave, with or without its kind, and
// returns the event's. The error wraps [ErrInvalid].
func ClientID(id string) (tiers.DocID, error) {
	name := id
	if d := tiers.DocID(id); d.Kind() == Kind {
		name = d.Name()
	}
	if !uuidText.MatchString(name) {
		return "", invalid("id", "id %.64q: want a UUID in lower case", id)
	}
	return tiers.NewDocID(Kind, name), nil
}

// ParseReport decodes a report's JSON; unknown fields are refused by name. It does
// not validate. The error wraps [ErrInvalid].
func ParseReport(raw []byte) (Report, error) {
	it := ParseItem(raw)
	if it.Err == nil && it.ID != "" {
		return Report{}, invalid("id", "id %.64q: a report has none", it.ID)
	}
	return it.Report, it.Err
}

// ParseItem decodes a report with the identifier that a client gave it. Besides a
// report's fields it may have reported_at, a time as package instant reads it, instead
// of reported_at_ms.
//
// What is no report at all, such as a row of a file that cannot be read, comes as
//
//	{"quarantine": {"bytes": "<base64>", "reason": "…", "field": "…"}}
//
// Its item is those bytes, with the error that the reason says.
func ParseItem(raw []byte) Item {
	it := Item{Raw: raw}
	if r, rest, ok := PlainReport(string(raw)); ok && rest == "" {
		it.Report = r
		return it
	}
	if err := strictjson.Check(raw); err != nil {
		it.Err = textError(err)
		return it
	}
	if unreadable, ok := parseUnreadable(raw); ok {
		return unreadable
	}
	var in struct {
		ID         string  `json:"id"`
		ReportedAt *string `json:"reported_at"`
		Report
	}
	it.Err = decodeStrictly(raw, &in)
	if it.ID, it.Report = in.ID, in.Report; it.Err == nil && in.ReportedAt != nil {
		it.Report.ReportedAtMS, it.Err = reportedAt(*in.ReportedAt, in.ReportedAtMS)
	}
	if it.Err == nil && in.ID != "" {
		_, it.Err = ClientID(in.ID)
	}
	return it
}

// textError is the error of bytes that encoding/json would alter.
func textError(err error) error {
	field := "report"
	var e *strictjson.Error
	if errors.As(err, &e) && e.Name != "" {
		field = e.Name
	}
	return invalid(field, "report: %v", err)
}

// unreadableBytes begin what is no report at all.
var unreadableBytes = []byte(`{"quarantine"`)

// parseUnreadable reads what is no report at all, and reports whether it is that.
func parseUnreadable(raw []byte) (it Item, ok bool) {
	if !bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), unreadableBytes) {
		return it, false
	}
	var in struct {
		Quarantine struct {
			Bytes  []byte `json:"bytes"`
			Reason string `json:"reason"`
			Field  string `json:"field"`
		} `json:"quarantine"`
	}
	it.Raw = raw
	if it.Err = decodeStrictly(raw, &in); it.Err == nil {
		q := in.Quarantine
		switch {
		case len(q.Bytes) == 0 || q.Reason == "":
			it.Err = invalid("quarantine", "quarantine: bytes or reason are empty: want what came, and why it is no report")
		case len(q.Reason) > textBytesMax || len(q.Field) > fieldBytesMax:
			it.Err = invalid("quarantine", "quarantine: reason of %d bytes, field of %d: want at most %d and %d", len(q.Reason), len(q.Field), textBytesMax, fieldBytesMax)
		default:
			it.Raw, it.Err = q.Bytes, invalid(q.Field, "%s", q.Reason)
		}
	}
	return it, true
}

// decodeStrictly decodes one JSON value; unknown fields are refused by name.
func decodeStrictly(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, rest := dec.Token(); !errors.Is(rest, io.EOF) {
			err = errors.New("more than one JSON value")
		}
	}
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind) && kind.Field != "":
		field := strings.TrimPrefix(kind.Field, "Report.")
		return invalid(field, "%s is a %s: want %s", field, kind.Value, kind.Type)
	case err != nil:
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			field, _ := strconv.Unquote(name)
			return invalid(field, "report: unknown field %s: want %s", name, strings.Join(Fields(), ", "))
		}
		return invalid("report", "report: %v", err)
	}
	return nil
}

// Fields are the fields of a report, as it may be sent.
func Fields() []string {
	return []string{
		"id", "source_key", "type", "title", "text", "place", "lat", "lon", "priority", "reporter", "channel", "grid", "reported_at", "reported_at_ms", "extra",
	}
}

// reportedAt reads a time of report that is written as people do.
func reportedAt(text string, ms int64) (int64, error) {
	if ms != 0 {
		return ms, invalid("reported_at", "reported_at and reported_at_ms: want one of them")
	}
	if strings.TrimSpace(text) == "" {
		return 0, nil // as if it were not there
	}
	ms, err := instant.Milliseconds(text)
	if err != nil {
		return 0, invalid("reported_at", "reported_at: %v", err)
	}
	return ms, nil
}

// ParseBatch splits a batch into its reports: JSON lines, or a JSON array where it
// begins as one and lines is not set. One that does not decode is an item with an error; a batch that cannot be split, or is too
// large, is refused as a whole. The error wraps [ErrInvalid].
func ParseBatch(body []byte, lines bool) ([]Item, error) {
	if len(body) > BatchBytesMax {
		return nil, invalid("batch", "batch of %d bytes: want at most %d", len(body), BatchBytesMax)
	}
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	var raws [][]byte
	if !lines && len(trimmed) > 0 && trimmed[0] == '[' {
		var list []json.RawMessage
		if err := json.Unmarshal(trimmed, &list); err != nil {
			return nil, invalid("batch", "batch: %v", err)
		}
		for _, raw := range list {
			raws = append(raws, raw)
		}
	} else {
		for line := range bytes.Lines(body) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				raws = append(raws, line)
			}
		}
	}
	if len(raws) == 0 || len(raws) > BatchMax {
		return nil, invalid("batch", "batch of %d reports: want 1 to %d", len(raws), BatchMax)
	}
	out := make([]Item, len(raws))
	for i, raw := range raws {
		out[i] = ParseItem(raw)
	}
	return out, nil
}

// FieldOf returns the field that an error is about; empty when it is about none.
func FieldOf(err error) string {
	var f *FieldError
	if errors.As(err, &f) {
		return f.Field
	}
	return ""
}

const fieldType = "type"

// UnknownType is the error of a type that no catalog at hand has.
func UnknownType(code string) error {
	return invalid(fieldType, "type %.64q: no catalog of this site or above has it", code)
}

// Same reports whether two reports have the same content; a time that the client did
// not give counts as any.
func Same(kept, again Report) bool {
	if again.ReportedAtMS == 0 {
		again.ReportedAtMS = kept.ReportedAtMS
	}
	kept.Doubt, again.Doubt = "", "" // the site's, not the reporter's
	a, err1 := json.Marshal(kept)
	b, err2 := json.Marshal(again)
	return err1 == nil && err2 == nil && bytes.Equal(a, b)
}

// SameButTime is [Same] of two reports that two sites took in: each gave it its own
// time where the client gave none.
func SameButTime(a, b Report) bool {
	b.ReportedAtMS = a.ReportedAtMS
	return Same(a, b)
}

// OtherContent is the error of an identifier that was used for another report.
func OtherContent(id tiers.DocID) error {
	return invalid("id", "id %s: another report has it already", id)
}
