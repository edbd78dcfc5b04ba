package node

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/replication/view"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// Bounds of one pass over what waits for its type.
const (
	// waitingTypes is how many types are looked at, waitingPage how many reports are let
	// in.
	waitingTypes = 1024
	waitingPage  = 256
)

// waiting lets in what is held here because nobody knew its type, when its type comes.
// One goroutine owns it, but for passes.
type waiting struct {
	n *Node
	// types is the table of types of the last pass that went to the end.
	types *map[string]string
	// after is how far the pass under way is; empty for the beginning.
	after string
	// before are what builds held that had no work list, by type; nil until they were
	// looked for, in each leadership.
	before map[string][]store.DocKey
}

// runWaiting lets in what waits for a type, in each of this node's leaderships: the site
// that holds it decides, and no other. It is woken by changes, also those that come over
// a link, and looks at the work list only when the types or the list changed.
func (n *Node) runWaiting(ctx context.Context, changed <-chan struct{}) error {
	w := waiting{n: n}
	return n.eachTerm(ctx, func(lead context.Context) error {
		w.types, w.after, w.before = nil, "", nil
		return passWhile(ctx, lead, changed, nil, w.pass)
	})
}

// foldQuarantine is [event.FoldQuarantine]; it notes that something here waits.
func (n *Node) foldQuarantine(fresh *atomic.Int32) view.Fold {
	return func(s *crdt.Source) (crdt.View, error) {
		v, err := event.FoldQuarantine(s)
		if err == nil && s.Stream.Site == n.creds.ID.Site {
			for _, e := range v.Index {
				if e.Name == event.IndexWaiting {
					fresh.Store(mergePasses)
				}
			}
		}
		return v, err
	}
}

// pass looks at the types that something waits for, and reports whether there are more.
func (w *waiting) pass(ctx context.Context) (more bool, err error) {
	n, self := w.n, w.n.creds.ID.Site
	if w.before == nil {
		if err := w.recall(); err != nil {
			return false, err
		}
	}
	first, err := w.next("")
	if err != nil || first == "" && len(w.before) == 0 {
		return false, err // as nearly always
	}
	if _, _, err := n.route(true); err != nil {
		return false, err
	}
	types := n.routing.types.Load()
	fresh := n.waits.Load() > 0
	if types == nil || types == w.types && !fresh && w.after == "" {
		return false, nil
	}
	if fresh && w.after == "" {
		n.waits.Add(-1)
	}
	for range waitingTypes {
		value, err := w.next(w.after)
		if err != nil {
			return false, err
		}
		if value == "" { // the end
			w.types, w.after = types, ""
			return false, w.letInBefore(ctx, *types)
		}
		code, err := url.QueryUnescape(strings.Split(value, "/")[1])
		if err != nil {
			return false, fmt.Errorf("%w: index %s: %w", store.ErrCorrupt, event.IndexWaiting, err)
		}
		prefix := event.WaitingAt(self, code)
		if _, known := (*types)[code]; !known && len(*types) > 0 {
			w.after = prefix + "\xff" // behind all of this type
			continue
		}
		last, err := w.letIn(ctx, prefix)
		if err != nil {
			return false, err
		}
		w.after = last
		return true, nil
	}
	return true, nil
}

// recall finds what builds held that had no work list.
func (w *waiting) recall() error {
	w.before = map[string][]store.DocKey{}
	q := store.IndexQuery{Name: event.IndexQuarantine, Prefix: event.QuarantinePrefix(event.QuarantineHeld), Limit: waitingPage}
	for {
		hits, err := w.n.group.Store().Index(q)
		if err != nil {
			return err
		}
		for _, h := range hits {
			q.After = &h
			var v event.QuarantineView
			if h.Key.Stream.Site != w.n.creds.ID.Site || w.n.read(h.Key, &v) != nil {
				continue
			}
			if v.Waits() && v.Held.Type == "" {
				code := v.Held.TypeCode()
				w.before[code] = append(w.before[code], h.Key)
			}
		}
		if len(hits) < q.Limit {
			return nil
		}
	}
}

// letInBefore lets in what recall found and whose types are known now.
func (w *waiting) letInBefore(ctx context.Context, types map[string]string) error {
	for code, keys := range w.before {
		if _, known := types[code]; !known && len(types) > 0 {
			continue
		}
		for _, k := range keys {
			if err := w.letInOne(ctx, k); err != nil && !w.n.passable(k, err) {
				return fmt.Errorf("let in %s: %w", k, err)
			}
		}
		delete(w.before, code)
	}
	return nil
}

// next is the first value of the work list behind another; empty at the end.
func (w *waiting) next(after string) (string, error) {
	q := store.IndexQuery{Name: event.IndexWaiting, Prefix: event.WaitingAt(w.n.creds.ID.Site, ""), Limit: 1}
	if after != "" {
		q.After = &store.IndexHit{Value: after}
	}
	hits, err := w.n.group.Store().Index(q)
	if err != nil || len(hits) == 0 {
		return "", err
	}
	return hits[0].Value, nil
}

// letIn lets in a page of what waits for a type, and returns behind what to go on.
func (w *waiting) letIn(ctx context.Context, prefix string) (last string, err error) {
	q := store.IndexQuery{Name: event.IndexWaiting, Prefix: prefix, Limit: waitingPage}
	if strings.HasPrefix(w.after, prefix) {
		q.After = &store.IndexHit{Value: w.after}
	}
	hits, err := w.n.group.Store().Index(q)
	if err != nil {
		return "", err
	}
	var g errgroup.Group // ends with the page
	g.SetLimit(batchWriters)
	for _, h := range hits {
		g.Go(func() error {
			if err := w.letInOne(ctx, h.Key); err != nil && !w.n.passable(h.Key, err) {
				return fmt.Errorf("let in %s: %w", h.Key, err)
			}
			return nil
		})
	}
	if len(hits) < waitingPage {
		return prefix + "\xff", g.Wait()
	}
	return hits[len(hits)-1].Value + "\xff", g.Wait()
}

// letInOne makes an event of what is held, or notes what else keeps it from being one.
func (w *waiting) letInOne(ctx context.Context, k store.DocKey) error {
	var v event.QuarantineView
	if err := w.n.read(k, &v); err != nil {
		return err
	}
	if !v.Waits() { // the index is behind
		return nil
	}
	r, err := w.n.wouldRelease(v, nil)
	if err == nil {
		_, err = w.n.letIn(ctx, k, v.Held.ID, r, "its type came")
	}
	if !errors.Is(err, event.ErrInvalid) {
		return err
	}
	if event.FieldOf(err) == v.Held.Field { // the type went again
		return nil
	}
	h := v.Held
	h.Reason, h.Field = err.Error(), event.FieldOf(err)
	op, err := event.HoldAgainOp(h)
	if err != nil {
		return err
	}
	_, err = w.n.docs.write(ctx, "", Edit{Key: k, Ops: []crdt.Op{op}})
	return err
}
