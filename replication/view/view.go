package view

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/replication/document"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// IndexQuarantine lists the documents that could not be materialised.
const IndexQuarantine = "quarantine"

// Fold turns a document of one kind into its view. It must be pure.
type Fold func(*crdt.Source) (crdt.View, error)

// Engine reads documents; package crdt/engine has the real one.
type Engine interface {
	// Read applies changes, given in causal order, and walks the result. An error
	// that wraps [crdt.ErrUnavailable] is not the document's.
	// decoded is what [change.Decode] made of them, or nothing.
	Read(changes [][]byte, decoded ...*change.Change) (*crdt.Document, error)
}

// Config says what to materialise with.
type Config struct {
	Store *store.Store
	// Engine reads documents that hold the site's own changes only, Isolated all
	// others; nil Isolated means Engine.
	Engine, Isolated Engine
	// Documents keeps the documents that have many changes; nil reads each view's
	// whole history.
	Documents *document.Cache
	// Site is the store's.
	Site tiers.SiteID
	// Quarantined is told of each document that has no view, and why; may be nil.
	Quarantined func(store.DocKey, error)
	// Folds maps a document kind to its fold.
	Folds map[string]Fold
	// Counting names the rules by which the folds count; when it is not the one that
	// the store's views count by, all are made once more, whenever there is nothing
	// else to do.
	Counting string
	// Workers bounds the documents that are folded at once; zero means 2.
	Workers int
	Logger  *slog.Logger
}

// indexValueMax bounds an index entry's value, in bytes.
const indexValueMax = 512

// unavailablePause is how long views wait for an engine that is not available.
const unavailablePause = time.Second

// batch is how many dirty documents are taken up at a time.
const batch = 512

// Materialiser keeps views up to date. See the package comment.
type Materialiser struct {
	cfg Config

	mu   sync.Mutex // guards subs
	subs []chan struct{}
}

// New returns a materialiser; [Materialiser.Run] starts it.
func New(cfg Config) *Materialiser {
	if cfg.Workers == 0 {
		cfg.Workers = 2
	}
	if cfg.Isolated == nil {
		cfg.Isolated = cfg.Engine
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Materialiser{cfg: cfg}
}

// Subscribe returns a channel that receives a value after views changed;
// bursts coalesce. Call it before Run.
func (m *Materialiser) Subscribe() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan struct{}, 1)
	m.subs = append(m.subs, c)
	return c
}

func (m *Materialiser) publish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Run materialises dirty documents until ctx ends, beginning with those that
// were dirty when the store was opened. A storage error ends it.
func (m *Materialiser) Run(ctx context.Context) error {
	if err := m.cfg.Store.Recount(m.cfg.Counting); err != nil {
		return err
	}
	for {
		n, err := m.pass(ctx)
		if n == 0 && err == nil {
			n, err = m.recount(ctx)
		}
		if errors.Is(err, crdt.ErrUnavailable) {
			if ctx.Err() == nil {
				m.cfg.Logger.Error("views wait", "err", err)
			}
			select {
			case <-time.After(unavailablePause):
			case <-ctx.Done():
				return nil
			}
			continue
		}
		if err != nil {
			return err
		}
		if n > 0 {
			m.publish()
			continue
		}
		select {
		case <-m.cfg.Store.DirtyNotify():
		case <-ctx.Done():
			return nil
		}
	}
}

// chunk is how many documents a worker takes up, and writes the views of, at a
// time.
const chunk = 32

// pass materialises up to one batch and returns how many documents it took up.
func (m *Materialiser) pass(ctx context.Context) (int, error) {
	docs, err := m.cfg.Store.TakeDirty(batch)
	if err != nil || len(docs) == 0 {
		return 0, err
	}
	var g errgroup.Group // each goroutine ends with its documents
	g.SetLimit(m.cfg.Workers)
	for some := range slices.Chunk(docs, chunk) {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return m.chunk(some) })
	}
	if err := g.Wait(); err != nil || ctx.Err() != nil {
		return 0, err
	}
	return len(docs), nil
}

