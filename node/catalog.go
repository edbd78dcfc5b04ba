package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
)

// catalogs is what a node keeps in memory of the catalogs. Which entry holds, and
// in which version, is a function of the streams; the memory only saves reading.
type catalogs struct {
	// publishing lets in one publisher of this node, since versions are numbered, and
	// one who decides what it runs. It is a channel, as the queues of documents are.
	publishing chan struct{}
	// sums are guarded by publishing.
	sums map[string]*summed

	mu sync.Mutex // guards the fields below
	// found are entries as of vectors, organs the codes of organs by their names.
	vectors map[tiers.StreamID]crdt.Vector
	found   map[string]inForceEntry
	organs  map[string]string
}

// summed are the sums of a catalog's entries when its stream was at a vector.
type summed struct {
	at      crdt.Vector
	entries map[string]crdt.Hash
}

// inForceEntry is the entry of a code that holds at this site; the zero value for
// none.
type inForceEntry struct {
	catalog.Entry
	used catalog.Used
}

// foundMax bounds the entries that are known by heart.
const foundMax = 8192

func newCatalogs() *catalogs {
	return &catalogs{publishing: make(chan struct{}, 1), sums: map[string]*summed{}}
}

// alone waits until nobody else publishes at this node, and returns what ends that.
func (m *catalogs) alone(ctx context.Context) (done func(), err error) {
	select {
	case m.publishing <- struct{}{}:
		return func() { <-m.publishing }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
}

// catalogStream is the stream of a site's catalogs.
func catalogStream(site tiers.SiteID) tiers.StreamID {
	return tiers.StreamID{Site: site, Class: tiers.ClassCatalog}
}

// entryKey is the document of an entry at a site.
func entryKey(site tiers.SiteID, c *catalog.Catalog, code string) store.DocKey {
	return store.DocKey{Stream: catalogStream(site), Doc: tiers.NewDocID(c.Kind, code)}
}

// catalogSites are the sites whose catalogs hold at this one, the nearest first: a
// nearer entry takes the place of one with the same code from above.
func (n *Node) catalogSites() []tiers.SiteID {
	return append([]tiers.SiteID{n.creds.ID.Site}, n.Topology().Ancestors(n.creds.ID.Site)...)
}

// remembered returns this node's memory, emptied when a catalog stream moved.
func (n *Node) remembered() *catalogs {
	var streams []tiers.StreamID
	for _, s := range n.catalogSites() {
		streams = append(streams, catalogStream(s))
	}
	now := n.vectors(streams...)
	m := n.catalogs
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.found == nil || len(m.found) > foundMax || !maps.EqualFunc(now, m.vectors, maps.Equal) {
		m.vectors, m.found, m.organs = now, map[string]inForceEntry{}, nil
	}
	return m
}

// lookup returns the entry of a code that holds at this site, retired or not, with
// the version that it is of; ok is false when no catalog from here up has it.
func (n *Node) lookup(c *catalog.Catalog, code string) (e inForceEntry, ok bool, err error) {
	m, at := n.remembered(), c.Name+"/"+code
	m.mu.Lock()
	e, ok = m.found[at]
	vectors := m.vectors
	m.mu.Unlock()
	if ok {
		return e, e.Code != "", nil
	}
	x, ok, err := n.holding(c, code)
	if ok && err == nil {
		e.Entry = x
		e.used, err = n.usedOf(x.Site, c, code)
	}
	if err != nil {
		return e, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if maps.EqualFunc(vectors, m.vectors, maps.Equal) {
		m.found[at] = e
	}
	return e, e.Code != "", nil
}

// holding is lookup without memory and version, for whoever asks for every entry
// once.
func (n *Node) holding(c *catalog.Catalog, code string) (e catalog.Entry, ok bool, err error) {
	if !nameable(c, code) {
		return e, false, nil
	}
	for _, site := range n.catalogSites() {
		if e, ok, err = n.entryAt(site, c, code); ok || err != nil {
			return e, ok, err
		}
	}
	return e, false, nil
}

// nameable reports whether a document can have a code as its name.
func nameable(c *catalog.Catalog, code string) bool {
	return tiers.NewDocID(c.Kind, code).Validate() == nil
}

// entryAt returns an entry of one site's catalog.
func (n *Node) entryAt(site tiers.SiteID, c *catalog.Catalog, code string) (catalog.Entry, bool, error) {
	v, err := n.views.View(entryKey(site, c, code))
	if errors.Is(err, store.ErrNotFound) {
		return catalog.Entry{}, false, nil
	}
	if err != nil {
		return catalog.Entry{}, false, err
	}
	e, err := catalog.EntryFromView(v.JSON)
	return e, err == nil, err
}

// usedVersion names the version of a catalog that an entry is of, for a record that
// uses it; empty when there is none, or it cannot be read: that keeps no event from
// being dispatched.
func (n *Node) usedVersion(name, code string) catalog.Used {
	c, ok := catalog.Find(name)
	if !ok || code == "" {
		return ""
	}
	e, _, err := n.lookup(c, code)
	if err != nil {
		n.alarms.raise(alarmCatalog, name+"/"+code, fmt.Sprintf("version of %s %s cannot be read: %v", name, code, err))
	}
	return e.used
}

// usedOf names the version that a document of a site's catalog is of: the last one,
// or the last one and something after it.
func (n *Node) usedOf(site tiers.SiteID, c *catalog.Catalog, code string) (catalog.Used, error) {
	number, cover, err := n.latestVersion(site, c)
	if err != nil {
		return "", err
	}
	h, err := n.group.Store().Changes(entryKey(site, c, code))
	if err != nil {
		return "", err
	}
	after := false
	for i, a := range h.Authors {
		after = after || !cover.Has(a, h.Seqs[i])
	}
	return catalog.NewUsed(site, number, after), nil
}

// versionKey is the document of a version.
func versionKey(site tiers.SiteID, c *catalog.Catalog, number uint64) store.DocKey {
	return store.DocKey{Stream: catalogStream(site), Doc: catalog.VersionDoc(c.Name, number)}
}

// latestNumber returns the number of the last version of a site's catalog that has
// come here; 0 for none.
func (n *Node) latestNumber(site tiers.SiteID, c *catalog.Catalog) (number uint64, err error) {
	hits, err := n.group.Store().Index(store.IndexQuery{
		Name: catalog.KindVersion, Prefix: catalog.VersionPrefix(site, c.Name), Descending: true, Limit: 1,
	})
	if err != nil {
		return 0, err
	}
	if len(hits) > 0 {
		var v catalog.VersionView
		if err := n.read(hits[0].Key, &v); err != nil && !isNotFound(err) {
			return 0, err
		}
		number = v.Number
	}
	for { // an index is a little behind
		_, err := n.group.Store().Heads(versionKey(site, c, number+1))
		if isNotFound(err) {
			return number, nil
		}
		if err != nil {
			return 0, err
		}
		number++
	}
}

// latestVersion is latestNumber with what the version covers.
func (n *Node) latestVersion(site tiers.SiteID, c *catalog.Catalog) (uint64, catalog.Cover, error) {
	number, err := n.latestNumber(site, c)
	if err != nil || number == 0 {
		return 0, catalog.Cover{}, err
	}
	_, cover, err := n.version(site, c, number)
	return number, cover, err
}

// version returns a version and what it covers. The error wraps
// [store.ErrNotFound].
func (n *Node) version(site tiers.SiteID, c *catalog.Catalog, number uint64) (v catalog.VersionView, cover catalog.Cover, err error) {
	k := versionKey(site, c, number)
	if err = n.read(k, &v); err != nil {
		if isNotFound(err) {
			err = fmt.Errorf("%w: catalog %s of site %s has no version %d here", store.ErrNotFound, c.Name, site, number)
		}
		return v, cover, err
	}
	h, err := n.group.Store().Changes(k)
	if err != nil {
		return v, cover, err
	}
	cover.Others = v.Others
	var at crdt.HybridTime
	for i, a := range h.Authors { // of two incarnations the earlier, as its view has it
		if a.Site == site && (at == 0 || h.Times[i] < at) {
			cover.Author, cover.Seq, at = a, h.Seqs[i], h.Times[i]
		}
	}
	return v, cover, nil
}

// entryAsOf returns what an entry's values were in a version; nil when the version
// does not have it.
func (n *Node) entryAsOf(k store.DocKey, cover catalog.Cover) (catalog.Fields, error) {
	h, err := n.group.Store().Changes(k)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	places, err := placesOf(h)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k, err)
	}
	var raw [][]byte
	foreign := false
	for i, in := range cover.Select(places) {
		if in {
			raw = append(raw, h.Raw[i])
		}
		foreign = foreign || h.Authors[i].Site != n.creds.ID.Site
	}
	if len(raw) == 0 {
		return nil, nil
	}
	engine := n.docs.engine
	if foreign {
		engine = n.docs.isolated
	}
	d, err := engine.Read(raw)
	if err != nil {
		return nil, fmt.Errorf("%s as of a version: %w", k, err)
	}
	return catalog.FieldsOf(d), nil
}

