package crdt

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/tiers"
)

// Fact is an entry of a document's append-only list: a text, JSON as a rule, and the
// site that wrote it; empty while that is not known.
type Fact struct {
	Text   string
	Author tiers.SiteID
}

// Facts returns the entries of the list under a key, each once for each author, by
// text and then author: an order that does not depend on how they came, and that
// breaks ties for who sorts them by time. Concurrent lists under one key are one.
// malformed counts what is no text. The caller owns the slice.
func (s *Source) Facts(key string) (facts []Fact, malformed int) {
	for _, l := range s.Document.Root.Field(key) {
		for _, it := range l.Node.Items {
			text, ok := it.Node.Scalar.(string)
			if !ok {
				malformed++
				continue
			}
			facts = append(facts, Fact{text, s.Authors[it.Actor].Site})
		}
	}
	slices.SortFunc(facts, func(a, b Fact) int { return cmp.Or(cmp.Compare(a.Text, b.Text), cmp.Compare(a.Author, b.Author)) })
	return slices.Compact(facts), malformed
}

// Head decodes the JSON text under a key: the part of a document of facts that never
// changes. While records are held back it may be missing.
func (s *Source) Head(key string, into any) error {
	text := s.Document.Root.String(key)
	if err := json.Unmarshal([]byte(text), into); err != nil && (text != "" || s.Pending == 0) {
		return fmt.Errorf("%s of %s: %w", key, s.Doc, err)
	}
	return nil
}
