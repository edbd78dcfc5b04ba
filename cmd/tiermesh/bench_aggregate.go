package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/testbed/bench"
)

func newBenchAggregate() *cobra.Command {
	var cfg bench.AggregateConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use: "aggregate", Short: "Ask a city that holds many events for the view of all its sites", Args: exactArgs(0),
		Long: `Fills a city's store with events in the streams of the 1,070 real sites, and asks
for the view of the whole city by area, site, type, track and state. p50_ms and
p99_ms are of the kind that takes longest. The baseline reads every event's view
and counts; equal says that both came to the same numbers for every site, else the
benchmark fails.`,
		Example: "  tiermesh bench aggregate --json\n  tiermesh bench aggregate --n 100000 --open 100",
		RunE: func(cmd *cobra.Command, _ []string) error {
			remove, err := orTemporary(&cfg.Dir)
			if err != nil {
				return err
			}
			defer remove()
			cfg.Progress = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) }
			c, err := bench.Aggregate(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(c)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s of %s, %d open: a view of the city p50 %.2f ms, p99 %.2f ms; reading all %.0f ms, the same numbers\n",
				count(c.N, "event"), count(c.Sites, "site"), c.Open, c.P50MS, c.P99MS, c.BaselineMS)
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.N, "n", 1_000_000, "events")
	f.IntVar(&cfg.OpenPercent, "open", 10, "how many of a hundred events are open")
	f.StringVar(&cfg.Dir, "dir", "", "an existing, empty directory on the disk to measure; a temporary one when left out")
	f.BoolVar(&asJSON, "json", false, "one JSON object")
	return cmd
}
