package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
)

func (b *backend) Catalogs(_ context.Context, name string) ([]api.CatalogInfo, error) {
	return []api.CatalogInfo{{Name: name}}, b.err
}

func (b *backend) Entries(_ context.Context, q api.EntriesQuery) (api.EntriesPage, error) {
	return api.EntriesPage{Catalog: q.Catalog, Site: q.Site, Version: q.Version, Next: fmt.Sprint(q.After, q.Limit)}, b.err
}

func (b *backend) PutEntries(_ context.Context, r api.EntriesRequest) (api.EntriesResult, error) {
	return api.EntriesResult{Catalog: r.Catalog, Added: len(r.Entries), Written: !r.DryRun}, b.err
}

func (b *backend) RetireEntry(_ context.Context, r api.RetireRequest) (api.EntriesResult, error) {
	return api.EntriesResult{Catalog: r.Catalog + "/" + r.Code}, b.err
}

func (b *backend) CatalogVersions(_ context.Context, q api.EntriesQuery) (api.VersionList, error) {
	return api.VersionList{Catalog: q.Catalog, Site: q.Site}, b.err
}

func (b *backend) CatalogDiff(_ context.Context, q api.DiffQuery) (api.CatalogDiff, error) {
	return api.CatalogDiff{Catalog: q.Catalog, Site: q.Site, From: q.From, To: q.To, Next: q.After}, b.err
}

func (b *backend) RequestGrant(_ context.Context, r api.GrantRequest) (api.GrantStatus, error) {
	return api.GrantStatus{Now: r.Resource}, b.err
}

func (b *backend) StepGrant(_ context.Context, r api.GrantStepRequest) (api.GrantStatus, error) {
	return api.GrantStatus{Now: string(r.Grant) + " " + r.Step}, b.err
}

func (b *backend) Grant(_ context.Context, id tiers.DocID) (api.GrantStatus, error) {
	return api.GrantStatus{Now: string(id)}, b.err
}

func (b *backend) Grants(_ context.Context, q api.ListQuery) (api.GrantList, error) {
	return api.GrantList{Next: fmt.Sprint(q.Kind, q.Limit, q.Site, q.After)}, b.err
}

func (b *backend) SetCapacity(_ context.Context, r api.CapacityRequest) (api.CapacityRequest, error) {
	return r, b.err
}

func (b *backend) Replicate(_ context.Context, r api.ReplicateRequest) (catalog.ReplicationView, error) {
	return catalog.ReplicationView{Replication: catalog.Replication{Code: r.Code, To: r.To}}, b.err
}

func (b *backend) RemoveApp(_ context.Context, r api.RemoveAppRequest) (catalog.InstallView, error) {
	return catalog.InstallView{Install: catalog.Install{App: r.App}}, b.err
}