func placesOf(h *store.Changes) ([]catalog.Place, error) {
	out := make([]catalog.Place, len(h.Raw))
	for i, raw := range h.Raw {
		c, err := change.Decode(raw, change.DefaultLimits())
		if err != nil {
			return nil, err
		}
		out[i] = catalog.Place{Author: h.Authors[i], Seq: h.Seqs[i], Hash: c.Hash, Deps: c.Deps}
	}
	return out, nil
}

// codesAfter lists up to limit codes of a catalog in the catalogs of sites, behind
// one, in order.
func (n *Node) codesAfter(c *catalog.Catalog, after string, limit int, sites ...tiers.SiteID) ([]string, error) {
	var out []string
	for _, s := range sites {
		docs, err := n.group.Store().DocumentsOf(catalogStream(s), c.Kind, after, limit)
		if err != nil {
			return nil, err
		}
		for _, k := range docs {
			out = append(out, k.Doc.Name())
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out, nil
}

// hasCatalog reports whether any catalog from here up has entries of a catalog.
func (n *Node) hasCatalog(c *catalog.Catalog) (bool, error) {
	codes, err := n.codesAfter(c, "", 1, n.catalogSites()...)
	return len(codes) > 0, err
}

// organ returns the organ that holds at this site with a code or a name.
func (n *Node) organ(called string) (catalog.Organ, bool, error) {
	c, _ := catalog.Find(catalog.Organs)
	e, ok, err := n.lookup(c, called)
	if ok || err != nil {
		return catalog.OrganOf(e.Fields), ok, err
	}
	names, err := n.organNames(c)
	if err != nil || names[called] == "" {
		return catalog.Organ{}, false, err
	}
	e, ok, err = n.lookup(c, names[called])
	return catalog.OrganOf(e.Fields), ok, err
}

// organNames maps names of organs to their codes; of several the first by code.
func (n *Node) organNames(c *catalog.Catalog) (map[string]string, error) {
	m := n.remembered()
	m.mu.Lock()
	names, vectors := m.organs, m.vectors
	m.mu.Unlock()
	if names != nil {
		return names, nil
	}
	codes, err := n.codesAfter(c, "", 0, n.catalogSites()...)
	if err != nil {
		return nil, err
	}
	names = map[string]string{}
	for _, code := range codes {
		e, _, err := n.lookup(c, code)
		if err != nil {
			return nil, err
		}
		if name := e.Fields["name"]; names[name] == "" {
			names[name] = code
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if maps.EqualFunc(vectors, m.vectors, maps.Equal) {
		m.organs = names
	}
	return names, nil
}
