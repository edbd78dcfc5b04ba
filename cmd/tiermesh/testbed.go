package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/testbed/netns"
	"github.com/tiermesh/tiermesh/testbed/report"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/testbed/sim"
)

func newTestbed() *cobra.Command {
	cmd := &cobra.Command{
		Use: "testbed", Short: "Play scenarios of partitions, crashes and damage, and judge what comes of them",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTestbedRun(), newTestbedLint(), newTestbedCity(), newTestbedSim())
	return cmd
}

func newTestbedLint() *cobra.Command {
	return &cobra.Command{
		Use: "lint FILE…", Short: "Check scenarios without playing them", Args: cobra.MinimumNArgs(1),
		Long: `Reads scenarios and names what is wrong with file, line and what would be valid.
Prints how long each lasts, and in which modes it can be played.`,
		Example: "  tiermesh testbed lint testbed/scenarios/*.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			var errs []error
			for _, file := range args {
				s, err := readScenario(file)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				least, most := s.Takes()
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s, waits %s to %s, modes %s\n",
					file, count(len(s.Federation.Sites), "site"), count(len(s.Steps), "step"), least, most, strings.Join(modesOf(s), " "))
			}
			return errors.Join(errs...)
		},
	}
}

func readScenario(file string) (*scenario.Script, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInput, err)
	}
	defer func() { _ = f.Close() }()
	return scenario.Parse(file, f)
}

// testbedRun are the flags of "testbed run".
type testbedRun struct {
	mode   string
	out    string
	seed   uint64
	asJSON bool
}

func newTestbedRun() *cobra.Command {
	t := testbedRun{}
	cmd := &cobra.Command{
		Use: "run FILE…", Short: "Play scenarios and write a report of each", Args: cobra.MinimumNArgs(1),
		Long: `Plays each scenario and judges it: everything that it expects must hold, and no
oracle may find a violation. The same files can be played in several modes:

  sim    virtual time in one process: hours of a federation's life in seconds
  local  real sites in one process, over QUIC on loopback
  netns  real processes, one network namespace each; Linux, as root

Each run writes report.html and report.json to a folder of its own under --out.
Exits with 0 only if every scenario held. A scenario that reaches its own limit is
ended, its report written, and does not hold.`,
		Example: "  tiermesh testbed run testbed/scenarios/*.txt\n  tiermesh testbed run testbed/scenarios/partition.txt --mode netns",
		RunE:    t.run,
	}
	f := cmd.Flags()
	f.StringVar(&t.mode, "mode", "sim", "sim, local or netns")
	f.StringVar(&t.out, "out", "testbed-reports", "folder for the reports")
	f.Uint64Var(&t.seed, "seed", 0, "seed in the place of the scenarios' own; 0 leaves it to them")
	f.BoolVar(&t.asJSON, "json", false, "print each run's report.json as one line")
	return cmd
}

func (t *testbedRun) run(cmd *cobra.Command, files []string) error {
	m, ok := modes[t.mode]
	if !ok {
		return usageError{fmt.Sprintf("no mode %q: want sim, local or netns", t.mode)}
	}
	scripts := make([]*scenario.Script, len(files))
	var errs []error
	for i, file := range files {
		var err error
		if scripts[i], err = readScenario(file); err != nil {
			errs = append(errs, err)
		} else if err = possible(m, scripts[i]); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	held := true
	for _, s := range scripts {
		if t.seed != 0 {
			s.Seed = t.seed
		}
		d, err := t.play(cmd, m, s)
		if err != nil {
			return err
		}
		held = held && d.Holds()
		if cmd.Context().Err() != nil {
			return cmd.Context().Err()
		}
	}
	if !held {
		return errProof
	}
	return nil
}

// play plays one scenario, writes its report and prints what came of it.
func (t *testbedRun) play(cmd *cobra.Command, m mode, s *scenario.Script) (*report.Data, error) {
	p := newRunProgress(cmd.ErrOrStderr(), s.File)
	began := time.Now()
	d, err := m.play(cmd.Context(), s, p)
	p.Done()
	if d == nil {
		return nil, err
	}
	d.Began, d.TookS = began, time.Since(began).Seconds()
	dir := filepath.Join(t.out, strings.TrimSuffix(filepath.Base(s.File), filepath.Ext(s.File))+"-"+t.mode)
	if err := report.Write(dir, d); err != nil {
		return nil, err
	}
	if t.asJSON {
		return d, json.NewEncoder(cmd.OutOrStdout()).Encode(d)
	}
	printRun(cmd.OutOrStdout(), d, dir)
	return d, nil
}

func printRun(w io.Writer, d *report.Data, dir string) {
	verdict := "holds"
	if !d.Holds() {
		verdict = "DOES NOT HOLD"
	}
	fmt.Fprintf(w, "%-14s %s: %s, %d of %d acknowledged, converged in %.1f s, %.0f s played in %.1f s; %s\n",
		verdict, d.File, count(d.Count.Sites, "site"), d.Count.Acknowledged, d.Count.Reported, d.Count.ConvergeS, d.WorldS, d.TookS,
		filepath.Join(dir, "report.html"))
	if d.Failure != "" {
		fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(d.Failure, "\n", "\n  "))
	}
	for _, e := range d.Expected {
		switch {
		case e.Told:
			fmt.Fprintf(w, "  %s:%d: %s: it was %s on this machine, which is no verdict\n", d.File, e.Line, e.Text, e.Got)
		case !e.Holds:
			fmt.Fprintf(w, "  %s:%d: %s: it was %s\n", d.File, e.Line, e.Text, e.Got)
		}
	}
	for _, text := range d.Count.Late {
		fmt.Fprintf(w, "  late on this machine: %s\n", text)
	}
	for i, m := range d.Count.Machine {
		fmt.Fprintf(w, "  the machine %s: %s\n", []string{"before", "after"}[min(i, 1)], m)
	}
	for _, v := range d.Verdicts {
		if !v.Holds() {
			fmt.Fprintf(w, "  oracle %s: %d of %d: %s\n", v.Oracle, v.Violations, v.Checked, strings.Join(v.Examples, "; "))
		}
	}
}

