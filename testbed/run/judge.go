package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/report"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// judge answers what a script expects and runs the oracles.
type judge struct {
	p *player
	// later are expectations about stores that cannot be read before Freeze.
	later []laterExpectation
	// proofs says when each link was first seen equal since anything changed; p.mu
	// guards it.
	proofs map[tiers.SiteID]float64
	within time.Duration // of the last "until converged"
	rest   bool          // the run has ended, with the federation at rest
}

type laterExpectation struct {
	at     int // in data.Expected
	expect scenario.Expect
}

func newJudge(p *player) *judge {
	j := &judge{p: p, proofs: map[tiers.SiteID]float64{}, within: time.Minute}
	for _, st := range p.s.Steps {
		if u, ok := st.Do.(scenario.Until); ok && u.What == scenario.Converged {
			j.within = u.Within
		}
	}
	return j
}

// equal notes that a site's link to its parent was seen equal now.
func (j *judge) equal(child tiers.SiteID) {
	now, changed := j.p.since(), j.p.net.lastChange()
	j.p.mu.Lock()
	defer j.p.mu.Unlock()
	if at, ok := j.proofs[child]; !ok || at < changed {
		j.proofs[child] = now
	}
}

// rested notes that every link that can be is equal now.
func (j *judge) rested() {
	for _, l := range j.p.tree.links() {
		if !j.p.net.blocked(l.child, l.parent) {
			j.equal(l.child)
		}
	}
}

// expect judges one expectation now, or when the stores can be read.
func (j *judge) expect(ctx context.Context, line int, c scenario.Expect) error {
	e := report.Expectation{Line: line, Text: c.String()}
	var got float64
	var err error
	if c.Of != "" {
		e.Got, e.Holds, err = j.p.named(ctx, c)
	} else {
		got, err = j.measure(ctx, c)
	}
	switch {
	case errors.Is(err, ErrUnsupported):
		j.later = append(j.later, laterExpectation{len(j.p.data.Expected), c})
		e.Got = "not known before the end"
	case err != nil:
		return err
	case c.Of != "":
	default:
		e.Got, e.Holds, e.Told = c.Format(got), c.Holds(got), !j.p.pace().judges(c.Measure)
		if c.A != "" {
			e.Got, e.Holds = fmt.Sprint(got == 1), got == 1
		}
	}
	j.p.mu.Lock()
	j.p.data.Expected = append(j.p.data.Expected, e)
	j.p.mu.Unlock()
	return nil
}

// measure returns what a measure is now.
func (j *judge) measure(ctx context.Context, c scenario.Expect) (float64, error) {
	switch c.Measure {
	case scenario.MeasureReported, scenario.MeasureAcknowledged:
		reported, acked := j.p.ledger.counts()
		if c.Measure == scenario.MeasureReported {
			return float64(reported), nil
		}
		return float64(acked), nil
	case scenario.MeasureMoves:
		return float64(j.p.ledger.moveCount()), nil
	case scenario.MeasureContested:
		return j.p.contested(ctx)
	case scenario.MeasureUrgentP50:
		return j.urgent(0.5)
	case scenario.MeasureUrgentP99:
		return j.urgent(0.99)
	case scenario.MeasureUrgentMax:
		return j.urgent(1)
	case scenario.MeasureConverge:
		return j.p.data.Count.ConvergeS, nil
	case scenario.MeasureWireRatio:
		use := j.p.w.Usage()
		if use.NeededBytes == 0 {
			return 0, fmt.Errorf("%w: the bytes that were needed are not known", ErrUnsupported)
		}
		return float64(use.WireBytes) / float64(use.NeededBytes), nil
	case scenario.MeasureLost, scenario.MeasureDuplicated, scenario.MeasureDiverged, scenario.MeasureViolations:
		return j.stored(ctx, c.Measure)
	case scenario.MeasureLinked, scenario.MeasureUnlinked:
		return j.linked(ctx, c)
	default:
		return j.shown(ctx, c.Measure)
	}
}

func (j *judge) urgent(share float64) (float64, error) {
	s, n, pending := j.p.urgent.percentile(share)
	if pending > 0 {
		return 0, fmt.Errorf("%d urgent events are not at the city yet: wait before", pending)
	}
	if n == 0 {
		return 0, errors.New("no urgent event was reported")
	}
	return s, nil
}

