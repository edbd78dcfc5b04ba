package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/track"
)

// decider returns the site whose turn it is to decide about a proposal of a site: of
// those above it the nearest that may write to the catalog where the track stands.
// So it is the parent, unless the track is one of a site above that. It is empty when
// there is none: the track's site has ended.
func (n *Node) decider(proposer, site tiers.SiteID) tiers.SiteID {
	t := n.Topology()
	for _, a := range t.Ancestors(proposer) {
		if t.MayWrite(tiers.StreamID{Site: site, Class: tiers.ClassCatalog}, a) {
			return a
		}
	}
	return ""
}

// Proposal returns a proposal's present view.
func (n *Node) Proposal(id tiers.DocID) (k store.DocKey, v track.ProposalView, err error) {
	if id.Kind() != track.KindProposal {
		return k, v, fmt.Errorf("%w: %.96q: want proposal:…", tiers.ErrInvalidID, id)
	}
	if k, err = n.find(id, tiers.ClassCatalog); err == nil {
		err = n.read(k, &v)
	}
	return k, v, err
}

// Propose drafts a change proposal of this site, and submits it if submit says so.
// The error wraps [track.ErrInvalid], [track.ErrNotNow], [store.ErrNotFound] or what
// a write returns.
func (n *Node) Propose(ctx context.Context, key string, c track.Content, submit bool) (tiers.DocID, error) {
	self, _ := n.Topology().Site(n.creds.ID.Site)
	id := tiers.NewDocID(track.KindProposal, uuid.NewSHA1(uuid.NameSpaceOID, []byte("tiermesh proposal "+string(self.ID)+" "+key)).String())
	if done, err := n.group.Earlier(key); done != nil || err != nil {
		return id, err // what was true then may not be so any more
	}
	c, err := n.proposable(c)
	if err != nil {
		return "", err
	}
	d := track.Draft{At: n.group.Clock().Now(), By: self.ID, Tier: self.Tier, Content: c}
	var actions []track.Action
	if submit {
		actions = append(actions, track.Action{At: n.group.Clock().Now(), By: self.ID, Tier: self.Tier, Kind: track.ActionSubmit, Who: c.Who})
	}
	ops, err := track.ProposalOps(d, actions...)
	if err != nil {
		return "", err
	}
	_, err = n.docs.write(ctx, key, Edit{Key: docKey(self.ID, tiers.ClassCatalog, id), Create: true, Ops: ops})
	return id, err
}

// proposable checks what this site wants to propose, and completes it by what it
// holds now.
func (n *Node) proposable(c track.Content) (track.Content, error) {
	self := n.creds.ID.Site
	sites := n.upFrom(self)
	if len(sites) == 1 {
		return c, fmt.Errorf("%w: %s has no site above it that could approve: edit or add the track itself", track.ErrNotNow, self)
	}
	if c.Do == track.DoAdd && c.Track != nil {
		t := *c.Track
		t.Origin, t.OriginSite, t.Proposal = "", "", ""
		c.Track = &t
	}
	if c.Site == "" && c.Do != track.DoChange && c.Do != track.DoRetire {
		c.Site = self
	} else if c.Site == "" {
		if err := tiers.NewDocID(track.Kind, c.Code).Validate(); err != nil {
			return c, err
		}
		v, err := n.nearest(sites, tiers.NewDocID(track.Kind, c.Code))
		if err != nil {
			return c, err
		}
		c.Site = v.Site
	}
	if err := c.Validate(); err != nil {
		return c, err
	}
	if !slices.Contains(sites, c.Site) {
		return c, fmt.Errorf("%w: site %.64q: want one of %v", track.ErrInvalid, c.Site, sites)
	}
	v, err := n.trackAt(trackKey(c.Site, c.Code))
	if c.Do == track.DoAdd {
		switch {
		case err == nil:
			return c, fmt.Errorf("%w: %s is in the catalog of %s already: propose a change", ErrExists, v.ID, c.Site)
		case !errors.Is(err, store.ErrNotFound):
			return c, err
		}
		return c, n.placeable(c.Site, *c.Track, nil, nil)
	}
	if err != nil {
		return c, err
	}
	if c.Do == track.DoRetire && v.Get(track.FieldState) == track.StateRetired {
		return c, fmt.Errorf("%w: %s of %s is retired already", track.ErrNotNow, v.ID, c.Site)
	}
	return c.Based(v), nil
}

// Decide takes a proposal one step on in this site's name: for the proposing site
// submit, revise or withdraw, for a site above approve, reject or undo. What an
// approval or undo writes to the track is written with it, all or none. By, Tier and
// At are the node's to set. The error wraps [track.ErrInvalid], [track.ErrNotNow],
// [ErrNotWriter], [ErrExists], [store.ErrNotFound] or what a write returns.
func (n *Node) Decide(ctx context.Context, key string, id tiers.DocID, a track.Action) error {
	k, v, err := n.Proposal(id)
	if err != nil {
		return err
	}
	t, self := n.Topology(), n.creds.ID.Site
	if !t.MayWrite(k.Stream, self) {
		return fmt.Errorf("%w: %s, site %s", ErrNotWriter, k.Stream, self)
	}
	row, _ := t.Site(self)
	a.By, a.Tier = self, row.Tier
	x := &deciding{n: n, key: k, action: a, target: trackKey(v.Content.Site, v.Content.Code)}
	edits := []Edit{{Key: k, Make: x.step}}
	if a.Kind == track.ActionApprove || a.Kind == track.ActionUndo {
		edits = append(edits, Edit{Key: x.target, Make: x.effect})
	}
	_, err = n.docs.write(ctx, key, edits...)
	return err
}

