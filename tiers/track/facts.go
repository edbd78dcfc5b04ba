package track

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// fact is a text of a document's list and who wrote it.
type fact struct {
	text   string
	author tiers.SiteID
}

// facts returns the texts of a document's list, each once for each author, in an
// order that does not depend on how they came.
func facts(s *crdt.Source) (out []fact) {
	for _, l := range s.Document.Root.Field(keyActions) { // concurrent lists under one key are one
		for _, it := range l.Node.Items {
			text, ok := it.Node.Scalar.(string)
			if !ok {
				text = fmt.Sprintf("not a text: %v", it.Node.Scalar)
			}
			out = append(out, fact{text, s.Authors[it.Actor].Site})
		}
	}
	slices.SortFunc(out, func(a, b fact) int {
		if c := strings.Compare(a.text, b.text); c != 0 {
			return c
		}
		return strings.Compare(string(a.author), string(b.author))
	})
	return slices.Compact(out)
}

// head decodes the immutable part of a document. While records are held back it may
// be missing.
func head(s *crdt.Source, key string, into any) error {
	text := s.Document.Root.String(key)
	if err := json.Unmarshal([]byte(text), into); err != nil && (text != "" || s.Pending == 0) {
		return fmt.Errorf("%w: %s of %s: %w", ErrInvalid, key, s.Doc, err)
	}
	return nil
}

// Faults count what of a document's records is out of the ordinary.
type Faults struct {
	// Malformed are entries that are none, or not their author's to make.
	Malformed int `json:"malformed,omitempty"`
	Pending   int `json:"pending,omitempty"`
	Refused   int `json:"refused,omitempty"`
}
