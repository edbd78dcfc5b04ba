package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
)

func newTopology(g *global) *cobra.Command {
	top := &cobra.Command{
		Use: "topology", Short: "Which sites there are, who is above whom, and how that changes",
		Long: `The topology lists every site: tier, name, parent, key and addresses. The city
publishes it; it flows down, and every site keeps the last version that it saw.

To change it, edit a copy of the file, raise its version, and publish it at the
city. A site that the file no longer lists is retired: its key opens no link any
more, what it wrote stays. A site with another parent is moved: whoever missed
that is told by the first site that it reaches, and the new parent receives the
site's whole history; the old one keeps what it had and receives nothing new.`,
		Example: "  tiermesh topology show -o json > topology.json\n  tiermesh topology diff topology.json\n  tiermesh topology publish topology.json",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	top.AddCommand(newTopologyCheck(), newTopologyShow(g), newTopologyDiff(g), newTopologyPublish(g))
	return top
}

func newTopologyCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "Check a topology file and say what is missing", Args: exactArgs(1),
		Example: "  tiermesh topology check topology.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := readTopology(args[0])
			if err != nil {
				return err
			}
			var missing bytes.Buffer
			for _, s := range t.Sites() {
				if len(s.Key) == 0 {
					fmt.Fprintf(&missing, "site %s has no key: tiermesh ca issue --site %s --topology %s\n", s.ID, s.ID, args[0])
				}
				if len(s.Nodes) == 0 && len(t.Children(s.ID)) > 0 {
					fmt.Fprintf(&missing, "site %s has children and no node address: they cannot reach it\n", s.ID)
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "federation %s, version %d, %s\n", t.Federation(), t.Version(), count(len(t.Sites()), "site"))
			_, err = missing.WriteTo(cmd.OutOrStdout())
			return err
		},
	}
}

func newTopologyShow(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show the topology that is in force at the node", Args: exactArgs(0),
		Long: `Shows the topology that is in force at the node. With -o json it is a file that
can be edited and published. -o wide adds former parents and keys.`,
		Example: "  tiermesh topology show\n  tiermesh topology show -o json > topology.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				t, err := c.Topology(ctx)
				if err != nil {
					return err
				}
				if g.output == "json" {
					enc := json.NewEncoder(cmd.OutOrStdout())
					enc.SetIndent("", "  ")
					return enc.Encode(t.Doc())
				}
				return g.printTopology(cmd.OutOrStdout(), t)
			})
		},
	}
}

func (g *global) printTopology(w io.Writer, t *tiers.Topology) error {
	fmt.Fprintf(w, "federation %s, version %d, %s\n", t.Federation(), t.Version(), count(len(t.Sites()), "site"))
	header := []string{"SITE", "TIER", "NAME", "PARENT", "STATE", "ADDRESSES"}
	if g.output == "wide" {
		header = append(header, "FORMER PARENTS", "KEY")
	}
	var rows [][]string
	for _, s := range t.Sites() {
		state := "active"
		if s.Retired {
			state = "retired"
		}
		var addrs []string
		for _, n := range s.Nodes {
			addrs = append(addrs, n.Addr)
		}
		row := []string{string(s.ID), s.Tier.String(), s.Name, dash(string(s.Parent)), state, dash(strings.Join(addrs, ","))}
		if g.output == "wide" {
			var former []string
			for _, f := range s.Former {
				former = append(former, string(f))
			}
			row = append(row, dash(strings.Join(former, ",")), fmt.Sprintf("%.8x", s.Key))
		}
		rows = append(rows, row)
	}
	return table(w, header, rows)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newTopologyDiff(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "diff FILE [OLD]", Short: "Show what a topology file would change",
		Long: `Compares a topology file with the one that is in force at the node, or with an
older file: which sites are added, retired, moved or otherwise changed.`,
		Example: "  tiermesh topology diff topology.json\n  tiermesh topology diff topology.json old.json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return nil
			}
			return exactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			next, err := readTopology(args[0])
			if err != nil {
				return err
			}
			if len(args) == 2 {
				old, err := readTopology(args[1])
				if err != nil {
					return err
				}
				return g.printDiff(cmd.OutOrStdout(), old, next, old.Diff(next))
			}
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				old, err := c.Topology(ctx)
				if err != nil {
					return err
				}
				return g.printDiff(cmd.OutOrStdout(), old, next, old.Diff(next))
			})
		},
	}
}