// deciding is an action on a proposal that is being written: its methods are called
// with the writers of proposal and track held back.
type deciding struct {
	n      *Node
	key    store.DocKey
	action track.Action
	target store.DocKey
	now    track.ProposalView // as step found it
}

// step makes the proposal's share.
func (x *deciding) step() ([]crdt.Op, error) {
	n, a := x.n, &x.action
	x.now = track.ProposalView{}
	if err := n.read(x.key, &x.now); err != nil {
		return nil, err
	}
	if a.Kind == track.ActionRevise && a.Content != nil {
		c, err := n.proposable(*a.Content)
		if err != nil {
			return nil, err
		}
		a.Content = &c
	}
	a.At = n.group.Clock().Now()
	if err := x.now.Check(*a); err != nil {
		return nil, err
	}
	if err := n.turn(x.now, a); err != nil {
		return nil, err
	}
	op, err := track.ActionOp(*a)
	return []crdt.Op{op}, err
}

// effect makes the track's share.
func (x *deciding) effect() ([]crdt.Op, error) {
	n, c := x.n, x.now.Content
	if err := c.Validate(); err != nil { // it may be of a site with other rules
		return nil, err
	}
	if trackKey(c.Site, c.Code) != x.target {
		return nil, fmt.Errorf("%w: %s", ErrBusy, x.key)
	}
	if !n.Topology().MayWrite(x.target.Stream, n.creds.ID.Site) {
		return nil, fmt.Errorf("%w: %s, site %s", ErrNotWriter, x.target.Stream, n.creds.ID.Site)
	}
	now, err := n.trackAt(x.target)
	there := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	switch {
	case x.action.Kind == track.ActionUndo:
		if set := c.Undo(now); there && len(set) > 0 {
			return track.EditOps(set)
		}
		return nil, nil
	case c.Do == track.DoAdd && there:
		return nil, fmt.Errorf("%w: %s in the catalog of %s, since %s was written: reject it", ErrExists, now.ID, c.Site, x.now.ID)
	case c.Do == track.DoAdd:
		t := *c.Track
		t.Proposal = x.now.ID
		return track.Ops(t)
	case !there:
		return nil, err
	}
	if d := c.Differences(now); len(d) > 0 && !x.action.Anyway {
		return nil, fmt.Errorf("%w: %s of %s is not as the author saw it: %s; look, and approve it all the same with anyway (--anyway)",
			track.ErrNotNow, now.ID, c.Site, differences(d))
	}
	return track.EditOps(c.Sets())
}

// turn checks that it is this site's turn to decide, or that it says that it stands
// in for who is below it.
func (n *Node) turn(v track.ProposalView, a *track.Action) error {
	if a.Kind != track.ActionApprove && a.Kind != track.ActionReject {
		return nil
	}
	t, self := n.Topology(), n.creds.ID.Site
	// Its own site was checked when it wrote it, if it runs this program.
	author, _ := t.Site(v.Site)
	of := v.Content.Site
	if a.Kind == track.ActionApprove && of != v.Site && !t.IsAncestor(of, v.Site) && !slices.Contains(author.Former, of) {
		return fmt.Errorf("%w: site %.64q of %s is neither %s nor above it: reject it", track.ErrNotNow, of, v.ID, v.Site)
	}
	turn := n.decider(v.Site, v.Content.Site)
	if turn == "" && a.Kind == track.ActionReject {
		turn = t.Ancestors(v.Site)[0]
	}
	switch {
	case turn == self:
		a.StandIn = false
		return nil
	case turn == "":
		return fmt.Errorf("%w: %s: the catalog of %s takes no changes any more: reject it", track.ErrNotNow, v.ID, v.Content.Site)
	case !t.IsAncestor(self, turn):
		return fmt.Errorf("%w: %s is for %s to decide: the track stands in the catalog of %s", track.ErrNotNow, v.ID, turn, v.Content.Site)
	case !a.StandIn:
		return fmt.Errorf("%w: %s is for %s to decide: when that is gone, decide in its place with stand_in (--stand-in)", track.ErrNotNow, v.ID, turn)
	}
	return nil
}

// differences is a list of differences as a text.
func differences(all []track.Difference) string {
	var out []string
	for _, d := range all {
		text := fmt.Sprintf("%s was %.64q, is %.64q, proposed %.64q", d.Field, d.Base, d.Now, d.Proposed)
		if d.Conflict {
			text += ", and has a conflict"
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}
