package event

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/strictjson"
)

// KindQuarantine is the document kind of what was reported and cannot be taken in
// as an event.
const KindQuarantine = "quarantine"

// The indexes of what is held.
const (
	// IndexQuarantine lists it by state, then time of receipt, batch and row.
	IndexQuarantine = "event.quarantine"
	// IndexWaiting lists what is held because of its type alone, by site and type; see
	// [WaitingAt].
	IndexWaiting = "event.quarantine.waiting"
	// IndexOrigin lists what came in a batch, by the batch's key and the row; see
	// [OriginAt].
	IndexOrigin = "event.quarantine.origin"
)

// RawBytesMax bounds what one document of the quarantine keeps.
const RawBytesMax = 64 << 10

// The states of what was quarantined.
const (
	QuarantineHeld      = "held"
	QuarantineReleased  = "released"
	QuarantineDiscarded = "discarded"
)

// The kinds of actions on what was quarantined.
const (
	QuarantineRelease = "release"
	QuarantineDiscard = "discard"
)

const (
	keyHeld = "held"
	// keyAgain is what a held report was when it came again, or why it is no event since.
	keyAgain = "again"
)

// Origin is a place in a batch.
type Origin struct {
	// Batch is the batch's key: that of an import names its file.
	Batch string `json:"batch"`
	// Row is the report's number in it, from 1.
	Row int `json:"row"`
}

// None reports whether it is no place.
func (o Origin) None() bool { return o.Batch == "" }

// Held is what was received, as it came, and why it is no event.
type Held struct {
	// Raw is what came, if it is text; otherwise Bytes is.
	Raw   string `json:"raw,omitempty"`
	Bytes []byte `json:"bytes,omitempty"`
	// Reason says why, Field which field it is about; empty when it is about none.
	Reason string `json:"reason"`
	Field  string `json:"field,omitempty"`
	// ID is the identifier that the client gave; empty for none.
	ID           string `json:"id,omitempty"`
	Channel      string `json:"channel,omitempty"`
	Reporter     string `json:"reporter,omitempty"`
	ReceivedAtMS int64  `json:"received_at_ms"`
	// Type and SourceKey are the report's, where it has them.
	Type      string `json:"type,omitempty"`
	SourceKey string `json:"source_key,omitempty"`
	// Origin is where in a batch it came; nil for none.
	Origin *Origin `json:"origin,omitempty"`
}

// Content is what came, as it came.
func (h Held) Content() []byte {
	if h.Raw == "" {
		return h.Bytes
	}
	return []byte(h.Raw)
}

// TypeCode is the report's type, also of what was held before it was noted.
func (h Held) TypeCode() string {
	if h.Type != "" || h.Raw == "" {
		return h.Type
	}
	var r struct {
		Type string `json:"type"`
	}
	if json.Unmarshal([]byte(h.Raw), &r) != nil {
		return ""
	}
	return r.Type
}

// reportFields are the names of a report's fields, which reasons list.
var reportFields = []string{
	"id", "source_key", "type", "title", "text", "place", "lat", "lon", "priority", "reporter", "channel", "grid", "reported_at", "reported_at_ms", "extra",
}

// Matches reports whether it is held for a reason and is of a type; what is empty
// matches all. A reason that is the name of a field stands for what that field is held
// for, and no other; another one for what has it in its text.
func (h Held) Matches(reason, code string) bool {
	switch {
	case code != "" && h.TypeCode() != code:
		return false
	case reason == "" || reason == h.Field:
		return true
	case slices.Contains(reportFields, reason):
		return false
	}
	return strings.Contains(h.Reason, reason) || strings.Contains(ReasonKind(h.Reason), reason)
}

