package change

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
)

// Reissue returns a change as if another actor had written it: actors and the
// hashes of what it follows are replaced by those that the maps name, everything
// else stays, byte for byte. It is for records of a chain that was forked, which
// their site writes once more in a new incarnation.
//
// Every dependency must be in hashes: what follows a change that stays as it is
// refers to it by its old actor, and is not for this function. The error wraps
// those of [Decode], or [ErrRefused] when the change cannot be written over.
func Reissue(raw []byte, lim Limits, actors map[crdt.Actor]crdt.Actor, hashes map[crdt.Hash]crdt.Hash) ([]byte, error) {
	if _, err := Decode(raw, lim); err != nil {
		return nil, err
	}
	out := bytes.Clone(raw)
	r := &reader{b: out[9:]}
	r.uleb("length")
	var deps []crdt.Hash
	n := r.uleb("dependencies")
	places := make([][]byte, n)
	for i := range places {
		places[i] = r.take(32, "dependency")
		h, known := hashes[crdt.Hash(places[i])]
		if !known {
			return nil, fmt.Errorf("%w: it follows change %s, which stays as it is", ErrRefused, crdt.Hash(places[i]))
		}
		deps = append(deps, h)
	}
	slices.SortFunc(deps, func(a, b crdt.Hash) int { return bytes.Compare(a[:], b[:]) })
	for i, h := range deps {
		copy(places[i], h[:])
	}
	replace := func() {
		r.uleb("actor")
		at := r.take(16, "actor")
		if to, known := actors[crdt.Actor(at)]; known {
			copy(at, to[:])
		}
	}
	replace()
	r.uleb("seq")
	r.uleb("start op")
	r.sleb("time")
	r.take(r.uleb("message"), "message")
	for range r.uleb("other actors") {
		replace()
	}
	if r.err != nil {
		return nil, r.err
	}
	sum := sha256.Sum256(out[8:])
	copy(out[4:8], sum[:4])
	if _, err := Decode(out, lim); err != nil { // actors may be out of order now
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return out, nil
}
