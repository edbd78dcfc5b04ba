package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// DispatchConfig says what to dispatch by.
type DispatchConfig struct {
	// Dir is where the site lives; it must exist.
	Dir string
	// N is the number of events of the first case; of the others as many as their
	// rate gives in PacedFor.
	N int
	// Rules and Units are how many of them the site has.
	Rules, Units int
	// Clients is how many ask at once in the first case.
	Clients int
	// PerS is the rate of the other cases, and PacedFor how long they take.
	PerS     float64
	PacedFor time.Duration
	// Progress is told what runs; nil is told nothing.
	Progress func(text string)
}

// Validate reports the sizes out of bounds. The error wraps [ErrConfig].
func (c DispatchConfig) Validate() error {
	if c.PacedFor <= 0 || c.PacedFor > time.Hour {
		return fmt.Errorf("%w: %s at a rate: want more than 0 and at most 1h", ErrConfig, c.PacedFor)
	}
	return errors.Join(within("events", c.N, 1, 10_000_000), within("rules", c.Rules, 1, 10_000), within("units", c.Units, 1, 10_000),
		within("clients", c.Clients, 1, 4096), paceBound(c.PerS))
}

// Dispatch measures, at one site: route and assign as fast as it goes; the same at
// a rate; and whole dispatches at that rate, from when an event is reported until
// its task, with a unit, is durable. It hands each case to emit as it is done.
func Dispatch(ctx context.Context, cfg DispatchConfig, emit func(Case) error) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	dir, err := os.MkdirTemp(cfg.Dir, "dispatch-")
	if err != nil {
		return fmt.Errorf("dispatch: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cluster, err := local.Open(ctx, local.Config{
		Dir: dir, Federation: "bench", Logger: slog.New(slog.DiscardHandler),
		Sites: []tiers.Site{{ID: benchSite, Tier: tiers.TierCity, Name: "bench"}},
	}, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	d := dispatching{cfg, cluster.Node(benchSite), filepath.Join(dir, string(benchSite), "data")}
	cfg.Progress(fmt.Sprintf("%d rules, %d units", cfg.Rules, cfg.Units))
	if err := d.equip(ctx); err != nil {
		return err
	}
	paced := max(1, int(cfg.PerS*cfg.PacedFor.Seconds()))
	for _, c := range []dispatchCase{
		{"dispatch", cfg.N, cfg.Clients, func() (run, error) { return drive(ctx, cfg.N, cfg.Clients, d.assignAndFree) }},
		{fmt.Sprintf("dispatch at %g/s", cfg.PerS), paced, 1, func() (run, error) { return pace(ctx, paced, cfg.PerS, d.assign) }},
		{fmt.Sprintf("report to task at %g/s", cfg.PerS), paced, 1, func() (run, error) { return pace(ctx, paced, cfg.PerS, d.whole) }},
	} {
		out, err := d.measure(ctx, c)
		if err == nil {
			err = emit(out)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dispatchCase is one line of the benchmark.
type dispatchCase struct {
	workload   string
	n, clients int
	run        func() (run, error)
}

// dispatching is a site that is measured.
type dispatching struct {
	cfg  DispatchConfig
	n    *node.Node
	data string
}

func (d dispatching) measure(ctx context.Context, c dispatchCase) (Case, error) {
	d.cfg.Progress(fmt.Sprintf("%s, %d events", c.workload, c.n))
	cpu := cpuSeconds()
	r, err := c.run()
	if err != nil {
		return Case{}, fmt.Errorf("%s: %w", c.workload, err)
	}
	out := Case{
		Peer: "tiermesh", Workload: c.workload, N: c.n, Clients: c.clients, Replicas: 1, OpsS: r.rate(c.n),
		P50MS: r.quantile(0.5), P99MS: r.quantile(0.99), CPUS: cpuSeconds() - cpu, RSSMB: residentMB(),
	}
	if out.ViewsS, err = viewsBehind(ctx, d.n); err != nil {
		return out, err
	}
	bytes, err := dirBytes(d.data)
	out.DiskMB = float64(bytes) / (1 << 20)
	return out, err
}

// skillOf is the one skill of a unit, or the one that a rule asks for: ten
// between them.
func skillOf(i int) string { return fmt.Sprintf("skill-%d", i%10) }

// rulesAtOnce is how many rules are published in one go.
const rulesAtOnce = 100

// equip gives a site its rules and its units with their places, and waits until
// it sees them all.
func (d dispatching) equip(ctx context.Context) error {
	rules := make([]dispatch.Rule, d.cfg.Rules)
	for i := range rules {
		rules[i] = dispatch.Rule{
			Code: fmt.Sprintf("rule-%05d", i), Order: i, Organ: "应急管理办公室", Limit: dispatch.Limit{Amount: 1, Unit: dispatch.UnitHour}, Skill: skillOf(i),
			When: fmt.Sprintf(`event.type == "%05d" && event.priority <= 3 && (place.known || time.hour >= 8)`, i),
		}
	}
	for from := 0; from < len(rules); from += rulesAtOnce {
		if err := d.n.PublishRules(ctx, fmt.Sprintf("rules-%d", from), rules[from:min(from+rulesAtOnce, len(rules))], false); err != nil {
			return err
		}
	}
	if _, err := drive(ctx, d.cfg.Units, 16, func(ctx context.Context, i int) error {
		code := fmt.Sprintf("unit-%05d", i)
		_, err := d.n.RegisterUnit(ctx, "register-"+code, responder.Unit{
			Code: code, Name: code, Kind: "team", Skills: []string{skillOf(i)}, Organ: "应急管理办公室", Status: responder.Available,
		})
		if err != nil {
			return err
		}
		lat, lon := 29.5+float64(i*37%500)/1e3, 106.5+float64(i*91%500)/1e3
		return d.n.SetUnit(ctx, "place-"+code, code, node.UnitChange{Lat: &lat, Lon: &lon})
	}); err != nil {
		return err
	}
	if _, err := viewsBehind(ctx, d.n); err != nil {
		return err
	}
	units, err := d.n.Units(ctx)
	if err == nil && len(units) != d.cfg.Units {
		err = fmt.Errorf("the site sees %d of %d units", len(units), d.cfg.Units)
	}
	return err
}

// report is an event that one of the rules matches.
func (d dispatching) report(i int) event.Report {
	r := report(i)
	r.Type, r.Priority = fmt.Sprintf("%05d", i*7919%d.cfg.Rules), 3
	return r
}

// free releases a unit, which is named home/code.
func (d dispatching) free(ctx context.Context, unit string, epoch responder.Epoch) error {
	return d.n.ReleaseUnit(ctx, "", "", unit[len(benchSite)+1:], epoch)
}

// assign routes an event, claims a unit for it and returns what frees it.
func (d dispatching) assign(ctx context.Context, i int) (free func() error, err error) {
	decision, unit, o, err := d.n.Assign(ctx, d.report(i), dispatch.TaskID(tiers.NewDocID("event", fmt.Sprintf("bench-%d", i))))
	if err != nil {
		return nil, err
	}
	if unit == "" {
		return nil, fmt.Errorf("event %d, rule %s: no free unit with %s: want more units", i, decision.Rule, decision.Skill)
	}
	return func() error { return d.free(ctx, unit, o.Epoch) }, nil
}

func (d dispatching) assignAndFree(ctx context.Context, i int) error {
	free, err := d.assign(ctx, i)
	if err != nil {
		return err
	}
	return free()
}

// whole reports an event, waits until its task is durable, and returns what frees
// its unit.
func (d dispatching) whole(ctx context.Context, i int) (free func() error, err error) {
	w, err := d.n.Report(ctx, fmt.Sprintf("whole-%d", i), d.report(i))
	if err != nil {
		return nil, err
	}
	k := store.DocKey{Stream: tiers.StreamID{Site: benchSite, Class: tiers.ClassCommand}, Doc: dispatch.TaskID(w.Doc)}
	for {
		_, err := d.n.Group().Store().Heads(k)
		if err == nil {
			return func() error { return d.freeTask(ctx, k.Doc) }, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		select {
		case <-time.After(500 * time.Microsecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// freeTask releases the unit that a task has.
func (d dispatching) freeTask(ctx context.Context, task tiers.DocID) error {
	views, err := d.n.Backend().View(ctx, dispatch.KindTask, task.Name())
	if err != nil {
		return err
	}
	var v struct{ Brief dispatch.Brief }
	if err := json.Unmarshal(views[0], &v); err != nil {
		return fmt.Errorf("view of %s: %w", task, err)
	}
	if v.Brief.Unit == "" {
		return fmt.Errorf("%s has no unit: want more units", task)
	}
	epoch, err := responder.ParseEpoch(v.Brief.UnitEpoch)
	if err != nil {
		return err
	}
	return d.free(ctx, v.Brief.Unit, epoch)
}

// pace calls op for 0 to n-1, each at its time, however long earlier ones take,
// and then what it returned, which does not count.
func pace(ctx context.Context, n int, perS float64, op func(ctx context.Context, i int) (after func() error, err error)) (run, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := run{latencies: make([]time.Duration, n)}
	errs := make(chan error, n)
	began := time.Now()
	for i := range n {
		go func() { // ends with its operation
			due := began.Add(time.Duration(float64(i) / perS * float64(time.Second)))
			select {
			case <-time.After(time.Until(due)):
			case <-ctx.Done():
			}
			after, err := op(ctx, i)
			r.latencies[i] = time.Since(due)
			if err == nil {
				err = after()
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			cancel(err)
		}
	}
	r.took = time.Since(began)
	return r, context.Cause(ctx)
}
