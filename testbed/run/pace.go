package run

import (
	"crypto/sha256"
	"runtime"
	"syscall"
	"time"

	"github.com/tiermesh/tiermesh/testbed/report"
	"github.com/tiermesh/tiermesh/testbed/scenario"
)

// pace is how a run's time passes. In virtual time a script's times are exact. In
// real time they depend on the machine and on what else it does: whether something
// comes is judged, when it comes is told.
type pace struct{ real bool }

// pace is that of the run.
func (p *player) pace() pace { return pace{p.o.RealTime} }

// slack is how many times as long as a script says it is waited in real time before
// what does not come counts as missing; leastWait is for how long at least.
const (
	slack     = 10
	leastWait = time.Minute
)

// within is how long to wait for what a script, or an oracle, wants within d.
func (p pace) within(d time.Duration) time.Duration {
	if p.real {
		return max(slack*d, leastWait)
	}
	return d
}

// judges reports whether a measure is a verdict at this pace: not one of times, nor
// of bytes, of which more are sent the longer it takes.
func (p pace) judges(m scenario.Measure) bool { return !p.real || !m.OfMachine() }

// workBytes is the fixed piece of work: so many bytes are hashed.
const workBytes = 32 << 20

// Measure does a fixed piece of work and says what it took.
func Measure() report.Machine {
	runtime.LockOSThread() // the processor time is the thread's
	defer runtime.UnlockOSThread()
	var block [64 << 10]byte
	h := sha256.New()
	cpu, began := threadCPU(), time.Now()
	for range workBytes / len(block) {
		_, _ = h.Write(block[:])
	}
	return report.Machine{
		CPUs:    runtime.NumCPU(),
		CPUMS:   float64(threadCPU()-cpu) / float64(time.Millisecond),
		ClockMS: float64(time.Since(began)) / float64(time.Millisecond),
	}
}

// threadCPU is the processor time of this thread; zero where it cannot be read.
func threadCPU() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_THREAD, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
