package tiers

import (
	"bytes"
	"fmt"
	"slices"
)

// Succeed returns the topology that doc becomes when it follows t. What a whole
// federation must remember is carried over, so that whoever writes a new version
// says only how things are to be: a site that doc no longer lists stays as a
// retired one, one that gets another parent remembers the one before in Former,
// and a row without a key keeps its own.
//
// The error wraps [ErrStaleTopology] or [ErrInvalidTopology]: the federation, the
// city, a site's tier and key cannot change, and a retired site's code is not
// used again. Succeed takes ownership of doc.
func (t *Topology) Succeed(doc TopologyDoc) (*Topology, error) {
	if doc.Federation != t.Federation() {
		return nil, fmt.Errorf("%w: federation %q follows %q", ErrInvalidTopology, doc.Federation, t.Federation())
	}
	if doc.Version <= t.Version() {
		return nil, fmt.Errorf("%w: version %d follows %d: raise it", ErrStaleTopology, doc.Version, t.Version())
	}
	listed := make(map[SiteID]bool, len(doc.Sites))
	for i := range doc.Sites {
		s := &doc.Sites[i]
		listed[s.ID] = true
		if old := t.sites[s.ID]; old != nil {
			if err := s.follow(old); err != nil {
				return nil, err
			}
		}
	}
	for _, old := range t.doc.Sites {
		if !listed[old.ID] {
			old.Retired, old.Nodes = true, nil
			doc.Sites = append(doc.Sites, old)
		}
	}
	next, err := NewTopology(doc)
	if err == nil && next.City() != t.City() {
		err = fmt.Errorf("%w: city %s follows %s", ErrInvalidTopology, next.City(), t.City())
	}
	if err != nil {
		return nil, err
	}
	return next, nil
}

// follow takes over what a row must keep of the one before.
func (s *Site) follow(old *Site) error {
	switch {
	case s.Tier != old.Tier:
		return fmt.Errorf("%w: %s %s was a %s: give it another code", ErrInvalidTopology, s.Tier, s.ID, old.Tier)
	case old.Retired && !s.Retired:
		return fmt.Errorf("%w: site %s is retired: give the new site another code", ErrInvalidTopology, s.ID)
	case len(old.Key) > 0 && len(s.Key) > 0 && !bytes.Equal(s.Key, old.Key):
		return fmt.Errorf("%w: site %s has another key: what it wrote would no longer verify; give the new site another code", ErrInvalidTopology, s.ID)
	case len(s.Key) == 0:
		s.Key = old.Key
	}
	former := slices.Clone(old.Former)
	if s.Parent != old.Parent {
		former = append(former, old.Parent)
	}
	for _, f := range s.Former {
		if !slices.Contains(former, f) {
			former = append(former, f)
		}
	}
	slices.Sort(former)
	s.Former = slices.Compact(former)
	return nil
}

// Move is a site that gets another parent.
type Move struct {
	Site SiteID `json:"site"`
	From SiteID `json:"from"`
	To   SiteID `json:"to"`
}

// TopologyDiff is what changes from one topology to the next, in code order.
type TopologyDiff struct {
	Added   []SiteID `json:"added"`
	Retired []SiteID `json:"retired"`
	Moved   []Move   `json:"moved"`
	// Changed are sites whose name, key or addresses differ.
	Changed []SiteID `json:"changed"`
}

// Empty reports whether nothing changes.
func (d TopologyDiff) Empty() bool {
	return len(d.Added)+len(d.Retired)+len(d.Moved)+len(d.Changed) == 0
}

// Diff returns what changes from t to next. A site that next does not list
// counts as retired.
func (t *Topology) Diff(next *Topology) TopologyDiff {
	d := TopologyDiff{Added: []SiteID{}, Retired: []SiteID{}, Moved: []Move{}, Changed: []SiteID{}}
	for _, s := range next.Sites() {
		old, known := t.Site(s.ID)
		switch {
		case !known && !s.Retired:
			d.Added = append(d.Added, s.ID)
		case !known:
		case s.Retired != old.Retired:
			d.Retired = append(d.Retired, s.ID)
		case s.Retired:
		default:
			if s.Parent != old.Parent {
				d.Moved = append(d.Moved, Move{s.ID, old.Parent, s.Parent})
			}
			if s.Name != old.Name || !bytes.Equal(s.Key, old.Key) || !slices.Equal(s.Nodes, old.Nodes) {
				d.Changed = append(d.Changed, s.ID)
			}
		}
	}
	for _, old := range t.Sites() {
		if _, listed := next.Site(old.ID); !listed && !old.Retired {
			d.Retired = append(d.Retired, old.ID)
		}
	}
	slices.Sort(d.Retired)
	return d
}
