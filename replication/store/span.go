package store

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// spanExact is how many records are read to know their size; the size of more
// is estimated from the chain's mean.
const spanExact = 1024

// Span is how much of a chain lies behind a record.
type Span struct {
	Records, Bytes uint64
	// Estimated says that Bytes is the chain's mean times Records.
	Estimated bool
	// Oldest is the hybrid time of the first record; zero when there is none.
	Oldest crdt.HybridTime
}

// Vectors returns what the store holds of all streams at one moment; the caller
// owns it.
func (s *Store) Vectors() map[tiers.StreamID]crdt.Vector {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make(map[tiers.StreamID]crdt.Vector, len(s.chains))
	for stream, authors := range s.chains {
		v := make(crdt.Vector, len(authors))
		for a, st := range authors {
			v[a] = st.head
		}
		out[stream] = v
	}
	return out
}

// Size returns the records of a chain and the bytes of their encodings.
func (s *Store) Size(c crdt.ChainID) (records, bytes uint64) {
	st := s.chain(c)
	return st.head.Seq, st.bytes
}

// Span measures what a chain holds behind record after.
func (s *Store) Span(c crdt.ChainID, after uint64) (Span, error) {
	if err := s.usage.enter(); err != nil {
		return Span{}, err
	}
	defer s.usage.leave()
	st := s.chain(c)
	if after >= st.head.Seq {
		return Span{}, nil
	}
	out := Span{Records: st.head.Seq - after}
	_, enc, err := s.recordAt(c, after+1)
	if err != nil {
		return Span{}, err
	}
	rec, err := crdt.DecodeRecord(enc)
	if err != nil {
		return Span{}, fmt.Errorf("%w: record %d of %s", ErrCorrupt, after+1, c)
	}
	out.Oldest = rec.Time
	switch {
	case after == 0:
		out.Bytes = st.bytes
	case out.Records > spanExact:
		out.Bytes, out.Estimated = uint64(float64(st.bytes)/float64(st.head.Seq)*float64(out.Records)), true
	default:
		out.Bytes, err = s.sumBytes(c, after+1, st.head.Seq)
	}
	return out, err
}

// sumBytes adds up the encodings of a few records.
func (s *Store) sumBytes(c crdt.ChainID, first, last uint64) (sum uint64, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: keySeq(tableRecord, c, first), UpperBound: keySeq(tableRecord, c, last+1),
	})
	if err != nil {
		return 0, fmt.Errorf("read chain %s: %w", c, err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		v := it.Value()
		if len(v) < 32 {
			return 0, errors.Join(fmt.Errorf("%w: record of %s", ErrCorrupt, c), it.Close())
		}
		sum += uint64(len(v) - 32)
	}
	return sum, errors.Join(it.Error(), it.Close())
}
