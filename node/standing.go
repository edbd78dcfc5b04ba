package node

import (
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
)

// Upward implements [api.Site]: one load of what was noted last.
func (s site) Upward() api.Upward {
	if up := s.n.links.standing.Load(); up != nil {
		return *up
	}
	return s.n.links.stand()
}

// stand notes anew how this site stands with those above it: after anything that may
// have changed that.
func (l *links) stand() api.Upward {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.standLocked()
}

func (l *links) standLocked() api.Upward {
	t, self := l.n.Topology(), l.n.creds.ID.Site
	row, listed := t.Site(self)
	up := api.Upward{Retired: l.up.retired || row.Retired || !listed}
	switch {
	case up.Retired:
		up.Instead = successor(t, row)
	case row.Parent != "":
		up.Waits = l.waits(row.Parent)
	}
	l.standing.Store(&up)
	return up
}

// waits says since when there is no link to the parent; nil while there is one.
func (l *links) waits(parent tiers.SiteID) *api.Waits {
	linked := func(id tiers.SiteID) bool {
		r := l.known[id]
		return r != nil && r.state == linkConnected
	}
	if linked(parent) {
		return nil
	}
	w := &api.Waits{Site: parent, Since: l.n.ending.started}
	if r := l.known[parent]; r != nil {
		w.Since = r.since
	}
	w.Since = w.Since.UTC().Truncate(time.Second)
	if linked(l.up.standIn) {
		w.StandIn = l.up.standIn
	}
	return w
}

// successor is where to write instead of at a site that has ended: the nearest site
// above it that has not.
func successor(t *tiers.Topology, row tiers.Site) tiers.SiteID {
	for id := row.Parent; id != ""; {
		s, ok := t.Site(id)
		if ok && !s.Retired {
			return id
		}
		id = s.Parent
	}
	return t.City()
}
