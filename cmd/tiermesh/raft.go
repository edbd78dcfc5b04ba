package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication"
)

func newRaft(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "raft", Short: "The nodes of a site: form a group, look at it, change it",
		Long: `A site of 1, 3 or 5 nodes goes on while a majority of them reach each other.

To form one: write all nodes into the topology, run "tiermesh raft init" at one
of them, and start all. The first node adds the others by itself, as non-voters,
and gives them a vote when they have caught up.

A member is a disk, not a machine: its identity is the node's number and a random
part that is made with its directory. When a disk is lost, start the node with an
empty directory and remove the lost member: the node joins again by itself.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newRaftInit(), newRaftMembers(g),
		newRaftChange(g, "add NODE HOST:PORT", "Add a node that the topology does not list", 2,
			"Adds the node as a non-voter. Its disk must be new; promote it when it has caught up.",
			"  tiermesh raft add 4 10.0.0.4:7100", func(args []string) (api.MemberChange, error) {
				n, err := strconv.ParseUint(args[0], 10, 32)
				if err != nil || n == 0 {
					return api.MemberChange{}, usagef("node %q: want a number from 1", args[0])
				}
				return api.MemberChange{Do: api.MemberAdd, Node: uint32(n), Addr: args[1]}, nil
			}),
		newRaftChange(g, "remove MEMBER", "Take a member out of the group for good", 1,
			"MEMBER is an identity such as 2-9f3a01c7, or a node's number when only one\nmember has it. The disk never gets a vote again; to take the node in again, empty\nits directory.",
			"  tiermesh raft remove 2-9f3a01c7", byID(api.MemberRemove)),
		newRaftChange(g, "promote MEMBER", "Give a non-voter a vote", 1,
			"Refused while the member is behind.", "  tiermesh raft promote 4", byID(api.MemberPromote)),
		newRaftChange(g, "transfer [MEMBER]", "Hand the leadership over", -1,
			"Without a member, whoever is most up to date gets it. The command waits until the\nmember leads, and shows it; it fails when another one does.", "  tiermesh raft transfer\n  tiermesh raft transfer 2", byID(api.MemberTransfer)),
		newRaftChange(g, "upgrade", "Let the site write the newest format that all its nodes read", 0,
			"A site's nodes may have different builds while they are brought to a new one, node\nby node. They write what the oldest reads, and may go back, until the site's format\nrises: by itself, some time after the last node has the new build (upgrade_after in\nthe configuration), or by this command. Then a node with an older build is refused\nby name, as a member, voter and leader. \"tiermesh raft members\" shows which format\neach reads, and the site's.",
			"  tiermesh raft upgrade", byID(api.MemberUpgrade)),
	)
	return cmd
}

func byID(do string) func([]string) (api.MemberChange, error) {
	return func(args []string) (api.MemberChange, error) {
		c := api.MemberChange{Do: do}
		if len(args) > 0 {
			c.ID = args[0]
		}
		return c, nil
	}
}

func newRaftInit() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use: "init --config CONFIG", Short: "Let a node with an empty directory start a new site", Args: exactArgs(0),
		Long: `Prepares the data directory that the configuration names, so that the node starts
a new group of itself alone; the site's other nodes join it. Run it once, at one
node of a new site. A site of one node does not need it.`,
		Example: "  tiermesh raft init --config /etc/tiermesh/node.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := readConfig(config)
			if err != nil {
				return err
			}
			if err := cfg.Validate(); err != nil {
				return err
			}
			if err := replication.Init(cfg.Dir); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is ready: start the node\n", cfg.Dir)
			return err
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "the node's configuration file")
	require(cmd, "config")
	return cmd
}

func newRaftMembers(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "members", Short: "List the site's members and how far each is", Args: exactArgs(0),
		Long: `Lists the members as this node knows them, and asks each how far it is. Members
with equal APPLIED and unequal DIGEST hold different data: run tiermesh scrub.
FORMAT is what the site writes, of what the member's build reads at most.`,
		Example: "  tiermesh raft members\n  tiermesh raft members -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				members, err := c.Members(ctx)
				if err != nil {
					return err
				}
				return g.printMembers(cmd, members...)
			})
		},
	}
}

func newRaftChange(g *global, use, short string, args int, long, example string, change func([]string) (api.MemberChange, error)) *cobra.Command {
	want := exactArgs(args)
	if args < 0 {
		want = cobra.MaximumNArgs(1)
	}
	return &cobra.Command{
		Use: use, Short: short, Long: short + ".\n\n" + long, Example: example, Args: want,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := change(args)
			if err != nil {
				return err
			}
			return g.client(cmd, func(ctx context.Context, client *api.Client) error {
				m, err := client.ChangeMember(ctx, c)
				if err != nil {
					return err
				}
				if m.Role == "" { // it is gone, or nobody was named
					_, err = fmt.Fprintln(cmd.OutOrStdout(), "done")
					return err
				}
				return g.printMembers(cmd, m)
			})
		},
	}
}

func (g *global) printMembers(cmd *cobra.Command, members ...api.MemberStatus) error {
	w := cmd.OutOrStdout()
	if g.output == "json" {
		return json.NewEncoder(w).Encode(api.MemberList{Members: members})
	}
	rows := make([][]string, len(members))
	for i, m := range members {
		rows[i] = []string{m.ID, fmt.Sprint(m.Node), m.Role, m.Addr, "", "", "", "", m.Error}
		if m.Info != nil {
			rows[i][4], rows[i][5], rows[i][6] = fmt.Sprint(m.Info.Applied), fmt.Sprint(m.Info.Term), m.Info.Digest[:12]
			rows[i][7] = fmt.Sprintf("%d of %d", m.Info.SiteFormat, m.Info.Format)
		}
	}
	return table(w, []string{"MEMBER", "NODE", "ROLE", "ADDRESS", "APPLIED", "TERM", "DIGEST", "FORMAT", "ERROR"}, rows)
}
