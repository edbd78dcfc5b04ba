package node

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/document"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// editAttempts is how often a write is rebuilt on a document that moved on
// under it. Local writers queue, so only records from peers can move it.
const editAttempts = 32

// Edit is one document's share of a write.
type Edit struct {
	Key store.DocKey
	// Create refuses the edit when the document exists.
	Create bool
	Ops    []crdt.Op
	// Make, if it is set, returns the operations instead. It is called with the
	// document's writers held back, and again when the document moved on: what it
	// finds holds when the change is written. No operations leave the document as
	// it is.
	Make func() ([]crdt.Op, error)
}

// documents turns edits into Automerge changes and proposes them.
type documents struct {
	group  *replication.Group
	engine *engine.Engine
	// isolated is for documents with changes from elsewhere.
	isolated *engine.Engine
	workers  *engine.Workers // isolated's; nil when it is the engine of this process
	kept     *document.Cache
	seed     maphash.Seed
	// queues let in one writer at a time of the documents that hash there. They are
	// channels of capacity 1, since a write takes as long as the site's network:
	// waiting for a mutex would hold up the virtual time of a simulation.
	queues [256]chan struct{}
}

func newDocuments(g *replication.Group, own, isolated *engine.Engine) *documents {
	limits := engine.DefaultLimits()
	kept := document.New(document.Config{Store: g.Store(), HistoryBytesMax: limits.BytesMax, OpsMax: limits.OpsMax})
	d := &documents{group: g, engine: own, isolated: isolated, kept: kept, seed: maphash.MakeSeed()}
	for i := range d.queues {
		d.queues[i] = make(chan struct{}, 1)
	}
	return d
}

// lock takes the queues of all documents, in one order, and returns the unlock.
func (d *documents) lock(edits []Edit) func() {
	var at []int
	for _, e := range edits {
		if e.Create {
			continue // nobody else can know it yet
		}
		at = append(at, int(maphash.String(d.seed, e.Key.String())%uint64(len(d.queues))))
	}
	slices.Sort(at)
	at = slices.Compact(at)
	for _, i := range at {
		d.queues[i] <- struct{}{}
	}
	return func() {
		for _, i := range at {
			<-d.queues[i]
		}
	}
}

// write applies edits, all or none, under an idempotency key. A key that was
// used before returns the first result. The error wraps [ErrExists],
// [ErrBusy], [ErrHeldBack], or what [replication.Group.Append] returns.
func (d *documents) write(ctx context.Context, key string, edits ...Edit) ([]replication.Written, error) {
	defer d.lock(edits)()
	// The state machine knows a used key, too; asking first saves rebuilding a
	// change on a document that moved on, which one that is created cannot.
	if key != "" && !allCreate(edits) {
		if done, err := d.group.Earlier(key); done != nil || err != nil {
			return done, err
		}
	}
	for range editAttempts {
		items, err := d.build(edits)
		if err == nil && len(items) == 0 {
			return unchanged(edits), nil
		}
		var done []replication.Written
		if err == nil {
			done, err = d.group.Append(ctx, key, items)
		}
		if !errors.Is(err, store.ErrMoved) {
			return done, err
		}
		if err := d.checkNew(edits); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: %s: try again", ErrBusy, edits[0].Key)
}

func allCreate(edits []Edit) bool {
	return !slices.ContainsFunc(edits, func(e Edit) bool { return !e.Create })
}

// checkNew returns [ErrExists] when a document that an edit creates is there.
func (d *documents) checkNew(edits []Edit) error {
	for _, e := range edits {
		if !e.Create {
			continue
		}
		if _, err := d.group.Store().Heads(e.Key); !errors.Is(err, store.ErrNotFound) {
			return errors.Join(err, fmt.Errorf("%w: %s", ErrExists, e.Key))
		}
	}
	return nil
}

// unchanged is the result of edits that leave everything as it is: no record
// was written, so the sequence numbers are 0.
func unchanged(edits []Edit) []replication.Written {
	out := make([]replication.Written, len(edits))
	for i, e := range edits {
		out[i] = replication.Written{Stream: e.Key.Stream, Doc: e.Key.Doc}
	}
	return out
}

// build makes a change for each edit on the document's present heads, and
// leaves out edits that change nothing. The error wraps [store.ErrMoved] when a
// document moved on meanwhile.
func (d *documents) build(edits []Edit) ([]store.Item, error) {
	author, actor, err := d.group.Actor()
	if err != nil {
		return nil, err
	}
	var items []store.Item
	for _, edit := range edits {
		var base []crdt.Hash
		there := false
		if !edit.Create {
			base, err = d.group.Store().Heads(edit.Key)
			if there = err == nil; err != nil && !errors.Is(err, store.ErrNotFound) {
				return nil, err
			}
		}
		ops := edit.Ops
		if edit.Make != nil {
			if ops, err = edit.Make(); err != nil {
				return nil, err
			}
			if len(ops) == 0 {
				continue
			}
		}
		at := d.group.Clock().Now()
		var raw []byte
		if there {
			raw, err = d.change(edit.Key, base, author, actor, at, ops)
		} else {
			raw, err = built(d.engine.Build(nil, actor, at.Millis(), ops))
		}
		switch {
		case errors.Is(err, engine.ErrUnchanged):
			continue
		case errors.Is(err, store.ErrMoved):
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("edit %s: %w", edit.Key, err)
		}
		items = append(items, store.Item{
			Stream: edit.Key.Stream, Doc: edit.Key.Doc, Base: base, Time: at, Change: raw,
		})
	}
	return items, nil
}

func built(b engine.Built, err error) ([]byte, error) { return b.Raw, err }

// change makes a change of a document that is there, with its heads: of the document
// as it is kept, or of its whole history.
func (d *documents) change(k store.DocKey, base []crdt.Hash, author crdt.Author, actor crdt.Actor, at crdt.HybridTime, ops []crdt.Op) ([]byte, error) {
	raw, err := d.kept.Edit(k, base, actor, at.Millis(), ops)
	if err == nil && raw == nil {
		err = engine.ErrUnchanged
	}
	if !errors.Is(err, document.ErrWhole) {
		return raw, err
	}
	history, err := d.group.Store().Changes(k)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(history.Heads, base) {
		return nil, fmt.Errorf("%w: %s", store.ErrMoved, k)
	}
	e := d.engine
	if slices.ContainsFunc(history.Authors, func(a crdt.Author) bool { return a.Site != author.Site }) {
		e = d.isolated
	}
	raw, err = built(e.Build(history.Raw, actor, at.Millis(), ops))
	if errors.Is(err, engine.ErrEngine) && history.Pending > 0 {
		err = fmt.Errorf("%w: %d came before them", ErrHeldBack, history.Pending)
	}
	return raw, err
}

// docKey joins a stream and a document.
func docKey(site tiers.SiteID, class tiers.Class, doc tiers.DocID) store.DocKey {
	return store.DocKey{Stream: tiers.StreamID{Site: site, Class: class}, Doc: doc}
}
