package sim

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
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/testbed/report"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
)

// request is what a worker is told: one JSON document on its standard input, which
// stays open until the run is over or to be broken off.
type request struct {
	File   string `json:"file"`
	Script string `json:"script"`
	// Lines are the line numbers of the steps where they were read.
	Lines []int  `json:"lines"`
	Dir   string `json:"dir"`
}

// message is one line of a worker's standard output: progress, or the end.
type message struct {
	Up     int            `json:"up,omitempty"`
	Of     int            `json:"of,omitempty"`
	Line   int            `json:"line,omitempty"`
	Step   string         `json:"step,omitempty"`
	Sample *report.Sample `json:"sample,omitempty"`
	Data   *report.Data   `json:"data,omitempty"`
	Error  string         `json:"error,omitempty"`
}

// play plays a script on a world.
var play = run.Play

// Main is the process of one simulated run. It does not return: a bubble needs a
// test, and package testing ends the process after it.
func Main(in io.Reader, out io.Writer) {
	w := &worker{in: json.NewDecoder(in), out: json.NewEncoder(out)}
	os.Stdout = os.Stderr // where package testing says that it passed
	os.Args = os.Args[:1]
	all := func(string, string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "sim", F: w.run}}, nil, nil)
}

// worker runs one scenario.
type worker struct {
	in  *json.Decoder
	end atomic.Bool // the run is to be broken off

	mu  sync.Mutex // guards out
	out *json.Encoder
}

var _ run.Progress = (*worker)(nil)

func (w *worker) say(m message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.out.Encode(m) // that nobody hears it ends the run by its input
}

// Up implements [run.Progress].
func (w *worker) Up(up, of int) { w.say(message{Up: up, Of: of}) }

// Step implements [run.Progress].
func (w *worker) Step(line int, text string) { w.say(message{Line: line, Step: text}) }

// Sample implements [run.Progress].
func (w *worker) Sample(s report.Sample) { w.say(message{Sample: &s}) }

func (w *worker) run(t *testing.T) {
	var r request
	if err := w.in.Decode(&r); err != nil {
		w.say(message{Error: fmt.Sprintf("read the request: %v", err)})
		return
	}
	go func() { // ends with the process
		var rest request
		_ = w.in.Decode(&rest)
		w.end.Store(true)
		// A bubble whose time stands still ends by nothing else, also when whoever
		// started this process is gone.
		<-time.After(2 * endWait)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}()
	script, err := scenario.Parse(r.File, strings.NewReader(r.Script))
	if err != nil {
		w.say(message{Error: err.Error()})
		return
	}
	for i := range min(len(r.Lines), len(script.Steps)) {
		script.Steps[i].Line = r.Lines[i]
	}
	Bubble(t, func(t *testing.T) {
		data, err := w.played(t.Context(), script, r.Dir)
		m := message{Data: data}
		if err != nil {
			m.Error = err.Error()
		}
		w.say(m)
	})
}

// errBrokenOff is the cause that ends a run of which nobody waits for the end.
var errBrokenOff = errors.New("sim: the run was broken off")

// played plays the script in a new world.
func (w *worker) played(ctx context.Context, s *scenario.Script, dir string) (*report.Data, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // ends with ctx
		// A channel of outside the bubble would hold up its time.
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for !w.end.Load() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
		cancel(errBrokenOff)
	}()
	world := New(Config{
		Dir: filepath.Join(dir, "world"), Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	data, err := play(ctx, world, s, run.Options{Mode: Mode, Progress: w})
	return data, errors.Join(err, world.Close())
}
