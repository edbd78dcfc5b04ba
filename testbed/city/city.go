package city

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/tiermesh/tiermesh/testbed/data"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/report"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/tiers"
)

// Config says how much of the city to play, and how.
type Config struct {
	// Dir holds the sites; it must be empty or new.
	Dir string
	// Districts and TownshipsEach bound the federation; zero means all. Those that
	// the reorganisation concerns come first.
	Districts, TownshipsEach int
	// Reports is how many reports each township takes in, half of them while links
	// are cut; zero means 4.
	Reports int
	// Cut is how many districts are cut off; zero means 10.
	Cut int
	// Isolated is how many townships of the reorganisation are; zero means 10.
	Isolated int
	// Idle is for how long the cost of doing nothing is measured; zero means a minute.
	Idle time.Duration
	// RedialMax and LinkIdle are the nodes'; zero means their defaults.
	RedialMax, LinkIdle time.Duration
	Progress            Progress
	Logger              *slog.Logger
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		value   *int
		instead int
	}{{&c.Reports, 4}, {&c.Cut, 10}, {&c.Isolated, 10}} {
		if *d.value == 0 {
			*d.value = d.instead
		}
	}
	if c.Idle == 0 {
		c.Idle = time.Minute
	}
	return c
}

// Progress shows a run to a person; package report has one.
type Progress interface {
	Step(text string)
	Bar(done, of int, what string)
	Line(text string)
}

const (
	filesPerSite   = 16
	filesForOthers = 512
)

// ErrFiles reports that the process may not open as many files as the sites need.
var ErrFiles = errors.New("city: too few open files allowed")

// ErrDir reports a directory that holds something.
var ErrDir = errors.New("city: directory is not empty")

// Table is what came of a run. Its JSON keys are part of the CLI's contract. Times and
// memory depend on the machine and on what else it does: they are told, beside what a
// fixed piece of work took just then, and no verdict.
type Table struct {
	Sites        int     `json:"sites"`
	StartS       float64 `json:"start_s"`
	Reported     int     `json:"reported"`
	Acknowledged int     `json:"acknowledged"`
	// Lost, Diverged and Violations are what the oracles found.
	Lost       uint64 `json:"lost"`
	Diverged   uint64 `json:"diverged"`
	Violations uint64 `json:"violations"`
	// ConvergeS and ReorgConvergeS count from the heal, and from when the isolated
	// townships rejoined.
	ConvergeS      float64 `json:"converge_s"`
	ReorgConvergeS float64 `json:"reorg_converge_s"`
	// Moved are townships that are under their new parent, of so many Moves.
	Moved int `json:"moved"`
	Moves int `json:"moves"`
	Cost
	Machine Machines `json:"machine"`
	TookS   float64  `json:"took_s"`
}

// Machines say what a fixed piece of work took, in turn before the sites started,
// while they were idle, and at the end.
type Machines struct {
	Start report.Machine `json:"start"`
	Idle  report.Machine `json:"idle"`
	End   report.Machine `json:"end"`
}

// Cost is what the sites used.
type Cost struct {
	// RSSMB is the most memory that was seen in use, in units of 2^20 bytes.
	RSSMB     float64 `json:"rss_mb"`
	IdleMB    float64 `json:"idle_mb_per_site"`
	IdleCPUMS float64 `json:"idle_cpu_ms_per_site_s"`
	// WireBytes are the UDP payload that was sent, NeededBytes the batches that
	// carried something new.
	WireBytes   uint64 `json:"wire_bytes"`
	NeededBytes uint64 `json:"needed_bytes"`
}

// Missed says what of the run is not as it should be: what the oracles found, and what
// did not come to its end. Nothing when all is well.
func (t Table) Missed() (out []string) {
	for _, c := range []struct {
		what string
		n    uint64
	}{
		{"lost records", t.Lost}, {"diverged documents", t.Diverged}, {"violations", t.Violations},
		{"reports that were not acknowledged", uint64(max(t.Reported-t.Acknowledged, 0))},
		{"townships that did not move", uint64(max(t.Moves-t.Moved, 0))},
	} {
		if c.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return out
}

// player is one run in progress.
type player struct {
	cfg     Config
	p       Progress
	sites   []tiers.Site
	next    []data.ReorgMove // as far as its sites are there
	cluster *local.Cluster
	before  float64 // MB in use before the sites
	acked   []oracle.Acked
	made    int // reports so far
	table   Table
}

// Run plays the city and returns what came of it, also on an error as far as it
// went.
func Run(ctx context.Context, cfg Config) (t Table, err error) {
	c := &player{cfg: cfg.withDefaults(), p: cfg.Progress}
	if err := c.cast(); err != nil {
		return t, err
	}
	if entries, err := os.ReadDir(c.cfg.Dir); err == nil && len(entries) > 0 {
		return t, fmt.Errorf("%w: %s", ErrDir, c.cfg.Dir)
	}
	if err := allowFiles(uint64(len(c.sites)*filesPerSite + filesForOthers)); err != nil {
		return t, err
	}
	c.table.Machine.Start = run.Measure()
	began := time.Now()
	defer func() {
		if c.cluster != nil {
			err = errors.Join(err, c.cluster.Close())
		}
	}()
	for _, phase := range []func(context.Context) error{
		c.start, c.publish, c.reportConnected, c.idle, c.partition, c.heal, c.reorganise, c.verify,
	} {
		if err := errors.Join(phase(ctx), ctx.Err()); err != nil {
			return c.table, err
		}
		c.sample()
	}
	c.table.TookS = time.Since(began).Seconds()
	c.table.Machine.End = run.Measure()
	return c.table, nil
}

// allowFiles raises the number of files that may be open. The error wraps
// [ErrFiles].
func allowFiles(need uint64) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if l.Cur >= need {
		return nil
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: need, Max: max(l.Max, need)}); err != nil {
		return fmt.Errorf("%w: %d are needed, %d are allowed: ulimit -n %d", ErrFiles, need, l.Max, need)
	}
	return nil
}
