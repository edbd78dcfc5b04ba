package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// modes are the modes of sites as they were last worked out: each is asked for with
// every event, and changes seldom.
type modes struct {
	mu sync.Mutex // guards bySite
	// bySite is bounded by the sites of the topology: others are not kept.
	bySite map[tiers.SiteID]knownMode
}

// knownMode is a mode with what it was worked out from.
type knownMode struct {
	topology *tiers.Topology
	from     seen
	standing command.Standing
}

// Mode returns the mode that a site is in, as far as this one has heard: the switches
// that stand in the control streams of that site and of those above it. A switch
// counts from the moment that its record is here. The error wraps [store.ErrNotFound]
// for a site that is neither this one, above nor below.
func (n *Node) Mode(site tiers.SiteID) (command.Standing, error) {
	t, self := n.Topology(), n.creds.ID.Site
	if site != self && !t.IsAncestor(site, self) && !t.IsAncestor(self, site) {
		return command.Standing{}, fmt.Errorf("%w: site %.64q: this site knows the mode of itself and of sites above and below it", store.ErrNotFound, site)
	}
	now := seen{vectors: map[tiers.StreamID]crdt.Vector{}}
	st := n.group.Store()
	for _, by := range append([]tiers.SiteID{site}, t.Ancestors(site)...) {
		s := tiers.StreamID{Site: by, Class: tiers.ClassControl}
		now.vectors[s] = st.Vector(s)
	}
	m := &n.modes
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := m.bySite[site]; ok && k.topology == t && k.from.equal(now) {
		return k.standing, nil
	}
	var views []command.ModeView
	for _, l := range command.Lineage(t, site) {
		v, err := n.modeView(l.By, l.Area)
		if err != nil && !isNotFound(err) {
			return command.Standing{}, err
		}
		if err == nil {
			views = append(views, v)
		}
	}
	k := knownMode{t, now, command.Effective(t, site, views)}
	if m.bySite == nil {
		m.bySite = map[tiers.SiteID]knownMode{}
	}
	m.bySite[site] = k
	return k.standing, nil
}

// modeView returns one site's switches of an area.
func (n *Node) modeView(by, area tiers.SiteID) (command.ModeView, error) {
	v, err := n.views.View(docKey(by, tiers.ClassControl, command.ModeID(area)))
	if err != nil {
		return command.ModeView{}, err
	}
	return command.ModeFromView(v.JSON)
}

// dispatchMode is the mode of a site as the dispatch rules see it; normal where it is
// not known, with an alarm: dispatching goes on.
func (n *Node) dispatchMode(site tiers.SiteID) dispatch.SubjectMode {
	s, err := n.Mode(site)
	if err != nil {
		n.alarms.raise(alarmMode, string(site), fmt.Sprintf("the mode of site %s is not known, it counts as normal: %v", site, err))
		return dispatch.SubjectMode{}
	}
	return dispatch.SubjectMode{Mode: s.Mode, Level: s.Level, Urgent: s.Hours == command.HoursUrgent}
}

// SwitchMode switches an area of this site, which is this site or one below it, to
// emergency or back to normal. Back ends this site's own emergency alone. The error
// wraps [command.ErrInvalid] or [command.ErrNow].
func (n *Node) SwitchMode(ctx context.Context, key string, s command.Switch) (w replication.Written, err error) {
	t, self := n.Topology(), n.creds.ID.Site
	row, _ := t.Site(self)
	if s.Area == "" {
		s.Area = self
	}
	s.By, s.Tier = self, row.Tier
	if err := s.Validate(); err != nil {
		return w, err
	}
	if area, ok := t.Site(s.Area); !ok || area.Retired || s.Area != self && !t.IsAncestor(self, s.Area) {
		return w, fmt.Errorf("%w: area %.64q: want %s or a site below it", command.ErrInvalid, s.Area, self)
	}
	k := docKey(self, tiers.ClassControl, command.ModeID(s.Area))
	done, err := n.docs.write(ctx, key, Edit{Key: k, Make: func() ([]crdt.Op, error) {
		v, err := n.modeView(self, s.Area)
		first := isNotFound(err)
		if err != nil && !first {
			return nil, err
		}
		if s.Mode == command.ModeNormal && v.Last.Mode != command.ModeEmergency {
			return nil, n.nothingToLift(s.Area)
		}
		s.At = n.group.Clock().Now()
		return command.SwitchOps(s, first)
	}})
	if err != nil {
		return w, err
	}
	return done[0], nil
}

// nothingToLift says why a site cannot switch an area back.
func (n *Node) nothingToLift(area tiers.SiteID) error {
	now, err := n.Mode(area)
	if err != nil {
		return err
	}
	why := fmt.Sprintf("%s is in normal mode", area)
	if len(now.Holding) > 0 {
		h := now.Holding[0]
		why = fmt.Sprintf("the emergency of %s is held by site %s for %s: it alone can lift it", area, h.By, h.Area)
	}
	return fmt.Errorf("%w: mode normal for %s: this site holds no emergency for it; %s", command.ErrNow, area, why)
}

// ModeHistory returns all switches that this site has heard of, the latest first; of
// those that reach a site only, when one is given.
func (n *Node) ModeHistory(site tiers.SiteID) ([]command.Switch, error) {
	t, out := n.Topology(), []command.Switch{}
	err := n.eachView(command.KindMode, func(_ store.DocKey, b []byte) error {
		v, err := command.ModeFromView(b)
		if err != nil {
			return err
		}
		if site == "" || v.Area == site || t.IsAncestor(v.Area, site) {
			out = append(out, v.Switches...)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b command.Switch) int {
		return cmp.Or(cmp.Compare(b.At, a.At), cmp.Compare(a.By, b.By), cmp.Compare(a.Area, b.Area))
	})
	return out, err
}
