package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/testbed/bench"
)

func newBenchDispatch() *cobra.Command {
	var cfg bench.DispatchConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use: "dispatch", Short: "Route events and assign units at one site", Args: exactArgs(0),
		Long: `Gives one site rules and units, and measures three cases, one line each:

  dispatch               route an event by the rules, find the nearest free unit with
                         the skill, claim it through Raft, fsynced, and release it,
                         fsynced as well; as fast as --clients of them go
  dispatch at RATE/s     the same, each event at its time: p50 and p99 are from when
                         it was due until its unit was claimed
  report to task         the whole path at the same rate: from when an event is
                         reported until its task, with a claimed unit, is durable

Each rule is an expression, of which on average half are evaluated for an event.`,
		Example: "  tiermesh bench dispatch --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			remove, err := orTemporary(&cfg.Dir)
			if err != nil {
				return err
			}
			defer remove()
			cfg.Progress = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) }
			w := cmd.OutOrStdout()
			return bench.Dispatch(cmd.Context(), cfg, func(c bench.Case) error {
				if asJSON {
					return json.NewEncoder(w).Encode(c)
				}
				_, err := fmt.Fprintf(w, "%s, %s: %.0f/s, p50 %.2f ms, p99 %.2f ms\n", c.Workload, count(c.Clients, "client"), c.OpsS, c.P50MS, c.P99MS)
				return err
			})
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.N, "n", 50_000, "events of the first case")
	f.IntVar(&cfg.Rules, "rules", 200, "dispatch rules")
	f.IntVar(&cfg.Units, "units", 500, "units, in ten skills")
	f.IntVar(&cfg.Clients, "clients", 64, "how many ask at once in the first case")
	f.Float64Var(&cfg.PerS, "rate", 200, "events a second of the other cases")
	f.DurationVar(&cfg.PacedFor, "for", 10*time.Second, "how long each of the other cases takes")
	f.StringVar(&cfg.Dir, "dir", "", "an existing directory on the disk to measure; a temporary one when left out")
	f.BoolVar(&asJSON, "json", false, "one JSON object a case")
	return cmd
}
