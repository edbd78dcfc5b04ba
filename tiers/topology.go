package tiers

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Tier is the level of a site.
type Tier uint8

// The three tiers, from the top.
const (
	// TierCity is the one city brain (城市大脑).
	TierCity Tier = 1
	// TierDistrict is a district hub (区县实战枢纽).
	TierDistrict Tier = 2
	// TierTownship is a township end (镇街执行末端).
	TierTownship Tier = 3
)

var tierNames = [...]string{"", "city", "district", "township"}

// String returns city, district or township.
func (t Tier) String() string {
	if t < TierCity || t > TierTownship {
		return fmt.Sprintf("tier(%d)", uint8(t))
	}
	return tierNames[t]
}

// MarshalText writes the tier's name.
func (t Tier) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads city, district or township.
func (t *Tier) UnmarshalText(b []byte) error {
	for i, name := range tierNames {
		if i > 0 && name == string(b) {
			*t = Tier(i)
			return nil
		}
	}
	return fmt.Errorf("%w: tier %q: want city, district or township", ErrInvalidTopology, b)
}

// NodeAddr is where one node of a site listens for peers.
type NodeAddr struct {
	// Node is the node's number inside its site, from 1.
	Node uint32 `json:"node"`
	// Addr is its QUIC address, host:port.
	Addr string `json:"addr"`
}

// Site is one row of the topology.
type Site struct {
	ID     SiteID `json:"id"`
	Tier   Tier   `json:"tier"`
	Name   string `json:"name"`
	Parent SiteID `json:"parent,omitempty"`
	// Key is the site's Ed25519 public key, which verifies its checkpoints.
	Key   []byte     `json:"key,omitempty"`
	Nodes []NodeAddr `json:"nodes,omitempty"`
	// Former are the parents that the site had in earlier versions: what they
	// wrote to its streams then stays good. See [Topology.Succeed].
	Former []SiteID `json:"former,omitempty"`
	// Retired says that the site has ended. It links to nobody and receives
	// nothing; its row stays for its key, which verifies what it wrote.
	Retired bool `json:"retired,omitempty"`
}

// TopologyDoc is the serialised form of a topology: what the city writes and
// what a bootstrap file holds.
type TopologyDoc struct {
	Federation string `json:"federation"`
	Version    uint64 `json:"version"`
	Sites      []Site `json:"sites"`
}

// Topology is a checked, immutable tree of sites. It is safe for use by
// several goroutines; the slices it returns must not be changed.
type Topology struct {
	doc      TopologyDoc
	sites    map[SiteID]*Site
	children map[SiteID][]SiteID
	city     SiteID
}

// ParseTopology reads the JSON form and checks it; unknown keys are refused.
func ParseTopology(b []byte) (*Topology, error) {
	var doc TopologyDoc
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidTopology, err)
	}
	return NewTopology(doc)
}

// NewTopology checks that doc is one tree: exactly one city without a parent,
// districts under the city, townships under a district or (as a stand-in for
// it) the city, unique valid codes. The error wraps [ErrInvalidTopology] and
// names the site. The topology takes ownership of doc.
func NewTopology(doc TopologyDoc) (*Topology, error) {
	t := &Topology{doc: doc, sites: make(map[SiteID]*Site, len(doc.Sites)), children: map[SiteID][]SiteID{}}
	if doc.Federation == "" {
		return nil, fmt.Errorf("%w: no federation name", ErrInvalidTopology)
	}
	slices.SortFunc(doc.Sites, func(a, b Site) int { return cmp.Compare(a.ID, b.ID) })
	for i := range doc.Sites {
		s := &doc.Sites[i]
		if err := s.ID.Validate(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalidTopology, err)
		}
		if t.sites[s.ID] != nil {
			return nil, fmt.Errorf("%w: site %s is listed twice", ErrInvalidTopology, s.ID)
		}
		t.sites[s.ID] = s
	}
	for i := range doc.Sites {
		if err := t.place(&doc.Sites[i]); err != nil {
			return nil, err
		}
	}
	if t.city == "" {
		return nil, fmt.Errorf("%w: no city site", ErrInvalidTopology)
	}
	return t, nil
}

