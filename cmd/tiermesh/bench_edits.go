package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/testbed/bench"
)

func newBenchEdits() *cobra.Command {
	var cfg bench.EditsConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use: "edits", Short: "Edit one document over and over", Args: exactArgs(0),
		Long: `Corrects the title and the place of one event of a district, one edit after the
other through its API, with its city linked. first_ms and last_ms are the
processor time of an edit at both sites and their workers, as means over the
first and the last edits; ratio is the one over the other. An edit should cost
no more when there were many before it: ratio at most 2. reopened_ms is the first
edit after both sites were started again, which reads the whole history once.`,
		Example: "  tiermesh bench edits --n 10000 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			remove, err := orTemporary(&cfg.Dir)
			if err != nil {
				return err
			}
			defer remove()
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			cfg.Engine = []string{self, "engine"}
			cfg.Progress = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) }
			c, err := bench.Edits(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(c)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s of one document: processor %.2f ms an edit at first, %.2f ms at last, ratio %.2f; p50 %.2f ms, p99 %.2f ms\n",
				count(c.N, "edit"), c.FirstMS, c.LastMS, c.Ratio, c.P50MS, c.P99MS)
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.N, "n", 10_000, "edits, 2 to 40000")
	f.StringVar(&cfg.Dir, "dir", "", "an existing directory on the disk to measure; a temporary one when left out")
	f.BoolVar(&asJSON, "json", false, "one JSON object")
	return cmd
}
