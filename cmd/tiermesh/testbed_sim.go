package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/testbed/report"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/testbed/sim"
)

// newTestbedSim is the process of one simulated run, which playSim starts.
func newTestbedSim() *cobra.Command {
	return &cobra.Command{
		Use: "sim-worker", Hidden: true, Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { sim.Main(cmd.InOrStdin(), raw(cmd.OutOrStdout())) },
	}
}

// playSim plays a scenario in virtual time, in a process of its own.
func playSim(ctx context.Context, s *scenario.Script, p run.Progress) (*report.Data, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return sim.Run(ctx, s, sim.Options{Command: []string{self, "testbed", "sim-worker"}, Progress: p})
}
