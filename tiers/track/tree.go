package track

import (
	"cmp"
	"slices"

	"github.com/tiermesh/tiermesh/tiers"
)

// Known is what a site holds of boards, tracks and what belongs to them, of the
// catalogs that a tree is made from and perhaps of others.
type Known struct {
	Boards    []View
	Tracks    []View
	Proposals []ProposalView
	Adoptions []AdoptionView
}

// The marks of a track in a tree.
const (
	MarkOwn      = "own"      // the city's, in its own tree
	MarkLocal    = "local"    // 特色跑道: added by the site after approval
	MarkAdopted  = "adopted"  // 承接: taken over from above
	MarkAbove    = "above"    // of a site above, and not taken over
	MarkProposed = "proposed" // a proposal that is not decided
)

// StateOverruled is a track's that was added by a decision that another one
// overruled.
const StateOverruled = "overruled"

// Branch is a board with the tracks under it.
type Branch struct {
	Code string     `json:"code"`
	Name string     `json:"name"`
	Tier tiers.Tier `json:"tier,omitzero"`
	// Site is in whose catalog it stands; empty for a board that no catalog has.
	Site   tiers.SiteID `json:"site"`
	Tracks []Leaf       `json:"tracks"`
}

// Leaf is a track or sub-track in a tree.
type Leaf struct {
	Code     string `json:"code"`
	Name     string `json:"name"`
	Owner    string `json:"owner"`
	Target   string `json:"target"`
	Deadline string `json:"deadline_days"`
	// Site is in whose catalog it stands, From the site from which it was adopted.
	Site tiers.SiteID `json:"site"`
	From tiers.SiteID `json:"from,omitempty"`
	// Mark is own, local, adopted, above or proposed; State is active, retired or
	// overruled, or the state of what is proposed.
	Mark  string `json:"mark"`
	State string `json:"state"`
	// Overrides are the fields that an adopted track has a value of its own of, Drift
	// those that the original changed since.
	Overrides []string   `json:"overrides,omitempty"`
	Drift     []Drift    `json:"drift,omitempty"`
	Conflicts []Conflict `json:"conflicts,omitempty"`
	// Proposals are the undecided ones about it.
	Proposals []PendingProposal `json:"proposals,omitempty"`
	SubTracks []Leaf            `json:"sub_tracks,omitempty"`
}

// PendingProposal is a proposal that is not decided yet.
type PendingProposal struct {
	ID    tiers.DocID  `json:"id"`
	Site  tiers.SiteID `json:"site"`
	Do    string       `json:"do"`
	State string       `json:"state"`
}

// Tree returns the boards, tracks and sub-tracks as they are at a site: sites are
// the site itself, then those above it, the nearest first. Of several entries with
// one code the nearest counts. It does not depend on the order in which anything is
// listed.
func Tree(sites []tiers.SiteID, k Known) []Branch {
	k.Proposals = slices.SortedFunc(slices.Values(k.Proposals), func(a, b ProposalView) int {
		return cmp.Or(cmp.Compare(a.DraftedAtMS, b.DraftedAtMS), cmp.Compare(a.Site, b.Site), cmp.Compare(a.ID, b.ID))
	})
	t := tree{sites: sites, known: k, tracks: map[string]View{}, parents: map[string]string{}, boards: map[string]*Branch{}}
	for _, v := range k.Tracks {
		code := v.ID.Name()
		if old, ok := t.tracks[code]; t.rank(v.Site) >= 0 && (!ok || t.rank(v.Site) < t.rank(old.Site)) {
			t.tracks[code] = v
		}
	}
	for _, v := range k.Boards {
		code := v.ID.Name()
		if old := t.boards[code]; t.rank(v.Site) >= 0 && (old == nil || t.rank(v.Site) < t.rank(old.Site)) {
			b := BoardOf(v)
			t.boards[code] = &Branch{Code: b.Code, Name: b.Name, Tier: b.Tier, Site: v.Site, Tracks: []Leaf{}}
		}
	}
	leaves := t.leaves()
	for _, l := range leaves {
		if p := t.parents[l.Code]; p == "" {
			b := t.boards[t.placed[l.Code]]
			b.Tracks = append(b.Tracks, l)
		}
	}
	out := []Branch{}
	for _, b := range t.boards {
		t.nest(b.Tracks, leaves)
		out = append(out, *b)
	}
	slices.SortFunc(out, func(a, b Branch) int { return cmp.Or(cmp.Compare(a.Tier, b.Tier), cmp.Compare(a.Code, b.Code)) })
	return out
}

