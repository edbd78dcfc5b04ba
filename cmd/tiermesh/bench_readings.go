package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/testbed/bench"
)

func newBenchReadings() *cobra.Command {
	var cfg bench.ReadingsConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use: "readings", Short: "Import readings at one site, and roll days up", Args: exactArgs(0),
		Long: `Imports readings through the whole path of a site: checks, Raft, fsync, series;
one a second of each series. Then asks for the rollup of a day of each, and of a
day of 86,400 readings. day_p99_ms is over 200 days, full_day_ms the median of 21.
With --vital the series are watched against thresholds meanwhile.`,
		Example: "  tiermesh bench readings\n  tiermesh bench readings --n 2000000 --series 1000 --vital --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			remove, err := orTemporary(&cfg.Dir)
			if err != nil {
				return err
			}
			defer remove()
			c, err := bench.Readings(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(c)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s of %d series in batches of %d: %.0f/s, a batch p50 %.2f ms, p99 %.2f ms; a day of %s rolled up in p50 %.2f ms, p99 %.2f ms, one of 86400 in %.2f ms; %.1f bytes of disk each\n",
				count(c.N, "reading"), c.Series, c.Batch, c.OpsS, c.P50MS, c.P99MS, count(c.DayReadings, "reading"), c.DayP50MS, c.DayP99MS, c.FullDayMS, c.BytesReading)
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.N, "n", 1_000_000, "readings")
	f.IntVar(&cfg.Batch, "batch", 1000, "readings an import")
	f.IntVar(&cfg.Series, "series", 100, "series that each batch spreads over")
	f.IntVar(&cfg.Clients, "clients", 8, "how many clients import at once")
	f.BoolVar(&cfg.Vital, "vital", false, "watch the series against thresholds")
	f.StringVar(&cfg.Dir, "dir", "", "an existing, empty directory on the disk to measure; a temporary one when left out")
	f.BoolVar(&asJSON, "json", false, "one JSON object")
	return cmd
}
