package node

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/review"
)

// examinedMax bounds the documents that one request for a review looks at.
const examinedMax = 20_000

// endOf is the last hybrid time of a millisecond.
func endOf(ms int64) crdt.HybridTime { return crdt.HybridTime(uint64(ms)<<16 | 0xffff) }

// Review implements [api.Backend].
func (b backend) Review(ctx context.Context, q api.ReviewQuery) (api.Review, error) {
	n := b.n
	self := n.creds.ID.Site
	q.Site, q.AtMS = cmp.Or(q.Site, self), cmp.Or(q.AtMS, n.opts.Now().UnixMilli())
	out := api.Review{Site: q.Site, By: self, AtMS: q.AtMS, Basis: api.BasisExact, Documents: []api.ReviewDocument{}, Kinds: []api.KindKnown{}}
	if err := errors.Join(api.CheckReviewTime(q.AtMS, n.opts.Now().UnixMilli()), n.checkListed(q.Site)); err != nil {
		return out, translate(err)
	}
	if q.Site != self {
		out.Basis = api.BasisAtLeast
	} else if err := n.heldThen(&out); err != nil {
		return out, translate(err)
	}
	w := walk{n: n, q: q, out: &out, kinds: map[string]*api.KindKnown{}}
	if err := w.run(ctx); err != nil {
		return out, translate(err)
	}
	for _, kind := range slices.Sorted(maps.Keys(w.kinds)) {
		out.Kinds = append(out.Kinds, *w.kinds[kind])
	}
	return out, nil
}

// checkListed refuses a site that the topology does not have.
func (n *Node) checkListed(site tiers.SiteID) error {
	if err := site.Validate(); err != nil {
		return err
	}
	if _, ok := n.Topology().Site(site); !ok {
		return fmt.Errorf("%w: site %s is not listed in topology version %d", api.ErrInvalid, site, n.Topology().Version())
	}
	return nil
}

// heldThen adds up the records that this site held then.
func (n *Node) heldThen(out *api.Review) error {
	held, err := n.group.Store().HeldAt(endOf(out.AtMS))
	authors := map[tiers.SiteID]*api.AuthorHeld{}
	for _, h := range held {
		a := authors[h.Chain.Author.Site]
		if a == nil {
			a = &api.AuthorHeld{Site: h.Chain.Author.Site}
			authors[a.Site] = a
		}
		a.Then, a.Now, a.Unsure = a.Then+h.Then, a.Now+h.Now, a.Unsure+h.Unknown
		out.Held, out.Now, out.Unsure = out.Held+h.Then, out.Now+h.Now, out.Unsure+h.Unknown
	}
	for _, s := range slices.Sorted(maps.Keys(authors)) {
		out.Authors = append(out.Authors, *authors[s])
	}
	return err
}

// walk goes through the documents for a review.
type walk struct {
	n     *Node
	q     api.ReviewQuery
	out   *api.Review
	kinds map[string]*api.KindKnown
	full  bool // Documents is, and Next says from where on
}

func (w *walk) run(ctx context.Context) error {
	after, err := parseDocCursor(w.q.After)
	if err != nil {
		return err
	}
	st, t := w.n.group.Store(), w.n.Topology()
	for examined := 0; examined < examinedMax && (!w.full || w.q.After == ""); { // the first page counts on
		page, err := st.DocumentsAfter(after, 512)
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		for _, k := range page {
			if w.wanted(k) && (w.q.Site == w.n.creds.ID.Site || t.InAudience(k.Stream, w.q.Site)) {
				examined++
				if err := w.document(k, after); err != nil {
					return err
				}
			}
			after = &k
		}
		if len(page) < 512 {
			w.out.Counted = true
			return nil
		}
	}
	if !w.full {
		w.out.Next = docCursor(*after)
	}
	return nil
}

func (w *walk) wanted(k store.DocKey) bool {
	return (w.q.Kind == "" || k.Doc.Kind() == w.q.Kind) && (w.q.Doc == "" || k.Doc.Name() == strings.TrimPrefix(w.q.Doc, w.q.Kind+":"))
}

