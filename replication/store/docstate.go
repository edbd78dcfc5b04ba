package store

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
)

// docState is what Apply must know of a document to judge its next change.
type docState struct {
	// heads are the changes that no other change depends on.
	heads []docHead
	// actors are the Automerge actors that wrote here; each belongs to one
	// leadership of one author.
	actors []docActor
	// pending are records whose dependencies have not come, in order of
	// arrival. Records of one author for one document are judged strictly in
	// chain order, so that every site comes to the same verdict on each.
	pending []ref
	// changes and refused count the applied and the refused records.
	changes, refused uint64
	// burned keeps the version rising when records were set aside.
	burned uint64
	// only is the place of a document's one change, as most documents never have
	// another: its hash and last operation are the head's. From the second change
	// on each has an entry of its own, and only is nil.
	only *ref
}

type docHead struct {
	hash  crdt.Hash
	maxOp uint64
}

type docActor struct {
	actor      crdt.Actor
	seq, maxOp uint64
}

// version rises with every record that touched the document.
func (s *docState) version() uint64 { return s.changes + s.refused + uint64(len(s.pending)) + s.burned }

// empty reports whether no record stands in the document.
func (s *docState) empty() bool { return s.changes+s.refused+uint64(len(s.pending)) == 0 }

// hashes returns the heads' hashes in stored order.
func (s *docState) hashes() []crdt.Hash {
	out := make([]crdt.Hash, len(s.heads))
	for i, h := range s.heads {
		out[i] = h.hash
	}
	return out
}

// waits reports whether an earlier record of the author is held back.
func (s *docState) waits(a crdt.Author) bool {
	for _, p := range s.pending {
		if p.author == a {
			return true
		}
	}
	return false
}

// advance takes in one change that fits.
func (s *docState) advance(c crdt.ChangeInfo) {
	s.heads = slices.DeleteFunc(s.heads, func(h docHead) bool { return slices.Contains(c.Deps, h.hash) })
	s.heads = append(s.heads, docHead{hash: c.Hash, maxOp: c.MaxOp})
	s.changes++
	for i := range s.actors {
		if s.actors[i].actor == c.Actor {
			s.actors[i].seq, s.actors[i].maxOp = c.Seq, c.MaxOp
			return
		}
	}
	s.actors = append(s.actors, docActor{actor: c.Actor, seq: c.Seq, maxOp: c.MaxOp})
}

// sameHashes reports whether a and b hold the same hashes in any order.
func sameHashes(a, b []crdt.Hash) bool { return len(a) == len(b) && containsAll(b, a) }

// containsAll reports whether all holds every one of some.
func containsAll(all, some []crdt.Hash) bool {
	return !slices.ContainsFunc(some, func(h crdt.Hash) bool { return !slices.Contains(all, h) })
}

// appendTo appends the encoding that decodeDocState reads.
func (s *docState) appendTo(b []byte) []byte {
	b = binary.AppendUvarint(b, s.changes)
	b = binary.AppendUvarint(b, s.refused)
	b = binary.AppendUvarint(b, uint64(len(s.heads)))
	for _, h := range s.heads {
		b = append(b, h.hash[:]...)
		b = binary.AppendUvarint(b, h.maxOp)
	}
	b = binary.AppendUvarint(b, uint64(len(s.actors)))
	for _, a := range s.actors {
		b = append(b, a.actor[:]...)
		b = binary.AppendUvarint(b, a.seq)
		b = binary.AppendUvarint(b, a.maxOp)
	}
	b = binary.AppendUvarint(b, uint64(len(s.pending)))
	for _, p := range s.pending {
		b = p.appendTo(b)
	}
	if s.burned > 0 || s.only != nil { // most documents never lose a record
		b = binary.AppendUvarint(b, s.burned)
	}
	if s.only != nil {
		b = s.only.appendTo(b)
	}
	return b
}

func decodeDocState(b []byte) (*docState, error) {
	d := decoder{b: b}
	s := &docState{changes: d.uvarint(), refused: d.uvarint()}
	for range d.count() {
		s.heads = append(s.heads, docHead{hash: d.hash(), maxOp: d.uvarint()})
	}
	for range d.count() {
		var a docActor
		copy(a.actor[:], d.take(16))
		a.seq, a.maxOp = d.uvarint(), d.uvarint()
		s.actors = append(s.actors, a)
	}
	for range d.count() {
		s.pending = append(s.pending, d.ref())
	}
	if len(d.b) > 0 {
		s.burned = d.uvarint()
	}
	if len(d.b) > 0 {
		only := d.ref()
		s.only = &only
	}
	if d.bad || len(d.b) != 0 || s.only != nil && (s.changes != 1 || len(s.heads) != 1) {
		return nil, fmt.Errorf("%w: document state", ErrCorrupt)
	}
	return s, nil
}