// chunk materialises some documents. When there is no engine for one of them,
// the others have their views all the same.
func (m *Materialiser) chunk(docs []store.Dirty) error {
	var unavailable error
	made := make([]store.Made, 0, len(docs))
	for _, d := range docs {
		v, keep, err := m.make(d, true)
		if errors.Is(err, crdt.ErrUnavailable) {
			m.cfg.Store.Requeue(d.Key) // it stays dirty
			unavailable = err
			continue
		}
		if errors.As(err, new(goneError)) {
			continue
		}
		if err != nil {
			return err
		}
		if !keep {
			v.View.JSON = nil
		}
		// A document that was touched again since it was queued comes twice.
		if i := slices.IndexFunc(made, func(o store.Made) bool { return o.Key == d.Key }); i >= 0 {
			made[i] = v
			continue
		}
		made = append(made, v)
	}
	return errors.Join(m.cfg.Store.PutViews(made...), unavailable)
}

// View returns a document's up-to-date view, materialising it on the spot when
// it is dirty. The error wraps [store.ErrNotFound].
func (m *Materialiser) View(k store.DocKey) (crdt.View, error) {
	dirty, err := m.cfg.Store.IsDirty(k)
	if err != nil {
		return crdt.View{}, err
	}
	if dirty {
		return m.materialise(k)
	}
	v, err := m.cfg.Store.View(k)
	if err != nil || len(v.JSON) > 0 {
		return v, err
	}
	made, _, err := m.make(store.Dirty{Key: k}, false)
	return made.View, err
}

// keptFrom is from how many changes on a document's JSON is kept. Below, making
// it anew takes no longer than reading it, and writing it would take half of
// what it costs to take in an event. Index entries are kept of all.
const keptFrom = 8

func (m *Materialiser) materialise(k store.DocKey) (crdt.View, error) {
	v, keep, err := m.make(store.Dirty{Key: k}, false)
	if err != nil {
		return crdt.View{}, err
	}
	out := v.View
	if !keep {
		v.View.JSON = nil
	}
	return out, m.cfg.Store.PutViews(v)
}

// make makes a document's view (that it is quarantined, when it has none) and
// says whether its JSON is to be kept. With forStore, the JSON may be missing
// where it is not. An error is not the document's.
func (m *Materialiser) make(d store.Dirty, forStore bool) (v store.Made, keep bool, err error) {
	k := d.Key
	r := document.Read{History: d.History}
	for r.History == nil {
		r, err = m.history(k)
		if errors.Is(err, store.ErrNotFound) {
			if err = m.drop(k, err); errors.Is(err, errBack) {
				continue
			}
		}
		if err != nil {
			return v, false, err
		}
	}
	h := r.History
	v.Key, v.Version, v.Database = k, h.Version, h.Database
	keep = h.From+len(h.Raw) >= keptFrom
	if r.Document != nil {
		v.View, err = m.foldDocument(k, r, forStore && !keep)
	} else {
		v.View, err = m.fold(k, h, forStore && !keep)
	}
	if errors.Is(err, crdt.ErrUnavailable) {
		return v, false, err
	}
	if err != nil {
		if m.cfg.Quarantined != nil {
			m.cfg.Quarantined(k, err)
		}
		m.cfg.Logger.Error("document quarantined", "doc", k.Doc, "stream", k.Stream.String(), "err", err)
		v.View, err = quarantined(k, err)
		return v, true, err
	}
	return v, keep, nil
}

// history reads a document: as it is kept, or its whole history.
func (m *Materialiser) history(k store.DocKey) (document.Read, error) {
	if m.cfg.Documents != nil {
		r, err := m.cfg.Documents.Read(k, keptFrom)
		if !errors.Is(err, document.ErrWhole) {
			return r, err
		}
	}
	h, err := m.cfg.Store.Changes(k)
	return document.Read{History: h}, err
}

// errBack says that a document of which nothing was left is there again: it was
// written once more, as after a fork.
var errBack = errors.New("view: the document is back")

