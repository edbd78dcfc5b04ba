package store

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tiermesh/tiermesh/tiers"
)

// DocumentsOf lists the documents of a kind in a stream by name, behind one name
// (all for ""), at most limit of them (0 for no bound). Unlike an index it misses
// nothing that was written, also where the view is still to be made; records that
// were set aside may have left a document with nothing in it.
func (s *Store) DocumentsOf(stream tiers.StreamID, kind, after string, limit int) ([]DocKey, error) {
	if err := s.usage.enter(); err != nil {
		return nil, err
	}
	defer s.usage.leave()
	all := keyDoc(tableDoc, DocKey{Stream: stream, Doc: tiers.NewDocID(kind, "")})
	from := all
	if after != "" {
		from = append(keyDoc(tableDoc, DocKey{Stream: stream, Doc: tiers.NewDocID(kind, after)}), 0)
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: prefixEnd(all)})
	if err != nil {
		return nil, fmt.Errorf("read documents of kind %s: %w", kind, err)
	}
	var out []DocKey
	for ok := it.First(); ok && err == nil && (limit == 0 || len(out) < limit); ok = it.Next() {
		d := decoder{b: it.Key()[1:]}
		out = append(out, d.docKey())
		if d.bad {
			err = fmt.Errorf("%w: document key", ErrCorrupt)
		}
	}
	return out, errors.Join(err, it.Error(), it.Close())
}
