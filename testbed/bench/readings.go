package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/tiers/indicator"
)

// ReadingsConfig says what to import.
type ReadingsConfig struct {
	// Dir is where the site lives; it must exist.
	Dir string
	// N is the number of readings, Batch how many an import holds, Series over how
	// many series they spread.
	N, Batch, Series int
	// Clients import at once.
	Clients int
	// Vital makes the series those of a vital sign, which is watched meanwhile.
	Vital bool
}

// Validate reports the first size out of bounds. The error wraps [ErrConfig].
func (c ReadingsConfig) Validate() error {
	switch {
	case c.Batch < 1 || c.Batch > api.ReadingsMax:
		return fmt.Errorf("%w: %d readings a batch: want 1 to %d", ErrConfig, c.Batch, api.ReadingsMax)
	case c.N < c.Batch:
		return fmt.Errorf("%w: %d readings: want at least a batch of %d", ErrConfig, c.N, c.Batch)
	case c.Series < 1 || c.Series > c.Batch:
		return fmt.Errorf("%w: %d series: want 1 to %d, a batch", ErrConfig, c.Series, c.Batch)
	case c.Clients < 1 || c.Clients > 1024:
		return fmt.Errorf("%w: %d clients: want 1 to 1024", ErrConfig, c.Clients)
	case c.N/c.Series > readingSpan:
		return fmt.Errorf("%w: %d readings of each series: want at most %d, one a second of 30 days", ErrConfig, c.N/c.Series, readingSpan)
	}
	return nil
}

// readingSpan is how many readings of a series there may be.
const readingSpan = 30 * 86_400

// ReadingsCase is what readings cost.
type ReadingsCase struct {
	Peer     string `json:"peer"`
	Workload string `json:"workload"`
	N        int    `json:"n"`
	Batch    int    `json:"batch"`
	Series   int    `json:"series"`
	Clients  int    `json:"clients"`
	// OpsS is readings acknowledged a second, durable and in their series; P50MS and
	// P99MS are of one batch.
	OpsS  float64 `json:"ops_s"`
	P50MS float64 `json:"p50_ms"`
	P99MS float64 `json:"p99_ms"`
	ReadingsDay
	BytesReading float64 `json:"disk_bytes_per_reading"`
	CPUS         float64 `json:"cpu_s"`
	RSSMB        float64 `json:"rss_mb"`
}

// ReadingsDay is what the rollup of a day costs.
type ReadingsDay struct {
	// DayReadings is how many readings a day of a series holds, DayP50MS and DayP99MS
	// how long its rollup takes; FullDayMS that of a day with one a second.
	DayReadings int     `json:"day_readings"`
	DayP50MS    float64 `json:"day_p50_ms"`
	DayP99MS    float64 `json:"day_p99_ms"`
	FullDayMS   float64 `json:"full_day_ms"`
}

// Readings imports readings at one site through the whole path: checks, Raft, fsync,
// series. Then it asks for the rollups of days.
func Readings(ctx context.Context, cfg ReadingsConfig) (c ReadingsCase, err error) {
	if err := cfg.Validate(); err != nil {
		return c, err
	}
	cluster, n, err := openSite(ctx, cfg.Dir)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	code, err := define(ctx, n, cfg.Vital)
	if err != nil {
		return c, err
	}
	// Each series goes on from where its last batch ended: one reading a second.
	now := time.Now().Truncate(24 * time.Hour).Add(-30 * 24 * time.Hour)
	each := cfg.Batch / cfg.Series
	batches := cfg.N / cfg.Batch
	name := func(i int) string { return fmt.Sprintf("%s/%d", code, i) }
	cpu := cpuSeconds()
	r, err := drive(ctx, batches, cfg.Clients, func(ctx context.Context, b int) error {
		in := make([]node.Reading, 0, cfg.Batch)
		for i := range cfg.Batch {
			at := now.Add(time.Duration(b*(each+1)+i/cfg.Series) * time.Second)
			in = append(in, node.Reading{Series: name(i % cfg.Series), Point: point(at, i)})
		}
		done, err := n.Import(ctx, fmt.Sprintf("bench-%d", b), in, false)
		for i, reason := range done.Bad {
			return fmt.Errorf("reading %d of batch %d: %w", i, b, reason)
		}
		return err
	})
	if err != nil {
		return c, err
	}
	c = ReadingsCase{
		Peer: "tiermesh", Workload: "readings", N: batches * cfg.Batch, Batch: cfg.Batch, Series: cfg.Series, Clients: cfg.Clients,
		OpsS: r.rate(batches * cfg.Batch), P50MS: r.quantile(0.5), P99MS: r.quantile(0.99), CPUS: cpuSeconds() - cpu, RSSMB: residentMB(),
	}
	if err := n.Group().Store().Flush(); err != nil {
		return c, err
	}
	disk, err := SiteDisk(cfg.Dir)
	if err != nil {
		return c, err
	}
	c.BytesReading = float64(disk) / float64(c.N)
	if err := c.days(n, name, cfg.Series, now); err != nil {
		return c, err
	}
	return c, c.fullDay(ctx, n, code, now)
}

