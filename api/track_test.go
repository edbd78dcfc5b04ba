package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/track"
)

// tracked is what of tracks reached a backend.
type tracked struct {
	board   api.BoardRequest
	publish api.TracksRequest
	adopt   api.AdoptRequest
	resolve api.ResolveRequest
	tree    tiers.SiteID
	draft   api.ProposalRequest
	action  api.ProposalActionRequest
	query   api.ProposalQuery
	shown   tiers.DocID
}

func (b *backend) DefineBoard(_ context.Context, r api.BoardRequest) (api.WriteResult, error) {
	b.tracked.board = r
	return api.WriteResult{Seq: 1}, b.err
}

func (b *backend) PublishTracks(_ context.Context, r api.TracksRequest) (api.TracksResult, error) {
	b.tracked.publish = r
	return api.TracksResult{Boards: len(r.Boards), Tracks: len(r.Tracks)}, b.err
}

func (b *backend) AdoptTrack(_ context.Context, r api.AdoptRequest) (api.AdoptResult, error) {
	b.tracked.adopt = r
	return api.AdoptResult{Adoption: track.AdoptionView{Code: r.Code}}, b.err
}

func (b *backend) TrackConflicts(context.Context) (api.ConflictList, error) {
	return api.ConflictList{Tracks: []api.TrackConflicts{{Code: "x"}}}, b.err
}

func (b *backend) ResolveTrack(_ context.Context, r api.ResolveRequest) (api.WriteResult, error) {
	b.tracked.resolve = r
	return api.WriteResult{Seq: 1}, b.err
}

func (b *backend) TrackTree(_ context.Context, site tiers.SiteID) (api.TrackTree, error) {
	b.tracked.tree = site
	return api.TrackTree{Site: site, Tier: tiers.TierCity}, b.err
}

func (b *backend) DraftProposal(_ context.Context, r api.ProposalRequest) (api.ProposalStatus, error) {
	b.tracked.draft = r
	return api.ProposalStatus{ProposalView: track.ProposalView{State: track.ProposalDraft}}, b.err
}

func (b *backend) ActOnProposal(_ context.Context, r api.ProposalActionRequest) (api.ProposalStatus, error) {
	b.tracked.action = r
	return api.ProposalStatus{ProposalView: track.ProposalView{ID: r.Proposal}}, b.err
}

func (b *backend) ListProposals(_ context.Context, q api.ProposalQuery) (api.Page, error) {
	b.tracked.query = q
	return api.Page{Items: []json.RawMessage{[]byte(`{"id":"p"}`)}}, b.err
}

func (b *backend) Proposal(_ context.Context, id tiers.DocID) (api.ProposalStatus, error) {
	b.tracked.shown = id
	return api.ProposalStatus{ProposalView: track.ProposalView{ID: id}}, b.err
}

