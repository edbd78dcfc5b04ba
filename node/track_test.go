package node_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/track"
)

// key makes up an idempotency key.
func (m *mesh) key() string {
	m.n++
	return fmt.Sprintf("t%d", m.n)
}

// publishTracks gives the city's default boards and tracks to everybody.
func (m *mesh) publishTracks() {
	m.t.Helper()
	r := api.TracksRequest{Key: m.key(), Boards: track.DefaultBoards(), Tracks: track.DefaultTracks()}
	out, err := m.Node(city).Backend().PublishTracks(limited(m.t), r)
	if err != nil || out.Boards != 12 || out.Tracks != 70 {
		m.t.Fatalf("%+v, %v", out, err)
	}
	m.wait("sites have the tracks", m.agreed)
}

// tea is a proposal of the township to add a local track.
func tea() track.Content {
	return track.Content{
		Do: track.DoAdd, Code: "tea", Reason: "本地主导产业", Who: "张三",
		Track: &track.Track{Code: "tea", Board: "town-economy", Name: "茶产业", Owner: "农业服务中心", DeadlineDays: 10},
	}
}

func (m *mesh) propose(site tiers.SiteID, c track.Content, submit bool) api.ProposalStatus {
	m.t.Helper()
	s, err := m.Node(site).Backend().DraftProposal(limited(m.t), api.ProposalRequest{Key: m.key(), Content: c, Submit: submit})
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (m *mesh) step(site tiers.SiteID, id tiers.DocID, r api.ProposalActionRequest) (api.ProposalStatus, error) {
	r.Key, r.Proposal = m.key(), id
	return m.Node(site).Backend().ActOnProposal(limited(m.t), r)
}

func (m *mesh) mustStep(site tiers.SiteID, id tiers.DocID, r api.ProposalActionRequest) api.ProposalStatus {
	m.t.Helper()
	s, err := m.step(site, id, r)
	if err != nil {
		m.t.Fatalf("%s of %s at %s: %v", r.Kind, id, site, err)
	}
	return s
}

// track returns a track in a catalog as a site sees it; false when it does not.
func (m *mesh) track(at, of tiers.SiteID, code string) (v track.View, ok bool) {
	m.t.Helper()
	items, err := m.Node(at).Backend().View(limited(m.t), track.Kind, code)
	if err != nil && !errors.Is(err, api.ErrNotFound) {
		m.t.Fatal(err)
	}
	for _, it := range items {
		var x track.View
		if err := json.Unmarshal(it, &x); err != nil {
			m.t.Fatal(err)
		}
		if x.Site == of {
			return x, true
		}
	}
	return v, false
}

// leaf returns a track in a site's tree as another one sees it.
func (m *mesh) leaf(at, of tiers.SiteID, code string) (found track.Leaf) {
	m.t.Helper()
	tree, err := m.Node(at).Backend().TrackTree(limited(m.t), of)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, b := range tree.Boards {
		for _, l := range b.Tracks {
			for _, l := range append(l.SubTracks, l) {
				if l.Code == code {
					return l
				}
			}
		}
	}
	return found
}

func wants(t *testing.T, what string, err error, sentinel error, text string) {
	t.Helper()
	if !errors.Is(err, sentinel) || !strings.Contains(fmt.Sprint(err), text) {
		t.Errorf("%s: %.300v, want %q", what, err, text)
	}
}

// TestProposalAcrossCut: a township that is cut off drafts and submits, and knows
// that it waits; after the heal the district approves, and the track is at the
// township, at the district and at the city, written with the approval.
func TestProposalAcrossCut(t *testing.T) {
	m := newMove(t, time.Minute) // its links notice a cut soon
	m.publishTracks()
	m.Isolate(township)
	draft := m.propose(township, tea(), false)
	if draft.State != track.ProposalDraft || draft.Waiting != nil {
		t.Errorf("%+v", draft)
	}
	better := tea()
	better.Track.Target = "亩产 120 斤"
	m.mustStep(township, draft.ID, api.ProposalActionRequest{Kind: track.ActionRevise, Content: &better})
	m.wait("the cut is noticed", func() bool { return m.link(township, district).State != "connected" })
	s := m.mustStep(township, draft.ID, api.ProposalActionRequest{Kind: track.ActionSubmit})
	if s.State != track.ProposalSubmitted || s.Waiting == nil || s.Waiting.Site != district || s.Waiting.LastContact == nil || s.Waiting.Link == "connected" {
		t.Errorf("%+v", s.Waiting)
	}
	_, err := m.step(township, draft.ID, api.ProposalActionRequest{Kind: track.ActionApprove})
	wants(t, "approve one's own", err, api.ErrRejected, "a site above it")
	if l := m.leaf(township, "", "tea"); l.Mark != track.MarkProposed || l.State != track.ProposalSubmitted {
		t.Errorf("%+v", l)
	}
	if _, ok := m.track(township, township, "tea"); ok {
		t.Error("the track is there before it was approved")
	}
	m.Heal()
	m.wait("sites agree", m.agreed)
	if s, err := m.Node(district).Backend().Proposal(limited(t), draft.ID); err != nil || s.Waiting == nil || s.Waiting.Link != api.LinkHere {
		t.Errorf("%+v, %v", s, err)
	}
	_, err = m.step(city, draft.ID, api.ProposalActionRequest{Kind: track.ActionApprove})
	wants(t, "the city before the district", err, api.ErrRejected, "500101 to decide")
	done := m.mustStep(district, draft.ID, api.ProposalActionRequest{Kind: track.ActionApprove, Who: "李四"})
	if done.State != track.ProposalApproved || done.DecidedBy != district {
		t.Errorf("%+v", done)
	}
	m.wait("sites agree", m.agreed)
	for _, site := range []tiers.SiteID{city, district, township} {
		v, ok := m.track(site, township, "tea")
		if !ok || v.Get("target") != "亩产 120 斤" || v.Get("proposal") != string(draft.ID) {
			t.Errorf("%s: %+v", site, v)
		}
		if l := m.leaf(site, township, "tea"); l.Mark != track.MarkLocal || l.State != track.StateActive {
			t.Errorf("%s: %+v", site, l)
		}
	}
	_, err = m.step(district, draft.ID, api.ProposalActionRequest{Kind: track.ActionReject, Reason: "x"})
	wants(t, "decide again", err, api.ErrRejected, "it is approved")
	_, err = m.Node(township).Backend().DraftProposal(limited(t), api.ProposalRequest{Key: "x", Content: tea()})
	wants(t, "the code again", err, api.ErrRejected, "propose a change")
	// A rejected one leaves nothing but the reason, at the author's too.
	other := tea()
	other.Code, other.Track.Code = "silk", "silk"
	no := m.propose(township, other, true)
	m.wait("sites agree", m.agreed)
	m.mustStep(district, no.ID, api.ProposalActionRequest{Kind: track.ActionReject, Reason: "并入茶产业"})
	m.wait("sites agree", m.agreed)
	if s, err := m.Node(township).Backend().Proposal(limited(t), no.ID); err != nil || s.State != track.ProposalRejected || s.Reason != "并入茶产业" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, ok := m.track(township, township, "silk"); ok {
		t.Error("a rejected track is there")
	}
	page, err := m.Node(city).Backend().ListProposals(limited(t), api.ProposalQuery{ListQuery: api.ListQuery{Limit: 10, Site: township}, State: track.ProposalRejected})
	if err != nil || len(page.Items) != 1 || !strings.Contains(string(page.Items[0]), string(no.ID)) {
		t.Errorf("%s, %v", page.Items, err)
	}
}

// TestChangeAgainstAMovedTrack: a change of a track that moved on since the proposal
// was written needs to be approved all the same; only the site in whose catalog the
// track stands decides about it.
func TestChangeAgainstAMovedTrack(t *testing.T) {
	m := newMesh(t)
	m.publishTracks()
	c := track.Content{Do: track.DoChange, Code: "flood-control", Fields: map[string]string{"target": "20分钟"}, Reason: "山区"}
	p := m.propose(township, c, true)
	if p.Content.Site != city || p.Waiting == nil || p.Waiting.Site != city || p.Content.Base["target"] != "" {
		t.Errorf("%+v, waiting %+v", p.Content, p.Waiting)
	}
	m.wait("sites agree", m.agreed)
	_, err := m.step(district, p.ID, api.ProposalActionRequest{Kind: track.ActionApprove})
	wants(t, "of the city's track", err, api.ErrRejected, "for 500000 to decide")
	if _, err := m.Node(city).Backend().EditTrack(limited(t), api.EditRequest{Key: m.key(), Site: city, Code: "flood-control", Fields: map[string]string{"target": "15分钟"}}); err != nil {
		t.Fatal(err)
	}
	s, err := m.Node(city).Backend().Proposal(limited(t), p.ID)
	if err != nil || len(s.Differences) != 1 || s.Differences[0].Now != "15分钟" {
		t.Errorf("%+v, %v", s.Differences, err)
	}
	_, err = m.step(city, p.ID, api.ProposalActionRequest{Kind: track.ActionApprove})
	wants(t, "as if nothing had changed", err, api.ErrRejected, `target was "", is "15分钟", proposed "20分钟"`)
	if s, err := m.Node(city).Backend().Proposal(limited(t), p.ID); err != nil || s.State != track.ProposalSubmitted {
		t.Errorf("half done: %+v, %v", s, err)
	}
	m.mustStep(city, p.ID, api.ProposalActionRequest{Kind: track.ActionApprove, Anyway: true})
	m.wait("sites agree", m.agreed)
	if v, _ := m.track(township, city, "flood-control"); v.Get("target") != "20分钟" {
		t.Errorf("%+v", v)
	}
	r := m.propose(township, track.Content{Do: track.DoRetire, Code: "tourism", Reason: "x"}, false)
	m.mustStep(township, r.ID, api.ProposalActionRequest{Kind: track.ActionWithdraw, Reason: "y"})
	_, err = m.step(township, r.ID, api.ProposalActionRequest{Kind: track.ActionSubmit})
	wants(t, "submit what was withdrawn", err, api.ErrRejected, "it is withdrawn")
}

// TestDecisionsApart: district and city decide about one proposal while they do not
// hear of each other. The city's counts everywhere, both are shown, the track that the
// district's approval added is overruled until what it wrote is taken back.
func TestDecisionsApart(t *testing.T) {
	m := newMesh(t)
	m.publishTracks()
	p := m.propose(township, tea(), true)
	m.wait("sites agree", m.agreed)
	m.Isolate(city)
	m.mustStep(district, p.ID, api.ProposalActionRequest{Kind: track.ActionApprove})
	m.mustStep(city, p.ID, api.ProposalActionRequest{Kind: track.ActionReject, Reason: "重复", StandIn: true})
	m.Heal()
	m.wait("sites agree", m.agreed)
	for _, site := range []tiers.SiteID{city, district, township} {
		s, err := m.Node(site).Backend().Proposal(limited(t), p.ID)
		if err != nil || s.State != track.ProposalRejected || s.DecidedBy != city || len(s.Conflicts) != 1 || !slices.Equal(s.Undo, []tiers.SiteID{district}) {
			t.Errorf("%s: %+v, %v", site, s, err)
		}
		if l := m.leaf(site, township, "tea"); l.State != track.StateOverruled {
			t.Errorf("%s: %+v", site, l)
		}
	}
	_, err := m.step(township, p.ID, api.ProposalActionRequest{Kind: track.ActionUndo})
	wants(t, "undo at the author's", err, api.ErrRejected, "a site above it")
	m.mustStep(district, p.ID, api.ProposalActionRequest{Kind: track.ActionUndo})
	m.wait("sites agree", m.agreed)
	if l := m.leaf(township, "", "tea"); l.State != track.StateRetired {
		t.Errorf("%+v", l)
	}
	s, err := m.Node(city).Backend().Proposal(limited(t), p.ID)
	if err != nil || len(s.Undo) != 0 || len(s.Conflicts) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	_, err = m.step(district, p.ID, api.ProposalActionRequest{Kind: track.ActionUndo})
	wants(t, "undo again", err, api.ErrRejected, "no approval of it was overruled")
	// Two approvals apart are no conflict of the track: both wrote the same.
	other := tea()
	other.Code, other.Track.Code = "silk", "silk"
	p = m.propose(township, other, true)
	m.wait("sites agree", m.agreed)
	m.Isolate(city)
	m.mustStep(district, p.ID, api.ProposalActionRequest{Kind: track.ActionApprove})
	m.mustStep(city, p.ID, api.ProposalActionRequest{Kind: track.ActionApprove, StandIn: true})
	m.Heal()
	m.wait("sites agree", m.agreed)
	if l := m.leaf(township, "", "silk"); l.State != track.StateActive || len(l.Conflicts) != 0 {
		t.Errorf("%+v", l)
	}
}

// TestAdopt: a district adopts a track with a receipt that goes up, sees what the
// original changed since, and takes that over without losing its own values. What
// city and district write apart is shown at all three sites until it is resolved.
func TestAdopt(t *testing.T) {
	m := newMesh(t)
	m.publishTracks()
	b := m.Node(district).Backend()
	adopt := func(r api.AdoptRequest) (api.AdoptResult, error) {
		r.Key, r.Code = m.key(), "flood-control"
		return b.AdoptTrack(limited(t), r)
	}
	if _, err := adopt(api.AdoptRequest{Fields: map[string]string{"owner": "区应急局"}, Who: "王五"}); err != nil {
		t.Fatal(err)
	}
	_, err := adopt(api.AdoptRequest{})
	wants(t, "again", err, api.ErrRejected, "refresh")
	edit := func(at, of tiers.SiteID, fields map[string]string) {
		t.Helper()
		if _, err := m.Node(at).Backend().EditTrack(limited(t), api.EditRequest{Key: m.key(), Site: of, Code: "flood-control", Fields: fields}); err != nil {
			t.Fatal(err)
		}
	}
	edit(city, city, map[string]string{"target": "15分钟", "owner": "市应急管理局"})
	m.wait("sites agree", m.agreed)
	if items, err := m.Node(city).Backend().View(limited(t), track.KindAdoption, "flood-control"); err != nil || len(items) != 1 || !strings.Contains(string(items[0]), "王五") {
		t.Errorf("the receipt at the city: %s, %v", items, err)
	}
	l := m.leaf(district, "", "flood-control")
	if l.Mark != track.MarkAdopted || l.From != city || len(l.Drift) != 2 || l.Drift[1].Theirs != "15分钟" || !slices.Equal(l.Overrides, []string{"owner"}) {
		t.Errorf("%+v", l)
	}
	r, err := adopt(api.AdoptRequest{Refresh: true})
	if err != nil || r.Set["target"] != "15分钟" || !slices.Equal(r.Kept, []string{"owner"}) || r.Adoption.Refreshes != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := adopt(api.AdoptRequest{Refresh: true}); err != nil || len(r.Set)+len(r.Kept) != 0 || r.Adoption.Refreshes != 1 {
		t.Errorf("nothing changed: %+v, %v", r, err)
	}
	if l := m.leaf(district, "", "flood-control"); l.Owner != "区应急局" || l.Target != "15分钟" || len(l.Drift) != 0 {
		t.Errorf("%+v", l)
	}
	if l := m.leaf(township, "", "flood-control"); l.Mark != track.MarkAbove {
		t.Errorf("%+v", l)
	}
	m.wait("sites agree", m.agreed)

	m.Isolate(city)
	edit(city, district, map[string]string{"target": "12分钟"})
	edit(district, district, map[string]string{"target": "25分钟"})
	m.Heal()
	m.wait("sites agree", m.agreed)
	take := 0
	for _, site := range []tiers.SiteID{city, district, township} {
		m.wait("views are made", func() bool { return m.Node(site).Group().Store().Counts().Dirty == 0 })
		list, err := m.Node(site).Backend().TrackConflicts(limited(t))
		if err != nil || len(list.Tracks) != 1 || list.Tracks[0].Site != district || len(list.Tracks[0].Conflicts) != 1 {
			t.Fatalf("%s: %+v, %v", site, list, err)
		}
		by := map[tiers.SiteID]any{}
		for i, v := range list.Tracks[0].Conflicts[0].Values {
			by[v.Site] = v.Value
			if v.Site == district {
				take = i + 1
			}
			if v.AtMS == 0 || len(v.Actor) != 32 {
				t.Errorf("%+v", v)
			}
		}
		if by[city] != "12分钟" || by[district] != "25分钟" {
			t.Errorf("%s: %v", site, by)
		}
		if l := m.leaf(site, district, "flood-control"); len(l.Conflicts) != 1 {
			t.Errorf("%s: %+v", site, l)
		}
	}
	resolve := func(at tiers.SiteID, r api.ResolveRequest) error {
		r.Key, r.Code = m.key(), "flood-control"
		if r.Site == "" {
			r.Site = district
		}
		if r.Field == "" {
			r.Field = "target"
		}
		_, err := m.Node(at).Backend().ResolveTrack(limited(t), r)
		return err
	}
	long := strings.Repeat("x", 1<<20)
	wants(t, "take 3", resolve(city, api.ResolveRequest{Take: 3}), api.ErrInvalid, "want 1 to 2")
	wants(t, "neither", resolve(city, api.ResolveRequest{}), api.ErrInvalid, "want one of both")
	wants(t, "no conflict", resolve(city, api.ResolveRequest{Field: "owner", Take: 1}), api.ErrRejected, `"owner" of track:flood-control has no conflict`)
	wants(t, "1 MB", resolve(city, api.ResolveRequest{Value: &long}), api.ErrInvalid, "1048576 bytes")
	wants(t, "not its to write", resolve(township, api.ResolveRequest{Take: 1}), api.ErrRejected, "may not write")
	if err := resolve(city, api.ResolveRequest{Take: take}); err != nil {
		t.Fatal(err)
	}
	m.wait("sites agree", m.agreed)
	for _, site := range []tiers.SiteID{city, district, township} {
		m.wait("the conflict is gone", func() bool {
			list, err := m.Node(site).Backend().TrackConflicts(limited(t))
			return err == nil && len(list.Tracks) == 0
		})
		if v, _ := m.track(site, district, "flood-control"); v.Get("target") != "25分钟" {
			t.Errorf("%s: %+v", site, v)
		}
	}
}

// TestProposalUnderNewParent: a proposal that was submitted under one district, for a
// track of that district's too, is decided by the new one, or by the nearest above
// that may write to the track's catalog.
func TestProposalUnderNewParent(t *testing.T) {
	m := newMove(t, time.Minute) // nobody is silent for that long
	r := api.TracksRequest{Key: m.key(), Boards: track.DefaultBoards(), Tracks: track.DefaultTracks()}
	if _, err := m.Node(city).Backend().PublishTracks(limited(t), r); err != nil {
		t.Fatal(err)
	}
	m.wait("sites agree", m.agreed)
	if _, err := m.Node(district).Backend().AdoptTrack(limited(t), api.AdoptRequest{Key: m.key(), Code: "gas"}); err != nil {
		t.Fatal(err)
	}
	m.wait("sites agree", m.agreed)
	local := m.propose(township, tea(), true)
	change := m.propose(township, track.Content{Do: track.DoChange, Code: "gas", Fields: map[string]string{"target": "1小时"}, Reason: "x"}, true)
	if change.Content.Site != district {
		t.Errorf("%+v", change.Content)
	}
	// One that no program of ours writes: for the track of a site that is not above.
	far := track.Draft{By: township, Tier: tiers.TierTownship, Content: track.Content{
		Do: track.DoAdd, Site: other, Code: "far", Track: &track.Track{Code: "far", Board: "economy", Name: "x"}, Reason: "x",
	}}
	ops, err := track.ProposalOps(far, track.Action{By: township, Tier: tiers.TierTownship, Kind: track.ActionSubmit})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Node(township).Publish(limited(t), "far", []node.Entry{{Doc: "proposal:far", Ops: ops}}); err != nil {
		t.Fatal(err)
	}
	m.wait("sites agree", m.agreed)
	_, err = m.step(city, "proposal:far", api.ProposalActionRequest{Kind: track.ActionApprove, StandIn: true})
	wants(t, "a track of elsewhere", err, api.ErrRejected, "neither 500101001 nor above it")
	m.mustStep(city, "proposal:far", api.ProposalActionRequest{Kind: track.ActionReject, Reason: "x"})
	m.move()
	m.wait("the township to be under the other district", func() bool {
		return m.linkedEqual(township, other) && m.linkedEqual(other, city) && m.Node(district).Topology().Version() == 2
	})
	_, err = m.step(district, local.ID, api.ProposalActionRequest{Kind: track.ActionApprove})
	wants(t, "the former parent", err, api.ErrRejected, "may not write")
	if s := m.mustStep(other, local.ID, api.ProposalActionRequest{Kind: track.ActionApprove}); s.State != track.ProposalApproved || s.DecidedBy != other {
		t.Errorf("%+v", s)
	}
	_, err = m.step(other, change.ID, api.ProposalActionRequest{Kind: track.ActionApprove})
	wants(t, "of the former parent's track", err, api.ErrRejected, "for 500000 to decide")
	m.mustStep(city, change.ID, api.ProposalActionRequest{Kind: track.ActionApprove})
	m.wait("the sites to agree", func() bool {
		return m.linkedEqual(township, other) && m.linkedEqual(other, city) && m.linkedEqual(district, city)
	})
	if v, ok := m.track(township, township, "tea"); !ok || v.Get("name") != "茶产业" {
		t.Errorf("%+v", v)
	}
	if v, _ := m.track(district, district, "gas"); v.Get("target") != "1小时" {
		t.Errorf("%+v", v)
	}
}

// TestTrackRefusals: bad input is refused by field, value and what is allowed, and
// writes nothing.
func TestTrackRefusals(t *testing.T) {
	m := newMesh(t)
	m.publishTracks()
	long := strings.Repeat("x", 1<<20)
	town, top := m.Node(township).Backend(), m.Node(city).Backend()
	ctx := limited(t)
	draft := func(change func(*track.Content)) error {
		c := tea()
		change(&c)
		_, err := town.DraftProposal(ctx, api.ProposalRequest{Key: m.key(), Content: c})
		return err
	}
	publish := func(b []track.Board, x ...track.Track) error {
		_, err := top.PublishTracks(ctx, api.TracksRequest{Key: m.key(), Boards: b, Tracks: x})
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
	act := func(at tiers.SiteID, id tiers.DocID, kind string) error {
		_, err := m.step(at, id, api.ProposalActionRequest{Kind: kind})
		return err
	}
	if err := publish(nil, track.Track{Code: "wells", Board: "emergency", Name: "井", Parent: "flood-control"}); err != nil {
		t.Fatal(err)
	}
	p := m.propose(township, tea(), false)
	m.wait("sites agree", m.agreed)
	before := m.Node(township).Group().Store().Counts().Records + m.Node(city).Group().Store().Counts().Records
	invalid, rejected, missing := api.ErrInvalid, api.ErrRejected, api.ErrNotFound
	for name, row := range map[string]struct {
		err, sentinel error
		want          string
	}{
		"no reason":         {draft(func(c *track.Content) { c.Reason = "" }), invalid, "reason is empty"},
		"1 MB reason":       {draft(func(c *track.Content) { c.Reason = long }), invalid, "reason is 1048576 bytes"},
		"1 MB name":         {draft(func(c *track.Content) { c.Track.Name = long }), invalid, "name is 1048576 bytes"},
		"do":                {draft(func(c *track.Content) { c.Do = "paint" }), invalid, "want add, change or retire"},
		"code":              {draft(func(c *track.Content) { c.Code, c.Track.Code = "a/b", "a/b" }), invalid, `"a/b"`},
		"board":             {draft(func(c *track.Content) { c.Track.Board = "weather" }), invalid, `board "weather"`},
		"parent":            {draft(func(c *track.Content) { c.Track.Parent = "weather" }), invalid, `parent "weather"`},
		"sub-sub-track":     {draft(func(c *track.Content) { c.Track.Parent = "wells" }), invalid, "a sub-track has no sub-tracks"},
		"11 years":          {draft(func(c *track.Content) { c.Track.DeadlineDays = 4000 }), invalid, "want 0 to 3650"},
		"a sibling's":       {draft(func(c *track.Content) { c.Site = "500101002" }), invalid, "500101002"},
		"at the city, town": {draft(func(c *track.Content) { c.Site = city }), invalid, "of tier township"},
		"change nothing":    {draft(func(c *track.Content) { *c = track.Content{Do: "change", Code: "gas", Reason: "x"} }), invalid, "fields"},
		"change the board": {draft(func(c *track.Content) {
			*c = track.Content{Do: "change", Code: "gas", Reason: "x", Fields: map[string]string{"board": "x"}}
		}), invalid, `field "board"`},
		"change what is not": {draft(func(c *track.Content) { *c = track.Content{Do: "retire", Code: "none", Reason: "x"} }), missing, "track:none"},
		"the city proposes": {func() error {
			_, err := top.DraftProposal(ctx, api.ProposalRequest{Key: "x", Content: tea()})
			return err
		}(), rejected, "no site above it"},
		"approve a draft":        {act(district, p.ID, "approve"), rejected, "it is draft"},
		"submit another's":       {act(district, p.ID, "submit"), rejected, "for 500101001"},
		"unknown action":         {act(district, p.ID, "burn"), invalid, "want one of submit"},
		"reject without reason":  {act(district, p.ID, "reject"), invalid, "reason is empty"},
		"no such proposal":       {act(district, "proposal:none", "approve"), missing, "proposal:none"},
		"no proposal at all":     {act(district, "track:gas", "approve"), invalid, "want proposal:"},
		"revise with nothing":    {act(township, p.ID, "revise"), invalid, "content"},
		"publish below":          {func() error { _, err := town.PublishTracks(ctx, api.TracksRequest{Key: "x"}); return err }(), rejected, "proposal draft add"},
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
		"a tree of elsewhere":    {func() error { _, err := town.TrackTree(ctx, "500102"); return err }(), invalid, "500102"},
		"a state that is none": {func() error {
			_, err := town.ListProposals(ctx, api.ProposalQuery{ListQuery: api.ListQuery{Limit: 1}, State: "lost"})
			return err
		}(), invalid, "want one of draft"},
		"state of a track": {func() error {
			_, err := top.EditTrack(ctx, api.EditRequest{Key: "x", Site: city, Code: "gas", Fields: map[string]string{"state": "asleep"}})
			return err
		}(), invalid, "want active or retired"},
	} {
		wants(t, name, row.err, row.sentinel, row.want)
	}
	if after := m.Node(township).Group().Store().Counts().Records + m.Node(city).Group().Store().Counts().Records; after != before {
		t.Errorf("%d records were written", after-before)
	}
	// The same key gives the first result, also when it could not be done again.
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
	if out, err := top.PublishTracks(ctx, api.TracksRequest{Key: m.key(), Boards: track.DefaultBoards(), Tracks: track.DefaultTracks()}); err != nil || out.Boards+out.Tracks != 0 {
		t.Errorf("published again: %+v, %v", out, err)
	}
}
