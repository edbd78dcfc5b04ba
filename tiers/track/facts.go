package track

import (
	"fmt"

	"github.com/tiermesh/tiermesh/crdt"
)

// head decodes the immutable part of a document.
func head(s *crdt.Source, key string, into any) error {
	if err := s.Head(key, into); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
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