// mode is a level of the testbed.
type mode struct {
	supports func(scenario.ActKind) bool
	// claims says that units can be claimed, for which the API has no command.
	claims bool
	play   func(ctx context.Context, s *scenario.Script, p run.Progress) (*report.Data, error)
}

var modes = map[string]mode{
	"sim":   {(*sim.World)(nil).Supports, true, playSim},
	"local": {(*local.World)(nil).Supports, true, playLocal},
	"netns": {(*netns.World)(nil).Supports, false, playNetns},
}

// modesOf returns the modes in which a scenario can be played.
func modesOf(s *scenario.Script) []string {
	var out []string
	for _, name := range []string{"sim", "local", "netns"} {
		if m, ok := modes[name]; ok && m.refuses(s) == nil {
			out = append(out, name)
		}
	}
	return out
}

// refuses returns the first step of a scenario that the mode cannot play, or nil.
func (m mode) refuses(s *scenario.Script) *scenario.Step {
	for i, st := range s.Steps {
		if a, ok := st.Do.(scenario.Act); ok && !m.supports(a.Kind) {
			return &s.Steps[i]
		}
		if _, ok := st.Do.(scenario.Claim); ok && !m.claims {
			return &s.Steps[i]
		}
	}
	return nil
}

// possible names the first step of a scenario that a mode cannot play.
func possible(m mode, s *scenario.Script) error {
	st := m.refuses(s)
	if st == nil {
		return nil
	}
	return &scenario.Error{
		File: s.File, Line: st.Line,
		Msg: fmt.Sprintf("%s: not possible in this mode; the scenario plays in: %s", st.Do, strings.Join(modesOf(s), " ")),
	}
}

func playLocal(ctx context.Context, s *scenario.Script, p run.Progress) (d *report.Data, err error) {
	dir, err := os.MkdirTemp("", "tiermesh-testbed-")
	if err != nil {
		return nil, fmt.Errorf("directory for the sites: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w := local.NewWorld(dir, slog.New(slog.DiscardHandler))
	d, _ = run.Play(ctx, w, s, run.Options{Mode: "local", RealTime: true, Progress: p}) // the report says why
	return d, w.Close()
}

// netnsStandIn is for how long a parent must be silent in a scenario, so that a
// script need not wait for the patience that a real line deserves.
const netnsStandIn = 5 * time.Second

// playNetns says what the machine lacks before it writes anything.
func playNetns(ctx context.Context, s *scenario.Script, p run.Progress) (d *report.Data, err error) {
	if err := netns.Check(); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tiermesh-testbed-")
	if err != nil {
		return nil, fmt.Errorf("directory for the processes: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w := netns.New(netns.Config{Dir: dir, Command: self, StandInAfter: netnsStandIn})
	d, _ = run.Play(ctx, w, s, run.Options{Mode: "netns", RealTime: true, Progress: p}) // the report says why
	return d, w.Close()
}

// runProgress shows a run.
type runProgress struct {
	*report.Progress
	file string
}

func newRunProgress(w io.Writer, file string) runProgress {
	return runProgress{report.NewProgress(w), file}
}

// Up implements [run.Progress].
func (p runProgress) Up(up, of int) { p.Bar(up, of, "sites of "+p.file+" up") }

// Step implements [run.Progress].
func (p runProgress) Step(line int, text string) {
	if p.Live() {
		p.Line(fmt.Sprintf("  %s:%d: %s", p.file, line, text))
	}
}
