package event

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/instant"
)

// Kind is the document kind of events.
const Kind = "event"

// The keys of an event document.
const (
	keyReport      = "report"
	keyActions     = "actions"
	keyCorrections = "corrections"
	// keyNamed stands in events whose name a client gave: another site may have given
	// it, too.
	keyNamed = "named"
)

// Limits of a report's texts, in bytes.
const (
	textBytesMax  = 16 << 10
	fieldBytesMax = 512
)

// Report is what was reported; it never changes.
type Report struct {
	// SourceKey is the reporter's own key for it, if any.
	SourceKey string `json:"source_key,omitempty"`
	// Type is the event type's code.
	Type  string `json:"type"`
	Title string `json:"title"`
	Text  string `json:"text,omitempty"`
	Place string `json:"place,omitempty"`
	// Lat and Lon are WGS 84 degrees, both or neither.
	Lat *float64 `json:"lat,omitempty"`
	Lon *float64 `json:"lon,omitempty"`
	// Priority is 1 (highest) to 4; 1 and 2 are urgent.
	Priority int    `json:"priority"`
	Reporter string `json:"reporter,omitempty"`
	Channel  string `json:"channel,omitempty"`
	Grid     string `json:"grid,omitempty"`
	// ReportedAtMS is when it was reported, in Unix milliseconds.
	ReportedAtMS int64 `json:"reported_at_ms"`
	// Doubt is what the site that took it in doubts of it, such as a place outside its
	// area; empty for nothing. It is the site's, not the reporter's.
	Doubt string `json:"doubt,omitempty"`
	// Extra is what else its source says, which no field is for.
	Extra Extra `json:"extra,omitempty"`
}

// Class returns the class of events of a priority.
func Class(priority int) tiers.Class {
	if priority <= 2 {
		return tiers.ClassUrgent
	}
	return tiers.ClassRoutine
}

// Validate checks a report against the present time. The error wraps
// [ErrInvalid].
func (r Report) Validate(now time.Time) error { return r.ValidateIn(now, nil) }

// ValidateIn is [Report.Validate] with an area, which helps to say what is wrong with a
// place; see [Report.Outside] for what is right and elsewhere.
func (r Report) ValidateIn(now time.Time, area *Area) error {
	for _, f := range []struct {
		name, value string
		max         int
		required    bool
	}{
		{"type", r.Type, 64, true}, {"title", r.Title, fieldBytesMax, true}, {"text", r.Text, textBytesMax, false},
		{"place", r.Place, fieldBytesMax, false}, {"source_key", r.SourceKey, 128, false},
		{"reporter", r.Reporter, fieldBytesMax, false}, {"channel", r.Channel, 64, false}, {"grid", r.Grid, 64, false},
	} {
		if err := checkText(f.name, f.value, f.max, f.required); err != nil {
			return err
		}
	}
	if r.Priority < 1 || r.Priority > 4 {
		return invalid("priority", "priority %d: want 1 (highest) to 4", r.Priority)
	}
	if err := r.checkPoint(area); err != nil {
		return err
	}
	if err := r.Extra.check(); err != nil {
		return err
	}
	if err := instant.Plausible(r.ReportedAtMS); err != nil {
		return invalid("reported_at_ms", "reported_at_ms: %v", err)
	}
	if r.ReportedAtMS > now.Add(24*time.Hour).UnixMilli() {
		return invalid("reported_at_ms", "reported_at_ms %d (%s): want 1973 to one day from now", r.ReportedAtMS,
			time.UnixMilli(r.ReportedAtMS).UTC().Format(time.RFC3339))
	}
	return nil
}

func checkText(name, value string, bytesMax int, required bool) error {
	switch {
	case value == "" && required:
		return invalid(name, "%s is empty", name)
	case required && tiers.Blank(value):
		return invalid(name, "%s is blank: it has only spaces and invisible characters", name)
	case len(value) > bytesMax:
		return invalid(name, "%s is %d bytes long: want at most %d", name, len(value), bytesMax)
	case !utf8.ValidString(value):
		return invalid(name, "%s is not UTF-8: %.32q", name, value)
	case strings.ContainsRune(value, 0):
		return invalid(name, "%s holds a zero byte", name)
	}
	return nil
}

// CreateOps returns the operations of an event's first change.
func CreateOps(r Report, actions ...Action) ([]crdt.Op, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	ops := []crdt.Op{
		{Kind: crdt.OpPut, Key: keyReport, Value: string(b)},
		{Kind: crdt.OpMakeList, Key: keyActions},
		{Kind: crdt.OpMakeMap, Key: keyCorrections},
	}
	for _, a := range actions {
		op, err := ActionOp(a)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// NamedOps is [CreateOps] of an event whose name a client gave.
func NamedOps(r Report, actions ...Action) ([]crdt.Op, error) {
	ops, err := CreateOps(r, actions...)
	return append(ops, crdt.Op{Kind: crdt.OpPut, Key: keyNamed, Value: "client"}), err
}

// ReportOf returns the report that a document was created with, without corrections.
// The error wraps [ErrInvalid].
func ReportOf(d *crdt.Document) (r Report, err error) {
	if err := decodeReport(d.Root.String(keyReport), &r); err != nil {
		return r, fmt.Errorf("%w: report: %w", ErrInvalid, err)
	}
	return r, nil
}

// correctable are the fields of a report that may be corrected.
var correctable = []string{"title", "text", "place", "type", "grid"}

// CorrectOp returns the operation that corrects a field. The error wraps
// [ErrInvalid].
func CorrectOp(field, value string) (crdt.Op, error) {
	for _, f := range correctable {
		if f == field {
			return crdt.Op{Kind: crdt.OpPut, In: keyCorrections, Key: field, Value: value}, checkText(field, value, textBytesMax, true)
		}
	}
	return crdt.Op{}, invalid(field, "field %.64q cannot be corrected: want one of %v", field, correctable)
}