// point is a value that wanders, with two decimals as sensors have.
func point(at time.Time, i int) reading.Point {
	return reading.Point{AtMS: at.UnixMilli(), Value: math.Round(100*(2+math.Sin(float64(at.Unix()%86_400+int64(i))/3600))) / 100}
}

func define(ctx context.Context, n *node.Node, vital bool) (code string, err error) {
	d := indicator.Definition{Code: "bench", Name: "bench", Kind: indicator.KPI, Grades: []indicator.Grade{{Name: "good", Op: indicator.AtLeast, Target: 2}}}
	if vital {
		d = indicator.Definition{Code: "bench", Name: "bench", Kind: indicator.Vital, Levels: []indicator.Level{
			{Name: "yellow", Op: indicator.AtLeast, Threshold: 100, Priority: 3}, {Name: "red", Op: indicator.AtLeast, Threshold: 200, ForS: 60, Priority: 1},
		}}
	}
	_, err = n.Define(ctx, "bench", d)
	return d.Code, err
}

// dayRollup asks for the rollup of a series' day and returns it and how long that
// took.
func dayRollup(n *node.Node, series string, from time.Time) (out reading.Rollup, took time.Duration, err error) {
	began := time.Now()
	err = n.Group().Store().Rollups(benchSite, series, reading.Range{}, from.UnixMilli(), from.Add(24*time.Hour).UnixMilli(), 24*reading.HourMS, 0, func(r reading.Rollup) bool {
		out = r
		return true
	})
	return out, time.Since(began), err
}

// dayQueries is how many days are asked for.
const dayQueries = 200

func (c *ReadingsCase) days(n *node.Node, name func(int) string, series int, from time.Time) error {
	r := run{}
	for i := range dayQueries {
		day, took, err := dayRollup(n, name(i%series), from)
		if err != nil {
			return err
		}
		c.DayReadings = int(day.Count)
		r.latencies = append(r.latencies, took)
	}
	c.DayP50MS, c.DayP99MS = r.quantile(0.5), r.quantile(0.99)
	return nil
}

// fullDay imports a day of one reading a second and asks for its rollup.
func (c *ReadingsCase) fullDay(ctx context.Context, n *node.Node, code string, from time.Time) error {
	series := code + "/full"
	for b := range 86_400 / 1200 {
		in := make([]node.Reading, 1200)
		for i := range in {
			in[i] = node.Reading{Series: series, Point: point(from.Add(time.Duration(b*1200+i)*time.Second), 0)}
		}
		if _, err := n.Import(ctx, fmt.Sprintf("full-%d", b), in, false); err != nil {
			return err
		}
	}
	var took []float64
	for range 21 {
		day, d, err := dayRollup(n, series, from)
		if err != nil || day.Count != 86_400 {
			return errors.Join(err, fmt.Errorf("the day's rollup counts %d readings", day.Count))
		}
		took = append(took, float64(d)/float64(time.Millisecond))
	}
	slices.Sort(took)
	c.FullDayMS = took[len(took)/2]
	return nil
}
