package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/track"
)

// trackKey is where a track stands in a site's catalog.
func trackKey(site tiers.SiteID, code string) store.DocKey {
	return docKey(site, tiers.ClassCatalog, tiers.NewDocID(track.Kind, code))
}

// trackAt reads a board or track in one catalog. The error wraps
// [store.ErrNotFound].
func (n *Node) trackAt(k store.DocKey) (v track.View, err error) {
	if err := k.Doc.Validate(); err != nil {
		return v, err
	}
	err = n.read(k, &v)
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("%w: the catalog of %s, as far as this site holds it, has no %s", store.ErrNotFound, k.Stream.Site, k.Doc)
	}
	return v, err
}

// nearest reads a board or track in the first of some sites' catalogs that has it.
// The error wraps [store.ErrNotFound].
func (n *Node) nearest(sites []tiers.SiteID, doc tiers.DocID) (v track.View, err error) {
	for _, site := range sites {
		if v, err = n.trackAt(docKey(site, tiers.ClassCatalog, doc)); err == nil || !errors.Is(err, store.ErrNotFound) {
			return v, err
		}
	}
	return v, fmt.Errorf("%w: none of the catalogs of %v has %s", store.ErrNotFound, sites, doc)
}

// upFrom is a site and those above it, the nearest first.
func (n *Node) upFrom(site tiers.SiteID) []tiers.SiteID {
	return append([]tiers.SiteID{site}, n.Topology().Ancestors(site)...)
}

// holdsEntry reports whether a document is there.
func (n *Node) holdsEntry(k store.DocKey) (bool, error) {
	_, err := n.group.Store().Heads(k)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// DefineBoard writes a board to this site's catalog, unless one above has its code.
// The error wraps [track.ErrInvalid], [ErrDefined] or what a write returns.
func (n *Node) DefineBoard(ctx context.Context, key string, b track.Board) (store.DocKey, uint64, error) {
	t, self := n.Topology(), n.creds.ID.Site
	k := docKey(self, tiers.ClassCatalog, tiers.NewDocID(track.KindBoard, b.Code))
	site, _ := t.Site(self)
	if b.Tier == 0 {
		b.Tier = site.Tier
	}
	ops, err := track.BoardOps(b)
	if err != nil {
		return k, 0, err
	}
	if b.Tier < site.Tier {
		return k, 0, fmt.Errorf("%w: tier %s of board %s: want %s or one below it", track.ErrInvalid, b.Tier, b.Code, site.Tier)
	}
	if above, err := n.nearest(t.Ancestors(self), k.Doc); err == nil {
		return k, 0, fmt.Errorf("%w: board %s, in the catalog of %s", ErrDefined, b.Code, above.Site)
	} else if !errors.Is(err, store.ErrNotFound) {
		return k, 0, err
	}
	done, err := n.docs.write(ctx, key, Edit{Key: k, Ops: ops})
	if err != nil {
		return k, 0, err
	}
	return k, done[0].Seq, nil
}

// PublishTracks adds boards and tracks to the city's catalog, all or none, and
// returns how many of each; entries that are there stay as they are, or with New
// are refused. The error wraps [track.ErrInvalid], [track.ErrNotNow], [ErrExists] or
// what a write returns.
func (n *Node) PublishTracks(ctx context.Context, key string, r api.TracksRequest) (out api.TracksResult, err error) {
	self := n.creds.ID.Site
	if city := n.Topology().City(); self != city {
		return out, fmt.Errorf("%w: %s is not the city: a local track needs approval, so propose it (tiermesh proposal draft add)", track.ErrNotNow, self)
	}
	if len(r.Boards)+len(r.Tracks) == 0 {
		return out, fmt.Errorf("%w: boards, tracks: want at least one", track.ErrInvalid)
	}
	var edits []Edit
	seen := map[tiers.DocID]bool{}
	parents := map[string]string{}
	add := func(doc tiers.DocID, ops []crdt.Op, err error) error {
		if err == nil && seen[doc] {
			err = fmt.Errorf("%w: code %s comes twice", track.ErrInvalid, doc.Name())
		}
		seen[doc] = true
		e := Edit{Key: docKey(self, tiers.ClassCatalog, doc), Create: r.New, Ops: ops}
		if !r.New {
			e.Make = func() ([]crdt.Op, error) {
				if there, err := n.holdsEntry(e.Key); there || err != nil {
					return nil, err
				}
				return ops, nil
			}
		}
		edits = append(edits, e)
		return err
	}
	tier := map[string]track.Board{}
	for _, b := range r.Boards {
		tier[b.Code] = b
		ops, err := track.BoardOps(b)
		if err := add(tiers.NewDocID(track.KindBoard, b.Code), ops, err); err != nil {
			return out, err
		}
	}
	for _, t := range r.Tracks {
		t.Origin, t.OriginSite, t.Proposal = "", "", ""
		ops, err := track.Ops(t)
		if err := add(tiers.NewDocID(track.Kind, t.Code), ops, err); err != nil {
			return out, err
		}
		parents[t.Code] = t.Parent
	}
	for _, t := range r.Tracks {
		if err := tier[t.Board].Holds(self, tiers.TierCity); err != nil {
			return out, err
		}
		if err := n.placeable(self, t, seen, parents); err != nil {
			return out, err
		}
	}
	done, err := n.docs.write(ctx, key, edits...)
	for _, w := range done {
		switch {
		case w.Seq == 0: // it was there
		case w.Doc.Kind() == track.KindBoard:
			out.Boards++
		default:
			out.Tracks++
		}
	}
	return out, err
}

// placeable checks that a track's board and parent are known where it is to stand.
// published are entries that are written with it, and parents those of its tracks.
func (n *Node) placeable(site tiers.SiteID, t track.Track, published map[tiers.DocID]bool, parents map[string]string) error {
	sites := n.upFrom(site)
	if board := tiers.NewDocID(track.KindBoard, t.Board); !published[board] {
		v, err := n.nearest(sites, board)
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("%w: board %.64q of track %s: no catalog from %s up has it; see tiermesh board list", track.ErrInvalid, t.Board, t.Code, site)
		}
		if err != nil {
			return err
		}
		row, _ := n.Topology().Site(site)
		if err := track.BoardOf(v).Holds(site, row.Tier); err != nil {
			return err
		}
	}
	if t.Parent == "" {
		return nil
	}
	grandparent, there := parents[t.Parent]
	if !there {
		v, err := n.nearest(sites, tiers.NewDocID(track.Kind, t.Parent))
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("%w: parent %.64q of track %s: no catalog from %s up has it", track.ErrInvalid, t.Parent, t.Code, site)
		}
		if err != nil {
			return err
		}
		grandparent = v.Get("parent")
	}
	if grandparent != "" {
		return fmt.Errorf("%w: parent %s of track %s is a sub-track of %s: a sub-track has no sub-tracks", track.ErrInvalid, t.Parent, t.Code, grandparent)
	}
	return nil
}

