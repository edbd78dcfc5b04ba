package track

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// KindAdoption is the document kind of the receipts of adoptions (承接) and the
// name of their index. A receipt has the code of its track.
const KindAdoption = "adoption"

// adopted are the fields that an adoption copies and compares.
var adopted = []string{FieldDeadline, FieldDescription, FieldName, FieldOwner, FieldState, FieldTarget}

// Taken is what a site took over from a track above: the head of a receipt, and
// each of its refreshes.
type Taken struct {
	At crdt.HybridTime `json:"at"`
	By tiers.SiteID    `json:"by"`
	// From is the site in whose catalog the original stands.
	From tiers.SiteID `json:"from"`
	// Who is the person that did it.
	Who string `json:"who,omitempty"`
	// Fields are what the original said then.
	Fields map[string]string `json:"fields"`
}

// Take returns what an original says, to take over.
func Take(origin View) map[string]string {
	out := map[string]string{}
	for _, f := range adopted {
		out[f] = origin.Get(f)
	}
	return out
}

// Validate checks the form. The error wraps [ErrInvalid].
func (t Taken) Validate() error {
	if err := t.From.Validate(); err != nil {
		return fmt.Errorf("%w: from: %w", ErrInvalid, err)
	}
	if ms := t.At.Millis(); ms > timeMaxMS {
		return fmt.Errorf("%w: at %d ms: want a time between 1970 and 2200", ErrInvalid, ms)
	}
	return checkText("who", t.Who, whoBytesMax)
}

// AdoptionOps returns the operations of a receipt's first change. The error wraps
// [ErrInvalid].
func AdoptionOps(t Taken) ([]crdt.Op, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return factOps(keyAdoption, t)
}

// RefreshOp returns the operation that notes a refresh. The error wraps
// [ErrInvalid].
func RefreshOp(t Taken) (crdt.Op, error) {
	if err := t.Validate(); err != nil {
		return crdt.Op{}, err
	}
	return entryOp(t)
}

// AdoptionView is what people see of a receipt.
type AdoptionView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	Code   string       `json:"code"`
	From   tiers.SiteID `json:"from"`
	Who    string       `json:"who,omitempty"`
	// AdoptedAtMS and RefreshedAtMS are Unix milliseconds; the latter is zero when
	// it was not refreshed.
	AdoptedAtMS   int64 `json:"adopted_at_ms"`
	RefreshedAtMS int64 `json:"refreshed_at_ms,omitempty"`
	Refreshes     int   `json:"refreshes,omitempty"`
	// Base is what the original said when it was last taken over.
	Base map[string]string `json:"base"`
	Faults
}

// FoldAdoption derives a receipt's view. Only the adopting site's entries count,
// the last by hybrid time.
func FoldAdoption(s *crdt.Source) (crdt.View, error) {
	v := AdoptionView{
		ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, Code: s.Doc.Name(),
		Faults: Faults{Pending: s.Pending, Refused: s.Refused},
	}
	var first Taken
	if err := head(s, keyAdoption, &first); err != nil {
		return crdt.View{}, err
	}
	last := first
	facts, none := s.Facts(keyActions)
	v.Malformed += none
	for _, f := range facts { // in the order of their texts, which breaks ties
		var t Taken
		if json.Unmarshal([]byte(f.Text), &t) != nil || t.Validate() != nil || t.By != v.Site || f.Author != "" && f.Author != t.By {
			v.Malformed++
			continue
		}
		v.Refreshes++
		if t.At >= last.At {
			last = t
		}
	}
	v.From, v.Who, v.AdoptedAtMS, v.Base = last.From, last.Who, first.At.Millis(), last.Fields
	if v.Refreshes > 0 {
		v.RefreshedAtMS = last.At.Millis()
	}
	b, err := json.Marshal(v)
	if err != nil {
		return crdt.View{}, fmt.Errorf("%w: view of %s: %w", ErrInvalid, s.Doc, err)
	}
	return crdt.View{JSON: b, Index: []crdt.IndexEntry{{Name: KindAdoption, Value: s.Doc.Name()}}}, nil
}

// Drift is a field of which the original says something else than when it was taken
// over.
type Drift struct {
	Field  string `json:"field"`
	Base   string `json:"base"`
	Theirs string `json:"theirs"`
	Ours   string `json:"ours"`
}

// Overridden reports whether the adopting site has a value of its own.
func (d Drift) Overridden() bool { return d.Ours != d.Base }

// Drift compares the original and the copy with what was taken over: the fields
// that the original changed since, and that the copy does not have so, in the order
// of their names.
func (v AdoptionView) Drift(theirs, ours View) (out []Drift) {
	for _, f := range adopted {
		d := Drift{Field: f, Base: v.Base[f], Theirs: theirs.Get(f), Ours: ours.Get(f)}
		if d.Theirs != d.Base && d.Theirs != d.Ours {
			out = append(out, d)
		}
	}
	return out
}

// Overrides lists the fields in which a copy differs from what was taken over.
func (v AdoptionView) Overrides(ours View) (out []string) {
	for _, f := range adopted {
		if ours.Get(f) != v.Base[f] {
			out = append(out, f)
		}
	}
	return out
}

// Refresh returns what a refresh sets in a copy, and which fields that the original
// changed keep the adopting site's own value; with all the copy becomes as the
// original.
func (v AdoptionView) Refresh(theirs, ours View, all bool) (set map[string]string, kept []string) {
	set = map[string]string{}
	if all {
		for _, f := range adopted {
			if t := theirs.Get(f); t != ours.Get(f) {
				set[f] = t
			}
		}
		return set, nil
	}
	for _, d := range v.Drift(theirs, ours) {
		if d.Overridden() {
			kept = append(kept, d.Field)
			continue
		}
		set[d.Field] = d.Theirs
	}
	return set, kept
}

// CheckOverrides checks the fields that an adoption sets to values of its own. The
// error wraps [ErrInvalid].
func CheckOverrides(fields map[string]string) error {
	for name := range fields {
		if !slices.Contains(adopted, name) || name == FieldState {
			return fmt.Errorf("%w: field %.64q cannot be set: want one of %s", ErrInvalid, name,
				strings.Join(slices.DeleteFunc(slices.Clone(adopted), func(f string) bool { return f == FieldState }), ", "))
		}
	}
	if len(fields) == 0 {
		return nil
	}
	_, err := EditOps(fields)
	return err
}
