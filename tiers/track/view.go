package track

import (
	"encoding/json"
	"fmt"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// IndexConflict lists the tracks that have unresolved conflicts, by code.
const IndexConflict = Kind + ".conflict"

// View is what people see of a track.
type View struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	// Fields are the fields as written; of a conflict, the winner.
	Fields    map[string]any `json:"fields"`
	Conflicts []Conflict     `json:"conflicts,omitempty"`
	Pending   int            `json:"pending,omitempty"`
	Refused   int            `json:"refused,omitempty"`
}

// Conflict is a field with several values that did not see each other, the
// winner first. It stays until somebody writes the field again.
type Conflict struct {
	Field  string          `json:"field"`
	Values []ConflictValue `json:"values"`
}

// ConflictValue is one of the values, with who wrote it and when.
type ConflictValue struct {
	Value any          `json:"value"`
	Site  tiers.SiteID `json:"site"`
	// Actor is the writer of the change in that site: 32 hex digits.
	Actor string `json:"actor"`
	// AtMS is the commit time of the change, in Unix milliseconds.
	AtMS int64 `json:"at_ms"`
}

// Get returns a field as a text; empty when it is not set. A state that is not set
// is [StateActive], and a deadline 0.
func (v View) Get(field string) string {
	switch x := v.Fields[field].(type) {
	case nil:
		return map[string]string{FieldState: StateActive, FieldDeadline: "0"}[field]
	case string:
		return x
	default:
		return fmt.Sprint(x)
	}
}

// Conflict returns the conflict of a field, or nil.
func (v View) Conflict(field string) *Conflict {
	for i := range v.Conflicts {
		if v.Conflicts[i].Field == field {
			return &v.Conflicts[i]
		}
	}
	return nil
}

// Fold derives the view of a board or track. Several sites that wrote the same
// value are no conflict.
func Fold(s *crdt.Source) (crdt.View, error) {
	v := View{
		ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, Fields: map[string]any{},
		Pending: s.Pending, Refused: s.Refused,
	}
	for _, f := range s.Document.Root.Fields {
		if n := f.Values[0].Node; n.Kind == crdt.NodeScalar {
			v.Fields[f.Key] = n.Scalar
		}
		if c := conflict(s, f); c != nil {
			v.Conflicts = append(v.Conflicts, *c)
		}
	}
	index := []crdt.IndexEntry{{Name: s.Doc.Kind(), Value: s.Doc.Name()}}
	if len(v.Conflicts) > 0 && s.Doc.Kind() == Kind {
		index = append(index, crdt.IndexEntry{Name: IndexConflict, Value: s.Doc.Name()})
	}
	b, err := json.Marshal(v)
	if err != nil {
		return crdt.View{}, fmt.Errorf("%w: view of %s: %w", ErrInvalid, s.Doc, err)
	}
	return crdt.View{JSON: b, Index: index}, nil
}

// conflict returns a field's values when they differ, and nil otherwise.
func conflict(s *crdt.Source, f crdt.Field) *Conflict {
	c := Conflict{Field: f.Key}
	differ := false
	for _, w := range f.Values {
		info, _ := s.Document.ChangeOf(w)
		c.Values = append(c.Values, ConflictValue{
			Value: w.Node.Scalar, Site: s.Authors[w.Actor].Site, Actor: w.Actor.String(), AtMS: info.TimeMS,
		})
		differ = differ || fmt.Sprint(w.Node.Scalar) != fmt.Sprint(f.Values[0].Node.Scalar)
	}
	if !differ {
		return nil
	}
	return &c
}
