package store

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
)

// recordAt returns a record's chain hash and encoding.
func (s *Store) recordAt(c crdt.ChainID, seq uint64) (crdt.Hash, []byte, error) {
	v, err := s.get(keySeq(tableRecord, c, seq))
	if err != nil {
		return crdt.Hash{}, nil, fmt.Errorf("record %d of %s: %w", seq, c, err)
	}
	if len(v) < 32 {
		return crdt.Hash{}, nil, fmt.Errorf("%w: record %d of %s", ErrCorrupt, seq, c)
	}
	return crdt.Hash(v[:32]), v[32:], nil
}

// HashAt returns the chain hash after record seq; after 0 it is the chain's
// origin. The error wraps [ErrNotFound] beyond the chain's end.
func (s *Store) HashAt(c crdt.ChainID, seq uint64) (crdt.Hash, error) {
	if err := s.usage.enter(); err != nil {
		return crdt.Hash{}, err
	}
	defer s.usage.leave()
	return s.hashAt(c, seq)
}

func (s *Store) hashAt(c crdt.ChainID, seq uint64) (crdt.Hash, error) {
	if seq == 0 {
		return c.Origin().Hash, nil
	}
	h, _, err := s.recordAt(c, seq)
	return h, err
}

// Run is a run of records read from a chain.
type Run struct {
	Prev    crdt.Hash // chain hash before the first record
	First   uint64    // sequence number of the first record
	Records [][]byte  // encodings, owned by the caller
	End     crdt.Head // head after the last record
}

// ReadRun reads records from seq first until one of the limits is passed (at
// least one record), or until last. It returns an empty run when the chain
// ends before first.
func (s *Store) ReadRun(c crdt.ChainID, first, last uint64, bytesMax int) (Run, error) {
	if err := s.usage.enter(); err != nil {
		return Run{}, err
	}
	defer s.usage.leave()
	prev, err := s.hashAt(c, first-1)
	if err != nil {
		return Run{}, err
	}
	run := Run{Prev: prev, First: first, End: crdt.Head{Seq: first - 1, Hash: prev}}
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: keySeq(tableRecord, c, first), UpperBound: keySeq(tableRecord, c, last+1),
	})
	if err != nil {
		return Run{}, fmt.Errorf("read chain %s: %w", c, err)
	}
	size := 0
	for ok := it.First(); ok && (size < bytesMax || len(run.Records) == 0); ok = it.Next() {
		v := it.Value()
		if len(v) < 32 {
			return Run{}, errors.Join(fmt.Errorf("%w: record of %s", ErrCorrupt, c), it.Close())
		}
		run.End = crdt.Head{Seq: run.End.Seq + 1, Hash: crdt.Hash(v[:32])}
		run.Records = append(run.Records, append([]byte(nil), v[32:]...))
		size += len(v)
	}
	return run, errors.Join(it.Error(), it.Close())
}

type checkpointAt struct {
	seq, bytes uint64
	checkpoint crdt.Checkpoint
}

func decodeCheckpoint(c crdt.ChainID, key, value []byte) (checkpointAt, error) {
	k, v := decoder{b: key[len(key)-8:]}, decoder{b: value}
	at := checkpointAt{seq: k.u64()}
	at.checkpoint = crdt.Checkpoint{Chain: c, Head: crdt.Head{Seq: at.seq, Hash: v.hash()}, TimeMS: int64(v.u64())}
	at.bytes = v.u64()
	at.checkpoint.Signature = append([]byte(nil), v.b...)
	if v.bad {
		return checkpointAt{}, fmt.Errorf("%w: checkpoint of %s", ErrCorrupt, c)
	}
	return at, nil
}

