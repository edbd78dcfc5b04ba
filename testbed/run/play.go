package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/report"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// Options are what a run needs besides its world and script.
type Options struct {
	// Mode is the world's name, for the report.
	Mode string
	// RealTime says that the world's time is the machine's: times are told, not
	// judged, and time-outs are long.
	RealTime bool
	// Progress, when not nil, is told of sites that are up, of each sample, and of
	// each step that begins. It must not block.
	Progress Progress
}

// Progress shows a run to a person. Implementations are safe for concurrent use.
type Progress interface {
	Up(up, of int)
	Step(line int, text string)
	Sample(s report.Sample)
}

// silent is a Progress that shows nothing.
type silent struct{}

func (silent) Up(int, int)          {}
func (silent) Step(int, string)     {}
func (silent) Sample(report.Sample) {}

// player is one run in progress.
type player struct {
	w     World
	s     *scenario.Script
	o     Options
	began time.Time

	net    *network
	tree   *tree
	ledger *ledger
	urgent *urgents
	judge  *judge
	told

	beside  beside
	backups map[tiers.SiteID]time.Time // when each was made

	mu     sync.Mutex // guards the fields below
	data   *report.Data
	failed error
}

// beside is what goes on beside the steps: loads, flaps, outages, the sampler.
type beside struct {
	sync.WaitGroup
	running context.Context //nolint:containedctx // a step starts what the run ends
	stop    context.CancelFunc
	loads   context.Context //nolint:containedctx // of what goes on per second, which hush ends
	hush    context.CancelFunc
}

// told is what sites told their clients, and what a script has named.
type told struct {
	claims *claims
	names  *names
	orders *orders
	// commands judges the orders to sites, as they are seen while the run goes on.
	commands *oracle.Orders
}

// closing is how long a run may take after its last step, in its world's time:
// to stop what goes on, and to read and compare every site.
const closing = 10 * time.Minute

// Play opens the world, plays the script on it and judges what came of it. The
// report is returned also with an error, which says why the run could not be
// played or judged to its end; whether it proved what it set out to is
// [report.Data.Holds]. The caller closes the world.
func Play(ctx context.Context, w World, s *scenario.Script, o Options) (*report.Data, error) {
	if o.Progress == nil {
		o.Progress = silent{}
	}
	p := &player{w: w, s: s, o: o, began: time.Now(), data: &report.Data{
		File: s.File, About: s.About, Mode: o.Mode, Seed: s.Seed, Script: s.String(), Began: time.Now(),
		Faults: []report.Fault{}, Samples: []report.Sample{}, Expected: []report.Expectation{},
	}}
	if s.Source != "" {
		p.data.Script = s.Source
	}
	err := p.play(ctx)
	p.measure()
	if err != nil {
		p.data.Failure = err.Error()
	}
	p.data.WorldS = time.Since(p.began).Seconds()
	p.data.TookS = p.data.WorldS
	return p.data, err
}

// errLimit is the cause that ends a run at its own limit.
var errLimit = errors.New("the run reached its limit")

func (p *player) play(ctx context.Context) error {
	p.measure()
	limit := p.pace().within(p.s.Limit)
	limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w of %s", errLimit, limit))
	defer cancel()
	if err := p.w.Open(limited, p.s, p.o.Progress.Up); err != nil {
		return fmt.Errorf("start the federation: %w", because(limited, err))
	}
	p.began = time.Now()
	p.tree = newTree(p.w.Topology())
	p.net = newNetwork(p.w, p.tree, p.s.Federation.Line, p.since)
	p.ledger = newLedger(p.s.Seed)
	p.urgent = newUrgents(p)
	p.judge = newJudge(p)
	p.told = told{newClaims(), newNames(), newOrders(), oracle.NewOrders().Within(p.pace().within(oracle.DeliverWithin))}
	p.backups = map[tiers.SiteID]time.Time{}
	run, stop := context.WithCancel(limited)
	p.beside.running, p.beside.stop = run, stop
	p.beside.loads, p.beside.hush = context.WithCancel(run)
	p.beside.Go(func() { p.sample(run) })
	p.beside.Go(func() { p.urgent.watch(run) })
	err := p.steps(limited)
	if err == nil {
		err = p.broken()
	}
	p.beside.hush()
	if err == nil && p.ledger.waiting() > 0 {
		err = fmt.Errorf("%d reports were never acknowledged: end the script with \"until acknowledged within …\"", p.ledger.waiting())
	}
	stop()
	p.beside.Wait()
	most := p.pace().within(closing)
	last, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), most, fmt.Errorf("judging took more than %s", most))
	defer cancel()
	return errors.Join(err, p.judge.close(last))
}

// measure notes how fast and how busy the machine is now, in real time.
func (p *player) measure() {
	if p.o.RealTime {
		p.data.Count.Machine = append(p.data.Count.Machine, Measure())
	}
}

// steps plays the script's lines.
func (p *player) steps(ctx context.Context) error {
	for _, st := range p.s.Steps {
		if err := p.broken(); err != nil {
			return err
		}
		p.o.Progress.Step(st.Line, st.Do.String())
		if err := p.step(ctx, st); err != nil {
			return &scenario.Error{File: p.s.File, Line: st.Line, Msg: fmt.Sprintf("%s: %s", st.Do, because(ctx, err))}
		}
	}
	return nil
}

// because puts the cause of the end of ctx in the place of an error that only
// says that it ended.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	return err
}

// since is the time of the run so far, in seconds.
func (p *player) since() float64 { return time.Since(p.began).Seconds() }

// wait waits, or returns ctx's error.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *player) step(ctx context.Context, st scenario.Step) error {
	switch c := st.Do.(type) {
	case scenario.Publish:
		return p.publish(ctx)
	case scenario.Report:
		return p.report(ctx, st.Line, c)
	case scenario.Claim:
		return p.claim(st.Line, c)
	case scenario.Hush:
		p.beside.hush()
		p.beside.loads, p.beside.hush = context.WithCancel(p.beside.running)
		return nil
	case scenario.Act:
		return p.act(ctx, st.Line, c)
	case scenario.Reparent:
		return p.reparent(ctx, st.Line, c)
	case scenario.Reorganise:
		return p.reorganise(ctx, st.Line)
	case scenario.After:
		return wait(ctx, c.For)
	case scenario.Until:
		return p.until(ctx, c)
	case scenario.Expect:
		return p.judge.expect(ctx, st.Line, c)
	default:
		if played, err := p.domain(ctx, st.Line, c); played {
			return err
		}
		return p.net.step(p, st)
	}
}
