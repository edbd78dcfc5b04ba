package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// How long a node may take to end in order, and how often it is asked whether it
// is ready.
const (
	orderlyWait = time.Minute
	readyPoll   = 20 * time.Millisecond
)

// starter starts processes on one thread: they are killed when that thread ends,
// so it must not end before the world does.
type starter struct{ do chan func() }

func newStarter() *starter {
	s := &starter{do: make(chan func())}
	go func() { // ends with close, or with this process
		runtime.LockOSThread()
		for f := range s.do {
			f()
		}
	}()
	return s
}

func (s *starter) close() { close(s.do) }

// process is one that this world started.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it is gone
	err    error         // of waiting, once exited is closed
	log    string
	paused atomic.Bool
}

// start starts a command in a namespace; what it says goes to a file.
func (s *starter) start(ns, log string, args ...string) (*process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	line := inside(ns, args...)
	p := &process{cmd: exec.Command(line[0], line[1:]...), exited: make(chan struct{}), log: log} //nolint:gosec // this very program
	p.cmd.Stdout, p.cmd.Stderr = f, f
	// A terminal's signals go to this process only, which ends the others in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	s.do <- func() { started <- p.cmd.Start() }
	err = errors.Join(<-started, f.Close())
	if p.cmd.Process == nil {
		return nil, fmt.Errorf("start process: %w", err)
	}
	go func() { // ends with the process
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, err
}

// up reports whether the process is there. A nil process is not.
func (p *process) up() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// signal sends a signal to a process that is up; one that ends meanwhile has got it.
func (p *process) signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal process: %w", err)
	}
	return nil
}

// standStill stops the process where it is and waits until all of its threads are.
func (p *process) standStill() error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	tasks := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "task")
	for p.up() {
		threads, err := os.ReadDir(tasks)
		if err != nil {
			break // it ended
		}
		if !slices.ContainsFunc(threads, func(t os.DirEntry) bool { return !stopped(filepath.Join(tasks, t.Name())) }) {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	<-p.exited
	return p.gone()
}

// stopped reports whether a thread stands still, or is gone.
func stopped(thread string) bool {
	f := statFields(thread)
	return len(f) == 0 || f[0] == "T"
}

// kill ends the process without warning and waits for that.
func (p *process) kill() error {
	if !p.up() {
		return nil
	}
	err := p.signal(syscall.SIGKILL)
	<-p.exited
	return err
}

// stop ends the process in order and waits for that. A process that is paused or
// takes too long is killed; the latter is an error.
func (p *process) stop(ctx context.Context) error {
	if !p.up() || p.paused.Load() {
		return p.kill()
	}
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.exited:
		if p.err != nil {
			return p.gone()
		}
		return nil
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), p.kill())
	case <-time.After(orderlyWait):
		return errors.Join(fmt.Errorf("process did not end in %v and was killed: see %s", orderlyWait, p.log), p.kill())
	}
}

// gone is the error of a process that ended by itself: its last words.
func (p *process) gone() error {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return fmt.Errorf("process ended: %w", p.err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return fmt.Errorf("process ended: %w: %s", p.err, lines[len(lines)-1])
}

// ticksPerSecond is the unit of the times in /proc/PID/stat, fixed by Linux.
const ticksPerSecond = 100

// statFields are the fields of the stat file in a directory of /proc from the third
// on, which is the state; none of a process or thread that is gone.
func statFields(dir string) []string {
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}

// usageOf returns the resident memory and processor time of live processes, given
// by their ids, and their children.
func usageOf(pids map[string]bool) (rssBytes uint64, cpuSeconds float64) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, 0
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		f := statFields(filepath.Join("/proc", e.Name()))
		if len(f) < 22 || !pids[e.Name()] && !pids[f[1]] {
			continue
		}
		pages, _ := strconv.ParseUint(f[21], 10, 64)
		rssBytes += pages * uint64(os.Getpagesize())
		times := f[11:13]
		if pids[e.Name()] {
			times = f[11:15] // with those of children that ended
		}
		for _, text := range times {
			ticks, _ := strconv.ParseUint(text, 10, 64)
			cpuSeconds += float64(ticks) / ticksPerSecond
		}
	}
	return rssBytes, cpuSeconds
}
