package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
)

// Bounds of a batch: what waits is sent together up to these.
const (
	batchJobs  = 64
	batchBytes = 1 << 20
	// queueJobs is how many jobs wait; a caller with one more waits itself.
	queueJobs = 256
)

// WorkersConfig says how to run worker processes.
type WorkersConfig struct {
	// Command starts a worker: a program and its arguments, which calls [Work]
	// on its standard input and output.
	Command []string
	// Processes is how many run at once; zero means 1.
	Processes int
	// Timeout is how long a batch may take; zero means 10 s. Then the worker is
	// killed.
	Timeout time.Duration
	Logger  *slog.Logger
}

func (c WorkersConfig) withDefaults() WorkersConfig {
	if c.Processes == 0 {
		c.Processes = 1
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Workers are processes that carry out jobs of the library, so that a document
// that kills it, or keeps it busy for ever, stops only itself. A process is
// started when there is something to do and replaced when it dies. It is safe
// for concurrent use.
type Workers struct {
	cfg   WorkersConfig
	jobs  chan *call
	ctx   context.Context
	stop  context.CancelFunc
	loops sync.WaitGroup
}

// call is a job and, later, what it came to.
type call struct {
	job  job
	data []byte
	err  error
	done chan struct{}
}

// NewWorkers returns workers; the caller must Close them.
func NewWorkers(cfg WorkersConfig) *Workers {
	w := &Workers{cfg: cfg.withDefaults(), jobs: make(chan *call, queueJobs)}
	w.ctx, w.stop = context.WithCancel(context.Background())
	for range w.cfg.Processes {
		w.loops.Go(w.loop) // ends with Close
	}
	return w
}

// Close ends the processes and waits for them. Jobs under way fail with
// [crdt.ErrUnavailable]. It is idempotent.
func (w *Workers) Close() error {
	w.stop()
	w.loops.Wait()
	return nil
}

var errClosing = fmt.Errorf("%w: the engine's workers are closed", crdt.ErrUnavailable)

// run implements runner.
func (w *Workers) run(ctx context.Context, j job) ([]byte, error) {
	c := &call{job: j, done: make(chan struct{})}
	select {
	case w.jobs <- c:
	case <-w.ctx.Done():
		return nil, errClosing
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", crdt.ErrUnavailable, context.Cause(ctx))
	}
	select {
	case <-c.done:
		return c.data, c.err
	case <-w.ctx.Done():
		return nil, errClosing
	}
}

// loop serves batches with one process.
func (w *Workers) loop() {
	var p *process
	defer func() { p.kill() }()
	for {
		select {
		case first := <-w.jobs:
			p = w.serve(p, w.gather(first))
		case <-w.ctx.Done():
			return
		}
	}
}

// gather adds to a batch what waits already.
func (w *Workers) gather(first *call) []*call {
	batch, size := []*call{first}, len(first.job.Loaded)
	for len(batch) < batchJobs && size < batchBytes {
		select {
		case c := <-w.jobs:
			batch, size = append(batch, c), size+len(c.job.Loaded)
		default:
			return batch
		}
	}
	return batch
}

// serve carries out a batch and returns the process to go on with. A batch that
// a worker does not survive is taken apart; a job that it does not survive
// alone, in a fresh one, is poisoned.
func (w *Workers) serve(p *process, batch []*call) *process {
	p, err := w.exchange(p, batch)
	if err == nil {
		return p
	}
	for _, c := range batch {
		if p, err = w.exchange(p, []*call{c}); err != nil && w.ctx.Err() == nil && !errors.Is(err, crdt.ErrUnavailable) {
			c.err = fmt.Errorf("%w: %w", ErrPoisoned, err)
		}
		if err != nil {
			if c.err == nil {
				c.err = err
			}
			close(c.done)
		}
	}
	return p
}

// exchange sends a batch to a process, started when p is nil, and finishes its
// calls. After an error none is finished and the process is gone.
func (w *Workers) exchange(p *process, batch []*call) (*process, error) {
	if p == nil {
		var err error
		if p, err = w.start(); err != nil {
			return nil, fmt.Errorf("%w: start worker: %w", crdt.ErrUnavailable, err)
		}
	}
	jobs := make([]job, len(batch))
	for i, c := range batch {
		jobs[i] = c.job
	}
	type reply struct {
		answers []answer
		err     error
	}
	replies := make(chan reply, 1)
	go func() { // ends with the answer, or the process
		var r reply
		if r.err = writeFrame(p.in, jobs); r.err == nil {
			r.err = readFrame(p.out, &r.answers)
		}
		replies <- r
	}()
	limit := time.NewTimer(w.cfg.Timeout)
	defer limit.Stop()
	var r reply
	select {
	case r = <-replies:
		if r.err == nil && len(r.answers) != len(jobs) {
			r.err = fmt.Errorf("%d answers to %d jobs", len(r.answers), len(jobs))
		}
	case <-limit.C:
		r.err = fmt.Errorf("no answer within %s", w.cfg.Timeout)
	case <-w.ctx.Done():
		r.err = errClosing
	}
	if r.err != nil {
		said := p.kill()
		if w.ctx.Err() == nil {
			w.cfg.Logger.Warn("engine worker lost", "jobs", len(batch), "err", r.err, "text", said)
		}
		return nil, fmt.Errorf("engine worker lost: %w: %s", r.err, said)
	}
	for i, c := range batch {
		c.data = r.answers[i].Data
		if text := r.answers[i].Err; text != "" {
			c.err = fmt.Errorf("%w: %s", ErrEngine, text)
		}
		close(c.done)
	}
	return p, nil
}

// process is a running worker.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	say said
}

func (w *Workers) start() (*process, error) {
	p := &process{cmd: exec.Command(w.cfg.Command[0], w.cfg.Command[1:]...)} //nolint:gosec // this very program
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stderr = &p.say
	p.in, p.out = in, bufio.NewReaderSize(out, 256<<10)
	return p, p.cmd.Start()
}

// kill ends the process, waits for it, and returns the beginning of what it said
// on its standard error.
func (p *process) kill() string {
	if p == nil {
		return ""
	}
	_ = p.in.Close()
	_ = p.cmd.Process.Kill()
	err := p.cmd.Wait()
	return strings.TrimSpace(fmt.Sprintf("%s %v", p.say.String(), err))
}

// saidBytes is how much is kept of what a worker says: its beginning, where the
// library's own message is.
const saidBytes = 512

// said keeps the beginning of what is written to it.
type said struct {
	mu sync.Mutex // guards b
	b  []byte
}

// Write implements [io.Writer].
func (t *said) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p[:min(len(p), saidBytes-len(t.b))]...)
	return len(p), nil
}

// String returns what is kept.
func (t *said) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
