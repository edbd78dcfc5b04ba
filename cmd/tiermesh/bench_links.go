package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/testbed/bench"
	"github.com/tiermesh/tiermesh/testbed/report"
)

// lineFlags are what the link benchmarks have in common.
type lineFlags struct {
	cfg    bench.LinkConfig
	rate   string
	limit  duration
	asJSON bool
}

// linesHelp ends the help of each link benchmark.
const linesHelp = `

Each site is a process of its own, with a store, a Raft log, engine processes and
a QUIC port on loopback; between a parent and those below it stands a relay that
delays by half of --rtt each way, sends no faster than the rate and drops what
--queue does not hold. wire_bytes are UDP payload counted there, both ways;
tls_bytes of them are QUIC's handshakes. Times count from the link being up at
the end that dials; redial_s is how long that took after the line was healed.

Documents have about 600 bytes of JSON in twelve fields, in Chinese, made from
--seed: names, streets, plates, numbers and sentences out of lists, so that
deflate packs them to a bit more than a quarter; json_bytes are theirs.`

// linkBench is one of them.
type linkBench struct {
	use, short, long, example string
	// rateFlag names the flag for the line's rate; empty means "rate".
	rateFlag string
	run      func(context.Context, *lineFlags, emitter) error
	flags    func(*cobra.Command, *lineFlags)
}

// emitter takes each case as it is done.
type emitter func(fmt.Stringer) error

func (b linkBench) command() *cobra.Command {
	l := &lineFlags{limit: duration(30 * time.Minute)}
	if b.rateFlag == "" {
		b.rateFlag = "rate"
	}
	cmd := &cobra.Command{
		Use: b.use, Short: b.short, Long: b.long + linesHelp, Example: b.example, Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return l.run(cmd, b.run) },
	}
	f := cmd.Flags()
	f.DurationVar(&l.cfg.RTT, "rtt", 0, "round trip of the line, beyond loopback's own")
	f.StringVar(&l.rate, b.rateFlag, "", "rate of the line each way, such as 500kbit or 10mbit; no bound when left out")
	f.IntVar(&l.cfg.QueueBytes, "queue", 0, "bytes that the line buffers before it drops; 0: 200 ms of its rate, at least 12000")
	f.Uint64Var(&l.cfg.Seed, "seed", 1, "makes the documents")
	f.DurationVar(&l.cfg.RedialMax, "redial-max", 0, "longest wait between attempts to reach the parent; 0: as the benchmark says, or the node's default")
	f.StringVar(&l.cfg.Dir, "dir", "", "an existing directory on the disk to measure; a temporary one when left out")
	f.StringVar(&l.cfg.Profiles, "cpuprofile", "", "an existing directory for a CPU profile of both ends (go tool pprof)")
	f.Var(&l.limit, "limit", "give up after this long")
	f.BoolVar(&l.asJSON, "json", false, "one JSON object a case")
	b.flags(cmd, l)
	return cmd
}

// errLimit ends a benchmark that took too long.
var errLimit = errors.New("took longer than --limit: choose less, or more time")

func (l *lineFlags) run(cmd *cobra.Command, run func(context.Context, *lineFlags, emitter) error) (err error) {
	if l.rate != "" {
		if l.cfg.BytesPerS, err = bench.ParseRate(l.rate); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	l.cfg.Worker, l.cfg.Engine = []string{self, "bench", "worker"}, []string{self, "engine"}
	remove, err := orTemporary(&l.cfg.Dir)
	if err != nil {
		return err
	}
	defer remove()
	p := report.NewProgress(cmd.ErrOrStderr())
	l.cfg.Progress = p
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), time.Duration(l.limit), errLimit)
	defer cancel()
	w := cmd.OutOrStdout()
	err = run(ctx, l, func(c fmt.Stringer) error {
		p.Done()
		if l.asJSON {
			return json.NewEncoder(w).Encode(c)
		}
		_, err := fmt.Fprintln(w, c)
		return err
	})
	p.Done()
	return err
}

// one makes a benchmark of one case emit it.
func one[C fmt.Stringer](c C, err error, emit emitter) error {
	if err != nil {
		return err
	}
	return emit(c)
}

func newBenchCatchup() *cobra.Command {
	var n int
	return linkBench{
		use: "catchup", short: "How fast a parent gets what an edge wrote while cut off",
		long: `An edge writes --n events while it is cut off; the line is healed. ops_s are the
documents a second until all are stored and fsynced at the parent, views_s until
all their views are up to date there. rss_mb is the parent's peak, its engines'
apart; cpu_s the parent's with its engines.`,
		example: "  tiermesh bench catchup --n 100000 --json\n  tiermesh bench catchup --rtt 60ms --cpuprofile .",
		run: func(ctx context.Context, l *lineFlags, emit emitter) error {
			c, err := bench.Catchup(ctx, bench.CatchupConfig{LinkConfig: l.cfg, N: n})
			return one(c, err, emit)
		},
		flags: func(cmd *cobra.Command, _ *lineFlags) {
			cmd.Flags().IntVar(&n, "n", 100_000, "events")
		},
	}.command()
}

func newBenchFanin() *cobra.Command {
	var n, edges int
	return linkBench{
		use: "fanin", short: "Many edges that return to one parent at once",
		long: `Each of --edges sites writes --n events while it is cut off; the line is healed
for all. ops_s are the documents a second from the first link that is up until
the parent has stored and fsynced all; slowest_s and median_s are edges' times,
each from its own link. Edges dial at most half a second apart here, so that
they come together.`,
		example: "  tiermesh bench fanin --edges 40 --n 2500 --json",
		run: func(ctx context.Context, l *lineFlags, emit emitter) error {
			c, err := bench.Fanin(ctx, bench.FaninConfig{LinkConfig: l.cfg, Edges: edges, N: n})
			return one(c, err, emit)
		},
		flags: func(cmd *cobra.Command, _ *lineFlags) {
			cmd.Flags().IntVar(&edges, "edges", 40, "edges, each a process")
			cmd.Flags().IntVar(&n, "n", 2500, "events an edge")
		},
	}.command()
}

// newBenchWorker is the process of one site of a link benchmark.
func newBenchWorker() *cobra.Command {
	return &cobra.Command{
		Use: "worker", Short: "One site of a link benchmark, driven over standard input and output", Args: exactArgs(0), Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Ignore(os.Interrupt, syscall.SIGHUP) // a terminal's; the benchmark ends its workers
			return bench.Work(context.WithoutCancel(cmd.Context()), cmd.InOrStdin(), raw(cmd.OutOrStdout()), raw(cmd.ErrOrStderr()))
		},
	}
}
