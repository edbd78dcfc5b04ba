package document

import (
	"container/list"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/replication/store"
)

// ErrWhole reports a document that is not kept: its whole history must be read.
var ErrWhole = errors.New("document: needs its whole history")

// Config says what to keep.
type Config struct {
	Store *store.Store
	// BytesMax bounds what is kept, as [change.Document.Size] counts; zero means
	// 32 MiB. One document that is larger is kept alone.
	BytesMax int
	// HistoryBytesMax and OpsMax are the engine's limits of one document.
	HistoryBytesMax int
	OpsMax          uint64
}

// Cache keeps documents.
type Cache struct {
	cfg     Config
	decoded atomic.Uint64

	mu      sync.Mutex // guards the fields below
	entries map[store.DocKey]*list.Element
	recent  list.List // of *entry, the latest used first
	bytes   int
}

// entry is a document. Its lock is taken before the cache's, never after it.
type entry struct {
	key store.DocKey

	mu      sync.Mutex // guards the fields below
	doc     change.Document
	end     store.Place
	raw     int // bytes of its changes
	authors map[crdt.Actor]crdt.Author

	bytes int // guarded by the cache's lock: what counts of it there
}

// New returns an empty cache.
func New(cfg Config) *Cache {
	if cfg.BytesMax == 0 {
		cfg.BytesMax = 32 << 20
	}
	return &Cache{cfg: cfg, entries: map[store.DocKey]*list.Element{}}
}

// Decoded returns how many changes were decoded so far.
func (c *Cache) Decoded() uint64 { return c.decoded.Load() }

// Bytes returns what is kept.
func (c *Cache) Bytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// Read is a document as it was read. It is the caller's, but for Authors, which
// nobody may change.
type Read struct {
	// Document is the tree with its changes.
	Document *crdt.Document
	Authors  map[crdt.Actor]crdt.Author
	// History says what the store does of the document; of its changes it holds
	// those that were not kept before.
	History *store.Changes
}

// Read returns a document. One that is not kept, and has fewer changes than from,
// comes as its history, with no Document. The error wraps [ErrWhole], or is the
// store's, as of [store.Store.Changes].
func (c *Cache) Read(k store.DocKey, from int) (Read, error) {
	e := c.take(k, false)
	if e == nil {
		h, err := c.cfg.Store.Changes(k)
		if err != nil || len(h.Raw) < from {
			return Read{History: h}, err
		}
		e = c.take(k, true)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	h, err := c.advance(e)
	if err != nil {
		return Read{}, err
	}
	doc, err := e.doc.Read()
	if err != nil {
		return Read{}, c.whole(e, err)
	}
	return Read{Document: doc, Authors: e.authors, History: h}, nil
}

// Edit makes the change that an actor makes of operations on a document whose heads
// are base; nil when they change nothing. The error wraps [store.ErrMoved] when the
// heads are others by now, [ErrWhole], or is the store's.
func (c *Cache) Edit(k store.DocKey, base []crdt.Hash, actor crdt.Actor, timeMS int64, ops []crdt.Op) ([]byte, error) {
	e := c.take(k, true)
	e.mu.Lock()
	defer e.mu.Unlock()
	h, err := c.advance(e)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(h.Heads, base) {
		return nil, fmt.Errorf("%w: %s", store.ErrMoved, k)
	}
	raw, ok := e.doc.Edit(actor, timeMS, ops)
	if !ok {
		return nil, fmt.Errorf("%w: an edit of %s is the library's", ErrWhole, k)
	}
	if raw == nil {
		return nil, nil
	}
	if _, err := change.Decode(raw, change.DefaultLimits()); err != nil {
		return nil, fmt.Errorf("%w: an edit of %s: %w", ErrWhole, k, err)
	}
	return raw, nil
}

// take returns a document's entry, or a new one if fresh is set, else nil.
func (c *Cache) take(k store.DocKey, fresh bool) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.entries[k]; at != nil {
		c.recent.MoveToFront(at)
		return at.Value.(*entry)
	}
	if !fresh {
		return nil
	}
	e := &entry{key: k}
	c.entries[k] = c.recent.PushFront(e)
	return e
}

// drop lets go of an entry.
func (c *Cache) drop(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.entries[e.key]; at != nil && at.Value == any(e) {
		c.forget(at)
	}
}

// forget lets go of an entry. The caller holds the lock.
func (c *Cache) forget(at *list.Element) {
	e := at.Value.(*entry)
	c.recent.Remove(at)
	delete(c.entries, e.key)
	c.bytes -= e.bytes
}

// count notes what an entry takes, and lets go of others until all fit.
func (c *Cache) count(e *entry, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.entries[e.key]
	if at == nil || at.Value != any(e) {
		return // somebody else let go of it
	}
	c.bytes += size - e.bytes
	e.bytes = size
	for c.bytes > c.cfg.BytesMax && c.recent.Len() > 1 {
		last := c.recent.Back()
		if last == at {
			last = last.Prev()
		}
		c.forget(last)
	}
}

// whole drops an entry and says that its document's whole history must be read.
func (c *Cache) whole(e *entry, cause error) error {
	c.drop(e)
	e.reset()
	return fmt.Errorf("%w: %s: %w", ErrWhole, e.key, cause)
}

// reset empties an entry. The caller holds its lock.
func (e *entry) reset() {
	e.doc, e.end, e.raw, e.authors = change.Document{}, store.Place{}, 0, nil
}

// advance adds what the store has more of a document, and returns what the store says.
// The caller holds the entry's lock.
func (c *Cache) advance(e *entry) (*store.Changes, error) {
	h, err := c.cfg.Store.ChangesFrom(e.key, e.end)
	if err != nil {
		c.drop(e)
		e.reset()
		return nil, err
	}
	if h.From == 0 {
		e.reset()
	}
	for i, raw := range h.Raw {
		if err := c.add(e, raw, h.Authors[i]); err != nil {
			return nil, c.whole(e, err)
		}
	}
	e.end = h.End
	if e.doc.Len() == 0 || !sameHeads(e.doc.Heads(), h.Heads) {
		return nil, c.whole(e, errors.New("its heads are others than its changes'"))
	}
	c.count(e, e.doc.Size()+entryBytes+len(e.authors)*authorBytes)
	return h, nil
}

// About what an entry takes besides its document, and an author of it, in bytes.
const (
	entryBytes  = 1024
	authorBytes = 128
)

// add adds a change to an entry.
func (c *Cache) add(e *entry, raw []byte, author crdt.Author) error {
	c.decoded.Add(1)
	ch, err := change.Decode(raw, change.DefaultLimits())
	if err != nil {
		return err
	}
	if e.raw += len(raw); e.raw > c.cfg.HistoryBytesMax || e.doc.Ops()+ch.Ops > c.cfg.OpsMax {
		return change.ErrTooLarge
	}
	if e.authors[ch.Actor] != author { // readers have the map
		authors := maps.Clone(e.authors)
		if authors == nil {
			authors = map[crdt.Actor]crdt.Author{}
		}
		authors[ch.Actor] = author
		e.authors = authors
	}
	return e.doc.Add(ch)
}

// sameHeads reports whether a and b, each without repeats, hold the same hashes.
func sameHeads(a, b []crdt.Hash) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(h crdt.Hash) bool { return !slices.Contains(b, h) })
}
