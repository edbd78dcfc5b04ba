package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/instant"
)

func newResource(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "resource", Short: "Share digital resources (数字资源): ask for their use, grant and revoke it",
		Long: `Data sets, computing power and algorithms are entries of catalog resources. A
resource with access "grant" may be used by another site once its owner grants it:
a site asks one above or below it, the owner grants or refuses, and may revoke; a
grant that has an end expires. Both ends see the same, also after a cut.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newResourceRequest(g), newResourceGrants(g))
	for _, x := range []struct{ kind, short string }{
		{catalog.StepGrant, "Grant a site the use of a resource of this one, or change the end"},
		{catalog.StepRefuse, "Refuse a request"},
		{catalog.StepRevoke, "Revoke a grant"},
		{catalog.StepWithdraw, "Withdraw this site's own request, or give a grant back"},
	} {
		cmd.AddCommand(newResourceStep(g, x.kind, x.short))
	}
	return cmd
}

func grantLine(s api.GrantStatus) string {
	end := "no end"
	if ms := s.EndMS; ms > 0 {
		end = "until " + localTime(ms)
	}
	return fmt.Sprintf("%s  %s  %s of %s for %s  %s", s.ID, s.Now, s.Resource, s.Owner, s.Grantee, end)
}

// untilFlag reads an end of a grant.
func untilFlag(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	ms, err := instant.Milliseconds(text)
	if err != nil {
		return 0, usagef("--until: %v", err)
	}
	return ms, nil
}

func newResourceRequest(g *global) *cobra.Command {
	w := &write{g: g}
	var r api.GrantRequest
	var owner, until string
	cmd := &cobra.Command{
		Use: "request CODE", Short: "Ask for the use of a resource", Args: exactArgs(1),
		Example: "  tiermesh resource request population --purpose 防汛转移 --until 2026-12-31\n  tiermesh resource request cameras --owner 500101 --purpose 巡查",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			r.Resource, r.Owner = args[0], tiers.SiteID(owner)
			if r.UntilMS, err = untilFlag(until); err != nil {
				return err
			}
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (api.GrantStatus, error) {
				r.Key = key
				return c.RequestGrant(ctx, r)
			}, grantLine)
		},
	}
	cmd.Flags().StringVar(&owner, "owner", "", "the site whose resource it is; the nearest from here up when left out")
	cmd.Flags().StringVar(&r.Purpose, "purpose", "", "what it is to be used for")
	cmd.Flags().StringVar(&until, "until", "", "until when; without end when left out")
	w.flag(cmd)
	return cmd
}

func newResourceStep(g *global, kind, short string) *cobra.Command {
	w := &write{g: g}
	r := api.GrantStepRequest{Step: kind}
	var until string
	cmd := &cobra.Command{
		Use: kind + " GRANT", Short: short, Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if r.UntilMS, err = untilFlag(until); err != nil {
				return err
			}
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (api.GrantStatus, error) {
				r.Key = key
				return c.StepGrant(ctx, args[0], r)
			}, grantLine)
		},
	}
	cmd.Flags().StringVar(&r.Note, "note", "", "why")
	if kind == catalog.StepGrant {
		cmd.Flags().StringVar(&until, "until", "", "until when; as asked for when left out")
	}
	w.flag(cmd)
	return cmd
}

func newResourceGrants(g *global) *cobra.Command {
	var l listing
	cmd := &cobra.Command{
		Use: "grants", Short: "List requests and grants that this site holds", Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.lists(cmd, &l, func(ctx context.Context, c *api.Client) error {
				var list api.GrantList
				grants, err := pages(&l, pageMax, func(limit int, after string) (_ []api.GrantStatus, next string, err error) {
					list, err = c.Grants(ctx, api.ListQuery{Limit: limit, After: after})
					return list.Grants, list.Next, err
				})
				if err != nil {
					return err
				}
				if g.output == "json" {
					list.Grants, list.Next = grants, l.rest
					return l.end(cmd, json.NewEncoder(cmd.OutOrStdout()).Encode(list))
				}
				var rows [][]string
				for _, s := range grants {
					end := "-"
					if s.EndMS > 0 {
						end = localTime(s.EndMS)
					}
					rows = append(rows, []string{string(s.ID), s.Now, s.Resource, string(s.Owner), string(s.Grantee), end, s.Purpose})
				}
				return l.end(cmd, table(cmd.OutOrStdout(), []string{"GRANT", "STATE", "RESOURCE", "OWNER", "GRANTEE", "UNTIL", "PURPOSE"}, rows))
			})
		},
	}
	l.flags(cmd)
	return cmd
}

var (
	installColumns = []column{
		{title: "APP", path: "app"}, {title: "VERSION", path: "version"}, {title: "SITE", path: "site"}, {title: "SINCE", path: "at_ms"},
		{title: "REMOVED", path: "removed"}, {title: "CPU", path: "needs.cpu_cores", wide: true}, {title: "MEMORY MB", path: "needs.memory_mb", wide: true},
		{title: "CATALOG", path: "catalog_version", wide: true},
	}
	replicationColumns = []column{
		{title: "ORDER", path: "id"}, {title: "RELEASE", path: "code"}, {title: "TO", path: "to"}, {title: "BY", path: "by"}, {title: "STATE", path: "state"},
		{title: "MISSING", path: "missing"}, {title: "CATALOG", path: "catalog_version", wide: true},
	}
	capacityColumns = []column{
		{title: "SITE", path: "site"}, {title: "CPU", path: "fields.cpu_cores"}, {title: "MEMORY MB", path: "fields.memory_mb"},
		{title: "DISK MB", path: "fields.disk_mb"}, {title: "GPU", path: "fields.gpu"}, {title: "RUNTIMES", path: "fields.runtimes"},
	}
)

func newApp(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "app", Short: "Replicate applications (数字化应用) to sites, with their requirements checked",
		Long: `A release of an application is an entry of catalog apps: its code is APP_VERSION,
and it says what it needs. Each site declares what it has. A replication is an order
to a site, this one or one below: the site checks the release against its capacity
and what it runs already, when it gets the order, and installs or refuses it, naming
what is missing. A site that is cut off does so after the heal.`,
		Example: `  tiermesh app capacity --cpu 16 --memory-mb 65536 --disk-mb 1000000 --runtime k8s=1.29.0
  tiermesh app replicate flood-watch_1.4.0 --to 500101
  tiermesh app orders`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, x := range []struct {
		name, collection, short string
		columns                 []column
	}{
		{"installs", "installs", "List which sites run which version", installColumns},
		{"orders", "replications", "List replications and what became of them", replicationColumns},
		{"capacities", "capacities", "List what sites have declared", capacityColumns},
	} {
		sub := subcommand(newList(g, "app", x.collection, x.columns), "list")
		sub.Use, sub.Short, sub.Example = x.name, x.short, "  tiermesh app "+x.name+" -o wide"
		cmd.AddCommand(sub)
	}
	cmd.AddCommand(newAppReplicate(g), newAppCapacity(g), newAppRemove(g))
	return cmd
}

func newAppReplicate(g *global) *cobra.Command {
	w := &write{g: g}
	var r api.ReplicateRequest
	var to string
	cmd := &cobra.Command{
		Use: "replicate CODE", Short: "Order a site to run a release", Args: exactArgs(1),
		Example: "  tiermesh app replicate flood-watch_1.4.0 --to 500101",
		RunE: func(cmd *cobra.Command, args []string) error {
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (catalog.ReplicationView, error) {
				r.Key, r.Code, r.To = key, args[0], tiers.SiteID(to)
				return c.Replicate(ctx, r)
			}, func(v catalog.ReplicationView) string {
				return strings.TrimSpace(fmt.Sprintf("%s  %s  %s to %s  %s", v.ID, v.State, v.Code, v.To, strings.Join(v.Missing, "; ")))
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the site; this node's when left out")
	cmd.Flags().StringVar(&r.Note, "note", "", "why")
	w.flag(cmd)
	return cmd
}

func newAppCapacity(g *global) *cobra.Command {
	w := &write{g: g}
	var r api.CapacityRequest
	cmd := &cobra.Command{
		Use: "capacity", Short: "Declare what this site has to run applications on", Args: exactArgs(0),
		Example: "  tiermesh app capacity --cpu 16 --memory-mb 65536 --disk-mb 1000000 --gpu 1 --runtime k8s=1.29.0 --runtime java=21.0.0",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (api.CapacityRequest, error) {
				r.Key = key
				return c.SetCapacity(ctx, r)
			}, func(api.CapacityRequest) string { return "capacity declared" })
		},
	}
	f := cmd.Flags()
	f.Float64Var(&r.Capacity.CPUCores, "cpu", 0, "processor cores")
	f.Float64Var(&r.Capacity.MemoryMB, "memory-mb", 0, "memory, in MB")
	f.Float64Var(&r.Capacity.DiskMB, "disk-mb", 0, "disk, in MB")
	f.Float64Var(&r.Capacity.GPU, "gpu", 0, "graphics processors")
	f.StringArrayVar(&r.Capacity.Runtimes, "runtime", nil, "NAME or NAME=VERSION, once for each")
	w.flag(cmd)
	return cmd
}

func newAppRemove(g *global) *cobra.Command {
	w := &write{g: g}
	cmd := &cobra.Command{
		Use: "remove APP", Short: "Write down that this site runs an application no more", Args: exactArgs(1),
		Example: "  tiermesh app remove flood-watch",
		RunE: func(cmd *cobra.Command, args []string) error {
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (catalog.InstallView, error) {
				return c.RemoveApp(ctx, api.RemoveAppRequest{Key: key, App: args[0]})
			}, func(v catalog.InstallView) string {
				return fmt.Sprintf("%s %s removed from %s", v.App, v.Version, v.Site)
			})
		},
	}
	w.flag(cmd)
	return cmd
}