// checkpointsBefore returns up to n checkpoints below seq, the latest first.
func (s *Store) checkpointsBefore(c crdt.ChainID, seq uint64, n int) ([]checkpointAt, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: keySeq(tableCheckpoint, c, 0), UpperBound: keySeq(tableCheckpoint, c, seq),
	})
	if err != nil {
		return nil, fmt.Errorf("read checkpoints of %s: %w", c, err)
	}
	var out []checkpointAt
	for ok := it.Last(); ok && err == nil && len(out) < n; ok = it.Prev() {
		var at checkpointAt
		if at, err = decodeCheckpoint(c, it.Key(), it.Value()); err == nil {
			out = append(out, at)
		}
	}
	return out, errors.Join(err, it.Error(), it.Close())
}

// CheckpointFrom returns where a relayed batch that starts at seq first should
// end: the last stored checkpoint at or below want, or else the first one
// above it. The error wraps [ErrNotFound] when none is at or after first.
func (s *Store) CheckpointFrom(c crdt.ChainID, first, want uint64) (crdt.Checkpoint, error) {
	if err := s.usage.enter(); err != nil {
		return crdt.Checkpoint{}, err
	}
	defer s.usage.leave()
	below, err := s.checkpointsBefore(c, want+1, 1)
	if err != nil {
		return crdt.Checkpoint{}, err
	}
	if len(below) == 1 && below[0].seq >= first {
		return below[0].checkpoint, nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: keySeq(tableCheckpoint, c, want+1), UpperBound: prefixEnd(keyChain(tableCheckpoint, c)),
	})
	if err != nil {
		return crdt.Checkpoint{}, fmt.Errorf("read checkpoints of %s: %w", c, err)
	}
	if !it.First() {
		return crdt.Checkpoint{}, errors.Join(fmt.Errorf("checkpoint of %s from %d: %w", c, first, ErrNotFound), it.Error(), it.Close())
	}
	at, err := decodeCheckpoint(c, it.Key(), it.Value())
	return at.checkpoint, errors.Join(err, it.Close())
}

func (s *Store) docState(k DocKey) (*docState, error) {
	if s.presence.absent(keyDoc(tableDoc, k)) { // a key of its own, for which nothing is allocated
		return nil, ErrNotFound
	}
	v, err := s.get(keyDoc(tableDoc, k))
	if err != nil {
		return nil, err
	}
	return decodeDocState(v)
}

// Heads returns the heads of a document. The error wraps [ErrNotFound].
func (s *Store) Heads(k DocKey) ([]crdt.Hash, error) {
	if err := s.usage.enter(); err != nil {
		return nil, err
	}
	defer s.usage.leave()
	st, err := s.docState(k)
	if err == nil && st.empty() {
		err = fmt.Errorf("%w: its records were set aside", ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", k, err)
	}
	return st.hashes(), nil
}

// Version returns a number that rises with every record that touches a document; 0
// when there is none.
func (s *Store) Version(k DocKey) (uint64, error) {
	if err := s.usage.enter(); err != nil {
		return 0, err
	}
	defer s.usage.leave()
	st, err := s.docState(k)
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("version of %s: %w", k, err)
	}
	return st.version(), nil
}

// changeMaxOp finds an applied change by its hash. Dependencies are nearly
// always recent, so it looks from the latest change back.
func (s *Store) changeMaxOp(k DocKey, h crdt.Hash) (maxOp uint64, found bool, err error) {
	prefix := append(keyDoc(tableChange, k), 0)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return 0, false, fmt.Errorf("read changes of %s: %w", k, err)
	}
	for ok := it.Last(); ok && !found; ok = it.Prev() {
		d := decoder{b: it.Value()}
		if d.hash() == h {
			d.ref()
			maxOp, found = d.uvarint(), true
		}
	}
	return maxOp, found, errors.Join(it.Error(), it.Close())
}

// Changes is a document's applied history.
type Changes struct {
	// Raw are the changes in an order in which each follows what it depends on.
	Raw [][]byte
	// Decoded is what [change.Decode] made of Raw, where that is at hand; else nil.
	Decoded []*change.Change
	// Authors are the changes' authors, by index.
	Authors []crdt.Author
	// Times are the records' hybrid times, by index, Seqs their places in their
	// authors' chains.
	Times []crdt.HybridTime
	Seqs  []uint64
	Heads []crdt.Hash
	// Pending and Refused count records that are held back or refused.
	Pending, Refused int
	// Version rises with every record that touches the document.
	Version uint64
	// Database tells the database that this was read from those whose place it
	// takes, or that take its.
	Database uint64
	// From is how many changes before Raw[0] were not asked for, End the place behind
	// the last one. Of a history that was not read from the store, End is zero.
	From int
	End  Place
}

