package node

import (
	"context"
	"fmt"
	"strings"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
)

// catalogNamed returns the schema of a catalog. The error wraps [api.ErrNotFound].
func catalogNamed(name string) (*catalog.Catalog, error) {
	c, ok := catalog.Find(name)
	if !ok {
		return nil, fmt.Errorf("%w: catalog %.64q: want one of %s", api.ErrNotFound, name, strings.Join(catalog.Names(), ", "))
	}
	return c, nil
}

// Catalogs implements [api.Catalogs].
func (b backend) Catalogs(_ context.Context, name string) ([]api.CatalogInfo, error) {
	all := catalog.Catalogs()
	if name != "" {
		c, err := catalogNamed(name)
		if err != nil {
			return nil, err
		}
		all = []*catalog.Catalog{c}
	}
	var out []api.CatalogInfo
	for _, c := range all {
		info, err := b.n.catalogInfo(c)
		if err != nil {
			return nil, translate(err)
		}
		if name != "" {
			info.Fields = c.Fields
		}
		out = append(out, info)
	}
	return out, nil
}

func (n *Node) catalogInfo(c *catalog.Catalog) (api.CatalogInfo, error) {
	info := api.CatalogInfo{Name: c.Name, Chinese: c.Chinese, Kind: c.Kind, Sources: []api.CatalogSource{}}
	codes, err := n.codesAfter(c, "", 0, n.catalogSites()...)
	if err != nil {
		return info, err
	}
	info.Entries = len(codes)
	for _, site := range n.catalogSites() {
		s := api.CatalogSource{Site: site}
		if codes, err = n.codesAfter(c, "", 0, site); err != nil {
			return info, err
		}
		s.Entries = len(codes)
		if s.Version, err = n.latestNumber(site, c); err != nil {
			return info, err
		}
		if s.Version > 0 {
			v, _, err := n.version(site, c, s.Version)
			if err != nil {
				return info, err
			}
			s.AtMS = v.At.Millis()
		}
		if s.Entries > 0 || s.Version > 0 {
			info.Sources = append(info.Sources, s)
		}
	}
	return info, nil
}

// Entries implements [api.Catalogs].
func (b backend) Entries(_ context.Context, q api.EntriesQuery) (api.EntriesPage, error) {
	c, err := catalogNamed(q.Catalog)
	if err != nil {
		return api.EntriesPage{}, err
	}
	out, err := b.n.entries(c, q)
	return out, translate(err)
}

func (n *Node) entries(c *catalog.Catalog, q api.EntriesQuery) (api.EntriesPage, error) {
	out := api.EntriesPage{Catalog: c.Name, Entries: []catalog.Entry{}}
	get, sites := func(code string) (catalog.Entry, bool, error) { return n.holding(c, code) }, n.catalogSites()
	switch {
	case q.Version > 0:
		site, err := n.publisherOf(c, q.Site)
		if err != nil {
			return out, err
		}
		_, cover, err := n.version(site, c, q.Version)
		if err != nil {
			return out, err
		}
		out.Site, out.Version, sites = site, q.Version, []tiers.SiteID{site}
		get = func(code string) (catalog.Entry, bool, error) {
			f, err := n.entryAsOf(entryKey(site, c, code), cover)
			return catalog.Entry{Code: code, Site: site, Fields: f}, f != nil, err
		}
	case q.Site != "":
		sites = []tiers.SiteID{q.Site}
		get = func(code string) (catalog.Entry, bool, error) { return n.entryAt(q.Site, c, code) }
	}
	codes, err := n.codesAfter(c, q.After, q.Limit, sites...)
	if err != nil {
		return out, err
	}
	for _, code := range codes {
		e, ok, err := get(code)
		if err != nil {
			return out, err
		}
		if ok {
			out.Entries = append(out.Entries, e)
		}
	}
	if len(codes) == q.Limit {
		out.Next = codes[len(codes)-1]
	}
	return out, nil
}

// publisherOf returns the site whose versions of a catalog are asked for: the
// nearest one that has any when none is named.
func (n *Node) publisherOf(c *catalog.Catalog, site tiers.SiteID) (tiers.SiteID, error) {
	if site != "" {
		return site, nil
	}
	for _, s := range n.catalogSites() {
		number, err := n.latestNumber(s, c)
		if err != nil || number > 0 {
			return s, err
		}
	}
	return "", fmt.Errorf("%w: no site from this one up has a version of catalog %s", store.ErrNotFound, c.Name)
}

// PutEntries implements [api.Catalogs].
func (b backend) PutEntries(ctx context.Context, r api.EntriesRequest) (api.EntriesResult, error) {
	out, err := b.n.PutEntries(ctx, "api:"+r.Key, r)
	return out, translate(err)
}

// RetireEntry implements [api.Catalogs].
func (b backend) RetireEntry(ctx context.Context, r api.RetireRequest) (api.EntriesResult, error) {
	out, err := b.n.Retire(ctx, "api:"+r.Key, r.Catalog, r.Code)
	return out, translate(err)
}

// CatalogVersions implements [api.Catalogs].
func (b backend) CatalogVersions(_ context.Context, q api.EntriesQuery) (api.VersionList, error) {
	out := api.VersionList{Catalog: q.Catalog, Versions: []catalog.VersionView{}}
	c, err := catalogNamed(q.Catalog)
	if err != nil {
		return out, err
	}
	if out.Site, err = b.n.publisherOf(c, q.Site); err != nil {
		return out, translate(err)
	}
	number, err := b.n.latestNumber(out.Site, c)
	for ; err == nil && number > 0 && len(out.Versions) < q.Limit; number-- {
		var v catalog.VersionView
		v, _, err = b.n.version(out.Site, c, number)
		out.Versions = append(out.Versions, v)
	}
	return out, translate(err)
}

// CatalogDiff implements [api.Catalogs].
func (b backend) CatalogDiff(_ context.Context, q api.DiffQuery) (api.CatalogDiff, error) {
	out := api.CatalogDiff{Catalog: q.Catalog, Changes: []catalog.Change{}}
	c, err := catalogNamed(q.Catalog)
	if err != nil {
		return out, err
	}
	if out.Site, err = b.n.publisherOf(c, q.Site); err == nil && q.To == 0 {
		q.To, err = b.n.latestNumber(out.Site, c)
	}
	if err != nil {
		return out, translate(err)
	}
	out.From, out.To = q.From, q.To
	err = b.n.diff(c, q, &out)
	return out, translate(err)
}

func (n *Node) diff(c *catalog.Catalog, q api.DiffQuery, out *api.CatalogDiff) error {
	var covers [2]catalog.Cover
	for i, number := range []uint64{q.From, q.To} {
		if number == 0 {
			continue // nothing is covered
		}
		var err error
		if _, covers[i], err = n.version(out.Site, c, number); err != nil {
			return err
		}
	}
	for after := q.After; ; {
		codes, err := n.codesAfter(c, after, limitScan, out.Site)
		if err != nil || len(codes) == 0 {
			return err
		}
		for _, code := range codes {
			if len(out.Changes) == q.Limit {
				out.Next = after
				return nil
			}
			before, err := n.entryAsOf(entryKey(out.Site, c, code), covers[0])
			if err != nil {
				return err
			}
			now, err := n.entryAsOf(entryKey(out.Site, c, code), covers[1])
			if err != nil {
				return err
			}
			if x, ok := catalog.Compare(code, before, now); ok {
				out.Changes = append(out.Changes, x)
			}
			after = code
		}
	}
}

// limitScan is how many codes a diff reads at a time.
const limitScan = 1000
