package crdt

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/tiers"
)

// Hash is a SHA-256: a chain hash, a digest or an Automerge change hash.
type Hash [32]byte

// String returns the first 8 hex digits, enough to tell hashes apart in a log.
func (h Hash) String() string { return fmt.Sprintf("%x", h[:4]) }

// RecordKind says what a record's body is.
type RecordKind uint8

// RecordChange marks a body that is one Automerge change.
const RecordChange RecordKind = 1

// RecordReadings marks a body that is a batch of readings (package crdt/reading),
// in a stream of class reading. Sites that do not know it store and forward it.
const RecordReadings RecordKind = 2

// Record is one entry of a chain. Its position is not part of it.
type Record struct {
	Kind RecordKind
	// Time is the author's hybrid time when it wrote the record.
	Time HybridTime
	Doc  tiers.DocID
	// Body is the change; the record does not own the slice after decoding.
	Body []byte
}

// AppendTo appends the version-1 encoding to b.
func (r Record) AppendTo(b []byte) []byte {
	b = slices.Grow(b, 1+8+binary.MaxVarintLen16+len(r.Doc)+len(r.Body))
	b = append(b, byte(r.Kind))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time))
	b = binary.AppendUvarint(b, uint64(len(r.Doc)))
	b = append(b, r.Doc...)
	return append(b, r.Body...)
}

// DecodeRecord reads the version-1 encoding. The body shares b's memory. The
// error wraps [ErrMalformed] or [tiers.ErrInvalidID].
func DecodeRecord(b []byte) (Record, error) {
	if len(b) < 10 {
		return Record{}, fmt.Errorf("%w: record of %d bytes", ErrMalformed, len(b))
	}
	r := Record{Kind: RecordKind(b[0]), Time: HybridTime(binary.BigEndian.Uint64(b[1:]))}
	n, used := binary.Uvarint(b[9:])
	rest := b[9+max(used, 0):]
	if used <= 0 || n > uint64(len(rest)) || used > 1 && n < 1<<(7*(used-1)) {
		return Record{}, fmt.Errorf("%w: record: document length", ErrMalformed)
	}
	r.Doc, r.Body = tiers.DocID(rest[:n]), rest[n:]
	if err := r.Doc.Validate(); err != nil {
		return Record{}, fmt.Errorf("%w: record: %w", ErrMalformed, err)
	}
	return r, nil
}

// RecordTime returns the hybrid time of an encoded record without decoding it; zero
// for one that is too short to be one.
func RecordTime(b []byte) HybridTime {
	if len(b) < 9 {
		return 0
	}
	return HybridTime(binary.BigEndian.Uint64(b[1:]))
}

// ChainID names one chain: an author's records in a stream.
type ChainID struct {
	Stream tiers.StreamID
	Author Author
}

// String returns stream:author.
func (c ChainID) String() string { return c.Stream.String() + ":" + c.Author.String() }

// Compare orders chains by stream (in lane order), then author.
func (c ChainID) Compare(o ChainID) int {
	if d := c.Stream.Compare(o.Stream); d != 0 {
		return d
	}
	return c.Author.Compare(o.Author)
}

// Head is how far a chain goes: the sequence number of its last record, from
// 1, and the chain hash there.
type Head struct {
	Seq  uint64
	Hash Hash
}

// appendStream appends the canonical encoding of a stream.
func appendStream(b []byte, s tiers.StreamID) []byte {
	b = append(b, byte(len(s.Site)))
	b = append(b, s.Site...)
	return append(b, byte(s.Class))
}

// Origin returns the head of the chain before its first record: (0, h(0)).
func (c ChainID) Origin() Head {
	b := appendStream([]byte("tiermesh chain v1\x00"), c.Stream)
	return Head{Hash: sha256.Sum256(c.Author.appendTo(b))}
}

// Next returns the head after a record with the given encoding.
func (h Head) Next(record []byte) Head {
	var b [64]byte
	digest := sha256.Sum256(record)
	copy(b[:32], h.Hash[:])
	copy(b[32:], digest[:])
	return Head{Seq: h.Seq + 1, Hash: sha256.Sum256(b[:])}
}