func (g *global) printDiff(w io.Writer, old, next *tiers.Topology, d tiers.TopologyDiff) error {
	if g.output == "json" {
		return json.NewEncoder(w).Encode(api.TopologyResult{Base: old.Version(), Version: next.Version(), Diff: d})
	}
	fmt.Fprintf(w, "version %d -> %d\n", old.Version(), next.Version())
	if d.Empty() {
		_, err := fmt.Fprintln(w, "no site changes")
		return err
	}
	name := func(t *tiers.Topology, id tiers.SiteID) string {
		s, _ := t.Site(id)
		return string(id) + " " + s.Name
	}
	var rows [][]string
	for _, id := range d.Added {
		s, _ := next.Site(id)
		rows = append(rows, []string{"added", name(next, id), s.Tier.String() + " under " + name(next, s.Parent)})
	}
	for _, id := range d.Retired {
		rows = append(rows, []string{"retired", name(old, id), "its key opens no link any more"})
	}
	for _, m := range d.Moved {
		rows = append(rows, []string{"moved", name(next, m.Site), name(old, m.From) + " -> " + name(next, m.To)})
	}
	for _, id := range d.Changed {
		rows = append(rows, []string{"changed", name(next, id), "name, key or addresses"})
	}
	return table(w, []string{"WHAT", "SITE", "HOW"}, rows)
}

func newTopologyPublish(g *global) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "publish FILE", Short: "Publish a topology, at the city", Args: exactArgs(1),
		Long: `Checks a topology file against the one in force, shows what it changes, asks for
its version number to be typed, and publishes it. Run it against a node of the
city. The version must rise; keys that the file leaves out are kept.

Before a site is retired, let it show "equal" in the status of its parent: what it
has not sent by then, nobody will take from it.`,
		Example: "  tiermesh topology publish topology.json\n  tiermesh topology publish topology.json --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			next, err := readTopology(args[0])
			if err != nil {
				return err
			}
			return g.client(cmd, func(ctx context.Context, c *api.Client) error { return g.publish(ctx, cmd, c, next, yes) })
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (g *global) publish(ctx context.Context, cmd *cobra.Command, c *api.Client, next *tiers.Topology, yes bool) error {
	old, err := c.Topology(ctx)
	if err != nil {
		return err
	}
	req := api.TopologyRequest{Key: "topology:" + uuid.NewString(), Base: old.Version(), DryRun: true, Topology: next.Doc()}
	plan, err := c.PublishTopology(ctx, req)
	if err != nil {
		return err
	}
	to := cmd.OutOrStdout()
	if g.output == "json" {
		to = cmd.ErrOrStderr()
	}
	table := *g
	table.output = "table"
	if err := table.printDiff(to, old, next, plan.Diff); err != nil {
		return err
	}
	if !yes {
		fmt.Fprintf(cmd.ErrOrStderr(), "type the version, %d, to publish it: ", next.Version())
		line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
		if strings.TrimSpace(line) != fmt.Sprint(next.Version()) {
			return fmt.Errorf("%w: not confirmed, nothing was published%s", errInput, because(err))
		}
	}
	// The operator may have thought about it for longer than the time-out.
	ctx, cancel := context.WithTimeout(cmd.Context(), defaultTimeout)
	defer cancel()
	req.DryRun = false
	done, err := c.PublishTopology(ctx, req)
	if err != nil {
		return err
	}
	if g.output == "json" {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(done)
	}
	_, err = fmt.Fprintf(to, "version %d is published\n", done.Version)
	return err
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return " (" + err.Error() + "; --yes publishes without asking)"
}