func (j *judge) linked(ctx context.Context, c scenario.Expect) (float64, error) {
	why := newPass(j.p).connected(ctx, treeLink{c.A, c.B})
	return truth((why == "") == (c.Measure == scenario.MeasureLinked)), nil
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// shown sums what the sites show of themselves.
func (j *judge) shown(ctx context.Context, m scenario.Measure) (float64, error) {
	pass := newPass(j.p)
	var sum float64
	for _, r := range j.p.tree.rows() {
		st, err := pass.status(ctx, r.ID)
		if errors.Is(err, ErrDown) || r.Retired {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("status of %s: %w", r.ID, err)
		}
		switch m {
		case scenario.MeasureIncarnations:
			sum += float64(st.Incarnation) - 1
		case scenario.MeasureForks:
			sum += float64(len(st.Forks))
		case scenario.MeasureAlarms:
			sum += float64(len(st.Alarms))
		case scenario.MeasureConnected, scenario.MeasureEqual, scenario.MeasureOwed:
			l := linkOf(st, r.Parent)
			switch {
			case r.Parent == "":
			case m == scenario.MeasureOwed:
				sum += float64(l.OwedOut + l.OwedIn)
			case l.State == "connected" && (m == scenario.MeasureConnected || l.Equal):
				sum++
			}
		default:
			return 0, fmt.Errorf("%w: measure %s", ErrUnsupported, m)
		}
	}
	return sum, nil
}

// readable returns the sites that are up and can be read.
func (j *judge) readable() ([]oracle.Site, error) {
	var out []oracle.Site
	for _, r := range j.p.tree.rows() {
		s, err := j.p.w.Read(r.ID)
		switch {
		case errors.Is(err, ErrDown):
		case err != nil:
			return nil, err
		default:
			out = append(out, s)
		}
	}
	return out, nil
}

// stored judges by the stores.
func (j *judge) stored(ctx context.Context, m scenario.Measure) (float64, error) {
	sites, err := j.readable()
	if err != nil {
		return 0, err
	}
	t, acked := j.p.tree.topology(), j.p.ledger.all()
	complete := j.complete(ctx)
	switch m {
	case scenario.MeasureLost:
		if complete {
			return violations(oracle.NothingLost(t, acked, sites)), nil
		}
		return violations(oracle.KeptAtHome(acked, sites)), nil
	case scenario.MeasureDiverged:
		return violations(oracle.SameViews(t, sites, complete)), nil
	case scenario.MeasureDuplicated:
		v, err := duplicates(sites)
		return violations(v), err
	default:
		all, err := j.oracles(sites, complete)
		return violations(all...), err
	}
}

// complete reports whether the federation is at rest: every site is up, nothing is
// cut, every link proven equal.
func (j *judge) complete(ctx context.Context) bool {
	if j.rest {
		return true
	}
	for _, l := range j.p.tree.links() {
		if j.p.net.blocked(l.child, l.parent) {
			return false
		}
	}
	ok, _ := j.p.converging()(ctx)
	return ok
}

func violations(all ...oracle.Verdict) float64 {
	var n uint64
	for _, v := range all {
		n += v.Violations
	}
	return float64(n)
}

// duplicates counts requests that became more than one event at a site.
func duplicates(sites []oracle.Site) (oracle.Verdict, error) {
	v := oracle.Verdict{Oracle: "duplicates"}
	for _, s := range sites {
		indexed, ok := s.Store.(interface {
			Index(q store.IndexQuery) ([]store.IndexHit, error)
		})
		if !ok {
			return v, fmt.Errorf("%w: look %s up", ErrUnsupported, event.IndexSource)
		}
		hits, err := indexed.Index(store.IndexQuery{Name: event.IndexSource})
		if err != nil {
			return v, fmt.Errorf("events of %s: %w", s.ID, err)
		}
		seen := map[string]bool{}
		for _, h := range hits {
			v.Checked++
			if seen[h.Value] {
				v.Violations++
				v.Examples = append(v.Examples[:min(len(v.Examples), 9)], fmt.Sprintf("request %s is two events at %s", h.Value, s.ID))
			}
			seen[h.Value] = true
		}
	}
	return v, nil
}

// oracles runs all of them.
func (j *judge) oracles(sites []oracle.Site, complete bool) ([]oracle.Verdict, error) {
	t, acked := j.p.tree.topology(), j.p.ledger.all()
	out := []oracle.Verdict{
		oracle.KeptAtHome(acked, sites), oracle.SameViews(t, sites, complete), oracle.Digests(t, sites), oracle.Audience(t, sites),
		oracle.Custody(sites), oracle.Urgent(j.p.urgent.passages(), urgentWindow), j.bounded(),
	}
	if complete {
		out = append(out, oracle.NothingLost(t, acked, sites), oracle.Converged(t, sites), j.live())
	}
	if granted, history := j.p.claims.seen(); len(history) > 0 {
		out = append(out, oracle.Claims(granted, sites))
		for _, h := range history {
			out = append(out, oracle.Linearizable(h))
		}
	}
	if uses(j.p.s, usesUnits) {
		given, forgot := j.p.orders.seen()
		out = append(out, oracle.Sent(given, forgot, sites))
	}
	if uses(j.p.s, givesOrders) {
		out = append(out, j.p.commands.Verdict(t, j.p.elapsed(), sites, complete))
	}
	d, err := duplicates(sites)
	return append(out, d), err
}

// urgentWindow is how many routine records may still come before an urgent one:
// what is on the line already, and in the batch that the receiver is writing.
const urgentWindow = 1024

// bounded judges the memory of the process that all sites share, or of theirs. Of a
// build with the race detector it judges none: that would be the detector's.
func (j *judge) bounded() oracle.Verdict {
	nodes := 0
	for _, r := range j.p.tree.rows() {
		nodes += j.p.tree.nodesOf(r.ID)
	}
	bound := float64(rssBaseMB + nodes*rssNodeMB + max(j.p.w.Usage().Processes-1, 0)*rssProcessMB)
	j.p.mu.Lock()
	defer j.p.mu.Unlock()
	var levels []oracle.Level
	for _, s := range j.p.data.Samples {
		if raceDetector {
			break
		}
		levels = append(levels, oracle.Level{At: seconds(s.AtS), What: "rss_mb", Value: s.RSSMB})
	}
	return oracle.Bounded(levels, map[string]float64{"rss_mb": bound})
}

// What sites that share a process may take: as much as one alone, and for each what
// a busy one holds in queues, tables that are not flushed, and caches. Each further
// process has a program and a runtime of its own.
const (
	rssBaseMB    = 500
	rssNodeMB    = 40
	rssProcessMB = 100
)

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (j *judge) live() oracle.Verdict {
	j.p.mu.Lock()
	defer j.p.mu.Unlock()
	healed := seconds(j.p.net.lastChange())
	var proofs []oracle.Proof
	for _, l := range j.p.tree.links() {
		at, ok := j.proofs[l.child]
		if !ok {
			at = -1
		}
		proofs = append(proofs, oracle.Proof{Child: l.child, Parent: l.parent, At: seconds(at)})
	}
	return oracle.Live(proofs, healed, j.p.pace().within(j.within))
}

// close ends the run: sites are read, what was put off is judged, and the report
// is filled in.
func (j *judge) close(ctx context.Context) error {
	p := j.p
	j.rest = j.complete(ctx)
	if j.rest {
		j.rested()
	}
	incomplete := !j.rest
	use := p.w.Usage()
	rows := j.sites()
	err := p.w.Freeze(ctx)
	var sites []oracle.Site
	if err == nil {
		sites, err = j.readable()
	}
	var verdicts []oracle.Verdict
	if err == nil {
		verdicts, err = j.oracles(sites, !incomplete)
	}
	for _, l := range j.later {
		got, e := j.measure(ctx, l.expect)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", l.expect, e))
			continue
		}
		x := &p.data.Expected[l.at]
		x.Got, x.Holds, x.Told = l.expect.Format(got), l.expect.Holds(got), !p.pace().judges(l.expect.Measure)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data.Verdicts, p.data.Sites = verdicts, rows
	p.data.Faults, _ = p.net.took()
	c := &p.data.Count
	c.Sites = len(rows)
	c.Reported, c.Acknowledged = p.ledger.counts()
	c.WireBytes, c.NeededBytes, c.CPUS = use.WireBytes, use.NeededBytes, use.CPUSeconds
	for _, s := range p.data.Samples {
		c.RSSMB = max(c.RSSMB, s.RSSMB)
	}
	if err != nil {
		return fmt.Errorf("judge the run: %w", err)
	}
	return nil
}

// sites describes each site's part in the run.
func (j *judge) sites() []report.Site {
	_, cut := j.p.net.took()
	acked := map[tiers.SiteID]uint64{}
	for _, a := range j.p.ledger.reports() {
		acked[a.Site]++
	}
	changed := j.p.net.lastChange()
	j.p.mu.Lock()
	defer j.p.mu.Unlock()
	var out []report.Site
	for _, r := range j.p.tree.rows() {
		if r.Retired {
			continue
		}
		s := report.Site{
			ID: string(r.ID), Name: r.Name, Tier: r.Tier.String(), Parent: string(r.Parent), Acked: acked[r.ID], ConvergedS: -1, CutS: cut[r.ID],
		}
		if at, ok := j.proofs[r.ID]; ok && at >= changed {
			s.ConvergedS = at - changed
		}
		out = append(out, s)
	}
	return out
}
