package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/tiermesh/tiermesh/tiers"
)

// EditTrack sets fields of a track.
func (c *Client) EditTrack(ctx context.Context, r EditRequest) (out WriteResult, err error) {
	return out, c.do(ctx, http.MethodPatch, trackPath(r.Site, r.Code), r, &out)
}

func trackPath(site tiers.SiteID, code string) string {
	return "/v1/tracks/" + url.PathEscape(string(site)) + "/" + url.PathEscape(code)
}

// DefineBoard writes a board to the node's site's catalog.
func (c *Client) DefineBoard(ctx context.Context, r BoardRequest) (out WriteResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/boards", r, &out)
}

// PublishTracks adds boards and tracks to the city's catalog.
func (c *Client) PublishTracks(ctx context.Context, r TracksRequest) (out TracksResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/tracks", r, &out)
}

// AdoptTrack adopts a track, or refreshes what was adopted.
func (c *Client) AdoptTrack(ctx context.Context, r AdoptRequest) (out AdoptResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/adoptions", r, &out)
}

// TrackConflicts lists the tracks with unresolved conflicts.
func (c *Client) TrackConflicts(ctx context.Context) (out ConflictList, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/trackconflicts?"+c.values().Encode(), nil, &out)
}

// ResolveTrack settles the conflict of a field.
func (c *Client) ResolveTrack(ctx context.Context, r ResolveRequest) (out WriteResult, err error) {
	return out, c.do(ctx, http.MethodPost, trackPath(r.Site, r.Code)+"/resolve", r, &out)
}

// TrackTree returns the tree of a site; an empty one is the node's.
func (c *Client) TrackTree(ctx context.Context, site tiers.SiteID) (out TrackTree, err error) {
	v := c.values()
	if site != "" {
		v.Set("site", string(site))
	}
	return out, c.do(ctx, http.MethodGet, "/v1/tracktree?"+v.Encode(), nil, &out)
}

// DraftProposal writes a proposal of the node's site.
func (c *Client) DraftProposal(ctx context.Context, r ProposalRequest) (out ProposalStatus, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/proposals", r, &out)
}

// ActOnProposal takes a proposal one step on.
func (c *Client) ActOnProposal(ctx context.Context, name string, r ProposalActionRequest) (out ProposalStatus, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/proposals/"+url.PathEscape(name)+"/actions", r, &out)
}

// Proposal returns a proposal.
func (c *Client) Proposal(ctx context.Context, name string) (out ProposalStatus, err error) {
	return out, c.do(ctx, http.MethodGet, "/v1/proposals/"+url.PathEscape(name)+"?"+c.values().Encode(), nil, &out)
}

// ListProposals returns a page of proposals.
func (c *Client) ListProposals(ctx context.Context, q ProposalQuery) (out Page, err error) {
	v := c.values()
	for name, value := range map[string]string{"site": string(q.Site), "after": q.After, "state": q.State} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Waiting {
		v.Set("waiting", "true")
	}
	return out, c.do(ctx, http.MethodGet, "/v1/proposals?"+v.Encode(), nil, &out)
}