// TestCatalogRoutes: requests reach the backend as they are meant, and what breaks a
// rule is refused with what is allowed.
func TestCatalogRoutes(t *testing.T) {
	c, path := serve(t, &backend{})
	ctx := context.Background()
	said := func(what string, err error, want string) {
		t.Helper()
		if err != nil || what != want {
			t.Errorf("%q, %v, want %q", what, err, want)
		}
	}
	all, err := c.Catalogs(ctx)
	said(fmt.Sprint(len(all)), err, "1")
	one, err := c.Catalog(ctx, "types")
	said(one.Name, err, "types")
	page, err := c.Entries(ctx, api.EntriesQuery{Catalog: "types", Site: "500101", Version: 3, After: "a", Limit: 7})
	said(fmt.Sprintf("%s %s %d %s", page.Catalog, page.Site, page.Version, page.Next), err, "types 500101 3 a7")
	put, err := c.PutEntries(ctx, api.EntriesRequest{Key: "k", Catalog: "types", Entries: []catalog.Row{{}}, DryRun: true})
	said(fmt.Sprint(put.Catalog, put.Added, put.Written), err, "types1 false")
	retired, err := c.RetireEntry(ctx, api.RetireRequest{Key: "k", Catalog: "types", Code: "01"})
	said(retired.Catalog, err, "types/01")
	versions, err := c.CatalogVersions(ctx, api.EntriesQuery{Catalog: "rules", Site: "500101", Limit: 3})
	said(versions.Catalog+string(versions.Site), err, "rules500101")
	diff, err := c.CatalogDiff(ctx, api.DiffQuery{Catalog: "rules", Site: "500101", From: 2, To: 5, After: "x", Limit: 1})
	said(fmt.Sprintf("%s %s %d %d %s", diff.Catalog, diff.Site, diff.From, diff.To, diff.Next), err, "rules 500101 2 5 x")
	g, err := c.RequestGrant(ctx, api.GrantRequest{Key: "k", Resource: "people"})
	said(g.Now, err, "people")
	g, err = c.StepGrant(ctx, "usagegrant:1", api.GrantStepRequest{Key: "k", Step: "grant"})
	said(g.Now, err, "usagegrant:1 grant")
	g, err = c.Grant(ctx, "1")
	said(g.Now, err, "usagegrant:1")
	list, err := c.Grants(ctx, api.ListQuery{Limit: 5, Site: "500101", After: "x"})
	said(list.Next, err, "usagegrant5500101x")
	has, err := c.SetCapacity(ctx, api.CapacityRequest{Key: "k", Capacity: catalog.Capacity{GPU: 2}})
	said(fmt.Sprint(has.Capacity.GPU), err, "2")
	order, err := c.Replicate(ctx, api.ReplicateRequest{Key: "k", Code: "a_1.0.0", To: "500101"})
	said(order.Code+string(order.To), err, "a_1.0.0500101")
	gone, err := c.RemoveApp(ctx, api.RemoveAppRequest{Key: "k", App: "a"})
	said(gone.App, err, "a")
	many := `{"key":"k","entries":[` + strings.Repeat(`{},`, api.EntriesMax) + `{}]}`
	for _, row := range []struct{ method, target, body, want string }{
		{"GET", "/v1/catalogs/types/entries?limit=0", "", "limit 0: want 1 to 1000"},
		{"GET", "/v1/catalogs/types/entries?version=-1", "", "whole number from 0"},
		{"GET", "/v1/catalogs/types/entries?site=5_0", "", "site"},
		{"GET", "/v1/catalogs/types/entries?after=a/b", "", "after"},
		{"GET", "/v1/catalogs/types/diff?from=x", "", "whole number from 0"},
		{"GET", "/v1/catalogs/types/versions?colour=red", "", "unknown parameter"},
		{"GET", "/v1/grants?limit=1001", "", "want 1 to 1000"},
		{"POST", "/v1/catalogs/types/entries", many, "1001 entries: want at most 1000"},
		{"POST", "/v1/catalogs/types/entries", `{"key":"k","note":"` + strings.Repeat("x", 513) + `"}`, "note of 513 bytes"},
		{"POST", "/v1/catalogs/types/entries", `{"key":"k","entries":[{"fields":{"a":1}}]}`, "body"},
		{"POST", "/v1/catalogs/types/retire", `{"code":"x"}`, "makes a retry safe"},
		{"POST", "/v1/grants", `{"key":"k","colour":"red"}`, "unknown field"},
		{"POST", "/v1/grants/x/steps", `{}`, "makes a retry safe"},
		{"POST", "/v1/capacities", `{}`, "makes a retry safe"}, {"POST", "/v1/replications", `{}`, "makes a retry safe"}, {"POST", "/v1/installs/x/remove", `{}`, "makes a retry safe"},
	} {
		if status, body := raw(t, path, row.method, row.target, row.body); status != http.StatusBadRequest || !strings.Contains(body, row.want) {
			t.Errorf("%s %s: %d %s", row.method, row.target, status, body)
		}
	}
}

// TestCatalogSchemas: the document describes every field.
func TestCatalogSchemas(t *testing.T) {
	step := catalog.Step{Note: "x", UntilMS: 1, Missing: []string{"x"}, Overruled: "x"}
	grant := catalog.GrantView{Grant: catalog.Grant{UntilMS: 1, Version: "x"}, EndMS: 1, Pending: 1, Refused: 1}
	order := catalog.ReplicationView{Replication: catalog.Replication{Used: "x", Note: "x"}, Missing: []string{"x"}, Pending: 1, Refused: 1}
	needs := catalog.Needs{Runtimes: []string{"x"}, Apps: []string{"x"}}
	version := catalog.VersionView{Version: catalog.Version{Note: "x", Others: map[string]uint64{"x": 1}}, Again: []catalog.Version{{}}, Pending: 1, Refused: 1}
	described(t, map[string]any{
		"CatalogList": api.CatalogList{}, "CatalogInfo": api.CatalogInfo{Fields: []catalog.Field{{}}}, "CatalogSource": api.CatalogSource{AtMS: 1},
		"CatalogField": catalog.Field{Required: true, Min: 1, Values: []string{"x"}, Ref: "x", Default: "x"},
		"CatalogEntry": catalog.Entry{Conflicts: []crdt.Conflict{{}}}, "EntriesPage": api.EntriesPage{Site: "x", Version: 1, Next: "x"},
		"CatalogRow": catalog.Row{}, "EntriesRequest": api.EntriesRequest{Confirm: true}, "EntriesResult": api.EntriesResult{Repeated: true},
		"RowProblem": catalog.Problem{Code: "x", Want: "x", Why: "x"}, "RetireRequest": api.RetireRequest{}, "CatalogVersion": version,
		"VersionList": api.VersionList{}, "CatalogDiff": api.CatalogDiff{Next: "x"}, "EntryChange": catalog.Change{},
		"GrantRequest": api.GrantRequest{}, "GrantStepRequest": api.GrantStepRequest{}, "CatalogStep": step,
		"GrantStatus": api.GrantStatus{GrantView: grant}, "GrantList": api.GrantList{Next: "x"}, "Capacity": catalog.Capacity{},
		"CapacityRequest": api.CapacityRequest{}, "ReplicateRequest": api.ReplicateRequest{}, "ReplicationView": order, "AppNeeds": needs,
		"InstallView":      catalog.InstallView{Install: catalog.Install{Order: "x", Used: "x", Removed: true}, Pending: 1, Refused: 1},
		"RemoveAppRequest": api.RemoveAppRequest{},
	})
}
