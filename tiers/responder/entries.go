package responder

import (
	"cmp"
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

// entries returns the entries that allowed accepts, each once, the earliest
// first.
func entries(s *crdt.Source, allowed func(e Entry, author tiers.SiteID) bool) []Entry {
	out := []Entry{}
	facts, _ := s.Facts(keyEntries)
	for _, it := range facts {
		var e Entry
		if json.Unmarshal([]byte(it.Text), &e) == nil && allowed(e, it.Author) && !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int { return cmp.Compare(a.At, b.At) })
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
	if err := s.Head(key, into); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
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
