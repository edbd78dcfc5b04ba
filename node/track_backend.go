package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/track"
)

// DefineBoard implements [api.Tracks].
func (b backend) DefineBoard(ctx context.Context, r api.BoardRequest) (api.WriteResult, error) {
	k, seq, err := b.n.DefineBoard(ctx, "api:"+r.Key, r.Board)
	return api.WriteResult{ID: k.Doc, Stream: k.Stream.String(), Seq: seq}, translate(err)
}

// PublishTracks implements [api.Tracks].
func (b backend) PublishTracks(ctx context.Context, r api.TracksRequest) (api.TracksResult, error) {
	out, err := b.n.PublishTracks(ctx, "api:"+r.Key, r)
	return out, translate(err)
}

// AdoptTrack implements [api.Tracks].
func (b backend) AdoptTrack(ctx context.Context, r api.AdoptRequest) (out api.AdoptResult, err error) {
	switch {
	case r.Refresh:
		out.Set, out.Kept, err = b.n.Refresh(ctx, "api:"+r.Key, r)
	case r.All:
		err = fmt.Errorf("%w: all: only a refresh has it", track.ErrInvalid)
	default:
		err = b.n.Adopt(ctx, "api:"+r.Key, r)
	}
	if err == nil {
		out.Adoption, err = b.n.adoption(r.Code)
	}
	if out.Set == nil {
		out.Set = map[string]string{}
	}
	if out.Kept == nil {
		out.Kept = []string{}
	}
	return out, translate(err)
}

// TrackConflicts implements [api.Tracks].
func (b backend) TrackConflicts(context.Context) (api.ConflictList, error) {
	out := api.ConflictList{Tracks: []api.TrackConflicts{}}
	err := b.n.eachView(track.IndexConflict, func(k store.DocKey, text []byte) error {
		var v track.View
		if err := json.Unmarshal(text, &v); err != nil {
			return fmt.Errorf("view of %s: %w", k, err)
		}
		if len(v.Conflicts) > 0 { // it may have been resolved since it was listed
			out.Tracks = append(out.Tracks, api.TrackConflicts{Code: v.ID.Name(), Site: v.Site, Conflicts: v.Conflicts})
		}
		return nil
	})
	return out, translate(err)
}

// ResolveTrack implements [api.Tracks].
func (b backend) ResolveTrack(ctx context.Context, r api.ResolveRequest) (api.WriteResult, error) {
	k := trackKey(r.Site, r.Code)
	seq, err := b.n.ResolveTrack(ctx, "api:"+r.Key, r)
	return api.WriteResult{ID: k.Doc, Stream: k.Stream.String(), Seq: seq}, translate(err)
}

// heard says how a site was last heard: by a link to it, or by this site's link
// upwards.
func (n *Node) heard(site tiers.SiteID) *api.Heard {
	row, _ := n.Topology().Site(site)
	h := &api.Heard{Site: site, Name: row.Name}
	if site == n.creds.ID.Site {
		h.Link = api.LinkHere
		return h
	}
	peers := []tiers.SiteID{site}
	if n.Topology().IsAncestor(site, n.creds.ID.Site) {
		peers = append(peers, n.Topology().Ancestors(n.creds.ID.Site)...)
	}
	for _, peer := range peers {
		l := n.Link(peer)
		if l.State == "" {
			continue // there never was one
		}
		h.Via, h.Link, h.LastContact, h.AsOf = peer, l.State, stamp(l.LastContact), stamp(l.ProvenAt)
		if l.Equal {
			h.AsOf = stamp(n.opts.Now())
		}
		return h
	}
	return h
}

// TrackTree implements [api.Tracks].
func (b backend) TrackTree(_ context.Context, site tiers.SiteID) (api.TrackTree, error) {
	n := b.n
	t, self := n.Topology(), n.creds.ID.Site
	if site == "" {
		site = self
	}
	row, ok := t.Site(site)
	stream := tiers.StreamID{Site: site, Class: tiers.ClassCatalog}
	if !ok || !t.InAudience(stream, self) {
		return api.TrackTree{}, translate(fmt.Errorf("%w: site %.64q: want %s, or one above or below it", ErrNoStream, site, self))
	}
	out := api.TrackTree{Site: site, Name: row.Name, Tier: row.Tier, Heard: []api.Heard{}}
	sites := n.upFrom(site)
	known, err := n.knownTracks(sites)
	if err != nil {
		return api.TrackTree{}, translate(err)
	}
	out.Boards = track.Tree(sites, known)
	for _, s := range sites {
		if s != self {
			out.Heard = append(out.Heard, *n.heard(s))
		}
	}
	return out, nil
}

// knownTracks reads what the catalogs of some sites hold of tracks, and the open
// proposals about them.
func (n *Node) knownTracks(sites []tiers.SiteID) (k track.Known, err error) {
	in := func(at store.DocKey) bool { return slices.Contains(sites, at.Stream.Site) }
	err = errors.Join(
		gather(n, track.KindBoard, "", in, &k.Boards), gather(n, track.Kind, "", in, &k.Tracks), gather(n, track.KindAdoption, "", in, &k.Adoptions),
		gather(n, track.IndexProposalState, track.StatePrefix(track.ProposalRejected), in, &k.Proposals), // what they overruled shows
		gather(n, track.IndexProposalState, track.StatePrefix(track.ProposalDraft), in, &k.Proposals),
		gather(n, track.IndexProposalState, track.StatePrefix(track.ProposalSubmitted), func(store.DocKey) bool { return true }, &k.Proposals),
	)
	return k, err
}

