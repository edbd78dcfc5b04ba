package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// ErrConfig reports a size that cannot be measured.
var ErrConfig = errors.New("bench: invalid size")

// Ways of writing.
const (
	ViaProcess = "process" // calls into the node
	ViaAPI     = "api"     // each client has a feed at the node's Unix socket
	ViaRequest = "request" // each event is a request of HTTP there
)

// WritesConfig says what to write.
type WritesConfig struct {
	// Dir is where the sites live; it must exist. Each case gets a directory of
	// its own, which is removed behind it.
	Dir string
	// Clients lists how many clients write at once, one case each.
	Clients []int
	// N is the number of events a case.
	N int
	// Nodes is how many nodes the site has; zero means 1.
	Nodes int
	// Via is ViaProcess or ViaAPI.
	Via string
	// Baseline measures the bare log as well.
	Baseline bool
	// Progress is told what runs; nil is told nothing.
	Progress func(text string)
}

// Validate reports the first size out of bounds. The error wraps [ErrConfig].
func (c WritesConfig) Validate() error {
	switch {
	case c.N < 1:
		return fmt.Errorf("%w: %d events", ErrConfig, c.N)
	case len(c.Clients) == 0 || slices.Min(c.Clients) < 1 || slices.Max(c.Clients) > 4096:
		return fmt.Errorf("%w: clients %v: want 1 to 4096 each", ErrConfig, c.Clients)
	case c.Nodes < 0 || c.Nodes > 5:
		return fmt.Errorf("%w: %d nodes: want 1, 3 or 5", ErrConfig, c.Nodes)
	case c.Via != ViaProcess && c.Via != ViaAPI && c.Via != ViaRequest:
		return fmt.Errorf("%w: via %q: want %s, %s or %s", ErrConfig, c.Via, ViaProcess, ViaAPI, ViaRequest)
	}
	return nil
}

// Case is one line of results.
type Case struct {
	Peer     string  `json:"peer"`
	Workload string  `json:"workload"`
	N        int     `json:"n"`
	Clients  int     `json:"clients"`
	Replicas int     `json:"replicas"`
	OpsS     float64 `json:"ops_s"`
	P50MS    float64 `json:"p50_ms"`
	P99MS    float64 `json:"p99_ms"`
	CPUS     float64 `json:"cpu_s"`
	RSSMB    float64 `json:"rss_mb"`
	DiskMB   float64 `json:"disk_mb"`
	// BaselineOpsS and Ratio are zero without a baseline.
	BaselineOpsS float64 `json:"baseline_ops_s"`
	Ratio        float64 `json:"ratio"`
	// ViewsS is how long after the last acknowledgement the last view was
	// up to date.
	ViewsS float64 `json:"views_behind_s"`
}

// Writes measures each case and hands it to emit as it is done.
func Writes(ctx context.Context, cfg WritesConfig, emit func(Case) error) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	cfg.Nodes = max(cfg.Nodes, 1)
	drawn() // before anything is measured
	// The nodes and the clients share one process. Go looks for network events when a
	// processor has nothing else to do; as processes of their own each would have one
	// that does. The bare log has the same.
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(max(before, cfg.Nodes+1))
	defer runtime.GOMAXPROCS(before)
	for _, clients := range cfg.Clients {
		cfg.Progress(fmt.Sprintf("%d events, %d clients, %d nodes, via %s", cfg.N, clients, cfg.Nodes, cfg.Via))
		c, err := writesCase(ctx, cfg, clients)
		if err != nil {
			return err
		}
		if cfg.Baseline {
			cfg.Progress(fmt.Sprintf("baseline, %d clients", clients))
			dir, err := os.MkdirTemp(cfg.Dir, "baseline-")
			if err != nil {
				return fmt.Errorf("baseline: %w", err)
			}
			base, err := bareWrites(ctx, dir, cfg.N, clients, cfg.Nodes)
			if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
				return fmt.Errorf("baseline: %w", err)
			}
			c.BaselineOpsS = base.rate(cfg.N)
			c.Ratio = c.OpsS / c.BaselineOpsS
		}
		if err := emit(c); err != nil {
			return err
		}
	}
	return nil
}

// run is what driving clients came to.
type run struct {
	took      time.Duration
	latencies []time.Duration
}

func (r run) rate(n int) float64 { return float64(n) / r.took.Seconds() }

