package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/testbed/bench"
)

// diffRTT is the line of the difference benchmark unless --rtt says another:
// long beside what the ends do, so that round trips can be told by the clock.
const diffRTT = 200 * time.Millisecond

func newBenchDiff() *cobra.Command {
	var n, d int
	var forget string
	return linkBench{
		use: "diff", short: "What finding and mending a small difference between large sites costs",
		long: `Both ends hold --n documents; --d of them change at the edge while it is cut off;
the line is healed. round_trips is the time from the link being up until both
hold the same, over --rtt: on a long line that is what it is made of.
session_bytes are the wire's without QUIC's handshakes, until both ends have
proven that they hold the same. With --forget, one case each:

  nothing        a plain cut
  peer           the parent is restarted meanwhile: what it knew of its peer is gone
  parent-backup  the changes had arrived; the parent is restored from a backup of before
  edge-backup    the changes had arrived; the edge is restored from a backup of before,
                 and makes as many others: --d records go each way
  edge-copy      the changes had arrived; the edge's directory is replaced with an older
                 copy: its parent must tell it, and it dials once more

The sites are filled, and come to hold the same, without the line's delay.`,
		example: "  tiermesh bench diff --n 100000 --d 10 --json\n  tiermesh bench diff --forget\n  tiermesh bench diff --n 1000000 --forget=edge-backup",
		run: func(ctx context.Context, l *lineFlags, emit emitter) error {
			cfg := bench.DiffConfig{LinkConfig: l.cfg, N: n, D: d}
			for part := range strings.SplitSeq(forget, ",") {
				cfg.Forget = append(cfg.Forget, strings.TrimSpace(part))
			}
			return bench.Diff(ctx, cfg, func(c bench.DiffCase) error { return emit(c) })
		},
		flags: func(cmd *cobra.Command, l *lineFlags) {
			f := cmd.Flags()
			l.cfg.RTT = diffRTT
			f.Lookup("rtt").DefValue = diffRTT.String()
			f.IntVar(&n, "n", 100_000, "documents that both ends hold")
			f.IntVar(&d, "d", 10, "documents that change")
			f.StringVar(&forget, "forget", bench.ForgetNothing, "what is forgotten, comma-separated; alone: each in turn")
			f.Lookup("forget").NoOptDefVal = strings.Join(bench.Forgets(), ",")
		},
	}.command()
}

func newBenchLive() *cobra.Command {
	var cfg bench.LiveConfig
	return linkBench{
		use: "live", rateFlag: "line-rate", short: "How soon an event can be read at the sites above",
		long: `Reports --n events at an edge, --rate a second, whatever is still under way.
p50_ms and p99_ms are from the acknowledgement at the edge until a list of the
site above shows the event and its view has been read there; one line for each
site above. The observer runs in the site's process and is woken when views
change: it adds one scan of an index and one read, some tens of microseconds.
Processes compare by the machine's clock, which they share.`,
		example: "  tiermesh bench live --rate 200 --json\n  tiermesh bench live --tiers 2 --rtt 20ms",
		run: func(ctx context.Context, l *lineFlags, emit emitter) error {
			cfg.LinkConfig = l.cfg
			return bench.Live(ctx, cfg, func(c bench.LiveCase) error { return emit(c) })
		},
		flags: func(cmd *cobra.Command, _ *lineFlags) {
			f := cmd.Flags()
			f.IntVar(&cfg.N, "n", 4000, "events")
			f.Float64Var(&cfg.PerS, "rate", 200, "events a second")
			f.IntVar(&cfg.Tiers, "tiers", 3, "2: district and city; 3: township, district and city")
		},
	}.command()
}

func newBenchUrgent() *cobra.Command {
	cfg := bench.UrgentConfig{}
	var backlog string
	return linkBench{
		use: "urgent", short: "How urgent events overtake a backlog on a slow line",
		long: `An edge has --backlog of routine events and then one urgent event of 2 KB when
its line of --rate is healed. urgent_ms is when a list of the parent shows the
urgent one and it has been read, after the link was up. From then on --per-s
urgent events a second are reported for --drain: p50_ms and p99_ms are theirs,
from their acknowledgement. drained says how much of the backlog had arrived.`,
		example: "  tiermesh bench urgent --rate 500kbit --backlog 23MB --json\n  tiermesh bench urgent --drain 2m --rtt 60ms",
		run: func(ctx context.Context, l *lineFlags, emit emitter) error {
			bytes, err := bench.ParseBytes(backlog)
			if err != nil {
				return err
			}
			cfg.LinkConfig, cfg.BacklogBytes = l.cfg, bytes
			c, err := bench.Urgent(ctx, cfg)
			return one(c, err, emit)
		},
		flags: func(cmd *cobra.Command, l *lineFlags) {
			f := cmd.Flags()
			l.rate = "500kbit"
			f.Lookup("rate").DefValue = l.rate
			f.StringVar(&backlog, "backlog", "23MB", "JSON bytes of the routine events that wait")
			f.Float64Var(&cfg.PerS, "per-s", 2, "urgent events a second during the drain")
			f.DurationVar(&cfg.Drain, "drain", time.Minute, "how long")
		},
	}.command()
}
