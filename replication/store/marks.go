package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// marks is what is known of the documents whose view is behind. Each commit of
// Apply that touches documents leaves one mark on disk, under its Raft index, that
// names them all; it goes when every one of them has a view that saw it. A mark is
// a matter of this node, like the views: how many entries share a commit is, too.
//
// The lock orders the commits of Apply and of views. It comes before Store.mu.
type marks struct {
	sync.Mutex
	// docs are the documents of the marks that were read or just made, until their
	// view is written.
	docs map[DocKey]markedDoc
	// left counts, by mark, the documents in docs.
	left map[uint64]int
	// later are marks of which no document is in docs, in order, and laterDocs how
	// many documents they name.
	later     []laterMark
	laterDocs int
	// database counts those that took the place of another; it changes while usage
	// is paused, alone.
	database uint64
}

// markedDoc is a document whose view is behind.
type markedDoc struct {
	// version is the one from which its view must have been made, or a later one.
	version uint64
	// created says that it was not there before and is as it was created, so that
	// it has no view yet that would have to be looked at.
	created bool
	mark    uint64
	more    []uint64 // further marks that name it
}

// laterMark is a mark and the number of documents that it names.
type laterMark struct {
	index uint64
	docs  int
}

// marking is a document that a commit touches.
type marking struct {
	Dirty
	version uint64
	created bool
}

// dirty is the number of documents whose view is behind; one that several later
// marks name counts for each. The caller holds the lock.
func (m *marks) dirty() uint64 { return uint64(len(m.docs) + m.laterDocs) }

// ViewsAt returns a Raft index up to which all views are made. It looks at all marks.
func (s *Store) ViewsAt() uint64 {
	at := s.AppliedIndex()
	s.marks.Lock()
	defer s.marks.Unlock()
	for index := range s.marks.left {
		at = min(at, index-1)
	}
	if len(s.marks.later) > 0 {
		at = min(at, s.marks.later[0].index-1)
	}
	return at
}

// note takes in a commit's mark and reports whether its documents are kept track
// of, so that they may be queued. The caller holds the lock.
func (m *marks) note(index uint64, docs []marking) bool {
	if len(m.later) > 0 || len(m.docs)+len(docs) > dirtyQueueMax {
		for _, d := range docs {
			if known, ok := m.docs[d.Key]; ok {
				known.created = false
				m.docs[d.Key] = known
			}
		}
		m.later = append(m.later, laterMark{index, len(docs)})
		m.laterDocs += len(docs)
		return false
	}
	for _, d := range docs {
		m.put(index, d)
	}
	return true
}

// put keeps track of one document of a mark. The caller holds the lock.
func (m *marks) put(index uint64, d marking) {
	m.left[index]++
	known, ok := m.docs[d.Key]
	if !ok {
		m.docs[d.Key] = markedDoc{version: d.version, created: d.created, mark: index}
		return
	}
	known.version, known.created = max(known.version, d.version), false
	known.more = append(known.more, index)
	m.docs[d.Key] = known
}

// done notes that a document has its view, and drops the marks that name no other
// one any more. The caller holds the lock.
func (m *marks) done(b *pebble.Batch, k DocKey, d markedDoc) {
	delete(m.docs, k)
	m.leave(b, d.mark)
	for _, index := range d.more {
		m.leave(b, index)
	}
}

func (m *marks) leave(b *pebble.Batch, index uint64) {
	if m.left[index]--; m.left[index] <= 0 {
		delete(m.left, index)
		_ = b.Delete(keyMark(index), nil)
	}
}

func keyMark(index uint64) []byte { return binary.BigEndian.AppendUint64([]byte{tableDirty}, index) }

func encodeMark(docs []marking) []byte {
	b := binary.AppendUvarint(nil, uint64(len(docs)))
	for _, d := range docs {
		b = appendBytes(b, keyDoc(tableDirty, d.Key)[1:])
	}
	return b
}

