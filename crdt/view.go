package crdt

import (
	"encoding/json"
	"fmt"

	"github.com/tiermesh/tiermesh/tiers"
)

// Source is a document on its way into a view: what a domain's fold is given.
// Folds are pure: equal sources give equal views, byte for byte, whatever
// order the records arrived in.
type Source struct {
	Stream   tiers.StreamID
	Doc      tiers.DocID
	Document *Document
	// Authors maps each actor in the document to its author.
	Authors map[Actor]Author
	// IndexOnly says that only the view's index entries are wanted: its JSON may be
	// left out.
	IndexOnly bool
	// Pending is the number of records held back because changes they depend
	// on have not come; Refused counts records whose change can never apply.
	Pending, Refused int
}

// View is what people query: one JSON object, and the index entries under
// which it is found.
type View struct {
	JSON  []byte
	Index []IndexEntry
	// Counts are the counters in which the document counts one each. Their number
	// over all documents is what a view of the whole is made of, without reading it.
	Counts []Count
}

// Count is a counter of the site whose stream the document is in: a cell of a cube,
// such as state "closed" of cube "event". Neither string may hold a zero byte; each
// pair that occurs is kept in memory, so a cell should be one of few.
type Count struct {
	Cube, Cell string
}

// IndexEntry places a document under a value of a named index. Entries of one
// index are listed in ascending byte order of the value. Neither string may
// hold a zero byte.
type IndexEntry struct {
	Name, Value string
}

// Conflict is a field with several concurrent values, the winner first.
type Conflict struct {
	Field  string          `json:"field"`
	Values []ConflictValue `json:"values"`
}

// ConflictValue is one of the concurrent values with who wrote it and when.
type ConflictValue struct {
	Value any          `json:"value"`
	Site  tiers.SiteID `json:"site"`
	// AtMS is the commit time of the change, in Unix milliseconds.
	AtMS int64 `json:"at_ms"`
}

// Conflicts lists the unresolved conflicts among the root's scalar fields, in
// field order; nil when there are none.
func (s *Source) Conflicts() []Conflict { return s.ConflictsIn(s.Document.Root) }

// ConflictsIn lists the unresolved conflicts among the fields of one map of the
// document.
func (s *Source) ConflictsIn(n Node) []Conflict {
	var out []Conflict
	for _, f := range n.Fields {
		if len(f.Values) < 2 {
			continue
		}
		c := Conflict{Field: f.Key}
		for _, w := range f.Values {
			info, _ := s.Document.ChangeOf(w)
			c.Values = append(c.Values, ConflictValue{Value: w.Node.Scalar, Site: s.Authors[w.Actor].Site, AtMS: info.TimeMS})
		}
		out = append(out, c)
	}
	return out
}

// FieldView is the JSON of a document that is a plain map of fields.
type FieldView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	// Fields are the root's scalar fields; of a conflict, the winner.
	Fields    map[string]any `json:"fields"`
	Conflicts []Conflict     `json:"conflicts,omitempty"`
	Pending   int            `json:"pending,omitempty"`
	Refused   int            `json:"refused,omitempty"`
}

// FieldView folds a map of fields, as catalog entries and tracks are. It is
// listed under the index of its kind, by name, and under further entries given.
func (s *Source) FieldView(index ...IndexEntry) (View, error) {
	v := FieldView{
		ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, Fields: map[string]any{},
		Conflicts: s.Conflicts(), Pending: s.Pending, Refused: s.Refused,
	}
	for _, f := range s.Document.Root.Fields {
		if n := f.Values[0].Node; n.Kind == NodeScalar {
			v.Fields[f.Key] = n.Scalar
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return View{}, fmt.Errorf("view of %s: %w", s.Doc, err)
	}
	return View{JSON: b, Index: append(index, IndexEntry{Name: s.Doc.Kind(), Value: s.Doc.Name()})}, nil
}

// FieldOps returns the operations that set string fields, in the order given.
// Empty values are left out.
func FieldOps(pairs ...[2]string) []Op {
	var ops []Op
	for _, p := range pairs {
		if p[1] != "" {
			ops = append(ops, Op{Kind: OpPut, Key: p[0], Value: p[1]})
		}
	}
	return ops
}
