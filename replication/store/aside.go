package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tiermesh/tiermesh/crdt"
)

// Aside says which records of a chain were set aside: one side of a fork, kept as
// evidence and part of nothing.
type Aside struct {
	Chain crdt.ChainID
	// No counts the times that records of the chain were set aside, from 1.
	No uint32
	// Kept is how many records of the chain stayed; those aside were Kept+1 and on.
	Kept    uint64
	Records uint64
	// Proof is the author's checkpoint of the other history, and Own the last one
	// of the records aside; Own is zero when the store held none. Two signatures
	// of one author over different records in one place prove the fork.
	Proof, Own crdt.Checkpoint
}

// Evict asks for the records of a chain behind Keep to be set aside.
type Evict struct {
	Chain crdt.ChainID
	Keep  uint64
	// Hash is the chain hash here after record Keep+1. When the chain holds
	// something else there by now, nothing happens.
	Hash crdt.Hash
	// Proof is a checkpoint of the other history, whose signature was checked.
	Proof crdt.Checkpoint
}

func keyAside(c crdt.ChainID, no uint32, seq uint64) []byte {
	b := binary.BigEndian.AppendUint32(keyChain(tableAside, c), no)
	return binary.BigEndian.AppendUint64(b, seq)
}

// Empty reports whether nothing was done in the Tx yet. [Tx.SetAside] needs one
// that is: what it does is not for others of the same Tx to build on.
func (t *Tx) Empty() bool { return t.batch.Empty() }

// Evicted reports whether [Tx.SetAside] did anything; then it must be committed
// before anything else is done.
func (t *Tx) Evicted() bool { return t.evicted }

// SetAside moves a chain's records behind e.Keep to the evidence, and makes their
// documents anew without them. It returns how many; it rejects with [ErrMoved]
// when the chain holds something else by now.
func (t *Tx) SetAside(e Evict) (int, error) {
	st := t.s.chain(e.Chain)
	if have, err := t.s.hashAt(e.Chain, e.Keep+1); errors.Is(err, ErrNotFound) || err == nil && have != e.Hash {
		return 0, fmt.Errorf("%w: record %d of %s", ErrMoved, e.Keep+1, e.Chain)
	} else if err != nil {
		return 0, err
	}
	end, err := t.s.hashAt(e.Chain, e.Keep)
	if err != nil {
		return 0, err
	}
	no, err := t.s.lastAside(e.Chain)
	if err != nil {
		return 0, err
	}
	t.evicted = true
	a := Aside{Chain: e.Chain, No: no + 1, Kept: e.Keep, Records: st.head.Seq - e.Keep, Proof: e.Proof}
	docs, size, err := t.copyAside(a, st.head.Seq)
	if err != nil {
		return 0, err
	}
	for _, table := range []byte{tableRecord, tableCheckpoint} {
		if err := t.batch.DeleteRange(keySeq(table, e.Chain, e.Keep+1), prefixEnd(keyChain(table, e.Chain)), nil); err != nil {
			return 0, err
		}
	}
	for _, k := range docs {
		if err := t.remake(k, e.Chain.Author, e.Keep); err != nil {
			return 0, err
		}
	}
	if err := t.forgetArrivals(e.Chain, e.Keep); err != nil {
		return 0, err
	}
	if err := t.remakeReadings(e.Chain, e.Keep, st.head.Seq); err != nil {
		return 0, err
	}
	t.chains[e.Chain] = chainState{head: crdt.Head{Seq: e.Keep, Hash: end}, bytes: st.bytes - size}
	t.records -= a.Records // wraps, and back when it is added
	return int(a.Records), nil
}

// copyAside writes the evidence and returns the documents that its records
// belong to and their size.
func (t *Tx) copyAside(a Aside, last uint64) (docs []DocKey, size uint64, err error) {
	own, err := t.s.checkpointsBefore(a.Chain, last+1, 1)
	if err != nil {
		return nil, 0, err
	}
	if len(own) == 1 && own[0].seq > a.Kept {
		a.Own = own[0].checkpoint
	}
	v := binary.BigEndian.AppendUint64(nil, a.Kept)
	v = binary.BigEndian.AppendUint64(v, a.Records)
	for _, c := range []crdt.Checkpoint{a.Proof, a.Own} {
		v = binary.BigEndian.AppendUint64(v, c.Head.Seq)
		v = append(v, c.Head.Hash[:]...)
		v = binary.BigEndian.AppendUint64(v, uint64(c.TimeMS))
		v = appendBytes(v, c.Signature)
	}
	if err := t.batch.Set(keyAside(a.Chain, a.No, 0), v, nil); err != nil {
		return nil, 0, err
	}
	seen := map[DocKey]bool{}
	for seq := a.Kept + 1; seq <= last; seq++ {
		h, enc, err := t.s.recordAt(a.Chain, seq)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		size += uint64(len(enc))
		if err := t.batch.Set(keyAside(a.Chain, a.No, seq), append(append([]byte(nil), h[:]...), enc...), nil); err != nil {
			return nil, 0, err
		}
		rec, err := crdt.DecodeRecord(enc)
		if k := (DocKey{a.Chain.Stream, rec.Doc}); err == nil && rec.Kind == crdt.RecordChange && !seen[k] {
			seen[k] = true
			docs = append(docs, k)
		}
	}
	return docs, size, nil
}

