package crdt

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/tiermesh/tiermesh/tiers"
)

// Author is who writes a chain: a site in one incarnation. The incarnation
// rises only when the site was restored, rolled back or cloned.
type Author struct {
	Site        tiers.SiteID
	Incarnation uint32
}

// String returns site@incarnation.
func (a Author) String() string { return fmt.Sprintf("%s@%d", a.Site, a.Incarnation) }

// Compare orders authors by site, then incarnation.
func (a Author) Compare(b Author) int {
	return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Incarnation, b.Incarnation))
}

// appendTo appends the canonical encoding that chains, digests and marks hash.
func (a Author) appendTo(b []byte) []byte {
	b = append(b, byte(len(a.Site)))
	b = append(b, a.Site...)
	return binary.BigEndian.AppendUint32(b, a.Incarnation)
}

// Actor is an Automerge actor id. Its first 8 bytes mark its author, so that
// anyone can check whose it is; the last 8 are random for each leadership.
type Actor [16]byte

// String returns the 32 hex digits.
func (a Actor) String() string { return hex.EncodeToString(a[:]) }

// NewActor returns the actor of author with the given random half.
func NewActor(author Author, random [8]byte) Actor {
	mark := author.Mark()
	var a Actor
	copy(a[:8], mark[:])
	copy(a[8:], random[:])
	return a
}

// Mark returns the first 8 bytes of each of the author's actor ids: a
// truncated SHA-256 of the author.
func (a Author) Mark() [8]byte {
	sum := sha256.Sum256(a.appendTo(append(make([]byte, 0, 64), "tiermesh actor v1\x00"...)))
	return [8]byte(sum[:8])
}

// Owns reports whether the actor id bears the author's mark.
func (a Author) Owns(actor Actor) bool { return [8]byte(actor[:8]) == a.Mark() }
