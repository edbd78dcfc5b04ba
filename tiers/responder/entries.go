package responder

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// Entry is one immutable step of a request or a pool.
type Entry struct {
	At crdt.HybridTime `json:"at"`
	// By is the site whose step it is; one above both may have passed it on.
	By   tiers.SiteID `json:"by"`
	Kind string       `json:"kind"`
	// Unit and Epoch are what was granted.
	Unit   string `json:"unit,omitempty"`
	Epoch  Epoch  `json:"epoch,omitzero"`
	Reason string `json:"reason,omitempty"`
	// UntilMS is a lease's new end, in Unix milliseconds.
	UntilMS int64 `json:"until_ms,omitempty"`
}

// EntryOp returns the operation that appends an entry.
func EntryOp(e Entry) (crdt.Op, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return crdt.Op{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return crdt.Op{Kind: crdt.OpAppend, In: keyEntries, Value: string(b)}, nil
}

// item is a text of a list and who wrote it.
type item struct {
	text   string
	author tiers.SiteID
}

// list returns the texts of a list, each once for each author, in an order that
// does not depend on how they came.
func list(s *crdt.Source, key string) []item {
	lists := s.Document.Root.Field(key)
	var out []item
	for _, l := range lists { // concurrent lists under one key are one
		for _, it := range l.Node.Items {
			if text, ok := it.Node.Scalar.(string); ok {
				out = append(out, item{text, s.Authors[it.Actor].Site})
			}
		}
	}
	slices.SortFunc(out, func(a, b item) int {
		return firstNonZero(slices.Compare([]byte(a.text), []byte(b.text)), slices.Compare([]byte(a.author), []byte(b.author)))
	})
	return slices.Compact(out)
}

func firstNonZero(a, b int) int {
	if a != 0 {
		return a
	}
	return b
}

// entries returns the entries that allowed accepts, each once, the earliest
// first.
func entries(s *crdt.Source, allowed func(e Entry, author tiers.SiteID) bool) []Entry {
	out := []Entry{}
	for _, it := range list(s, keyEntries) {
		var e Entry
		if json.Unmarshal([]byte(it.text), &e) == nil && allowed(e, it.author) && !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int {
		switch {
		case a.At < b.At:
			return -1
		case a.At > b.At:
			return 1
		}
		return 0
	})
	return out
}

func has(all []Entry, kind string) bool { return find(all, kind) != nil }

// find returns the earliest entry of a kind, or nil.
func find(all []Entry, kind string) *Entry {
	for i := range all {
		if all[i].Kind == kind {
			return &all[i]
		}
	}
	return nil
}

// head decodes the immutable part of a document.
func head(s *crdt.Source, key string, into any) error {
	text := s.Document.Root.String(key)
	if err := json.Unmarshal([]byte(text), into); err != nil && (text != "" || s.Pending == 0) {
		return fmt.Errorf("%w: %s of %s: %w", ErrInvalid, key, s.Doc, err)
	}
	return nil
}

func made(s *crdt.Source, v any, index ...crdt.IndexEntry) (crdt.View, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return crdt.View{}, fmt.Errorf("%w: view of %s: %w", ErrInvalid, s.Doc, err)
	}
	return crdt.View{JSON: b, Index: index}, nil
}

func createOps(key string, value any) ([]crdt.Op, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return []crdt.Op{{Kind: crdt.OpPut, Key: key, Value: string(b)}, {Kind: crdt.OpMakeList, Key: keyEntries}}, nil
}