// tree is a tree that is being made.
type tree struct {
	sites  []tiers.SiteID
	known  Known
	tracks map[string]View
	boards map[string]*Branch
	// parents has the track that each is under; empty for a board.
	parents map[string]string
	// placed has the board of each.
	placed map[string]string
}

// rank is how far above a site is; -1 for one whose catalog is no part of the tree.
func (t *tree) rank(site tiers.SiteID) int { return slices.Index(t.sites, site) }

// leaves makes all tracks, those that are proposed too, in the order of their codes.
func (t *tree) leaves() (out []Leaf) {
	t.placed = map[string]string{}
	under := map[string]string{}
	for code, v := range t.tracks {
		out = append(out, t.leaf(v))
		t.place(code, v.Get("board"))
		under[code] = v.Get("parent")
	}
	for _, p := range t.known.Proposals {
		c := p.Content
		if _, known := t.placed[c.Code]; c.Do != DoAdd || c.Track == nil || !p.Open() || t.rank(c.Site) < 0 || known {
			continue
		}
		out = append(out, Leaf{
			Code: c.Code, Name: c.Track.Name, Owner: c.Track.Owner, Target: c.Track.Target, Site: c.Site, Mark: MarkProposed, State: p.State,
			Proposals: t.pending(c.Site, c.Code),
		})
		t.place(c.Code, c.Track.Board)
		under[c.Code] = c.Track.Parent
	}
	for code, parent := range under { // one level: a parent that is none, or a sub-track, is not one
		if _, known := t.placed[parent]; known && under[parent] == "" {
			t.parents[code] = parent
		}
	}
	slices.SortFunc(out, func(a, b Leaf) int { return cmp.Compare(a.Code, b.Code) })
	return out
}

func (t *tree) place(code, board string) {
	t.placed[code] = board
	if t.boards[board] == nil {
		t.boards[board] = &Branch{Code: board, Tracks: []Leaf{}}
	}
}

// nest puts the sub-tracks under their tracks.
func (t *tree) nest(tracks, leaves []Leaf) {
	for i := range tracks {
		for _, l := range leaves {
			if t.parents[l.Code] == tracks[i].Code {
				tracks[i].SubTracks = append(tracks[i].SubTracks, l)
			}
		}
	}
}

// leaf makes a track that stands in a catalog.
func (t *tree) leaf(v View) Leaf {
	code := v.ID.Name()
	l := Leaf{
		Code: code, Name: v.Get(FieldName), Owner: v.Get(FieldOwner), Target: v.Get(FieldTarget), Deadline: v.Get(FieldDeadline),
		Site: v.Site, Mark: MarkLocal, State: v.Get(FieldState), Conflicts: v.Conflicts, Proposals: t.pending(v.Site, code),
	}
	if p := tiers.DocID(v.Get("proposal")); p != "" {
		for _, known := range t.known.Proposals {
			if known.ID == p && known.Site == v.Site && known.State == ProposalRejected && l.State == StateActive {
				l.State = StateOverruled
			}
		}
	}
	switch {
	case v.Site != t.sites[0]:
		l.Mark = MarkAbove
	case v.Get("origin") != "":
		l.Mark, l.From = MarkAdopted, tiers.SiteID(v.Get("origin_site"))
		t.compare(&l, v)
	case len(t.sites) == 1:
		l.Mark = MarkOwn
	}
	return l
}

// compare notes how an adopted track stands to its original.
func (t *tree) compare(l *Leaf, ours View) {
	for _, a := range t.known.Adoptions {
		if a.Site != ours.Site || a.Code != l.Code {
			continue
		}
		l.Overrides = a.Overrides(ours)
		for _, theirs := range t.known.Tracks {
			if theirs.Site == a.From && theirs.ID.Name() == ours.Get("origin") {
				l.Drift = a.Drift(theirs, ours)
			}
		}
	}
}

// pending lists the undecided proposals about a track, by the time of drafting.
func (t *tree) pending(site tiers.SiteID, code string) (out []PendingProposal) {
	for _, p := range t.known.Proposals {
		if p.Open() && p.Content.Site == site && p.Content.Code == code {
			out = append(out, PendingProposal{ID: p.ID, Site: p.Site, Do: p.Content.Do, State: p.State})
		}
	}
	return out
}
