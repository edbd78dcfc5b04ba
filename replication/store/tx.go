package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/tiers"
)

// Tx collects the effects of a run of Raft entries and commits them at once.
// It belongs to one goroutine. A rejection (an error that wraps one of this
// package's Err sentinels other than ErrCorrupt) leaves the Tx as it was; any
// other error is a storage error, after which the process must end.
type Tx struct {
	s      *Store
	batch  *pebble.Batch
	limits change.Limits
	chains map[crdt.ChainID]chainState
	docs   map[DocKey]*docWork
	bodies map[crdt.ChainID]map[uint64][]byte
	keys   map[string][]byte
	taken
	records uint64
	refused uint64
	// broken is the first error of a read inside a judgement.
	broken  error
	numbers        // those that changed, the others zero
	evicted bool   // SetAside did something
	kept    int    // bytes of the documents' first records
	value   []byte // room for a value that is put into the batch
}

// taken are small things that a Tx has read and may have changed.
type taken struct {
	claims map[string]Claim
	// arrivals are the last of each chain.
	arrivals map[crdt.ChainID]Arrival
	// limitsOf are the limits of a site's indicators.
	limitsOf map[string]seriesLimits
	// checkpoints are the last two of each chain that the Tx adds to, the
	// latest first.
	checkpoints map[crdt.ChainID][]checkpointAt
}

// docWork is a document that the Tx has read and may have changed. It is what
// change.Fit sees of the document.
type docWork struct {
	t       *Tx
	key     DocKey
	state   *docState
	touched bool
	fresh   bool // the document was not there before this Tx
	remade  bool // what the database shows of its changes no longer counts
	// added are the changes that this Tx applied, which the database does not
	// show yet.
	added []docHead
	// first is the change that created the document in this Tx; nil when that is
	// read again, should it be needed.
	first *firstChange
	room  *docRoom // of a fresh document
}

// firstChange is a document's history when that is one change.
type firstChange struct {
	Changes
	raw     [1][]byte
	decoded [1]*change.Change
	authors [1]crdt.Author
	times   [1]crdt.HybridTime
	seqs    [1]uint64
	heads   [1]crdt.Hash
}

// newFirstChange returns the history that a record begins; its version and its
// database are not known yet.
func newFirstChange(p ref, rec crdt.Record, c *change.Change) *firstChange {
	f := &firstChange{
		raw: [1][]byte{rec.Body}, decoded: [1]*change.Change{c}, authors: [1]crdt.Author{p.author},
		times: [1]crdt.HybridTime{rec.Time}, seqs: [1]uint64{p.seq}, heads: [1]crdt.Hash{c.Hash},
	}
	f.Changes = Changes{
		Raw: f.raw[:], Decoded: f.decoded[:], Authors: f.authors[:], Times: f.times[:], Seqs: f.seqs[:], Heads: f.heads[:],
	}
	return f
}

// docRoom is what a document with one change takes, in one piece.
type docRoom struct {
	docWork
	docState
	heads  [1]docHead
	actors [1]docActor
	added  [1]docHead
	only   ref
}

// newDoc begins the work on a document that is not there yet.
func (t *Tx) newDoc(k DocKey) *docWork {
	r := &docRoom{}
	r.docState = docState{heads: r.heads[:0], actors: r.actors[:0]}
	r.docWork = docWork{t: t, key: k, state: &r.docState, fresh: true, added: r.added[:0], room: r}
	return &r.docWork
}

// Begin starts a Tx. Only one may be open at a time.
func (s *Store) Begin() *Tx {
	return &Tx{
		s: s, batch: s.db.NewBatch(), limits: change.DefaultLimits(),
		chains: map[crdt.ChainID]chainState{}, docs: map[DocKey]*docWork{},
		bodies: map[crdt.ChainID]map[uint64][]byte{}, keys: map[string][]byte{},
		taken: taken{map[string]Claim{}, map[crdt.ChainID]Arrival{}, map[string]seriesLimits{}, map[crdt.ChainID][]checkpointAt{}},
	}
}

// Discard drops the Tx.
func (t *Tx) Discard() error { return t.batch.Close() }