// document counts one document, and shows it when there is room; before is the one
// that came before it.
func (w *walk) document(k store.DocKey, before *store.DocKey) error {
	h, changes, err := reviewed(w.n.group.Store(), w.n.creds.ID.Site, k)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	doc := api.ReviewDocument{ID: k.Doc, Stream: k.Stream.String(), Of: len(changes)}
	var had []int
	if w.q.Site == w.n.creds.ID.Site {
		had, doc.Waiting, doc.Unsure = review.Had(changes, endOf(w.q.AtMS))
	} else {
		had = review.HadAtLeast(changes, w.q.Site, endOf(w.q.AtMS))
	}
	kind := w.kinds[k.Doc.Kind()]
	if kind == nil {
		kind = &api.KindKnown{Kind: k.Doc.Kind()}
		w.kinds[kind.Kind] = kind
	}
	doc.Changes = len(had)
	switch {
	case len(had) == 0:
		kind.Later++
		return nil
	case len(had) < len(changes):
		kind.Changed++
	}
	kind.Known++
	if len(w.out.Documents) == w.q.Limit {
		if !w.full && w.q.Limit > 0 {
			w.out.Next = cursorBefore(before)
		}
		w.full = true
		return nil
	}
	v, err := w.n.views.Fold(k, subset(h, had, doc.Waiting))
	switch {
	case errors.Is(err, crdt.ErrUnavailable):
		return err
	case err != nil:
		doc.Fault = err.Error()
	default:
		doc.View = v.JSON
	}
	w.out.Documents = append(w.out.Documents, doc)
	return nil
}

// subset is a history of some of a document's changes.
func subset(h *store.Changes, in []int, waiting int) *store.Changes {
	out := &store.Changes{Pending: waiting}
	for _, i := range in {
		out.Raw, out.Authors = append(out.Raw, h.Raw[i]), append(out.Authors, h.Authors[i])
		out.Times, out.Seqs = append(out.Times, h.Times[i]), append(out.Seqs, h.Seqs[i])
	}
	return out
}

// reviewed returns a document's history, and of each change when the store's site had
// it.
func reviewed(st *store.Store, self tiers.SiteID, k store.DocKey) (*store.Changes, []review.Change, error) {
	h, err := st.Changes(k)
	if err != nil {
		return nil, nil, err
	}
	out := make([]review.Change, len(h.Raw))
	for i, raw := range h.Raw {
		c, err := change.Decode(raw, change.DefaultLimits())
		if err != nil {
			return nil, nil, fmt.Errorf("%w: change %d of %s: %w", store.ErrCorrupt, i, k, err)
		}
		r := review.Change{Hash: c.Hash, Deps: c.Deps, Author: h.Authors[i], Seq: h.Seqs[i], At: h.Times[i]}
		if r.Author.Site == self {
			r.Learnt = r.At
		} else {
			a, ok, err := st.ArrivalOf(crdt.ChainID{Stream: k.Stream, Author: r.Author}, r.Seq)
			if err != nil {
				return nil, nil, err
			}
			if ok {
				r.Learnt = a.To
			}
		}
		out[i] = r
	}
	return h, out, nil
}

// docCursor encodes behind which document a page begins.
func docCursor(k store.DocKey) string {
	return base64.RawURLEncoding.EncodeToString([]byte(string(k.Stream.Site) + "\x00" + k.Stream.Class.String() + "\x00" + string(k.Doc)))
}

// cursorBefore is [docCursor], also for the very first document.
func cursorBefore(k *store.DocKey) string {
	if k == nil {
		return ""
	}
	return docCursor(*k)
}

func parseDocCursor(s string) (*store.DocKey, error) {
	if s == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(s)
	p := strings.Split(string(raw), "\x00")
	if err != nil || len(p) != 3 {
		return nil, fmt.Errorf("%w: after %.40q is not a page's next", api.ErrInvalid, s)
	}
	class, err := tiers.ParseClass(p[1])
	if err != nil {
		return nil, fmt.Errorf("%w: after: %w", api.ErrInvalid, err)
	}
	k := docKey(tiers.SiteID(p[0]), class, tiers.DocID(p[2]))
	return &k, nil
}