// readMarks finds the marks that an earlier process left. The caller holds the
// lock, or is alone.
func (s *Store) readMarks() error {
	s.marks.docs, s.marks.left = map[DocKey]markedDoc{}, map[uint64]int{}
	s.marks.later, s.marks.laterDocs = nil, 0
	return s.scan([]byte{tableDirty}, func(key, value []byte) error {
		k, v := decoder{b: key[1:]}, decoder{b: value}
		m := laterMark{index: k.u64(), docs: int(v.uvarint())}
		if k.bad || v.bad {
			return fmt.Errorf("%w: dirty mark", ErrCorrupt)
		}
		s.marks.later = append(s.marks.later, m)
		s.marks.laterDocs += m.docs
		return nil
	})
}

// dueMark takes up the first of the later marks and returns its documents whose
// view is behind. A mark of which none is goes.
func (s *Store) dueMark() (docs []Dirty, more bool, err error) {
	s.marks.Lock()
	defer s.marks.Unlock()
	if len(s.marks.later) == 0 {
		return nil, false, nil
	}
	due := s.marks.later[0]
	raw, err := s.get(keyMark(due.index))
	if err != nil {
		return nil, false, fmt.Errorf("read dirty documents: %w", err)
	}
	d := decoder{b: raw}
	for range d.count() {
		one := decoder{b: d.bytes()}
		k := one.docKey()
		if d.bad || one.bad {
			return nil, false, fmt.Errorf("%w: dirty mark", ErrCorrupt)
		}
		version, behind, err := s.behind(k)
		if err != nil {
			return nil, false, fmt.Errorf("read dirty documents: %s: %w", k, err)
		}
		if behind {
			s.marks.put(due.index, marking{Dirty: Dirty{Key: k}, version: version})
			docs = append(docs, Dirty{Key: k})
		}
	}
	if s.marks.later = slices.Delete(s.marks.later, 0, 1); len(s.marks.later) == 0 {
		s.marks.later = nil
	}
	s.marks.laterDocs -= due.docs
	if len(docs) == 0 {
		err = s.db.Delete(keyMark(due.index), pebble.NoSync)
	}
	s.countDirty()
	return docs, true, err
}

// behind compares a document's version with that of its view.
func (s *Store) behind(k DocKey) (version uint64, behind bool, err error) {
	st, err := s.docState(k)
	if errors.Is(err, ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	_, seen, err := s.view(k)
	if errors.Is(err, ErrNotFound) {
		return st.version(), true, nil
	}
	return st.version(), seen < st.version(), err
}

// countDirty brings the count up to date. The caller holds the marks' lock.
func (s *Store) countDirty() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Dirty = s.marks.dirty()
}

// upgrade makes the present version of an earlier keyspace. In version 1 each dirty
// document had a mark of its own, and each change an entry: those stay good. Before
// version 3 views counted nothing, and nobody noted when records came in:
// [Store.Recount] makes up for the first, the second is not known.
func (s *Store) upgrade(from byte) error {
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }()
	if from == 1 {
		if err := s.upgradeMarks(b); err != nil {
			return err
		}
	}
	_ = b.Set(keyMeta("format"), []byte{formatVersion}, nil)
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("upgrade store %s: %w", s.cfg.Dir, err)
	}
	return s.flush()
}

// upgradeMarks makes one mark of all of version 1.
func (s *Store) upgradeMarks(b *pebble.Batch) error {
	var docs []marking
	err := s.scan([]byte{tableDirty}, func(key, _ []byte) error {
		d := decoder{b: key[1:]}
		docs = append(docs, marking{Dirty: Dirty{Key: d.docKey()}})
		if d.bad {
			return fmt.Errorf("%w: dirty key", ErrCorrupt)
		}
		return b.Delete(key, nil)
	})
	if err == nil && len(docs) > 0 {
		err = b.Set(keyMark(0), encodeMark(docs), nil) // before that of any commit
	}
	return err
}