// gather appends the views of an index's documents that are wanted.
func gather[T any](n *Node, index, prefix string, wanted func(store.DocKey) bool, into *[]T) error {
	hits, err := n.group.Store().Index(store.IndexQuery{Name: index, Prefix: prefix})
	if err != nil {
		return err
	}
	for _, h := range hits {
		if !wanted(h.Key) {
			continue
		}
		var v T
		if err := n.read(h.Key, &v); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		} else if err == nil {
			*into = append(*into, v)
		}
	}
	return nil
}

// DraftProposal implements [api.Tracks].
func (b backend) DraftProposal(ctx context.Context, r api.ProposalRequest) (api.ProposalStatus, error) {
	id, err := b.n.Propose(ctx, "api:"+r.Key, r.Content, r.Submit)
	if err != nil {
		return api.ProposalStatus{}, translate(err)
	}
	return b.Proposal(ctx, id)
}

// ActOnProposal implements [api.Tracks].
func (b backend) ActOnProposal(ctx context.Context, r api.ProposalActionRequest) (api.ProposalStatus, error) {
	err := b.n.Decide(ctx, "api:"+r.Key, r.Proposal, track.Action{
		Kind: r.Kind, Who: r.Who, Reason: r.Reason, StandIn: r.StandIn, Anyway: r.Anyway, Content: r.Content,
	})
	if err != nil {
		return api.ProposalStatus{}, translate(err)
	}
	return b.Proposal(ctx, r.Proposal)
}

// Proposal implements [api.Tracks].
func (b backend) Proposal(_ context.Context, id tiers.DocID) (api.ProposalStatus, error) {
	_, v, err := b.n.Proposal(id)
	if err != nil {
		return api.ProposalStatus{}, translate(err)
	}
	out, err := b.n.proposalStatus(v, map[tiers.SiteID]*api.Heard{})
	return out, translate(err)
}

// proposalStatus adds to a proposal whose turn it is, and what changed since it was
// written. heard keeps what was said of sites already, since that looks at all links.
func (n *Node) proposalStatus(v track.ProposalView, heard map[tiers.SiteID]*api.Heard) (out api.ProposalStatus, err error) {
	out.ProposalView = v
	if v.State == track.ProposalSubmitted {
		turn := n.decider(v.Site, v.Content.Site)
		if turn != "" && heard[turn] == nil {
			heard[turn] = n.heard(turn)
		}
		out.Waiting = heard[turn]
	}
	if v.Open() && v.Content.Do != track.DoAdd && v.Content.Code != "" {
		now, err := n.trackAt(trackKey(v.Content.Site, v.Content.Code))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return out, err
		}
		if err == nil {
			out.Differences = v.Content.Differences(now)
		}
	}
	return out, nil
}

// ListProposals implements [api.Tracks].
func (b backend) ListProposals(_ context.Context, q api.ProposalQuery) (api.Page, error) {
	if q.State != "" && !slices.Contains(track.ProposalStates(), q.State) {
		return api.Page{}, fmt.Errorf("%w: state %.64q: want one of %s", api.ErrInvalid, q.State, strings.Join(track.ProposalStates(), ", "))
	}
	after, err := parseCursor(q.After)
	if err != nil {
		return api.Page{}, err
	}
	page := api.Page{Items: []json.RawMessage{}}
	query := store.IndexQuery{Name: track.KindProposal, Descending: true, After: after, Limit: q.Limit}
	if q.Waiting {
		if q.State != "" && q.State != track.ProposalSubmitted {
			return page, nil // none of those waits
		}
		q.State = track.ProposalSubmitted
	}
	heard := map[tiers.SiteID]*api.Heard{}
	if q.State != "" {
		query.Name, query.Prefix = track.IndexProposalState, track.StatePrefix(q.State)
	}
	for {
		hits, err := b.n.group.Store().Index(query)
		if err != nil {
			return api.Page{}, err
		}
		for _, h := range hits {
			if len(page.Items) == q.Limit {
				return page, nil
			}
			query.After, page.Next = &h, cursor(h)
			if err := b.addProposal(&page, q, h.Key, heard); err != nil {
				return api.Page{}, translate(err)
			}
		}
		if len(hits) < q.Limit {
			page.Next = ""
			return page, nil
		}
	}
}

// addProposal adds a proposal to a page if the conditions hold that its index says
// nothing of.
func (b backend) addProposal(page *api.Page, q api.ProposalQuery, k store.DocKey, heard map[tiers.SiteID]*api.Heard) error {
	if q.Site != "" && k.Stream.Site != q.Site {
		return nil
	}
	var v track.ProposalView
	if err := b.n.read(k, &v); err != nil {
		return err
	}
	if q.State != "" && v.State != q.State {
		return nil // it moved on since it was listed
	}
	if q.Waiting && b.n.decider(v.Site, v.Content.Site) != b.n.creds.ID.Site {
		return nil
	}
	status, err := b.n.proposalStatus(v, heard)
	if err != nil {
		return err
	}
	text, err := json.Marshal(status)
	if err != nil {
		return fmt.Errorf("view of %s: %w", k, err)
	}
	page.Items = append(page.Items, text)
	return nil
}
