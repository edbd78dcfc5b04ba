package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tiermesh/tiermesh/testbed/report"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
)

// Mode names this level of the testbed.
const Mode = "sim"

// ErrWorker is wrapped when a run's process ended without a report: it crashed, all
// of its goroutines were blocked for ever, or it took too long.
var ErrWorker = errors.New("sim: the run's process")

// endWait is for how long a run that is broken off may go on to save what it has.
const endWait = 20 * time.Second

// Options are what [Run] needs besides a script.
type Options struct {
	// Command starts a process that calls [Main]: this program and a hidden argument.
	Command []string
	// Dir is where the run keeps its files until it is over; empty means memory, or
	// else the directory for temporary files.
	Dir string
	// Progress is told how the run goes on; may be nil.
	Progress run.Progress
}

// Run plays a script in virtual time, in a process of its own. The report is
// returned also with an error, of a run that broke off as far as it is known. When
// ctx ends, the run is broken off. An error of a process that ended without a
// report wraps [ErrWorker] and ends with what it said last.
func Run(ctx context.Context, s *scenario.Script, o Options) (*report.Data, error) {
	dir, err := os.MkdirTemp(roomFor(o.Dir), "tiermesh-sim-")
	if err != nil {
		return nil, fmt.Errorf("prepare a run: %w", err)
	}
	began := time.Now()
	p := &process{progress: o.Progress, data: &report.Data{
		File: s.File, About: s.About, Mode: Mode, Seed: s.Seed, Script: s.String(),
		Faults: []report.Fault{}, Samples: []report.Sample{}, Expected: []report.Expectation{},
	}}
	r := request{File: s.File, Script: s.String(), Dir: dir}
	for _, st := range s.Steps {
		r.Lines = append(r.Lines, st.Line)
	}
	err = p.run(ctx, o.Command, r)
	p.data.Began, p.data.TookS, p.data.About = began, time.Since(began).Seconds(), s.About
	if s.Source != "" {
		p.data.Script = s.Source
	}
	if err != nil && p.data.Failure == "" {
		p.data.Failure = err.Error()
	}
	return p.data, errors.Join(err, os.RemoveAll(dir))
}

// memoryDir is a file system in memory on Linux. A container's may be far too small
// for a run's files, of which each site writes a few megabytes: memoryMin is enough
// for a whole city.
const (
	memoryDir = "/dev/shm"
	memoryMin = 8 << 30
)

// roomFor returns where a run's directory is made.
func roomFor(dir string) string {
	if dir != "" {
		return dir
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memoryDir, &fs); err == nil && fs.Bavail*uint64(fs.Bsize) >= memoryMin {
		return memoryDir
	}
	return "" // that for temporary files
}

// process is a run's process as its parent sees it.
type process struct {
	progress run.Progress
	data     *report.Data
	ended    bool   // the worker said its last
	failure  string // that it said then
	logs     words
}

func (p *process) run(ctx context.Context, command []string, r request) error {
	cmd := exec.Command(command[0], command[1:]...) //nolint:gosec // this very program
	cmd.Stderr = &p.logs
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: %w", ErrWorker, err)
	}
	over := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { // ends with the process, or a moment after ctx
		select {
		case <-over:
			return
		case <-ctx.Done():
		}
		_ = in.Close() // which tells it to end
		select {
		case <-over:
		case <-time.After(endWait):
			_ = cmd.Process.Kill() // it may have ended just now
		}
	})
	err = json.NewEncoder(in).Encode(r)
	if err == nil {
		p.listen(out)
	}
	_ = in.Close()
	waited := cmd.Wait()
	close(over)
	watch.Wait()
	switch {
	case p.ended && p.failure != "":
		return errors.New(p.failure)
	case p.ended:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%w was broken off: %w: %s", ErrWorker, context.Cause(ctx), p.logs.String())
	default:
		return fmt.Errorf("%w ended: %w: %s", ErrWorker, errors.Join(err, waited), p.logs.String())
	}
}

// listen takes a worker's lines until there are no more.
func (p *process) listen(out io.Reader) {
	dec := json.NewDecoder(out)
	for {
		var m message
		if dec.Decode(&m) != nil {
			_, _ = io.Copy(io.Discard, out)
			return
		}
		switch {
		case m.Data != nil || m.Error != "":
			p.ended, p.failure = true, m.Error
			if m.Data != nil {
				p.data = m.Data
			}
		case m.Sample != nil:
			p.data.Samples = append(p.data.Samples, *m.Sample)
		}
		p.pass(m)
	}
}

// pass passes progress on.
func (p *process) pass(m message) {
	switch {
	case p.progress == nil:
	case m.Of > 0:
		p.progress.Up(m.Up, m.Of)
	case m.Step != "":
		p.progress.Step(m.Line, m.Step)
	case m.Sample != nil:
		p.progress.Sample(*m.Sample)
	}
}

// wordsBytes bounds each end of what [words] keeps.
const wordsBytes = 6 << 10

// words keeps the beginning and the end of what is written to it: a crash says why
// first, a log last.
type words struct {
	first, last []byte
}

// Write implements [io.Writer].
func (w *words) Write(b []byte) (int, error) {
	n := min(len(b), wordsBytes-len(w.first))
	w.first = append(w.first, b[:n]...)
	w.last = append(w.last, b[n:]...)
	if over := len(w.last) - wordsBytes; over > 0 {
		w.last = append(w.last[:0], w.last[over:]...)
	}
	return len(b), nil
}

// String returns what is kept.
func (w *words) String() string {
	between := ""
	if len(w.last) == wordsBytes {
		between = "\n…\n"
	}
	return strings.TrimSpace(string(w.first) + between + string(w.last))
}