// valuesOf are the values in a reason: quoted text and numbers.
var valuesOf = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|-?\b\d+(?:\.\d+)?\b`)

// ReasonKind is a reason without the values in it: what many have in common.
func ReasonKind(reason string) string {
	if _, rest, ok := strings.Cut(reason, ErrInvalid.Error()+": "); ok {
		reason = rest
	}
	return valuesOf.ReplaceAllString(reason, "…")
}

// Hold makes what is to be kept of raw bytes. The error wraps [ErrInvalid] when they
// are too many.
func Hold(raw []byte, field, reason string, at int64) (Held, error) {
	if len(raw) > RawBytesMax {
		return Held{}, invalid("report", "report of %d bytes: want at most %d", len(raw), RawBytesMax)
	}
	h := Held{Field: field, Reason: reason, ReceivedAtMS: at}
	if utf8.Valid(raw) && !slices.Contains(raw, 0) {
		h.Raw = string(raw)
	} else {
		h.Bytes = raw
	}
	var known struct {
		ID        any `json:"id"`
		Channel   any `json:"channel"`
		Reporter  any `json:"reporter"`
		Type      any `json:"type"`
		SourceKey any `json:"source_key"`
	}
	if strictjson.Check(raw) == nil && json.Unmarshal(raw, &known) == nil {
		short := func(v any) string {
			s, _ := v.(string)
			if len(s) > fieldBytesMax || checkText("", s, fieldBytesMax, false) != nil {
				return ""
			}
			return s
		}
		h.ID, h.Channel, h.Reporter, h.Type, h.SourceKey = short(known.ID), short(known.Channel), short(known.Reporter), short(known.Type), short(known.SourceKey)
	}
	return h, nil
}

// HoldOps returns the operations that create a document of the quarantine.
func HoldOps(h Held) ([]crdt.Op, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return []crdt.Op{{Kind: crdt.OpPut, Key: keyHeld, Value: string(b)}, {Kind: crdt.OpMakeList, Key: keyActions}}, nil
}

// HoldAgainOp returns the operation that notes that something held came again, with
// other bytes or another reason. The latest is what is released.
func HoldAgainOp(h Held) (crdt.Op, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return crdt.Op{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return crdt.Op{Kind: crdt.OpPut, Key: keyAgain, Value: string(b)}, nil
}

// QuarantineAction is what was done with what was quarantined.
type QuarantineAction struct {
	At   crdt.HybridTime `json:"at"`
	By   tiers.SiteID    `json:"by"`
	Kind string          `json:"kind"`
	Who  string          `json:"who,omitempty"`
	// Event is what it was released as, Set the fields that were set for it.
	Event tiers.DocID       `json:"event,omitempty"`
	Set   map[string]string `json:"set,omitempty"`
	// Reason is why it was discarded.
	Reason string `json:"reason,omitempty"`
}

// QuarantineOp returns the operation that appends an action. The error wraps
// [ErrInvalid].
func QuarantineOp(a QuarantineAction) (crdt.Op, error) {
	if err := checkText("who", a.Who, whoBytesMax, false); err != nil {
		return crdt.Op{}, err
	}
	if err := checkText("reason", a.Reason, fieldBytesMax, a.Kind == QuarantineDiscard); err != nil {
		return crdt.Op{}, err
	}
	b, err := json.Marshal(a)
	if err != nil {
		return crdt.Op{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return crdt.Op{Kind: crdt.OpAppend, In: keyActions, Value: string(b)}, nil
}

// QuarantineView is what people see of what was quarantined.
type QuarantineView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	State  string       `json:"state"`
	Event  tiers.DocID  `json:"event,omitempty"`
	// Held is what is held, as it came last; First as it came first, if that is another.
	Held    Held               `json:"held"`
	First   *Held              `json:"first,omitempty"`
	Actions []QuarantineAction `json:"actions"`
	Pending int                `json:"pending,omitempty"`
	Refused int                `json:"refused,omitempty"`
}

// Reason is why it was decided as it was; empty while it is held.
func (v *QuarantineView) Reason() string {
	if len(v.Actions) == 0 {
		return ""
	}
	return v.Actions[0].Reason
}

// FoldQuarantine derives the view of what was quarantined. The first action, in
// hybrid-time order, decides.
func FoldQuarantine(s *crdt.Source) (crdt.View, error) {
	v := QuarantineView{
		ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, State: QuarantineHeld,
		Actions: []QuarantineAction{}, Pending: s.Pending, Refused: s.Refused,
	}
	if err := s.Head(keyHeld, &v.Held); err != nil {
		return crdt.View{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	v.latest(s.Document.Root.String(keyAgain))
	facts, _ := s.Facts(keyActions)
	for _, f := range facts {
		var a QuarantineAction
		if json.Unmarshal([]byte(f.Text), &a) == nil {
			v.Actions = append(v.Actions, a)
		}
	}
	slices.SortStableFunc(v.Actions, func(x, y QuarantineAction) int { return cmp.Compare(x.At, y.At) })
	if len(v.Actions) > 0 {
		v.State, v.Event = QuarantineReleased, v.Actions[0].Event
		if v.Actions[0].Kind == QuarantineDiscard {
			v.State = QuarantineDiscarded
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return crdt.View{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return crdt.View{JSON: b, Index: v.index()}, nil
}

// latest puts what came last into the place of what came first.
func (v *QuarantineView) latest(text string) {
	var again Held
	if text == "" || json.Unmarshal([]byte(text), &again) != nil {
		return
	}
	first := v.Held
	again.ReceivedAtMS, again.Origin = first.ReceivedAtMS, first.Origin
	v.Held, v.First = again, &first
}

func (v *QuarantineView) index() []crdt.IndexEntry {
	at := TimeValue(v.Held.ReceivedAtMS)
	o := v.Held.Origin
	if o != nil {
		at += "/" + url.QueryEscape(o.Batch) + "/" + rowValue(o.Row)
	}
	out := []crdt.IndexEntry{{Name: IndexQuarantine, Value: QuarantinePrefix(v.State) + at}}
	if o != nil {
		out = append(out, crdt.IndexEntry{Name: IndexOrigin, Value: OriginAt(o.Batch) + rowValue(o.Row)})
	}
	if v.Waits() {
		out = append(out, crdt.IndexEntry{Name: IndexWaiting, Value: WaitingAt(v.Site, v.Held.TypeCode()) + at})
	}
	return out
}

// Waits reports whether it is held because nobody knows its type, and nothing else is
// known to be wrong.
func (v *QuarantineView) Waits() bool {
	return v.State == QuarantineHeld && v.Held.Field == fieldType && v.Held.TypeCode() != ""
}

// WaitingAt is the prefix of what a site holds because of a type in [IndexWaiting]; an
// empty type is for all.
func WaitingAt(site tiers.SiteID, code string) string {
	if code == "" {
		return string(site) + "/"
	}
	return string(site) + "/" + url.QueryEscape(code) + "/"
}

// OriginAt is the prefix of what came in a batch in [IndexOrigin].
func OriginAt(batch string) string { return url.QueryEscape(batch) + "/" }

func rowValue(row int) string { return fmt.Sprintf("%010d", row) }

// QuarantinePrefix is the part of [IndexQuarantine] of a state.
func QuarantinePrefix(state string) string { return state + "/" }

// Released makes the report that something held is released as: what it says, with
// fields set. The error wraps [ErrInvalid].
func (h Held) Released(set map[string]string) (Report, error) {
	raw := h.Content()
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		fields = map[string]json.RawMessage{} // everything must be set then
	}
	delete(fields, "id")
	for name, value := range set {
		b, err := fieldJSON(name, value)
		if err != nil {
			return Report{}, err
		}
		if b == nil {
			delete(fields, name)
			continue
		}
		if fields[name] = b; name == "reported_at" {
			delete(fields, "reported_at_ms")
		}
	}
	var r Report
	b, err := json.Marshal(fields)
	if err == nil {
		r, err = ParseReport(b)
	}
	return r, err
}

// fieldJSON makes the JSON of a field from its text; nil when it is to be left out.
func fieldJSON(name, value string) ([]byte, error) {
	if value == "" {
		return nil, nil
	}
	switch name {
	case "lat", "lon":
		f, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, invalid(name, "%s %.40q: want a number", name, value)
		}
		return json.Marshal(f)
	case "priority", "reported_at_ms":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, invalid(name, "%s %.40q: want a whole number", name, value)
		}
		return json.Marshal(n)
	default:
		return json.Marshal(value)
	}
}
