package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
)

// errLost ends a salvage that could not read everything.
var errLost = errors.New("not everything could be read: see above; what was damaged is kept")

func printFindings(w io.Writer, findings []api.ScrubFinding) {
	for _, f := range findings {
		fmt.Fprintln(w, store.Finding(f))
	}
}

func newRepair(g *global) *cobra.Command {
	var config, from string
	cmd := &cobra.Command{
		Use: "repair", Short: "Mend a node's damaged store from the other nodes of its site", Args: exactArgs(0),
		Long: `Scrubs a node and, when something is damaged, gets its store a verified copy of
another node's in its place. The node keeps its identity and its Raft log, goes on
without a restart, and is scrubbed again. With nothing damaged it does nothing.

What was damaged is never deleted: it is moved to a directory "damaged-TIME" in
the node's data directory, with what was found in findings.json. Remove it when
nobody needs it any more.

A node that does not start any more is repaired with --config, while it is down:
from its own snapshot and log where these suffice, or else from another node.

For a site of one node, or when every node is damaged, see "tiermesh salvage".`,
		Example: "  tiermesh repair --timeout 10m\n  tiermesh repair --from 2 --timeout 10m\n  tiermesh repair --config /etc/tiermesh/node.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if config != "" {
				return repairDown(cmd, g, config, from)
			}
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				r, err := c.Repair(ctx, api.RepairRequest{From: from})
				if err != nil {
					return err
				}
				return printRepair(cmd.OutOrStdout(), g, r)
			})
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "the configuration file of a node that is down")
	cmd.Flags().StringVar(&from, "from", "", "the node to copy, by its number (or, while the node runs, a member's identity)")
	return cmd
}

func printRepair(w io.Writer, g *global, r api.RepairReport) error {
	if g.output == "json" {
		if err := json.NewEncoder(w).Encode(r); err != nil {
			return err
		}
	} else {
		printFindings(w, r.Before)
		if r.From == "" {
			fmt.Fprintf(w, "nothing is damaged: nothing was done\n")
			return nil
		}
		fmt.Fprintf(w, "repaired from %s as of entry %d: %s before, %d after, %s; what was damaged is in %s\n",
			r.From, r.Index, count(len(r.Before), "finding"), len(r.After), count(r.Records, "record"), r.Kept)
		printFindings(w, r.After)
	}
	if len(r.After) > 0 {
		return errFindings
	}
	return nil
}

func repairDown(cmd *cobra.Command, g *global, config, from string) error {
	cfg, err := readConfig(config)
	if err != nil {
		return err
	}
	var number uint64
	if from != "" {
		if number, err = strconv.ParseUint(from, 10, 32); err != nil || number == 0 {
			return usagef("--from %q: with --config want a node's number from 1", from)
		}
	}
	found, info, source, err := node.RepairDown(cmd.Context(), cfg, node.Options{}, uint32(number))
	w := cmd.OutOrStdout()
	if g.output != "json" {
		for _, f := range found {
			fmt.Fprintln(w, f)
		}
	}
	if err != nil {
		return err
	}
	if g.output == "json" {
		return json.NewEncoder(w).Encode(map[string]any{"before": found, "from": source, "index": info.Index, "kept": info.Kept})
	}
	_, err = fmt.Fprintf(w, "repaired from %s: start the node; what was damaged is in %s\n", source, info.Kept)
	return err
}

func newSalvage(g *global) *cobra.Command {
	var config, confirm string
	var also []string
	cmd := &cobra.Command{
		Use: "salvage --config CONFIG --confirm SITE", Short: "Save what can be read of a damaged site, while its node is down", Args: exactArgs(0),
		Long: `The way on for a site of one node whose store is damaged, or one whose every node
is. Where the node's own snapshot and log suffice, its store is made of them again
and nothing is lost. Otherwise every chain is read as far as its records verify
and written to a new store, with the outcomes under idempotency keys and the
claims; the site goes on in a new incarnation, so that nothing it writes and no
epoch of a claim can contradict what was. After the start its peers give back
what they hold.

What could not be read is printed: stream, author, sequence numbers. Records that
can be read but stand behind one that cannot are printed, too: they cannot be
verified yet. When peers have given back the missing one, end the node and run it
again with --also and the directory of the damaged store: then they follow.

Everything that was there before is kept in a directory "damaged-TIME" in the data
directory, with report.json. An interrupted salvage goes on when it is run again.

In a site of several nodes, repair from a sound one (tiermesh repair) where there
is any. After a salvage the other nodes must never be started again with their old
directories: give these with --also, then empty them; they join again.`,
		Example: "  tiermesh salvage --config /etc/tiermesh/node.json --confirm 500101\n  tiermesh salvage --config /etc/tiermesh/node.json --confirm 500101 --also /var/lib/tiermesh/500101/damaged-20261125T160000Z/store",
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := confirmed(config, confirm, "salvage")
			if err != nil {
				return err
			}
			info, err := replication.Salvage(cmd.Context(), replication.SalvageConfig{Also: also, RepairConfig: replication.RepairConfig{RecoverConfig: at, Now: time.Now()}})
			if err != nil {
				return err
			}
			return printSalvage(cmd.OutOrStdout(), g, info)
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "the node's configuration file")
	cmd.Flags().StringVar(&confirm, "confirm", "", "the code of the site, typed out")
	cmd.Flags().StringArrayVar(&also, "also", nil, "another store directory of the same site to read besides; may be given several times")
	require(cmd, "config")
	return cmd
}

func printSalvage(w io.Writer, g *global, info replication.SalvageInfo) error {
	if g.output == "json" {
		if err := json.NewEncoder(w).Encode(info); err != nil {
			return err
		}
	} else {
		for _, f := range append(info.Before, info.Damaged...) {
			fmt.Fprintln(w, f)
		}
		for _, gap := range info.Gaps {
			fmt.Fprintf(w, "%s %s records %d to %d: %s\n", gap.Stream, gap.Author, gap.First, gap.Last, gap.What)
		}
		for _, text := range info.Unread {
			fmt.Fprintln(w, text)
		}
		if info.Mended {
			_, err := fmt.Fprintf(w, "mended from the node's own snapshot and log, nothing is lost: start the node; what was damaged is in %s\n", info.Kept)
			return err
		}
		fmt.Fprintf(w, "salvaged %s of %s, %s, %s; incarnation %d: start the node, and its peers give back what they hold; what was damaged is in %s\n",
			count(info.Records, "record"), count(info.Chains, "chain"), count(info.Outcomes, "outcome"), count(info.Claims, "claim"), info.Incarnation, info.Kept)
	}
	if len(info.Gaps)+len(info.Unread) > 0 {
		return errLost
	}
	return nil
}