// Item is one local change to one document.
type Item struct {
	Stream tiers.StreamID
	Doc    tiers.DocID
	// Base are the heads that the change was built on; empty creates the
	// document and is rejected when it exists.
	Base   []crdt.Hash
	Time   crdt.HybridTime
	Change []byte
}

// Placed says where a record came to stand in its chain.
type Placed struct {
	Chain crdt.ChainID
	Seq   uint64
}

// Append writes local changes of author, all or none. It rejects with
// [ErrMoved] when a document's heads are not its item's base, and with
// [ErrBadChange] when a change is malformed, bears another author's mark or
// does not fit.
func (t *Tx) Append(author crdt.Author, items []Item) ([]Placed, error) {
	works := make([]*docWork, len(items))
	changes := make([]*change.Change, len(items))
	for i, it := range items {
		w, err := t.doc(DocKey{it.Stream, it.Doc})
		if err != nil {
			return nil, err
		}
		for _, earlier := range works[:i] {
			if earlier == w {
				return nil, fmt.Errorf("%w: %s occurs twice in one command", ErrBadChange, w.key)
			}
		}
		if changes[i], err = t.checkAppend(w, author, it); err != nil {
			return nil, err
		}
		works[i] = w
	}
	placed := make([]Placed, len(items))
	for i, it := range items {
		chain := crdt.ChainID{Stream: it.Stream, Author: author}
		rec := crdt.Record{Kind: crdt.RecordChange, Time: it.Time, Doc: it.Doc, Body: it.Change}
		seq, err := t.putRecord(chain, rec.AppendTo(nil))
		if err != nil {
			return nil, err
		}
		placed[i] = Placed{Chain: chain, Seq: seq}
		if err := t.advance(works[i], ref{author, seq}, rec, changes[i]); err != nil {
			return nil, err
		}
		if err := t.settle(works[i]); err != nil {
			return nil, err
		}
	}
	return placed, nil
}

func (t *Tx) checkAppend(w *docWork, author crdt.Author, it Item) (*change.Change, error) {
	if !sameHashes(w.state.hashes(), it.Base) || w.state.waits(author) || len(it.Base) == 0 && !w.state.empty() {
		return nil, fmt.Errorf("%w: %s", ErrMoved, w.key)
	}
	c, err := t.judge(w, author, it.Change)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBadChange, w.key, err)
	}
	// Automerge also names the actor's previous change, which a head covers.
	if !containsAll(c.Deps, it.Base) {
		return nil, fmt.Errorf("%w: %s: dependencies leave out the base", ErrBadChange, w.key)
	}
	return c, nil
}

// errForeignActor refuses a change whose actor does not bear its author's mark.
var errForeignActor = errors.New("actor is not the author's")

// judge decodes a change and checks it against the document's history.
func (t *Tx) judge(w *docWork, author crdt.Author, raw []byte) (*change.Change, error) {
	c, err := change.Decode(raw, t.limits)
	if err != nil {
		return nil, err
	}
	if !author.Owns(c.Actor) {
		return nil, errForeignActor
	}
	misfit := change.Fit(c, w)
	if t.broken != nil {
		return nil, t.broken
	}
	return c, misfit
}

// Range is a verified run of another author's chain.
type Range struct {
	Chain crdt.ChainID
	// First is the sequence number of Records[0].
	First   uint64
	Records [][]byte
	// Checkpoint ends the range; its signature was checked before.
	Checkpoint crdt.Checkpoint
	// Arrived is when it came in, by the clock of the node that proposed it; zero for
	// unknown.
	Arrived crdt.HybridTime
}