// remake judges every record of a document again, without those of an author
// behind keep. The verdicts depend on the records alone, so the document is what
// it would be if those had never come. Its version goes on rising.
func (t *Tx) remake(k DocKey, gone crdt.Author, keep uint64) error {
	w, err := t.doc(k)
	if err != nil {
		return err
	}
	refs := w.state.pending
	if w.state.only != nil {
		refs = append(slices.Clone(refs), *w.state.only)
	}
	collect := func(table byte, at func(d, v *decoder) ref) error {
		prefix := append(keyDoc(table, k), 0)
		return t.s.scan(prefix, func(key, value []byte) error {
			r := at(&decoder{b: key[len(prefix):]}, &decoder{b: value})
			refs = append(refs, r)
			return t.batch.Delete(append([]byte(nil), key...), nil)
		})
	}
	if err := errors.Join(
		collect(tableChange, func(_, v *decoder) ref { v.hash(); return v.ref() }),
		collect(tableRefused, func(d, _ *decoder) ref { return ref{d.author(), d.u64()} })); err != nil {
		return err
	}
	refs = slices.DeleteFunc(slices.Clone(refs), func(r ref) bool { return r.author == gone && r.seq > keep })
	slices.SortFunc(refs, func(a, b ref) int {
		if c := a.author.Compare(b.author); c != 0 {
			return c
		}
		return int(int64(a.seq) - int64(b.seq))
	})
	t.refused -= w.state.refused // wraps, and back when it is added
	w.state = &docState{pending: refs, burned: w.state.version() + 1}
	w.touched, w.remade = true, true
	return t.settle(w)
}

// lastAside returns the number of the last time that records of a chain were set
// aside; 0 for never.
func (s *Store) lastAside(c crdt.ChainID) (no uint32, err error) {
	prefix := keyChain(tableAside, c)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return 0, fmt.Errorf("read evidence of %s: %w", c, err)
	}
	if it.Last() {
		no = (&decoder{b: it.Key()[len(prefix):]}).u32()
	}
	return no, errors.Join(it.Error(), it.Close())
}

// Asides lists what was set aside, by chain.
func (s *Store) Asides() ([]Aside, error) {
	if err := s.usage.enter(); err != nil {
		return nil, err
	}
	defer s.usage.leave()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tableAside}, UpperBound: prefixEnd([]byte{tableAside})})
	if err != nil {
		return nil, fmt.Errorf("read evidence: %w", err)
	}
	var out []Aside
	for ok := it.First(); ok; {
		k, v := decoder{b: it.Key()[1:]}, decoder{b: append([]byte(nil), it.Value()...)}
		a := Aside{Chain: crdt.ChainID{Stream: k.stream(), Author: k.author()}, No: k.u32()}
		first := k.u64()
		a.Kept, a.Records = v.u64(), v.u64()
		for _, c := range []*crdt.Checkpoint{&a.Proof, &a.Own} {
			*c = crdt.Checkpoint{Chain: a.Chain, Head: crdt.Head{Seq: v.u64(), Hash: v.hash()}, TimeMS: int64(v.u64()), Signature: v.bytes()}
		}
		if k.bad || v.bad || first != 0 {
			err = fmt.Errorf("%w: evidence of %s", ErrCorrupt, a.Chain)
			break
		}
		out = append(out, a)
		ok = it.SeekGE(keyAside(a.Chain, a.No+1, 0)) // past its records
	}
	return out, errors.Join(err, it.Error(), it.Close())
}

// AsideRecords returns up to limit records that were set aside, from sequence
// number first on.
func (s *Store) AsideRecords(a Aside, first uint64, limit int) ([][]byte, error) {
	if err := s.usage.enter(); err != nil {
		return nil, err
	}
	defer s.usage.leave()
	var out [][]byte
	for seq := max(first, a.Kept+1); seq <= a.Kept+a.Records && len(out) < limit; seq++ {
		v, err := s.get(keyAside(a.Chain, a.No, seq))
		if err != nil || len(v) < 32 {
			return nil, errors.Join(err, fmt.Errorf("%w: record %d of %s, set aside", ErrCorrupt, seq, a.Chain))
		}
		out = append(out, v[32:])
	}
	return out, nil
}

// Gone returns the view that takes the place of a document's of which nothing is
// left after its records were set aside, and false when something is. Of one that
// the store knows nothing of, the version is zero.
func (s *Store) Gone(k DocKey) (Made, bool, error) {
	made := Made{Key: k, Gone: true}
	if err := s.usage.enter(); err != nil {
		return made, false, err
	}
	defer s.usage.leave()
	made.Database = s.marks.database
	st, err := s.docState(k)
	if errors.Is(err, ErrNotFound) {
		return made, false, nil
	}
	if err != nil {
		return made, false, err
	}
	made.Version = st.version()
	return made, st.empty(), nil
}
