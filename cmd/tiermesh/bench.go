package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/testbed/bench"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure sites and links on this machine",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchWrites(), newBenchDispatch(), newBenchSite(), newBenchCatchup(), newBenchFanin(), newBenchDiff(), newBenchLive(), newBenchUrgent(), newBenchReadings(), newBenchAggregate(), newBenchEdits(), newBenchWorker())
	return cmd
}

func newBenchWrites() *cobra.Command {
	var cfg bench.WritesConfig
	var clients string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "writes", Short: "Report events through the whole path of a site", Args: exactArgs(0),
		Long: `Reports events of about 600 bytes of JSON through the whole path of a site:
validation, Automerge, Raft, fsync, acknowledgement. With --baseline, each case
is followed by bare hashicorp/raft on raft-boltdb with the same bytes and a
state machine that does nothing; ratio is the one over the other. One line a
case; views_behind_s is how long after the last write the last view was ready.`,
		Example: "  tiermesh bench writes --baseline\n  tiermesh bench writes --clients 64 --n 100000 --via api --json",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			for part := range strings.SplitSeq(clients, ",") {
				n, err := strconv.Atoi(strings.TrimSpace(part))
				if err != nil {
					return usagef("--clients %q: want numbers such as 1,16,64", clients)
				}
				cfg.Clients = append(cfg.Clients, n)
			}
			remove, err := orTemporary(&cfg.Dir)
			if err != nil {
				return err
			}
			defer remove()
			cfg.Progress = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) }
			w := cmd.OutOrStdout()
			return bench.Writes(cmd.Context(), cfg, func(c bench.Case) error {
				if asJSON {
					return json.NewEncoder(w).Encode(c)
				}
				_, err := fmt.Fprintf(w, "%s, %s: %.0f/s, p50 %.2f ms, p99 %.2f ms, baseline %.0f/s, ratio %.2f, views %.2f s behind\n",
					c.Workload, count(c.Clients, "client"), c.OpsS, c.P50MS, c.P99MS, c.BaselineOpsS, c.Ratio, c.ViewsS)
				return err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&clients, "clients", "1,16,64", "how many clients write at once, one case each")
	f.IntVar(&cfg.N, "n", 10_000, "events a case")
	f.IntVar(&cfg.Nodes, "nodes", 1, "nodes of the site, all on this machine: 1, 3 or 5")
	f.StringVar(&cfg.Via, "via", bench.ViaProcess, "process (calls), api (each client has a feed on the Unix socket) or request (each event is a request there)")
	f.BoolVar(&cfg.Baseline, "baseline", false, "measure bare Raft in the same run")
	f.StringVar(&cfg.Dir, "dir", "", "an existing directory on the disk to measure; a temporary one when left out")
	f.BoolVar(&asJSON, "json", false, "one JSON object a case")
	return cmd
}
