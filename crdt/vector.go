package crdt

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/tiermesh/tiermesh/tiers"
)

// Vector is what a site holds of one stream: the head of each author's chain.
// The zero value is the empty vector. It is not safe for concurrent writes.
type Vector map[Author]Head

// Authors returns the authors in ascending order.
func (v Vector) Authors() []Author {
	return slices.SortedFunc(maps.Keys(v), Author.Compare)
}

// Digest returns the stream's digest. Equal digests prove equal chains.
func (v Vector) Digest(stream tiers.StreamID) Hash {
	b := appendStream([]byte("tiermesh stream v1\x00"), stream)
	for _, a := range v.Authors() {
		h := v[a]
		b = a.appendTo(b)
		b = binary.BigEndian.AppendUint64(b, h.Seq)
		b = append(b, h.Hash[:]...)
	}
	return sha256.Sum256(b)
}

// LinkDigest folds the digests of the streams that two sites share into one.
// Streams without a chain must be left out by both.
func LinkDigest(digests map[tiers.StreamID]Hash) Hash {
	b := []byte("tiermesh link v1\x00")
	for _, s := range slices.SortedFunc(maps.Keys(digests), tiers.StreamID.Compare) {
		h := digests[s]
		b = appendStream(b, s)
		b = append(b, h[:]...)
	}
	return sha256.Sum256(b)
}