// place checks one site's tier against its parent's and links the two. Tiers
// strictly descend, so a cycle of parents cannot pass.
func (t *Topology) place(s *Site) error {
	if s.Tier == TierCity {
		if s.Retired {
			return fmt.Errorf("%w: city %s is retired", ErrInvalidTopology, s.ID)
		}
		if t.city != "" {
			return fmt.Errorf("%w: two city sites, %s and %s", ErrInvalidTopology, t.city, s.ID)
		}
		if s.Parent != "" {
			return fmt.Errorf("%w: city %s has a parent", ErrInvalidTopology, s.ID)
		}
		t.city = s.ID
		return nil
	}
	p := t.sites[s.Parent]
	if p == nil {
		return fmt.Errorf("%w: parent %q of site %s is not listed", ErrInvalidTopology, s.Parent, s.ID)
	}
	if s.Tier > TierTownship || p.Tier >= s.Tier {
		return fmt.Errorf("%w: %s %s cannot be under %s %s", ErrInvalidTopology, s.Tier, s.ID, p.Tier, p.ID)
	}
	if s.Retired {
		return nil
	}
	if p.Retired {
		return fmt.Errorf("%w: parent %s of site %s is retired: give it another one", ErrInvalidTopology, p.ID, s.ID)
	}
	t.children[s.Parent] = append(t.children[s.Parent], s.ID)
	return nil
}

// Doc returns the serialised form; the caller must not change it.
func (t *Topology) Doc() TopologyDoc { return t.doc }

// Marshal returns the canonical JSON: sites in code order, fixed field order.
func (t *Topology) Marshal() ([]byte, error) { return json.Marshal(t.doc) }

// Federation returns the federation's name, the trust domain of its identities.
func (t *Topology) Federation() string { return t.doc.Federation }

// Version returns the document's version; the higher one wins.
func (t *Topology) Version() uint64 { return t.doc.Version }

// City returns the code of the city site.
func (t *Topology) City() SiteID { return t.city }

// Sites returns every site in code order.
func (t *Topology) Sites() []Site { return t.doc.Sites }

// Site returns one site's row.
func (t *Topology) Site(id SiteID) (Site, bool) {
	s, ok := t.sites[id]
	if !ok {
		return Site{}, false
	}
	return *s, true
}

// Children returns the direct children of a site in code order.
func (t *Topology) Children(id SiteID) []SiteID { return t.children[id] }

// Ancestors returns the parent, its parent and so on up to the city; nil for
// the city and for an unknown site.
func (t *Topology) Ancestors(id SiteID) []SiteID {
	var up []SiteID
	for s := t.sites[id]; s != nil && s.Parent != ""; s = t.sites[s.Parent] {
		up = append(up, s.Parent)
	}
	return up
}

// IsAncestor reports whether a stands strictly above b.
func (t *Topology) IsAncestor(a, b SiteID) bool {
	for s := t.sites[b]; s != nil && s.Parent != ""; s = t.sites[s.Parent] {
		if s.Parent == a {
			return true
		}
	}
	return false
}

// InAudience reports whether site stores stream: the stream's own site, its
// ancestors, and for control and catalog its whole subtree. An unknown or
// retired site is in no audience, and nobody is in an unknown site's.
func (t *Topology) InAudience(stream StreamID, site SiteID) bool {
	if !stream.Class.Valid() || t.sites[stream.Site] == nil || !t.active(site) {
		return false
	}
	return site == stream.Site || t.IsAncestor(site, stream.Site) ||
		stream.Class.flowsDown() && t.IsAncestor(stream.Site, site)
}

// Audience returns every site that stores stream, in code order.
func (t *Topology) Audience(stream StreamID) []SiteID {
	var out []SiteID
	for _, id := range slices.Sorted(maps.Keys(t.sites)) {
		if t.InAudience(stream, id) {
			out = append(out, id)
		}
	}
	return out
}

// active reports whether a site is listed and not retired.
func (t *Topology) active(id SiteID) bool {
	s := t.sites[id]
	return s != nil && !s.Retired
}

// MayWrite reports whether author may write to stream now: its own site always,
// its ancestors for command, urgent, catalog and routine.
func (t *Topology) MayWrite(stream StreamID, author SiteID) bool {
	if !stream.Class.Valid() || !t.active(stream.Site) || !t.active(author) {
		return false
	}
	return author == stream.Site || stream.Class.ancestorsWrite() && t.IsAncestor(author, stream.Site)
}

// MayHaveWritten reports whether records of author may stand in stream: those
// of who may write, of former parents where parents may write, and of sites
// that are retired by now.
func (t *Topology) MayHaveWritten(stream StreamID, author SiteID) bool {
	s := t.sites[stream.Site]
	if !stream.Class.Valid() || s == nil || t.sites[author] == nil {
		return false
	}
	return author == stream.Site ||
		stream.Class.ancestorsWrite() && (t.IsAncestor(author, stream.Site) || slices.Contains(s.Former, author))
}

// Linked reports whether two sites may hold a link: one is an ancestor of the
// other, so that a grandparent can stand in for a silent parent.
func (t *Topology) Linked(a, b SiteID) bool {
	return t.active(a) && t.active(b) && (t.IsAncestor(a, b) || t.IsAncestor(b, a))
}
