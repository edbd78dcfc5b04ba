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
	for site, n := range map[tiers.SiteID]int{district: 1, city: 0, township: 0} {
		page, err := m.Node(site).Backend().ListProposals(limited(t), api.ProposalQuery{ListQuery: api.ListQuery{Limit: 10}, Waiting: true})
		if err != nil || len(page.Items) != n {
			t.Errorf("%s: %s, %v", site, page.Items, err)
		}
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
}

// TestRejected: a rejected proposal leaves nothing but the reason, at the author's too.
func TestRejected(t *testing.T) {
	m := newMesh(t)
	m.publishTracks()
	no := m.propose(township, tea(), true)
	m.wait("sites agree", m.agreed)
	m.mustStep(district, no.ID, api.ProposalActionRequest{Kind: track.ActionReject, Reason: "并入茶产业"})
	m.wait("sites agree", m.agreed)
	if s, err := m.Node(township).Backend().Proposal(limited(t), no.ID); err != nil || s.State != track.ProposalRejected || s.Reason != "并入茶产业" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, ok := m.track(township, township, "tea"); ok {
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
	if p.Content.Site != city || p.Waiting == nil || p.Waiting.Site != city || p.Waiting.Via != district || p.Waiting.Link != "connected" || p.Content.Base["target"] != "" {
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
// original changed since, and takes that over without losing its own values.
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
	m.edit(city, city, map[string]string{"target": "15分钟", "owner": "市应急管理局"})
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
}

// edit sets fields of the flood track.
func (m *mesh) edit(at, of tiers.SiteID, fields map[string]string) {
	m.t.Helper()
	if _, err := m.Node(at).Backend().EditTrack(limited(m.t), api.EditRequest{Key: m.key(), Site: of, Code: "flood-control", Fields: fields}); err != nil {
		m.t.Fatal(err)
	}
}

// conflict returns the values of the one conflict that a site lists, which must be of
// the district's flood track, and the number of the district's value.
func (m *mesh) conflict(at tiers.SiteID) (by map[tiers.SiteID]any, take int) {
	m.t.Helper()
	m.wait("views are made", func() bool { return m.Node(at).Group().Store().Counts().Dirty == 0 })
	list, err := m.Node(at).Backend().TrackConflicts(limited(m.t))
	if err != nil || len(list.Tracks) != 1 || list.Tracks[0].Site != district || len(list.Tracks[0].Conflicts) != 1 {
		m.t.Fatalf("%s: %+v, %v", at, list, err)
	}
	by = map[tiers.SiteID]any{}
	for i, v := range list.Tracks[0].Conflicts[0].Values {
		if by[v.Site] = v.Value; v.Site == district {
			take = i + 1
		}
		if v.AtMS == 0 || len(v.Actor) != 32 {
			m.t.Errorf("%+v", v)
		}
	}
	return by, take
}

// TestTrackConflict: what city and district write apart to one field is shown at all
// three sites, with who wrote which value when, until one of them resolves it.
func TestTrackConflict(t *testing.T) {
	m := newMesh(t)
	m.publishTracks()
	if _, err := m.Node(district).Backend().AdoptTrack(limited(t), api.AdoptRequest{Key: "a", Code: "flood-control"}); err != nil {
		t.Fatal(err)
	}
	m.wait("sites agree", m.agreed)
	m.Isolate(city)
	m.edit(city, district, map[string]string{"target": "12分钟"})
	m.edit(district, district, map[string]string{"target": "25分钟"})
	m.Heal()
	m.wait("sites agree", m.agreed)
	take := 0
	for _, site := range []tiers.SiteID{city, district, township} {
		var by map[tiers.SiteID]any
		by, take = m.conflict(site)
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

// TestDecideAtOnce: of two operators of one site who decide about one proposal at the
// same time one succeeds, and the track is there if and only if that one approved.
func TestDecideAtOnce(t *testing.T) {
	m := newMesh(t)
	m.publishTracks()
	for i := range 8 {
		c := tea()
		c.Code = fmt.Sprintf("tea-%d", i)
		c.Track.Code = c.Code
		p := m.propose(township, c, true)
		m.wait("sites agree", m.agreed)
		ctx := limited(t)
		outcome := make(chan error, 4)
		for j := range 4 {
			r := api.ProposalActionRequest{Key: fmt.Sprintf("%d %d", i, j), Proposal: p.ID, Kind: track.ActionApprove}
			if j%2 == 1 {
				r.Kind, r.Reason = track.ActionReject, "x"
			}
			go func() { // ends with its request
				_, err := m.Node(district).Backend().ActOnProposal(ctx, r)
				outcome <- err
			}()
		}
		done := 0
		for range 4 {
			switch err := <-outcome; {
			case err == nil:
				done++
			case !errors.Is(err, api.ErrRejected):
				t.Errorf("%s: %v", p.ID, err)
			}
		}
		s, err := m.Node(district).Backend().Proposal(ctx, p.ID)
		if err != nil || done != 1 || len(s.Conflicts) != 0 {
			t.Errorf("%d decisions, %v: %+v", done, err, s)
		}
		if _, there := m.track(district, township, c.Code); there != (s.State == track.ProposalApproved) {
			t.Errorf("%s is %s, the track is there: %v", p.ID, s.State, there)
		}
	}
}
