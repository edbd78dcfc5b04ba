package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/testbed/city"
	"github.com/tiermesh/tiermesh/testbed/report"
)

func newTestbedCity() *cobra.Command {
	cfg := city.Config{}
	var asJSON bool
	cmd := &cobra.Command{
		Use: "city", Short: "Play all of Chongqing in this process, and judge it", Args: exactArgs(0),
		Long: `Starts every site of the city in this process, each with its own Raft log, store
and QUIC port on loopback: the city, its districts and 1,031 townships. The city
publishes its catalog and every township reports. What a site costs is measured
while nothing happens. Ten districts with their townships are cut off, and both
sides go on reporting; the links heal. Then 47 townships change their district
while 10 of them are isolated, and these rejoin. Every site is read back. Needs 4
GB of memory, 2 GB of disk and some 18,000 open files, and takes some minutes.
Exits with 0 only if nothing was lost, differs or lacks. Times, memory and processor
time depend on the machine: they are shown beside what a fixed piece of work took
at that moment, and are no verdict.`,
		Example: "  tiermesh testbed city\n  tiermesh testbed city --json --dir ./city",
		RunE: func(cmd *cobra.Command, _ []string) error {
			remove, err := orTemporary(&cfg.Dir)
			if err != nil {
				return err
			}
			defer remove()
			p := report.NewProgress(cmd.ErrOrStderr())
			cfg.Progress = p
			table, err := city.Run(cmd.Context(), cfg)
			p.Done()
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(table)
			} else {
				printCity(cmd.OutOrStdout(), table)
			}
			if missed := table.Missed(); err == nil && len(missed) > 0 {
				return fmt.Errorf("%w: %s", errProof, strings.Join(missed, "; "))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Dir, "dir", "", "empty directory to keep the sites in; a temporary one when left out")
	f.BoolVar(&asJSON, "json", false, "print what came of it as one JSON object")
	return cmd
}

func printCity(w io.Writer, t city.Table) {
	for _, row := range []struct{ name, text string }{
		{"sites", fmt.Sprint(t.Sites)},
		{"up and linked after", fmt.Sprintf("%.1f s", t.StartS)},
		{"most memory in use", fmt.Sprintf("%.0f MB", t.RSSMB)},
		{"acknowledged", fmt.Sprintf("%d of %s", t.Acknowledged, count(t.Reported, "report"))},
		{"lost", fmt.Sprint(t.Lost)},
		{"diverged", fmt.Sprint(t.Diverged)},
		{"audience violations", fmt.Sprint(t.Violations)},
		{"converged after heal", fmt.Sprintf("%.1f s", t.ConvergeS)},
		{"moved", fmt.Sprintf("%d of %s, the last %.1f s after it rejoined", t.Moved, count(t.Moves, "township"), t.ReorgConvergeS)},
		{"an idle site", fmt.Sprintf("%.2f MB of memory, %.3f ms of processor time a second", t.IdleMB, t.IdleCPUMS)},
		{"wire bytes", fmt.Sprintf("%d, for %s of batches that were needed", t.WireBytes, count(t.NeededBytes, "byte"))},
		{"the machine, at first", t.Machine.Start.String()},
		{"while idle", t.Machine.Idle.String()},
		{"at the end", t.Machine.End.String()},
		{"took", fmt.Sprintf("%.0f s", t.TookS)},
	} {
		fmt.Fprintf(w, "%-22s %s\n", row.name, row.text)
	}
}
