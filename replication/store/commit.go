package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tiermesh/tiermesh/crdt"
)

// Retained checkpoints are at most this far apart, in records and in bytes,
// unless one range was larger. A relay must end a batch at one of them.
const (
	checkpointRecords = 128
	checkpointBytes   = 128 << 10
)

// putCheckpoint stores the checkpoint at the end of an ingested range, and
// drops the one before it when its own predecessor is near enough. What is kept
// follows from the ranges alone, not from how many of them share a Tx.
func (t *Tx) putCheckpoint(c crdt.Checkpoint) error {
	st := t.chain(c.Chain)
	last, known := t.checkpoints[c.Chain]
	if !known {
		var err error
		if last, err = t.s.checkpointsBefore(c.Chain, c.Head.Seq, 2); err != nil {
			return err
		}
	}
	if len(last) == 2 && c.Head.Seq-last[1].seq <= checkpointRecords && st.bytes-last[1].bytes <= checkpointBytes {
		if err := t.batch.Delete(keySeq(tableCheckpoint, c.Chain, last[0].seq), nil); err != nil {
			return err
		}
		last = last[1:]
	}
	kept := []checkpointAt{{seq: c.Head.Seq, bytes: st.bytes, checkpoint: c}}
	t.checkpoints[c.Chain] = append(kept, last[:min(len(last), 1)]...)
	v := append([]byte(nil), c.Head.Hash[:]...)
	v = binary.BigEndian.AppendUint64(v, uint64(c.TimeMS))
	v = binary.BigEndian.AppendUint64(v, st.bytes)
	return t.batch.Set(keySeq(tableCheckpoint, c.Chain, c.Head.Seq), append(v, c.Signature...), nil)
}

// Outcome returns what was stored under an idempotency key, or nil.
func (t *Tx) Outcome(key string) ([]byte, error) {
	if v, ok := t.keys[key]; ok {
		return v, nil
	}
	return t.s.Outcome(key)
}

// SetOutcome stores a command's outcome under its idempotency key.
func (t *Tx) SetOutcome(key string, outcome []byte) error {
	t.keys[key] = outcome
	return t.batch.Set(keyIdempotency(key), outcome, nil)
}

// Incarnation returns the site's incarnation as of this Tx.
func (t *Tx) Incarnation() uint32 {
	if t.incarnation != 0 {
		return t.incarnation
	}
	return t.s.Incarnation()
}

// SetIncarnation starts a new incarnation.
func (t *Tx) SetIncarnation(n uint32) error {
	t.incarnation = n
	return t.batch.Set(keyMeta("incarnation"), binary.BigEndian.AppendUint32(nil, n), nil)
}

// Commit makes the Tx visible, as the state after the Raft entry index. It is
// durable after the next [Store.Flush]. On an error the process must end.
func (t *Tx) Commit(index uint64) error {
	for _, c := range slices.SortedFunc(maps.Keys(t.chains), crdt.ChainID.Compare) {
		st := t.chains[c]
		if st.head.Seq == 0 { // all of it was set aside
			if err := t.batch.Delete(keyChain(tableChain, c), nil); err != nil {
				return err
			}
			continue
		}
		v := binary.BigEndian.AppendUint64(nil, st.head.Seq)
		v = append(v, st.head.Hash[:]...)
		v = binary.BigEndian.AppendUint64(v, st.bytes)
		if err := t.batch.Set(keyChain(tableChain, c), v, nil); err != nil {
			return err
		}
	}
	docs, err := t.putDocs()
	if err != nil {
		return err
	}
	at := binary.BigEndian.AppendUint64(nil, index)
	if err := errors.Join(t.batch.Set(keyMeta("applied"), at, nil), t.batch.Set(keyMeta(metaNamed), at, nil)); err != nil {
		return err
	}
	if len(docs) > 0 {
		if err := t.batch.Set(keyMark(index), encodeMark(docs), nil); err != nil {
			return err
		}
	}
	queued, err := t.s.commit(t.batch, index, docs)
	if err != nil {
		return err
	}
	t.show(index)
	if queued {
		dirty := make([]Dirty, len(docs))
		for i, d := range docs {
			dirty[i] = d.Dirty
		}
		t.s.queue.add(dirty...)
	}
	if len(docs) > 0 {
		signal(t.s.dirty)
	}
	return nil
}

// history returns what [Store.Changes] would of a document that this Tx created,
// when that is one change.
func (t *Tx) history(k DocKey) *Changes {
	w := t.docs[k]
	if w.first == nil || w.state.version() != 1 || w.state.only == nil {
		return nil
	}
	w.first.Version, w.first.Database = 1, t.s.marks.database
	return &w.first.Changes
}

// commit writes a batch of Apply and takes in its mark under one lock: a view may be
// put the next moment. It reports whether the documents may be queued.
func (s *Store) commit(b *pebble.Batch, index uint64, docs []marking) (queued bool, err error) {
	s.marks.Lock()
	defer s.marks.Unlock()
	if err := errors.Join(s.presence.note(b), b.Commit(pebble.NoSync), b.Close()); err != nil { // closed, its memory serves the next one
		return false, fmt.Errorf("commit store: %w", err)
	}
	if len(docs) == 0 {
		return false, nil
	}
	queued = s.marks.note(index, docs)
	s.countDirty()
	return queued, nil
}

// show makes a committed Tx visible to those who read the store's memory.
func (t *Tx) show(index uint64) {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied = index
	if t.incarnation != 0 {
		s.incarnation = t.incarnation
	}
	if t.siteFormat != 0 {
		s.siteFormat = t.siteFormat
	}
	for c, st := range t.chains {
		if st.head.Seq == 0 {
			s.dropChain(c)
			continue
		}
		s.setChain(c, st)
		s.grown[c] = st.head
	}
	maps.Copy(s.arrivals, t.arrivals)
	s.counts.Records += t.records
	s.counts.Refused += t.refused
	if t.records > 0 {
		signal(s.changed)
	}
}

// putDocs writes the changed document states and returns the documents.
func (t *Tx) putDocs() ([]marking, error) {
	docs := make([]marking, 0, len(t.docs))
	for k, w := range t.docs {
		if !w.touched {
			continue
		}
		t.value = w.state.appendTo(t.value[:0])
		if err := t.batch.Set(keyDoc(tableDoc, k), t.value, nil); err != nil {
			return nil, err
		}
		d := marking{Dirty: Dirty{Key: k}, version: w.state.version(), created: w.fresh}
		if w.fresh {
			d.History = t.history(k)
			if err := t.name(k); err != nil {
				return nil, err
			}
		}
		docs = append(docs, d)
	}
	slices.SortFunc(docs, func(a, b marking) int {
		return cmp.Or(a.Key.Stream.Compare(b.Key.Stream), cmp.Compare(a.Key.Doc, b.Key.Doc))
	})
	return docs, nil
}
