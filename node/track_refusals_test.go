package node_test

import (
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/track"
)

// refusal is an error and what it must be and say.
type refusal struct {
	err, sentinel error
	want          string
}

// refusedProposals makes proposals and steps of one that break a rule each.
func (m *mesh) refusedProposals(p tiers.DocID) map[string]refusal {
	long := strings.Repeat("x", 1<<20)
	draft := func(at tiers.SiteID, change func(*track.Content)) error {
		c := tea()
		change(&c)
		_, err := m.Node(at).Backend().DraftProposal(limited(m.t), api.ProposalRequest{Key: m.key(), Content: c})
		return err
	}
	town := func(change func(*track.Content)) error { return draft(township, change) }
	act := func(at tiers.SiteID, id tiers.DocID, kind string) error {
		_, err := m.step(at, id, api.ProposalActionRequest{Kind: kind})
		return err
	}
	_, lost := m.Node(city).Backend().ListProposals(limited(m.t), api.ProposalQuery{ListQuery: api.ListQuery{Limit: 1}, State: "lost"})
	invalid, rejected, missing := api.ErrInvalid, api.ErrRejected, api.ErrNotFound
	return map[string]refusal{
		"no reason":         {town(func(c *track.Content) { c.Reason = "" }), invalid, "reason is empty"},
		"1 MB reason":       {town(func(c *track.Content) { c.Reason = long }), invalid, "reason is 1048576 bytes"},
		"1 MB name":         {town(func(c *track.Content) { c.Track.Name = long }), invalid, "name is 1048576 bytes"},
		"do":                {town(func(c *track.Content) { c.Do = "paint" }), invalid, "want add, change or retire"},
		"code":              {town(func(c *track.Content) { c.Code, c.Track.Code = "a/b", "a/b" }), invalid, `"a/b"`},
		"board":             {town(func(c *track.Content) { c.Track.Board = "weather" }), invalid, `board "weather"`},
		"parent":            {town(func(c *track.Content) { c.Track.Parent = "weather" }), invalid, `parent "weather"`},
		"sub-sub-track":     {town(func(c *track.Content) { c.Track.Parent = "wells" }), invalid, "a sub-track has no sub-tracks"},
		"11 years":          {town(func(c *track.Content) { c.Track.DeadlineDays = 4000 }), invalid, "want 0 to 3650"},
		"a sibling's":       {town(func(c *track.Content) { c.Site = "500101002" }), invalid, "500101002"},
		"at the city, town": {town(func(c *track.Content) { c.Site = city }), invalid, "of tier township"},
		"change nothing":    {town(func(c *track.Content) { *c = track.Content{Do: "change", Code: "gas", Reason: "x"} }), invalid, "fields"},
		"change the board": {town(func(c *track.Content) {
			*c = track.Content{Do: "change", Code: "gas", Reason: "x", Fields: map[string]string{"board": "x"}}
		}), invalid, `field "board"`},
		"change what is not":    {town(func(c *track.Content) { *c = track.Content{Do: "retire", Code: "none", Reason: "x"} }), missing, "track:none"},
		"approve a draft":       {act(district, p, "approve"), rejected, "it is draft"},
		"submit another's":      {act(district, p, "submit"), rejected, "for 500101001"},
		"unknown action":        {act(district, p, "burn"), invalid, "want one of submit"},
		"reject without reason": {act(district, p, "reject"), invalid, "reason is empty"},
		"no such proposal":      {act(district, "proposal:none", "approve"), missing, "proposal:none"},
		"no proposal at all":    {act(district, "track:gas", "approve"), invalid, "want proposal:"},
		"revise with nothing":   {act(township, p, "revise"), invalid, "content"},
		"the city proposes":     {draft(city, func(*track.Content) {}), rejected, "no site above it"},
		"a state that is none":  {lost, invalid, "want one of draft"},
	}
}