// drop takes away the view of a document of which nothing is left, and returns
// the error that says so, or [errBack].
func (m *Materialiser) drop(k store.DocKey, notFound error) error {
	made, gone, err := m.cfg.Store.Gone(k)
	switch {
	case err != nil:
		return err
	case made.Version == 0:
		// It was in the database whose place this one took, and here it is not.
		return goneError{notFound}
	case !gone:
		return errBack
	}
	if err := m.cfg.Store.PutViews(made); err != nil {
		return err
	}
	return goneError{notFound}
}

// goneError is an [store.ErrNotFound] that is nothing to worry about.
type goneError struct{ error }

// Unwrap returns the error that says what is not found.
func (e goneError) Unwrap() error { return e.error }

// engineFor returns the engine for a document with changes of these authors.
func (m *Materialiser) engineFor(authors []crdt.Author) Engine {
	for _, a := range authors {
		if a.Site != m.cfg.Site {
			return m.cfg.Isolated
		}
	}
	return m.cfg.Engine
}

// fold makes a view from a history; its error is the document's, never the
// store's.
func (m *Materialiser) fold(k store.DocKey, h *store.Changes, indexOnly bool) (crdt.View, error) {
	src := &crdt.Source{
		Stream: k.Stream, Doc: k.Doc, Authors: map[crdt.Actor]crdt.Author{}, Pending: h.Pending, Refused: h.Refused,
		IndexOnly: indexOnly,
	}
	if len(h.Raw) == 0 {
		src.Document = &crdt.Document{Root: crdt.Node{Kind: crdt.NodeMap}}
	} else {
		doc, err := m.engineFor(h.Authors).Read(h.Raw, h.Decoded...)
		if err != nil {
			return crdt.View{}, err
		}
		if len(doc.Changes) != len(h.Raw) {
			return crdt.View{}, fmt.Errorf("engine read %d of %d changes", len(doc.Changes), len(h.Raw))
		}
		for i, c := range doc.Changes {
			src.Authors[c.Actor] = h.Authors[i]
		}
		src.Document = doc
	}
	return m.foldSource(k, src)
}

// foldDocument is fold for a document that is kept.
func (m *Materialiser) foldDocument(k store.DocKey, r document.Read, indexOnly bool) (crdt.View, error) {
	return m.foldSource(k, &crdt.Source{
		Stream: k.Stream, Doc: k.Doc, Document: r.Document, Authors: r.Authors, Pending: r.History.Pending, Refused: r.History.Refused,
		IndexOnly: indexOnly,
	})
}

// foldSource makes a view of a document.
func (m *Materialiser) foldSource(k store.DocKey, src *crdt.Source) (crdt.View, error) {
	fold := m.cfg.Folds[k.Doc.Kind()]
	if fold == nil {
		fold = plain
	}
	v, err := fold(src)
	if err == nil && (!src.IndexOnly || len(v.JSON) > 0) && !json.Valid(v.JSON) {
		err = errors.New("fold returned malformed JSON")
	}
	for _, c := range v.Counts {
		if err == nil && (holdsZero(c.Cube, c.Cell) || len(c.Cell) > indexValueMax) {
			err = fmt.Errorf("count %s: cell of %d bytes, or with a zero byte", c.Cube, len(c.Cell))
		}
	}
	for _, e := range v.Index {
		if err == nil && (holdsZero(e.Name, e.Value) || len(e.Value) > indexValueMax) {
			err = fmt.Errorf("index %s: value of %d bytes, or with a zero byte", e.Name, len(e.Value))
		}
	}
	return v, err
}

func holdsZero(a, b string) bool { return strings.IndexByte(a, 0) >= 0 || strings.IndexByte(b, 0) >= 0 }

// quarantined is the view of a document that has none.
func quarantined(k store.DocKey, cause error) (crdt.View, error) {
	b, err := json.Marshal(map[string]string{
		"id": string(k.Doc), "stream": k.Stream.String(), "quarantined": cause.Error(),
	})
	return crdt.View{JSON: b, Index: []crdt.IndexEntry{{Name: IndexQuarantine, Value: string(k.Doc)}}}, err
}

// plain is the fold of kinds that have no rules of their own: the root's
// scalar fields as they are.
func plain(s *crdt.Source) (crdt.View, error) { return s.FieldView() }
