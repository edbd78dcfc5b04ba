package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/testbed/demo"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/testbed/report"
)

func newDemo() *cobra.Command {
	cfg := demo.Config{}
	var asJSON, serve bool
	var input string
	cmd := &cobra.Command{
		Use: "demo", Short: "Play the main job on real input, and prove it", Args: exactArgs(0),
		Long: `Starts one city, districts and townships in this process, each a full site with
its own directory and QUIC port on loopback, and plays: publish, report and
dispatch, cut a district off and isolate a township, edit one track in conflict,
kill and restart the isolated township, which signs for a task that its district
takes over, and measures a water level whose alert becomes an event and a task. The
city gives all townships an order, and shows since when it is undelivered at those
that it cannot reach. Still cut: a bundle carries what the isolated township wrote
to its district as a file, the city stands in for another township's silent
district, a third township gets another parent, a fourth comes back from an old
copy of its disk. Then the links heal, who lost the task stands down, every township
acknowledges and executes the order, both ends of each link sign that they hold the
same, and every site is compared. Exits with 0 only if nothing was lost, duplicated,
diverged or outside its audience, the conflict is visible wherever it should be, and
each step ended as it should. The certificates are in the
directory's certificates/, with the topology that "tiermesh sync verify" takes. A
step that the sizes leave no township for is not played, and counts 0 of 0.`,
		Example: "  tiermesh demo\n  tiermesh demo --json --events 1200\n  tiermesh demo --dir ./demo --serve",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if input != "" {
				f, err := os.Open(input)
				if err != nil {
					return fmt.Errorf("%w: %w", errInput, err)
				}
				defer func() { _ = f.Close() }()
				cfg.Input = f
			}
			cfg.API = serve
			remove, err := orTemporary(&cfg.Dir)
			if err != nil {
				return err
			}
			defer remove()
			return runDemo(cmd, cfg, asJSON, serve)
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Events, "events", 1200, "service requests to report")
	f.IntVar(&cfg.Townships, "townships", 6, "townships, dealt out to the districts")
	f.IntVar(&cfg.Districts, "districts", 2, "districts")
	f.StringVar(&cfg.Dir, "dir", "", "directory to keep the sites in; a temporary one when left out")
	f.Uint64Var(&cfg.Seed, "seed", 1, "varies which township reports which request")
	f.StringVar(&input, "input", "", "CSV file of requests in the format of NYC's 311; the built-in one when left out")
	f.BoolVar(&asJSON, "json", false, "print the closing table as one JSON object")
	f.BoolVar(&serve, "serve", false, "stay up afterwards and print each site's API address")
	return cmd
}

func runDemo(cmd *cobra.Command, cfg demo.Config, asJSON, serve bool) (err error) {
	p := report.NewProgress(cmd.ErrOrStderr())
	cfg.Progress = p
	began := time.Now()
	table, cluster, err := demo.Run(cmd.Context(), cfg)
	p.Done()
	if cluster != nil {
		defer func() { err = errors.Join(err, cluster.Close()) }()
	}
	if err != nil {
		return err
	}
	if asJSON {
		if err := json.NewEncoder(cmd.OutOrStdout()).Encode(table); err != nil {
			return err
		}
	} else {
		printTable(cmd.OutOrStdout(), table, time.Since(began))
	}
	if serve {
		if err := serveDemo(cmd.Context(), cmd.ErrOrStderr(), cluster); err != nil {
			return err
		}
	}
	if !table.Holds() {
		return errProof
	}
	return nil
}

func printTable(w io.Writer, t demo.Table, took time.Duration) {
	verdict := "holds"
	if !t.Holds() {
		verdict = "DOES NOT HOLD"
	}
	for _, row := range []struct {
		name string
		text string
	}{
		{"sites", fmt.Sprint(t.Sites)},
		{"reported", fmt.Sprint(t.Reported)},
		{"acknowledged", fmt.Sprint(t.Acknowledged)},
		{"dispatched", fmt.Sprint(t.Dispatched)},
		{"quarantined rows", fmt.Sprint(t.Quarantined)},
		{"lost", fmt.Sprint(t.Lost)},
		{"duplicated", fmt.Sprint(t.Duplicated)},
		{"diverged documents", fmt.Sprint(t.Diverged)},
		{"conflict shown at", fmt.Sprintf("%d of %s", t.Conflicts, count(t.ConflictSites, "site"))},
		{"task assigned twice", fmt.Sprintf("settled at %d of %s: one custodian, the other stood down; %s of custody", t.ContestSettled, count(t.ContestSites, "site"), count(t.CustodyViolations, "violation"))},
		{"threshold alert", fmt.Sprintf("its event and task are at %d of %s", t.Alerted, count(t.AlertSites, "site"))},
		{"order to townships", fmt.Sprintf("delivered to, acknowledged and executed by %d of %d; before the heal %d of %d out of reach were shown undelivered", t.OrderExecuted, t.OrderTargets, t.OrderWaited, t.OrderAway)},
		{"audience violations", fmt.Sprint(t.Violations)},
		{"carried as a file", fmt.Sprintf("%s; %d of %d urgent events known before a link returned", count(t.BundleRecords, "record"), t.BundleKnown, t.BundleUrgent)},
		{"carried twice", fmt.Sprintf("%s by the file again, %d by the link", count(t.BundleAgain, "record"), t.BundleResent)},
		{"city stood in for", fmt.Sprintf("%d of %d silent districts; %d went back", t.StoodIn, t.StandIns, t.WentBack)},
		{"moved while cut off", fmt.Sprintf("%d of %s, with their whole history", t.Moved, count(t.Moves, "township"))},
		{"rollbacks found", fmt.Sprintf("%d of %d, with nothing lost", t.RolledBack, t.Restored)},
		{"links proven", fmt.Sprintf("%d of %d, signed by both ends", t.Proven, t.Links)},
		{"converged after heal", fmt.Sprintf("%.2f s", t.ConvergeS)},
		{"the machine then", t.Machine.String()},
		{"wire bytes since heal", fmt.Sprintf("%d, for %s of records that were needed", t.WireBytes, count(t.NeededBytes, "byte"))},
		{"proof", fmt.Sprintf("%s, after %.1f s", verdict, took.Seconds())},
	} {
		fmt.Fprintf(w, "%-22s %s\n", row.name, row.text)
	}
}

func serveDemo(ctx context.Context, w io.Writer, c *local.Cluster) error {
	fmt.Fprintln(w, "\nserving; stop with Ctrl-C. Try: tiermesh status --api ADDRESS")
	for _, s := range c.Topology().Sites() {
		fmt.Fprintf(w, "%-10s %-9s %s  %s\n", s.ID, s.Tier, c.API(s.ID), s.Name)
	}
	<-ctx.Done()
	return nil
}