// refusedEntries makes boards, tracks and adoptions that break a rule each.
func (m *mesh) refusedEntries() map[string]refusal {
	long := strings.Repeat("x", 1<<20)
	ctx := limited(m.t)
	publish := func(b []track.Board, x ...track.Track) error {
		_, err := m.Node(city).Backend().PublishTracks(ctx, api.TracksRequest{Key: m.key(), Boards: b, Tracks: x})
		return err
	}
	board := func(at tiers.SiteID, b track.Board) error {
		_, err := m.Node(at).Backend().DefineBoard(ctx, api.BoardRequest{Key: m.key(), Board: b})
		return err
	}
	adopt := func(at tiers.SiteID, r api.AdoptRequest) error {
		r.Key = m.key()
		_, err := m.Node(at).Backend().AdoptTrack(ctx, r)
		return err
	}
	_, below := m.Node(township).Backend().PublishTracks(ctx, api.TracksRequest{Key: "x"})
	_, elsewhere := m.Node(township).Backend().TrackTree(ctx, "500102")
	_, asleep := m.Node(city).Backend().EditTrack(ctx, api.EditRequest{Key: "x", Site: city, Code: "gas", Fields: map[string]string{"state": "asleep"}})
	invalid, rejected, missing := api.ErrInvalid, api.ErrRejected, api.ErrNotFound
	return map[string]refusal{
		"publish nothing":        {publish(nil), invalid, "at least one"},
		"publish twice":          {publish(nil, track.DefaultTracks()[0], track.DefaultTracks()[0]), invalid, "comes twice"},
		"publish no board":       {publish(nil, track.Track{Code: "x", Board: "none", Name: "x"}), invalid, `board "none"`},
		"half good":              {publish([]track.Board{{Code: "good", Name: "x"}}, track.Track{Code: "x", Board: "good"}), invalid, "name"},
		"under a township board": {publish(nil, track.Track{Code: "x", Board: "town-order", Name: "x"}), invalid, "of tier township"},
		"its own sub-track":      {publish(nil, track.Track{Code: "x", Board: "emergency", Name: "x", Parent: "x"}), invalid, "its own sub-track"},
		"board of above":         {board(township, track.Board{Code: "economy", Name: "x"}), rejected, "catalog of 500000"},
		"board for above":        {board(township, track.Board{Code: "x", Name: "x", Tier: tiers.TierCity}), invalid, "want township"},
		"board without a name":   {board(city, track.Board{Code: "x"}), invalid, "name of board x is empty"},
		"1 MB board":             {board(city, track.Board{Code: "x", Name: long}), invalid, "1048576 bytes"},
		"the city adopts":        {adopt(city, api.AdoptRequest{Code: "gas"}), rejected, "no site above it"},
		"adopt what is not":      {adopt(township, api.AdoptRequest{Code: "none"}), missing, "track:none"},
		"adopt from a sibling":   {adopt(township, api.AdoptRequest{Code: "gas", From: "500102"}), invalid, `from "500102"`},
		"adopt with a board":     {adopt(township, api.AdoptRequest{Code: "gas", Fields: map[string]string{"board": "x"}}), invalid, `field "board"`},
		"adopt for 11 years":     {adopt(township, api.AdoptRequest{Code: "gas", Fields: map[string]string{"deadline_days": "4000"}}), invalid, "want 0 to 3650"},
		"refresh what is not":    {adopt(township, api.AdoptRequest{Code: "gas", Refresh: true}), missing, "did not adopt gas"},
		"all of nothing":         {adopt(township, api.AdoptRequest{Code: "gas", All: true}), invalid, "only a refresh"},
		"publish below":          {below, rejected, "proposal draft add"},
		"a tree of elsewhere":    {elsewhere, invalid, "500102"},
		"state of a track":       {asleep, invalid, "want active or retired"},
	}
}

// TestTrackRefusals: bad input is refused by field, value and what is allowed, and
// writes nothing.
func TestTrackRefusals(t *testing.T) {
	m := newMesh(t)
	m.publishTracks()
	wells := track.Track{Code: "wells", Board: "emergency", Name: "井", Parent: "flood-control"}
	if _, err := m.Node(city).Backend().PublishTracks(limited(t), api.TracksRequest{Key: "w", Tracks: []track.Track{wells}, New: true}); err != nil {
		t.Fatal(err)
	}
	p := m.propose(township, tea(), false)
	m.wait("sites agree", m.agreed)
	written := func() (n uint64) {
		for _, node := range m.Nodes() {
			n += node.Group().Store().Counts().Records
		}
		return n
	}
	before := written()
	for _, rows := range []map[string]refusal{m.refusedProposals(p.ID), m.refusedEntries()} {
		for name, row := range rows {
			wants(t, name, row.err, row.sentinel, row.want)
		}
	}
	if after := written(); after != before {
		t.Errorf("%d records were written", after-before)
	}
}

// TestTrackKeys: the same key gives the first result, also when it could not be done
// again.
func TestTrackKeys(t *testing.T) {
	m := newMesh(t)
	m.publishTracks()
	town, ctx := m.Node(township).Backend(), limited(t)
	r := api.ProposalRequest{Key: "same", Content: tea(), Submit: true}
	r.Content.Code, r.Content.Track.Code = "rice", "rice"
	first, err := town.DraftProposal(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	m.wait("sites agree", m.agreed)
	ok := api.ProposalActionRequest{Key: "ok", Proposal: first.ID, Kind: track.ActionApprove}
	for range 2 {
		if s, err := m.Node(district).Backend().ActOnProposal(ctx, ok); err != nil || s.State != track.ProposalApproved {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	m.wait("sites agree", m.agreed)
	if again, err := town.DraftProposal(ctx, r); err != nil || again.ID != first.ID || again.State != track.ProposalApproved {
		t.Errorf("%+v, %v", again, err)
	}
	if out, err := m.Node(city).Backend().PublishTracks(ctx, api.TracksRequest{Key: m.key(), Boards: track.DefaultBoards(), Tracks: track.DefaultTracks()}); err != nil || out.Boards+out.Tracks != 0 {
		t.Errorf("published again: %+v, %v", out, err)
	}
}