// TestTracks: what the client asks about tracks reaches the backend as it was asked.
func TestTracks(t *testing.T) {
	b := &backend{}
	c, path := serve(t, b)
	ctx := context.Background()
	got := &b.tracked
	if _, err := c.DefineBoard(ctx, api.BoardRequest{Key: "k", Board: track.Board{Code: "x", Tier: tiers.TierTownship}}); err != nil || got.board.Board.Tier != tiers.TierTownship {
		t.Errorf("%v, %+v", err, got.board)
	}
	all := api.TracksRequest{Key: "k", Boards: track.DefaultBoards(), Tracks: track.DefaultTracks()}
	if r, err := c.PublishTracks(ctx, all); err != nil || r.Tracks != 70 || !slices.Equal(got.publish.Tracks, all.Tracks) || !slices.Equal(got.publish.Boards, all.Boards) {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.AdoptTrack(ctx, api.AdoptRequest{Key: "k", Code: "x", Fields: map[string]string{"target": "y"}, Refresh: true}); err != nil || r.Adoption.Code != "x" || got.adopt.Fields["target"] != "y" || !got.adopt.Refresh {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.TrackConflicts(ctx); err != nil || len(r.Tracks) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	value := ""
	if _, err := c.ResolveTrack(ctx, api.ResolveRequest{Key: "k", Site: "500101", Code: "a.b", Field: "target", Value: &value}); err != nil || got.resolve.Site != "500101" || got.resolve.Code != "a.b" || got.resolve.Value == nil {
		t.Errorf("%v, %+v", err, got.resolve)
	}
	if r, err := c.TrackTree(ctx, "500101"); err != nil || r.Site != "500101" {
		t.Errorf("%+v, %v", r, err)
	}
	content := track.Content{Do: track.DoAdd, Code: "x", Track: &track.Track{Code: "x", Board: "b", Name: "n"}, Reason: "r"}
	if r, err := c.DraftProposal(ctx, api.ProposalRequest{Key: "k", Content: content, Submit: true}); err != nil || r.State != track.ProposalDraft || !got.draft.Submit || *got.draft.Content.Track != *content.Track {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.ActOnProposal(ctx, "p1", api.ProposalActionRequest{Key: "k", Kind: track.ActionReject, Reason: "no", StandIn: true}); err != nil || r.ID != "proposal:p1" || got.action.Reason != "no" || !got.action.StandIn {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.Proposal(ctx, "proposal:p1"); err != nil || r.ID != "proposal:p1" {
		t.Errorf("%+v, %v", r, err)
	}
	q := api.ProposalQuery{ListQuery: api.ListQuery{Kind: track.KindProposal, Site: "500101", Limit: 7, After: "x"}, State: "submitted", Waiting: true}
	if page, err := c.ListProposals(ctx, q); err != nil || len(page.Items) != 1 || got.query != q {
		t.Errorf("%+v, %v; asked %+v", page, err, got.query)
	}
	many := `{"key":"k","tracks":[` + strings.TrimSuffix(strings.Repeat(`{},`, 501), ",") + `]}`
	for _, row := range []struct{ method, target, body, want string }{
		{"POST", "/v1/boards", `{}`, "key"},
		{"POST", "/v1/boards", `{"key":"k","board":{"tier":"province"}}`, "province"},
		{"POST", "/v1/tracks", many, "501 of them: want at most 500"},
		{"POST", "/v1/tracks", `{"key":"k","colour":1}`, "colour"},
		{"POST", "/v1/tracks/a%2Fb/x/resolve", `{"key":"k"}`, "site"},
		{"POST", "/v1/tracks/500101/x/resolve", `{"key":"k","take":"two"}`, "take"},
		{"POST", "/v1/adoptions", `{"code":"x"}`, "key"},
		{"POST", "/v1/proposals", `{"key":"k","content":{"at":1}}`, "at"},
		{"POST", "/v1/proposals/x/actions", `{"key":"k","tier":"city"}`, "tier"},
		{"POST", "/v1/proposals/x/actions", `{"key":"k","reason":"` + strings.Repeat("x", 1<<20) + `"}`, "body is over"},
		{"GET", "/v1/proposals?limit=0", "", "limit"},
		{"GET", "/v1/proposals?waiting=maybe", "", "waiting"},
		{"GET", "/v1/proposals?colour=red", "", "colour"},
	} {
		if status, text := raw(t, path, row.method, row.target, row.body); status != http.StatusBadRequest || !strings.Contains(text, row.want) {
			t.Errorf("%s %s: %d %s", row.method, row.target, status, text)
		}
	}
}

// TestTrackSchemas: the document describes every field.
func TestTrackSchemas(t *testing.T) {
	now, value, one := time.Now(), "x", map[string]string{"x": "x"}
	full := track.Track{
		Code: "x", Board: "x", Name: "x", Owner: "x", Target: "x", Description: "x", Parent: "x", Origin: "x", OriginSite: "x", Proposal: "x", DeadlineDays: 1,
	}
	content := track.Content{Do: "x", Track: &full, Fields: one, Base: one, Who: "x"}
	faults := track.Faults{Malformed: 1, Pending: 1, Refused: 1}
	described(t, map[string]any{
		"Board": track.Board{Tier: tiers.TierCity}, "Track": full, "BoardRequest": api.BoardRequest{},
		"TracksRequest": api.TracksRequest{Boards: track.DefaultBoards(), Tracks: []track.Track{full}, New: true}, "TracksResult": api.TracksResult{},
		"AdoptRequest": api.AdoptRequest{From: "x", Who: "x", Fields: one, Refresh: true, All: true},
		"Adoption":     track.AdoptionView{Who: "x", RefreshedAtMS: 1, Refreshes: 1, Faults: faults}, "AdoptResult": api.AdoptResult{},
		"TrackConflictValue": track.ConflictValue{}, "TrackConflict": track.Conflict{}, "TrackConflicts": api.TrackConflicts{}, "ConflictList": api.ConflictList{},
		"ResolveRequest": api.ResolveRequest{Take: 1, Value: &value}, "Heard": api.Heard{Via: "x", Link: "x", LastContact: &now, AsOf: &now},
		"TrackDrift": track.Drift{}, "PendingProposal": track.PendingProposal{},
		"Leaf": track.Leaf{
			From: "x", Overrides: []string{"x"}, Drift: []track.Drift{{}}, Conflicts: []track.Conflict{{}}, Proposals: []track.PendingProposal{{}}, SubTracks: []track.Leaf{{}},
		},
		"Branch": track.Branch{Tier: tiers.TierCity}, "TrackTree": api.TrackTree{}, "ProposalContent": content,
		"ProposalRequest": api.ProposalRequest{Submit: true}, "ProposalActionRequest": api.ProposalActionRequest{Who: "x", Reason: "x", StandIn: true, Anyway: true, Content: &content},
		"ProposalStep": track.Step{
			Overruled: "x", Action: track.Action{Tier: tiers.TierCity, Who: "x", Reason: "x", StandIn: true, Anyway: true, Content: &content},
		},
		"ProposalDifference": track.Difference{Conflict: true},
		"ProposalStatus": api.ProposalStatus{Waiting: &api.Heard{}, Differences: []track.Difference{{}}, ProposalView: track.ProposalView{
			SubmittedAtMS: 1, DecidedAtMS: 1, DecidedBy: "x", Reason: "x", Conflicts: []crdt.Conflict{{}}, Undo: []tiers.SiteID{"x"}, Faults: faults,
		}},
	})
}