// Place is how far a document's history was read. It stands for nothing any more once
// another database takes the place of the one that was read, or records of the
// document were set aside. The zero Place is before the first change.
type Place struct {
	database, burned uint64
	// Count is how many changes stand before it.
	Count int
}

// Changes reads a document's history. The error wraps [ErrNotFound].
func (s *Store) Changes(k DocKey) (*Changes, error) { return s.ChangesFrom(k, Place{}) }

// ChangesFrom reads what of a document's history stands behind a place, or all of it
// when the place is no more; [Changes.From] tells. The error wraps [ErrNotFound].
func (s *Store) ChangesFrom(k DocKey, from Place) (*Changes, error) {
	if err := s.usage.enter(); err != nil {
		return nil, err
	}
	defer s.usage.leave()
	// A snapshot, so that state and changes belong together.
	snap := s.db.NewSnapshot()
	defer func() { _ = snap.Close() }()
	v, closer, err := snap.Get(keyDoc(tableDoc, k))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, fmt.Errorf("document %s: %w", k, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	st, err := decodeDocState(v)
	if err := errors.Join(err, closer.Close()); err != nil {
		return nil, fmt.Errorf("document %s: %w", k, err)
	}
	if st.empty() {
		return nil, fmt.Errorf("document %s: %w: its records were set aside", k, ErrNotFound)
	}
	at := Place{s.marks.database, st.burned, int(st.changes)}
	if from.database != at.database || from.burned != at.burned || from.Count > at.Count {
		from = Place{}
	}
	out := &Changes{From: from.Count, End: at, Heads: st.hashes(), Pending: len(st.pending), Refused: int(st.refused), Version: st.version(), Database: s.marks.database}
	places, err := changePlaces(snap, k, st, from.Count)
	for _, r := range places {
		var enc []byte
		if _, enc, err = s.recordAt(crdt.ChainID{Stream: k.Stream, Author: r.author}, r.seq); err != nil {
			break
		}
		var rec crdt.Record
		if rec, err = crdt.DecodeRecord(enc); err != nil {
			break
		}
		if rec.Doc != k.Doc {
			err = fmt.Errorf("%w: record %d of %s is of %s", ErrCorrupt, r.seq, r.author, rec.Doc)
			break
		}
		out.Raw = append(out.Raw, rec.Body)
		out.Authors = append(out.Authors, r.author)
		out.Times = append(out.Times, rec.Time)
		out.Seqs = append(out.Seqs, r.seq)
	}
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", k, err)
	}
	return out, nil
}

// Outcome returns what was stored under an idempotency key, or nil.
func (s *Store) Outcome(key string) ([]byte, error) {
	if err := s.usage.enter(); err != nil {
		return nil, err
	}
	defer s.usage.leave()
	if s.presence.absent(keyIdempotency(key)) {
		return nil, nil
	}
	v, err := s.get(keyIdempotency(key))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return v, err
}

// changePlaces returns where a document's changes behind the first ones stand, in the
// order in which they were applied.
func changePlaces(snap *pebble.Snapshot, k DocKey, st *docState, behind int) ([]ref, error) {
	switch {
	case uint64(behind) == st.changes:
		return nil, nil
	case st.only != nil:
		return []ref{*st.only}, nil
	}
	prefix := append(keyDoc(tableChange, k), 0)
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: keyChange(k, uint64(behind)+1), UpperBound: prefixEnd(prefix)})
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	var out []ref
	for ok := it.First(); ok; ok = it.Next() {
		d := decoder{b: it.Value()}
		d.hash()
		out = append(out, d.ref())
	}
	return out, errors.Join(it.Error(), it.Close())
}