// ResolveTrack writes a field that has a conflict again: with the value that the
// conflict shows at a place, from 1, or with another one. The error wraps
// [track.ErrInvalid], [track.ErrNotNow], [ErrNotWriter] or what a write returns.
func (n *Node) ResolveTrack(ctx context.Context, key string, r api.ResolveRequest) (uint64, error) {
	k := trackKey(r.Site, r.Code)
	if !n.Topology().MayWrite(k.Stream, n.creds.ID.Site) {
		return 0, fmt.Errorf("%w: %s, site %s", ErrNotWriter, k.Stream, n.creds.ID.Site)
	}
	if (r.Take == 0) == (r.Value == nil) {
		return 0, fmt.Errorf("%w: take %d and value: want one of both", track.ErrInvalid, r.Take)
	}
	done, err := n.docs.write(ctx, key, Edit{Key: k, Make: func() ([]crdt.Op, error) {
		v, err := n.trackAt(k)
		if err != nil {
			return nil, err
		}
		c := v.Conflict(r.Field)
		if c == nil {
			return nil, fmt.Errorf("%w: %.64q of %s has no conflict", track.ErrNotNow, r.Field, k.Doc)
		}
		if r.Value != nil {
			return track.EditOps(map[string]string{r.Field: *r.Value})
		}
		if r.Take < 1 || r.Take > len(c.Values) {
			return nil, fmt.Errorf("%w: take %d: want 1 to %d", track.ErrInvalid, r.Take, len(c.Values))
		}
		text, ok := c.Values[r.Take-1].Value.(string)
		if !ok {
			return nil, fmt.Errorf("%w: take %d: that value is not a text: give another one", track.ErrInvalid, r.Take)
		}
		return []crdt.Op{{Kind: crdt.OpPut, Key: r.Field, Value: text}}, nil
	}})
	if err != nil {
		return 0, err
	}
	return done[0].Seq, nil
}

// adopting is what an adoption is made from.
type adopting struct {
	copied, receipt store.DocKey
	origin          track.View
}

// original finds what an adoption takes over: in the catalog asked for, or in the
// nearest above.
func (n *Node) original(r api.AdoptRequest) (a adopting, err error) {
	self := n.creds.ID.Site
	above := n.Topology().Ancestors(self)
	a.copied, a.receipt = trackKey(self, r.Code), docKey(self, tiers.ClassCatalog, tiers.NewDocID(track.KindAdoption, r.Code))
	switch {
	case len(above) == 0:
		return a, fmt.Errorf("%w: %s has no site above it to adopt from", track.ErrNotNow, self)
	case r.From == "":
		a.origin, err = n.nearest(above, a.copied.Doc)
	case !slices.Contains(above, r.From):
		return a, fmt.Errorf("%w: from %.64q: want one of %v", track.ErrInvalid, r.From, above)
	default:
		a.origin, err = n.trackAt(trackKey(r.From, r.Code))
	}
	return a, err
}

