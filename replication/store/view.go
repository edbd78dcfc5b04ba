package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tiermesh/tiermesh/crdt"
)

// TakeDirty returns up to limit documents whose view is behind and that were
// not taken before, unless they changed since; none when there are none. A
// document whose view is not written afterwards is given out again when the
// store is next opened.
func (s *Store) TakeDirty(limit int) ([]Dirty, error) {
	// Up to where a scan's end is noted: what it found says nothing of a database
	// that takes the place of the one that it read.
	if err := s.usage.enter(); err != nil {
		return nil, err
	}
	defer s.usage.leave()
	for {
		if docs := s.queue.take(limit); len(docs) > 0 {
			return docs, nil
		}
		docs, more, err := s.dueMark()
		if err != nil || !more {
			return nil, err
		}
		s.queue.add(docs...)
	}
}

// Requeue lets [Store.TakeDirty] give out a document again whose view could not
// be made now.
func (s *Store) Requeue(k DocKey) { s.queue.add(Dirty{Key: k}) }

// IsDirty reports whether a document's view is behind.
func (s *Store) IsDirty(k DocKey) (bool, error) {
	if err := s.usage.enter(); err != nil {
		return false, err
	}
	defer s.usage.leave()
	s.marks.Lock()
	_, dirty := s.marks.docs[k]
	unsure := len(s.marks.later) > 0
	s.marks.Unlock()
	if dirty || !unsure {
		return dirty, nil
	}
	_, behind, err := s.behind(k)
	return behind, err
}

// Made is a view that was made from a document's history at a version.
type Made struct {
	Key  DocKey
	View crdt.View
	// Gone says that nothing is left of the document, and View is empty.
	Gone bool
	// Version and Database are the history's.
	Version, Database uint64
}

// goneJSON stands in the place of the JSON of a view of which nothing is left,
// so that a view from before does not come back.
const goneJSON = "\x00"

// PutViews replaces documents' views and index entries, each of another
// document. A document stays dirty when it moved on since; a view that was made
// from a later history stays in its place. Views of a database whose place another one took are
// dropped: that one has dirty marks of its own, and may hold other things.
func (s *Store) PutViews(views ...Made) error {
	if err := s.usage.enter(); err != nil {
		return err
	}
	defer s.usage.leave()
	if err := s.putViews(views); err != nil {
		return fmt.Errorf("put views: %w", err)
	}
	return nil
}

func (s *Store) putViews(views []Made) error {
	b := viewBatch{Batch: s.db.NewBatch(), delta: tallyDelta{}}
	defer func() { _ = b.Close() }()
	s.marks.Lock()
	defer s.marks.Unlock()
	for _, v := range views {
		if v.Database != s.marks.database {
			continue
		}
		if err := s.putView(&b, v); err != nil {
			return fmt.Errorf("%s: %w", v.Key, err)
		}
	}
	if err := s.tallies.put(b.Batch, b.delta); err != nil {
		return err
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return err
	}
	s.tallies.show(b.delta)
	s.countDirty()
	return nil
}

// viewBatch collects views.
type viewBatch struct {
	*pebble.Batch
	delta tallyDelta // what they count
	value []byte     // room for an encoding
}