// Ingest takes in a range. Records that are held already are skipped. It
// rejects with [ErrGap] when the range starts beyond the chain's end, and with
// [ErrFork] when its hashes contradict the chain or the checkpoint. It returns
// how many records were new.
func (t *Tx) Ingest(r Range) (int, error) {
	st := t.chain(r.Chain)
	if r.First == 0 || r.First > st.head.Seq+1 {
		return 0, fmt.Errorf("%w: %s ends at %d, range starts at %d", ErrGap, r.Chain, st.head.Seq, r.First)
	}
	if r.First+uint64(len(r.Records))-1 != r.Checkpoint.Head.Seq {
		return 0, fmt.Errorf("%w: %s: range does not end at its checkpoint", ErrGap, r.Chain)
	}
	held := min(st.head.Seq-(r.First-1), uint64(len(r.Records)))
	fresh := r.Records[held:]
	head := st.head
	if len(fresh) == 0 {
		var err error
		if head.Hash, err = t.hashAt(r.Chain, r.Checkpoint.Head.Seq); err != nil {
			return 0, err
		}
	}
	for _, rec := range fresh {
		if _, err := crdt.DecodeRecord(rec); err != nil {
			return 0, fmt.Errorf("%w: %s: %w", ErrBadChange, r.Chain, err)
		}
		head = head.Next(rec)
	}
	if head.Hash != r.Checkpoint.Head.Hash {
		return 0, fmt.Errorf("%w: %s at %d: have %s, checkpoint says %s", ErrFork, r.Chain,
			r.Checkpoint.Head.Seq, head.Hash, r.Checkpoint.Head.Hash)
	}
	for _, rec := range fresh {
		if err := t.ingestOne(r.Chain, rec); err != nil {
			return 0, err
		}
	}
	if len(fresh) == 0 {
		return 0, nil
	}
	if err := t.arrive(r.Chain, st.head.Seq+1, head.Seq, r.Arrived); err != nil {
		return 0, err
	}
	return len(fresh), t.putCheckpoint(r.Checkpoint)
}

// ingestOne stores one record and hands its change to the document: applied,
// held back, or refused for good.
func (t *Tx) ingestOne(chain crdt.ChainID, enc []byte) error {
	seq, err := t.putRecord(chain, enc)
	if err != nil {
		return err
	}
	rec, err := crdt.DecodeRecord(enc)
	if err == nil && rec.Kind == crdt.RecordReadings {
		return t.takeReadings(chain, seq, rec)
	}
	if err != nil || rec.Kind != crdt.RecordChange {
		return err
	}
	w, err := t.doc(DocKey{chain.Stream, rec.Doc})
	if err != nil {
		return err
	}
	w.touched = true
	p := ref{chain.Author, seq}
	if len(w.state.pending) == 0 { // as nearly always: nothing to read again
		gone, err := t.judgePending(w, p, rec)
		if gone || err != nil {
			return err
		}
	}
	w.state.pending = append(w.state.pending, p)
	return t.settle(w)
}

// settle judges the records that a document holds back until none moves. Of
// each author only the oldest is judged, so that the verdict on a record
// depends on the records alone and not on their order of arrival.
func (t *Tx) settle(w *docWork) error {
	for moved := true; moved; {
		moved = false
		seen := map[crdt.Author]bool{}
		for i, p := range w.state.pending {
			if seen[p.author] {
				continue
			}
			seen[p.author] = true
			gone, err := t.settleOne(w, p)
			if err != nil {
				return err
			}
			if gone {
				w.state.pending = append(w.state.pending[:i:i], w.state.pending[i+1:]...)
				moved = true
				break
			}
		}
	}
	return nil
}

func (t *Tx) settleOne(w *docWork, p ref) (gone bool, err error) {
	enc, err := t.record(crdt.ChainID{Stream: w.key.Stream, Author: p.author}, p.seq)
	if err != nil {
		return false, err
	}
	rec, err := crdt.DecodeRecord(enc)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return t.judgePending(w, p, rec)
}

// judgePending applies a record, or refuses it for good; neither while it waits
// for something.
func (t *Tx) judgePending(w *docWork, p ref, rec crdt.Record) (gone bool, err error) {
	c, err := t.judge(w, p.author, rec.Body)
	switch {
	case t.broken != nil:
		return false, t.broken
	case errors.Is(err, change.ErrMissingDeps):
		return false, nil
	case err != nil:
		w.state.refused++
		t.refused++
		w.touched = true
		return true, t.batch.Set(keyRefused(w.key, p), []byte(err.Error()), nil)
	default:
		return true, t.advance(w, p, rec, c)
	}
}

