package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tiermesh/tiermesh/tiers"
)

// metaNamed is the Raft index up to which every document is in the index of names.
// It is committed with what it tells of, so another one than that of the store
// means that a build wrote which knows no such index.
const metaNamed = "named"

// namesBatchBytes is how much is written at once when the index of names is made.
const namesBatchBytes = 1 << 20

// keyName is an entry of the index of names: a document's identifier from its end
// to its beginning, so that those with one ending stand together, and its stream.
func keyName(k DocKey) []byte { return appendStream(append(keyEnding(string(k.Doc)), 0), k.Stream) }

// keyEnding is what the entries of all documents with this ending begin with.
func keyEnding(ending string) []byte { return appendReversed(keyOf(tableName), ending) }

func appendReversed[T string | []byte](b []byte, s T) []byte {
	for i := len(s) - 1; i >= 0; i-- {
		b = append(b, s[i])
	}
	return b
}

// name puts the entry of a new document into the batch, without a copy of its own.
func (t *Tx) name(k DocKey) error {
	op := t.batch.SetDeferred(len(k.Doc)+len(k.Stream.Site)+4, 0)
	appendStream(append(appendReversed(append(op.Key[:0], tableName), string(k.Doc)), 0), k.Stream)
	return op.Finish()
}

// Named returns the documents with an identifier, one for each stream that holds
// records of it, in the streams' order. It costs the same however many streams the
// store holds.
func (s *Store) Named(doc tiers.DocID) ([]DocKey, error) {
	keys, _, err := s.entries(append(keyEnding(string(doc)), 0), 0, nil)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", doc, err)
	}
	slices.SortFunc(keys, func(a, b DocKey) int { return a.Stream.Compare(b.Stream) })
	return keys, nil
}

// endingLooksMax bounds how many documents [Store.Ending] looks at.
const endingLooksMax = 1024

// Ending returns up to limit documents of the kinds whose identifiers end in some
// text, and false when there may be more, or when too many of any kind end so to look at
// them all.
func (s *Store) Ending(text string, kinds []string, limit int) (keys []DocKey, all bool, err error) {
	keys, all, err = s.entries(keyEnding(text), limit, func(k DocKey) bool { return slices.Contains(kinds, k.Doc.Kind()) })
	if err != nil {
		return nil, false, fmt.Errorf("look up what ends in %q: %w", text, err)
	}
	return keys, all, nil
}

// entries reads the index of names under a prefix: documents that match and have
// records, up to a limit (0 for no bound, and for looking at all).
func (s *Store) entries(prefix []byte, limit int, match func(DocKey) bool) (out []DocKey, all bool, err error) {
	if err := s.usage.enter(); err != nil {
		return nil, false, err
	}
	defer s.usage.leave()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, it.Error(), it.Close()) }()
	looks := 0
	for ok := it.First(); ok; ok = it.Next() {
		d := decoder{b: it.Key()[1:]}
		k := DocKey{Doc: tiers.DocID(appendReversed(nil, []byte(d.terminated())))}
		if k.Stream = d.stream(); d.bad {
			return nil, false, fmt.Errorf("%w: index of names", ErrCorrupt)
		}
		if match != nil && !match(k) {
			if looks++; looks > endingLooksMax {
				return out, false, nil
			}
			continue
		}
		st, err := s.docState(k)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, false, err
		}
		if err != nil || st.empty() {
			continue // all of it was set aside
		}
		if limit > 0 && len(out) == limit {
			return out, false, nil
		}
		out = append(out, k)
	}
	return out, true, nil
}

// makeNames makes the index of names of a database that a build wrote which has
// none, or wrote to last.
func (s *Store) makeNames() error {
	named, err := s.get(keyMeta(metaNamed))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	want := binary.BigEndian.AppendUint64(nil, s.applied)
	if s.cfg.Salvaging || string(named) == string(want) {
		return nil
	}
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }()
	docs := 0
	err = s.scan([]byte{tableDoc}, func(key, _ []byte) error {
		d := decoder{b: key[1:]}
		k := d.docKey()
		if docs++; d.bad {
			return fmt.Errorf("%w: document key", ErrCorrupt)
		}
		if err := b.Set(keyName(k), nil, nil); err != nil || b.Len() < namesBatchBytes {
			return err
		}
		err := b.Commit(pebble.NoSync)
		b.Reset()
		return err
	})
	if err := errors.Join(err, b.Set(keyMeta(metaNamed), want, nil), b.Commit(pebble.NoSync)); err != nil {
		return fmt.Errorf("index names of %s: %w", s.cfg.Dir, err)
	}
	if docs > 0 {
		s.cfg.Logger.Info("index of names made", "documents", docs)
	}
	return nil
}
