package sim_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/testbed/report"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/testbed/sim"
)

// asWorker is the environment's variable that makes this test's program a worker.
const asWorker = "TIERMESH_TEST_SIM"

func TestMain(m *testing.M) {
	switch os.Getenv(asWorker) {
	case "":
		os.Exit(m.Run())
	case "crash":
		fmt.Fprintln(os.Stderr, "out of luck")
		os.Exit(3)
	case "hang":
		select {}
	default:
		sim.Main(os.Stdin, os.Stdout)
	}
}

// worker starts this program as a worker of a kind.
func worker(kind string) []string { return []string{"env", asWorker + "=" + kind, os.Args[0]} }

// parse reads a script.
func parse(t *testing.T, text string) *scenario.Script {
	t.Helper()
	s, err := scenario.Parse("test.txt", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const short = `seed 3
limit 10m
chongqing districts 1 townships 2
report 3 at townships
until converged within 60s
expect lost 0
`

// watcher is a [run.Progress] that counts.
type watcher struct {
	mu                 sync.Mutex // guards the fields below
	up, steps, samples int
}

func (w *watcher) Up(up, _ int)         { w.mu.Lock(); w.up = up; w.mu.Unlock() }
func (w *watcher) Step(int, string)     { w.mu.Lock(); w.steps++; w.mu.Unlock() }
func (w *watcher) Sample(report.Sample) { w.mu.Lock(); w.samples++; w.mu.Unlock() }

// TestRun: a scenario runs in a process of its own, tells how it goes on, reports,
// and leaves no files.
func TestRun(t *testing.T) {
	dir, seen := t.TempDir(), &watcher{}
	data, err := sim.Run(t.Context(), parse(t, short), sim.Options{Command: worker("sim"), Dir: dir, Progress: seen})
	if err != nil {
		t.Fatal(err)
	}
	if !data.Holds() || data.Count.Acknowledged != 3 || data.Mode != sim.Mode || len(data.Verdicts) == 0 {
		t.Errorf("%+v", data)
	}
	if len(data.Expected) != 1 || data.Expected[0].Line != 6 {
		t.Errorf("expected %+v, on line 6", data.Expected)
	}
	if seen.up != 4 || seen.steps != 3 || seen.samples == 0 {
		t.Errorf("progress: %+v", seen)
	}
	if time.Since(data.Began) > time.Hour || data.TookS > 3600 {
		t.Error("it began in virtual time")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestRunFails: a process that crashes, or does not end, is an error that says what
// it said last.
func TestRunFails(t *testing.T) {
	script := parse(t, short)
	data, err := sim.Run(t.Context(), script, sim.Options{Command: worker("crash"), Dir: t.TempDir()})
	if !errors.Is(err, sim.ErrWorker) || !strings.Contains(err.Error(), "out of luck") || data.Holds() {
		t.Errorf("crash: %v", err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New("enough"))
	defer cancel()
	data, err = sim.Run(ctx, parse(t, "limit 300h\nseed 1\nchongqing districts 1 townships 1\nafter 200h\n"), sim.Options{Command: worker("sim"), Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "broken off") || data.Holds() {
		t.Errorf("too long: %v", err)
	}
}
