package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
)

// EditsConfig says how often to edit one document.
type EditsConfig struct {
	// Dir is where the sites live; it must exist.
	Dir string
	// N is the number of edits.
	N int
	// Engine starts a node's worker process; nil for an engine in this process.
	Engine []string
	// Progress is told what runs; nil is told nothing.
	Progress func(text string)
}

// Validate reports a size out of bounds. The error wraps [ErrConfig].
func (c EditsConfig) Validate() error { return within("edits", c.N, 2, 40_000) }

// EditsCase is what edits came to: processor time of both sites and their workers.
type EditsCase struct {
	N int `json:"n"`
	// FirstMS and LastMS are of an edit, as means over the first and the last
	// Window, Ratio the one over the other.
	Window  int     `json:"window"`
	FirstMS float64 `json:"first_ms"`
	LastMS  float64 `json:"last_ms"`
	Ratio   float64 `json:"ratio"`
	// P50MS and P99MS are how long an edit takes by the clock.
	P50MS float64 `json:"p50_ms"`
	P99MS float64 `json:"p99_ms"`
	// BehindS is how long after the last edit the site above shows it.
	BehindS float64 `json:"behind_s"`
	// ReopenedMS is the processor time of the first edit after both sites were
	// started again; it reads the whole history once.
	ReopenedMS float64 `json:"reopened_ms"`
	RSSMB      float64 `json:"rss_mb"`
}

// editsWindow is over how many edits a mean is, at most.
const editsWindow = 500

// Edits corrects title and place of one event of a district over and over, through
// the API, one after the other, with its city linked.
func Edits(ctx context.Context, cfg EditsConfig) (c EditsCase, err error) {
	if err := cfg.Validate(); err != nil {
		return c, err
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	dir, err := os.MkdirTemp(cfg.Dir, "edits-")
	if err != nil {
		return c, fmt.Errorf("edits: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	e := editing{cfg: cfg, dir: dir}
	if err := e.open(ctx); err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	if err := e.report(ctx); err != nil {
		return c, err
	}
	if c, err = e.run(ctx); err != nil {
		return c, err
	}
	cfg.Progress("starting the sites again")
	if err := errors.Join(e.close(), e.open(ctx)); err != nil {
		return c, err
	}
	cpu := treeCPUSeconds()
	if err := e.edit(ctx, cfg.N); err != nil {
		return c, err
	}
	c.ReopenedMS = (treeCPUSeconds() - cpu) * 1e3
	return c, nil
}

// editing is a district with an event, and its city.
type editing struct {
	cfg     EditsConfig
	dir     string
	cluster *local.Cluster
	client  *api.Client
	event   tiers.DocID
}

// The sites of the benchmark.
const (
	editsCity     = tiers.SiteID("500000")
	editsDistrict = tiers.SiteID("500101")
)

func (e *editing) open(ctx context.Context) (err error) {
	e.cluster, err = local.Open(ctx, local.Config{
		Dir: e.dir, Federation: "bench", API: true, Logger: slog.New(slog.DiscardHandler), Engine: e.cfg.Engine,
		Sites: []tiers.Site{
			{ID: editsCity, Tier: tiers.TierCity, Name: "city"},
			{ID: editsDistrict, Tier: tiers.TierDistrict, Name: "district", Parent: editsCity},
		},
		Configured: local.Configured{Uncut: true},
	}, nil)
	if err != nil {
		return err
	}
	e.client = api.NewClient(e.cluster.API(editsDistrict))
	return formed(ctx, e.cluster, editsDistrict, 1)
}

// close closes what is open; it may be called again.
func (e *editing) close() error {
	if e.cluster == nil {
		return nil
	}
	e.client.Close()
	err := e.cluster.Close()
	e.cluster = nil
	return err
}

// report makes the event, and waits until the city has it.
func (e *editing) report(ctx context.Context) error {
	done, err := e.client.Report(ctx, api.ReportRequest{Key: "bench-edits", Report: report(0)})
	if err != nil {
		return err
	}
	e.event = done.ID
	return e.caughtUp(ctx)
}

func (e *editing) edit(ctx context.Context, i int) error {
	_, err := e.client.CorrectEvent(ctx, api.CorrectRequest{
		Key: fmt.Sprintf("edit-%d", i), Event: e.event,
		Fields: map[string]string{"title": fmt.Sprintf("edit %d", i), "place": fmt.Sprintf("p%d", i)},
	})
	return err
}

// caughtUp waits until the city has what the district has of the event, and its view.
func (e *editing) caughtUp(ctx context.Context) error {
	at := func(n *node.Node) (version uint64) {
		for _, c := range []tiers.Class{tiers.ClassUrgent, tiers.ClassRoutine} {
			v, _ := n.Group().Store().Version(store.DocKey{Stream: tiers.StreamID{Site: editsDistrict, Class: c}, Doc: e.event})
			version = max(version, v)
		}
		return version
	}
	district, city := e.cluster.Node(editsDistrict), e.cluster.Node(editsCity)
	for at(city) < at(district) || at(district) == 0 || city.Group().Store().Counts().Dirty > 0 {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// run makes the edits; what the city does about those of a window counts in it.
func (e *editing) run(ctx context.Context) (c EditsCase, err error) {
	c.N, c.Window = e.cfg.N, min(editsWindow, e.cfg.N/2)
	part := func(from, to int) (r run, msPerEdit float64, err error) {
		e.cfg.Progress(fmt.Sprintf("edits %d to %d of %d", from+1, to, e.cfg.N))
		cpu := treeCPUSeconds()
		if r, err = drive(ctx, to-from, 1, func(ctx context.Context, i int) error { return e.edit(ctx, from+i) }); err != nil {
			return r, 0, err
		}
		began := time.Now()
		err = e.caughtUp(ctx)
		c.BehindS = time.Since(began).Seconds()
		return r, (treeCPUSeconds() - cpu) * 1e3 / float64(to-from), err
	}
	first, firstMS, err := part(0, c.Window)
	if err != nil {
		return c, err
	}
	all := first
	if c.N > 2*c.Window {
		middle, _, err := part(c.Window, c.N-c.Window)
		if err != nil {
			return c, err
		}
		all.latencies = append(all.latencies, middle.latencies...)
	}
	last, lastMS, err := part(c.N-c.Window, c.N)
	if err != nil {
		return c, err
	}
	all.latencies = append(all.latencies, last.latencies...)
	c.FirstMS, c.LastMS, c.Ratio = firstMS, lastMS, lastMS/firstMS
	c.P50MS, c.P99MS, c.RSSMB = all.quantile(0.5), all.quantile(0.99), residentMB()
	return c, nil
}