// putView adds a view to a batch. The caller holds the marks' lock.
func (s *Store) putView(b *viewBatch, v Made) error {
	marked, dirty := s.marks.docs[v.Key]
	if !dirty || !marked.created || v.Version != marked.version {
		old, at, err := s.view(v.Key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if at > v.Version {
			return nil
		}
		for _, e := range old.Index {
			_ = b.Delete(keyIndex(e, v.Key), nil)
		}
		b.delta.count(v.Key.Stream.Site, old.Counts, -1)
	}
	b.delta.count(v.Key.Stream.Site, v.View.Counts, 1)
	for _, e := range v.View.Index {
		_ = b.Set(keyIndex(e, v.Key), nil, nil)
	}
	if v.Gone {
		v.View.JSON = []byte(goneJSON)
	}
	b.value = appendView(b.value[:0], v.View, v.Version)
	_ = b.Set(keyDoc(tableView, v.Key), b.value, nil)
	if dirty && v.Version >= marked.version {
		s.marks.done(b.Batch, v.Key, marked)
	}
	return nil
}

func appendView(b []byte, v crdt.View, version uint64) []byte {
	b = binary.AppendUvarint(b, version)
	b = binary.AppendUvarint(b, uint64(len(v.Index)+len(v.Counts)))
	for _, e := range v.Index {
		b = appendBytes(appendBytes(b, e.Name), e.Value)
	}
	for _, c := range v.Counts {
		b = appendBytes(appendBytes(b, countPrefix+c.Cube), c.Cell)
	}
	return append(b, v.JSON...)
}

// view returns a document's stored view and the version that it was made from.
func (s *Store) view(k DocKey) (v crdt.View, version uint64, err error) {
	raw, err := s.get(keyDoc(tableView, k))
	if err != nil {
		return v, 0, err
	}
	d := decoder{b: raw}
	version = d.uvarint()
	for range d.count() {
		v.Index = append(v.Index, crdt.IndexEntry{Name: string(d.bytes()), Value: string(d.bytes())})
	}
	v.JSON = d.b
	splitCounts(&v)
	if d.bad {
		return crdt.View{}, 0, fmt.Errorf("%w: view of %s", ErrCorrupt, k)
	}
	return v, version, nil
}

// View returns a document's view as last written, whose JSON may have been left
// out; the caller owns it. The error wraps [ErrNotFound].
func (s *Store) View(k DocKey) (crdt.View, error) {
	if err := s.usage.enter(); err != nil {
		return crdt.View{}, err
	}
	defer s.usage.leave()
	v, _, err := s.view(k)
	if err == nil && string(v.JSON) == goneJSON {
		v, err = crdt.View{}, ErrNotFound
	}
	if err != nil {
		return v, fmt.Errorf("view of %s: %w", k, err)
	}
	return v, nil
}

// IndexHit is a document found through an index.
type IndexHit struct {
	Value string
	Key   DocKey
}

// IndexQuery selects entries of one index.
type IndexQuery struct {
	Name string
	// Prefix restricts to values that start with it.
	Prefix string
	// After continues behind an earlier hit; nil starts at the end that
	// Descending names.
	After      *IndexHit
	Descending bool
	// Limit bounds the hits; zero means no bound.
	Limit int
}

// Index lists the documents under an index, by value, then document.
func (s *Store) Index(q IndexQuery) ([]IndexHit, error) {
	if err := s.usage.enter(); err != nil {
		return nil, err
	}
	defer s.usage.leave()
	prefix := append(append(append([]byte{tableIndex}, q.Name...), 0), q.Prefix...)
	opts := &pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)}
	if q.After != nil {
		at := keyIndex(crdt.IndexEntry{Name: q.Name, Value: q.After.Value}, q.After.Key)
		if q.Descending {
			opts.UpperBound = at
		} else {
			at = append(at, 0) // behind it
			opts.LowerBound = at
		}
	}
	it, err := s.db.NewIter(opts)
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", q.Name, err)
	}
	first, next := it.First, it.Next
	if q.Descending {
		first, next = it.Last, it.Prev
	}
	var out []IndexHit
	for ok := first(); ok && err == nil && (q.Limit == 0 || len(out) < q.Limit); ok = next() {
		d := decoder{b: it.Key()[len(q.Name)+2:]}
		hit := IndexHit{Value: d.terminated()}
		hit.Key = d.docKey()
		if d.bad {
			err = fmt.Errorf("%w: index %s", ErrCorrupt, q.Name)
		}
		out = append(out, hit)
	}
	return out, errors.Join(err, it.Error(), it.Close())
}

// DocumentsAfter lists up to limit documents behind one, in key order, from the
// first when it is nil.
func (s *Store) DocumentsAfter(after *DocKey, limit int) ([]DocKey, error) {
	if err := s.usage.enter(); err != nil {
		return nil, err
	}
	defer s.usage.leave()
	from := []byte{tableDoc}
	if after != nil {
		from = append(keyDoc(tableDoc, *after), 0)
	}
	return s.documentsPage(from, limit)
}

// documentsPageMax is how many documents are read before f is called with them.
const documentsPageMax = 1024

// Documents calls f with every document, in key order, until f returns an
// error. Documents that come while it runs may be left out.
func (s *Store) Documents(f func(DocKey) error) error {
	after := []byte{tableDoc}
	for {
		page, err := s.documentsFrom(after)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, k := range page {
			if err := f(k); err != nil {
				return err
			}
		}
		after = append(keyDoc(tableDoc, page[len(page)-1]), 0)
	}
}

// documentsFrom reads one page of documents from a key on.
func (s *Store) documentsFrom(from []byte) ([]DocKey, error) {
	if err := s.usage.enter(); err != nil {
		return nil, err
	}
	defer s.usage.leave()
	return s.documentsPage(from, documentsPageMax)
}

// documentsPage reads up to limit documents from a key on.
func (s *Store) documentsPage(from []byte, limit int) ([]DocKey, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: prefixEnd([]byte{tableDoc})})
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	var out []DocKey
	for ok := it.First(); ok && err == nil && len(out) < limit; ok = it.Next() {
		d := decoder{b: it.Key()[1:]}
		out = append(out, d.docKey())
		if d.bad {
			err = fmt.Errorf("%w: document key", ErrCorrupt)
		}
	}
	return out, errors.Join(err, it.Error(), it.Close())
}