// advance makes a record's fitting change part of its document.
func (t *Tx) advance(w *docWork, p ref, rec crdt.Record, c *change.Change) error {
	if size := freshBytes(rec.Body, c); w.fresh && w.first == nil && t.kept+size <= freshBytesMax {
		t.kept += size
		w.first = newFirstChange(p, rec, c)
	}
	info := c.Info()
	if w.state.only != nil {
		head, at := w.state.heads[0], *w.state.only
		w.state.only = nil
		w.added = append(w.added, head) // its entry is not in the database yet
		if err := t.batch.Set(keyChange(w.key, 1), encodeChange(head, at), nil); err != nil {
			return err
		}
	}
	w.state.advance(info)
	applied := docHead{info.Hash, info.MaxOp}
	w.added = append(w.added, applied)
	w.touched = true
	if w.state.changes == 1 {
		w.state.only = w.placeOf(p)
		return nil
	}
	return t.batch.Set(keyChange(w.key, w.state.changes), encodeChange(applied, p), nil)
}

// placeOf returns where a place is kept.
func (w *docWork) placeOf(p ref) *ref {
	if w.room == nil {
		return &ref{p.author, p.seq}
	}
	w.room.only = p
	return &w.room.only
}

// encodeChange encodes the entry of a document's change at a place.
func encodeChange(c docHead, at ref) []byte {
	return binary.AppendUvarint(at.appendTo(append([]byte(nil), c.hash[:]...)), c.maxOp)
}

// putRecord adds a record to the end of its chain.
func (t *Tx) putRecord(chain crdt.ChainID, enc []byte) (uint64, error) {
	st := t.chain(chain)
	st.head = st.head.Next(enc)
	st.bytes += uint64(len(enc))
	st.newest = crdt.RecordTime(enc)
	t.chains[chain] = st
	t.records++
	if t.bodies[chain] == nil {
		t.bodies[chain] = map[uint64][]byte{}
	}
	t.bodies[chain][st.head.Seq] = enc
	t.value = append(append(t.value[:0], st.head.Hash[:]...), enc...)
	return st.head.Seq, t.batch.Set(keySeq(tableRecord, chain, st.head.Seq), t.value, nil)
}

func (t *Tx) chain(c crdt.ChainID) chainState {
	if st, ok := t.chains[c]; ok {
		return st
	}
	return t.s.chain(c)
}

// hashAt returns the chain hash after a record that the chain holds.
func (t *Tx) hashAt(c crdt.ChainID, seq uint64) (crdt.Hash, error) {
	if st, ok := t.chains[c]; ok && st.head.Seq == seq {
		return st.head.Hash, nil
	}
	h, err := t.s.HashAt(c, seq)
	if errors.Is(err, ErrNotFound) && t.bodies[c] != nil {
		// Written by this Tx and followed by more: fold forward from the store.
		head := t.s.chain(c).head
		for head.Seq < seq {
			head = head.Next(t.bodies[c][head.Seq+1])
		}
		return head.Hash, nil
	}
	return h, err
}

func (t *Tx) record(c crdt.ChainID, seq uint64) ([]byte, error) {
	if enc, ok := t.bodies[c][seq]; ok {
		return enc, nil
	}
	_, enc, err := t.s.recordAt(c, seq)
	return enc, err
}

func (t *Tx) doc(k DocKey) (*docWork, error) {
	if w := t.docs[k]; w != nil {
		return w, nil
	}
	st, err := t.s.docState(k)
	var w *docWork
	switch {
	case errors.Is(err, ErrNotFound):
		w = t.newDoc(k)
	case err != nil:
		return nil, err
	default:
		w = &docWork{t: t, key: k, state: st}
	}
	t.docs[k] = w
	return w, nil
}

// MaxOp implements [change.State].
func (w *docWork) MaxOp(h crdt.Hash) (uint64, bool) {
	for _, x := range w.state.heads {
		if x.hash == h {
			return x.maxOp, true
		}
	}
	for _, x := range w.added {
		if x.hash == h {
			return x.maxOp, true
		}
	}
	if w.remade {
		return 0, false
	}
	maxOp, found, err := w.t.s.changeMaxOp(w.key, h)
	if err != nil {
		// Apply must not take "cannot read" for "not there".
		w.t.broken = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return maxOp, found
}

// Actor implements [change.State].
func (w *docWork) Actor(a crdt.Actor) (seq, maxOp uint64) {
	for _, x := range w.state.actors {
		if x.actor == a {
			return x.seq, x.maxOp
		}
	}
	return 0, 0
}
