package sim_test

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/testbed/report"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/testbed/sim"
)

// number is an environment variable's number, or what it is without.
func number(t *testing.T, name string, without uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return without
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

const (
	runMax    = 90 * time.Second // of a processor, for one run: on a busy machine it takes longer
	shrinkMax = 5 * time.Minute  // of real time, for one that hangs, and for shrinking one
	processes = 2
)

// TestRandom plays random scripts, from TIERMESH_SIM_SEED on and so many as
// TIERMESH_SIM_RUNS says. It prints the seed, the script and the smallest part of
// it that fails.
func TestRandom(t *testing.T) {
	seed, runs := number(t, "TIERMESH_SIM_SEED", 1), number(t, "TIERMESH_SIM_RUNS", 4)
	var g errgroup.Group // each goroutine ends with its run
	g.SetLimit(processes)
	var done, failed atomic.Uint64
	began := time.Now()
	for n := range runs {
		g.Go(func() error {
			script := sim.Random(seed + n)
			if why := failure(t, script); why != "" {
				failed.Add(1)
				t.Logf("seed %d: %s\n%s", seed+n, why, script)
				ctx, cancel := context.WithTimeout(t.Context(), shrinkMax)
				defer cancel()
				small := sim.Shrink(ctx, script, func(s *scenario.Script) bool { return failure(t, s) != "" })
				t.Errorf("seed %d: of this remain, with %s:\n%s", seed+n, failure(t, small), small)
			}
			if n := done.Add(1); n%10 == 0 {
				t.Logf("%d of %d runs, %d failed, %v", n, runs, failed.Load(), time.Since(began).Round(time.Second))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// failure runs a script and says what is wrong, or "". A part of a script may be
// none any more: that is no failure.
func failure(t *testing.T, s *scenario.Script) string {
	t.Helper()
	if _, err := scenario.Parse(s.File, strings.NewReader(s.String())); err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), shrinkMax, fmt.Errorf("it took longer than %v", shrinkMax))
	defer cancel()
	limited := fmt.Sprintf(`ulimit -t %d; exec "$@"`, int(runMax/time.Second))
	data, err := sim.Run(ctx, s, sim.Options{Command: append([]string{"sh", "-c", limited, "sh"}, worker("sim")...)})
	if err != nil {
		return err.Error()
	}
	return wrong(data)
}

// wrong says what a report found, or "".
func wrong(d *report.Data) string {
	var out []string
	for _, e := range d.Expected {
		if !e.Holds {
			out = append(out, fmt.Sprintf("%s: got %s", e.Text, e.Got))
		}
	}
	for _, v := range d.Verdicts {
		if !v.Holds() {
			out = append(out, fmt.Sprintf("%s: %d violations: %q", v.Oracle, v.Violations, v.Examples))
		}
	}
	if d.Failure != "" {
		out = append(out, d.Failure)
	}
	return strings.Join(out, "\n")
}

// TestRandomParses: a random script is one, follows from its seed, and keeps its
// ending without any step before.
func TestRandomParses(t *testing.T) {
	for seed := range uint64(300) {
		s := sim.Random(seed)
		got, err := scenario.Parse(s.File, strings.NewReader(s.String()))
		if err != nil {
			t.Fatalf("%v\n%s", err, s)
		}
		if got.String() != s.String() || !reflect.DeepEqual(sim.Random(seed), s) {
			t.Fatalf("seed %d: %s\nis read as\n%s", seed, s, got)
		}
		end := sim.Ending(s)
		bare := *s
		bare.Steps = s.Steps[len(s.Steps)-end:]
		if _, err := scenario.Parse(s.File, strings.NewReader(bare.String())); err != nil || end >= len(s.Steps) {
			t.Fatalf("%d of %d steps end it: %v", end, len(s.Steps), err)
		}
	}
}

// TestShrink: of a script that fails for two steps, those two are left, and the
// ending.
func TestShrink(t *testing.T) {
	s := sim.Random(7)
	steps := len(s.Steps) - sim.Ending(s)
	a, b := s.Steps[2].Do, s.Steps[steps-2].Do
	has := func(s *scenario.Script, c scenario.Command) bool {
		return slices.ContainsFunc(s.Steps, func(st scenario.Step) bool { return st.Do == c })
	}
	small := sim.Shrink(t.Context(), s, func(s *scenario.Script) bool { return has(s, a) && has(s, b) })
	if n := len(small.Steps) - sim.Ending(s); n != 2 || !has(small, a) || !has(small, b) {
		t.Errorf("%d steps are left of %d:\n%s", n, steps, small)
	}
}
