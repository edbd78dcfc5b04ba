package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/tiermesh/tiermesh/tiers"
)

func catalogPath(name, rest string) string { return "/v1/catalogs/" + url.PathEscape(name) + rest }

// catalogValues are the parameters of a catalog query; zero values are left out.
func (c *Client) catalogValues(site tiers.SiteID, after string, limit int, numbers map[string]uint64) string {
	v := c.values()
	if site != "" {
		v.Set("site", string(site))
	}
	if after != "" {
		v.Set("after", after)
	}
	if limit != 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	for name, n := range numbers {
		if n != 0 {
			v.Set(name, strconv.FormatUint(n, 10))
		}
	}
	return "?" + v.Encode()
}

// Catalogs lists the catalogs.
func (c *Client) Catalogs(ctx context.Context) ([]CatalogInfo, error) {
	var out CatalogList
	err := c.do(ctx, http.MethodGet, "/v1/catalogs?"+c.values().Encode(), nil, &out)
	return out.Catalogs, err
}

// Catalog returns one catalog, with its fields.
func (c *Client) Catalog(ctx context.Context, name string) (out CatalogInfo, err error) {
	return out, c.do(ctx, http.MethodGet, catalogPath(name, "")+"?"+c.values().Encode(), nil, &out)
}

// Entries returns a page of entries.
func (c *Client) Entries(ctx context.Context, q EntriesQuery) (out EntriesPage, err error) {
	v := c.catalogValues(q.Site, q.After, q.Limit, map[string]uint64{"version": q.Version})
	return out, c.do(ctx, http.MethodGet, catalogPath(q.Catalog, "/entries")+v, nil, &out)
}

// PutEntries writes entries to the catalog of the node's site.
func (c *Client) PutEntries(ctx context.Context, r EntriesRequest) (out EntriesResult, err error) {
	return out, c.do(ctx, http.MethodPost, catalogPath(r.Catalog, "/entries"), r, &out)
}

// RetireEntry retires an entry.
func (c *Client) RetireEntry(ctx context.Context, r RetireRequest) (out EntriesResult, err error) {
	return out, c.do(ctx, http.MethodPost, catalogPath(r.Catalog, "/retire"), r, &out)
}

// CatalogVersions lists versions.
func (c *Client) CatalogVersions(ctx context.Context, q EntriesQuery) (out VersionList, err error) {
	v := c.catalogValues(q.Site, "", q.Limit, nil)
	return out, c.do(ctx, http.MethodGet, catalogPath(q.Catalog, "/versions")+v, nil, &out)
}

// CatalogDiff says what differs between two versions.
func (c *Client) CatalogDiff(ctx context.Context, q DiffQuery) (out CatalogDiff, err error) {
	v := c.catalogValues(q.Site, q.After, q.Limit, map[string]uint64{"from": q.From, "to": q.To})
	return out, c.do(ctx, http.MethodGet, catalogPath(q.Catalog, "/diff")+v, nil, &out)
}