// quantile returns a latency in milliseconds.
func (r run) quantile(q float64) float64 {
	slices.Sort(r.latencies)
	return float64(r.latencies[int(q*float64(len(r.latencies)-1))]) / float64(time.Millisecond)
}

// drive calls op for 0 to n-1 from a number of clients.
func drive(ctx context.Context, n, clients int, op func(ctx context.Context, i int) error) (run, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := run{latencies: make([]time.Duration, n)}
	var next atomic.Int64
	var workers sync.WaitGroup
	began := time.Now()
	for range clients {
		workers.Go(func() { // ends with the last operation
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				at := time.Now()
				if err := op(ctx, i); err != nil {
					cancel(err)
					return
				}
				r.latencies[i] = time.Since(at)
			}
		})
	}
	workers.Wait()
	r.took = time.Since(began)
	return r, context.Cause(ctx)
}

// drawn are documents that clients report, drawn once: drawing one takes as long as
// a client's part in reporting it.
var drawn = sync.OnceValue(func() []event.Report {
	out := make([]event.Report, 4096)
	for i := range out {
		out[i] = documents{seed: 1}.report(i)
	}
	return out
})

// report is an event of about 600 bytes of JSON, with a key and a time of its own.
func report(i int) event.Report {
	r := drawn()[i%len(drawn())]
	r.SourceKey, r.ReportedAtMS = fmt.Sprintf("bench-%08d", i), fillBase+int64(i)
	return r
}

func writesCase(ctx context.Context, cfg WritesConfig, clients int) (c Case, err error) {
	dir, err := os.MkdirTemp(cfg.Dir, "writes-")
	if err != nil {
		return c, fmt.Errorf("writes: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	const site = tiers.SiteID("500000")
	cluster, err := local.Open(ctx, local.Config{
		Dir: dir, Federation: "bench", Nodes: uint32(cfg.Nodes), API: cfg.Via != ViaProcess, Logger: slog.New(slog.DiscardHandler),
		Sites:      []tiers.Site{{ID: site, Tier: tiers.TierCity, Name: "bench"}},
		Configured: local.Configured{Uncut: true},
	}, nil)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	if err := formed(ctx, cluster, site, cfg.Nodes); err != nil {
		return c, err
	}
	n := cluster.Node(site)
	op := func(ctx context.Context, i int) error {
		_, err := n.Report(ctx, fmt.Sprintf("bench-%d", i), report(i))
		return err
	}
	if cfg.Via != ViaProcess {
		client := api.NewClient(cluster.API(site))
		defer client.Close()
		feeds := make(chan *api.Feed, clients) // each client takes one that no other has
		for range clients {
			feed := client.Feed()
			defer feed.Close()
			feeds <- feed
		}
		op = func(ctx context.Context, i int) error {
			feed := <-feeds
			defer func() { feeds <- feed }()
			send := feed.Report
			if cfg.Via == ViaRequest {
				send = client.Report
			}
			_, err := send(ctx, api.ReportRequest{Key: fmt.Sprintf("bench-%d", i), Report: report(i)})
			return err
		}
	}
	cpu := cpuSeconds()
	r, err := drive(ctx, cfg.N, clients, op)
	if err != nil {
		return c, err
	}
	c = Case{
		Peer: "tiermesh", Workload: "writes via " + cfg.Via, N: cfg.N, Clients: clients, Replicas: cfg.Nodes,
		OpsS: r.rate(cfg.N), P50MS: r.quantile(0.5), P99MS: r.quantile(0.99), CPUS: cpuSeconds() - cpu, RSSMB: residentMB(),
	}
	if c.ViewsS, err = viewsBehind(ctx, n); err != nil {
		return c, err
	}
	bytes, err := dirBytes(filepath.Join(dir, string(site), "data"))
	c.DiskMB = float64(bytes) / (1 << 20)
	return c, err
}

// formed waits until every node of a site has a vote.
func formed(ctx context.Context, cluster *local.Cluster, site tiers.SiteID, nodes int) error {
	for {
		voters := 0
		members, err := cluster.Node(site).Group().Members()
		for _, m := range members {
			if m.Voter {
				voters++
			}
		}
		if err == nil && voters == nodes && cluster.Node(site).Group().Leads() {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

// viewsBehind waits until every view is up to date and returns how long that
// took.
func viewsBehind(ctx context.Context, n *node.Node) (float64, error) {
	began := time.Now()
	for n.Group().Store().Counts().Dirty > 0 {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return time.Since(began).Seconds(), nil
}