// Adopt copies a track from above into this site's catalog, with a receipt. The
// error wraps [track.ErrInvalid], [track.ErrNotNow], [ErrExists] or what a write
// returns.
func (n *Node) Adopt(ctx context.Context, key string, r api.AdoptRequest) error {
	if done, err := n.group.Earlier(key); done != nil || err != nil {
		return err // what was true then may not be so any more
	}
	if err := track.CheckOverrides(r.Fields); err != nil {
		return err
	}
	a, err := n.original(r)
	if err != nil {
		return err
	}
	if s := a.origin.Get(track.FieldState); s != track.StateActive {
		return fmt.Errorf("%w: %s of %s is %s", track.ErrNotNow, a.origin.ID, a.origin.Site, s)
	}
	t := track.Track{Code: r.Code, Board: a.origin.Get("board"), Name: a.origin.Get(track.FieldName), Parent: a.origin.Get("parent"), Origin: r.Code, OriginSite: a.origin.Site}
	ops, err := track.Ops(t)
	if err != nil {
		return err
	}
	values := track.Take(a.origin)
	for name, v := range r.Fields {
		values[name] = v
	}
	delete(values, track.FieldState)
	set, err := track.EditOps(values)
	if err != nil {
		return err
	}
	taken := track.Taken{At: n.group.Clock().Now(), By: n.creds.ID.Site, From: a.origin.Site, Who: r.Who, Fields: track.Take(a.origin)}
	receipt, err := track.AdoptionOps(taken)
	if err != nil {
		return err
	}
	_, err = n.docs.write(ctx, key, Edit{Key: a.copied, Create: true, Ops: lastOf(append(ops, set...))}, Edit{Key: a.receipt, Create: true, Ops: receipt})
	if errors.Is(err, ErrExists) {
		return fmt.Errorf("%w: this site's catalog has it already; take over what changed since with refresh", err)
	}
	return err
}

// lastOf leaves out operations whose key another one sets again.
func lastOf(ops []crdt.Op) (out []crdt.Op) {
	for i, op := range ops {
		if !slices.ContainsFunc(ops[i+1:], func(o crdt.Op) bool { return o.Key == op.Key }) && op.Value != "" {
			out = append(out, op)
		}
	}
	return out
}

// Refresh takes over what the original of an adopted track changed since, and
// returns what was set and what this site's own value stayed of. The error wraps
// what [Node.Adopt]'s does.
func (n *Node) Refresh(ctx context.Context, key string, r api.AdoptRequest) (set map[string]string, kept []string, err error) {
	if len(r.Fields) > 0 {
		return nil, nil, fmt.Errorf("%w: fields: a refresh sets none: edit the track", track.ErrInvalid)
	}
	receipt, err := n.adoption(r.Code)
	if err != nil {
		return nil, nil, err
	}
	if r.From == "" && slices.Contains(n.Topology().Ancestors(n.creds.ID.Site), receipt.From) {
		r.From = receipt.From
	}
	a, err := n.original(r)
	if err != nil {
		return nil, nil, err
	}
	var taken track.Taken
	work := func() error {
		receipt, err := n.adoption(r.Code)
		if err != nil {
			return err
		}
		ours, err := n.trackAt(a.copied)
		if err != nil {
			return err
		}
		theirs, err := n.trackAt(trackKey(a.origin.Site, r.Code))
		if err != nil {
			return err
		}
		set, kept = receipt.Refresh(theirs, ours, r.All)
		taken = track.Taken{At: n.group.Clock().Now(), By: n.creds.ID.Site, From: theirs.Site, Who: r.Who, Fields: track.Take(theirs)}
		if len(set) == 0 && len(kept) == 0 && receipt.From == theirs.Site {
			taken.Fields = nil // nothing to note
		}
		return taken.Validate()
	}
	_, err = n.docs.write(ctx, key,
		Edit{Key: a.copied, Make: func() ([]crdt.Op, error) {
			if err := work(); err != nil || len(set) == 0 {
				return nil, err
			}
			return track.EditOps(set)
		}},
		Edit{Key: a.receipt, Make: func() ([]crdt.Op, error) {
			if taken.Fields == nil {
				return nil, nil
			}
			op, err := track.RefreshOp(taken)
			return []crdt.Op{op}, err
		}})
	return set, kept, err
}

// adoption reads this site's receipt for a code. The error wraps
// [store.ErrNotFound].
func (n *Node) adoption(code string) (v track.AdoptionView, err error) {
	k := docKey(n.creds.ID.Site, tiers.ClassCatalog, tiers.NewDocID(track.KindAdoption, code))
	if err := k.Doc.Validate(); err != nil {
		return v, err
	}
	err = n.read(k, &v)
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("%w: this site did not adopt %s", store.ErrNotFound, code)
	}
	return v, err
}
