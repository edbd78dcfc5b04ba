package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/testbed/outage"
	"github.com/tiermesh/tiermesh/testbed/report"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// direction is a line from one site to another.
type direction struct{ from, to tiers.SiteID }

// network is what was done to the lines and sites, and what of it still holds.
type network struct {
	w     World
	tree  *tree
	base  scenario.Line
	since func() float64

	mu       sync.Mutex // guards the fields below
	lines    map[direction]scenario.Line
	isolated map[tiers.SiteID]int // how many times: outages may overlap
	down     map[tiers.SiteID]map[uint32]bool
	faults   []report.Fault
	open     map[string]int // a fault that lasts, by its name, in faults
	cutSince map[tiers.SiteID]float64
	cutFor   map[tiers.SiteID]float64
	last     float64 // when something was last mended or broken
}

func newNetwork(w World, t *tree, base scenario.Line, since func() float64) *network {
	return &network{
		w: w, tree: t, base: base, since: since, lines: map[direction]scenario.Line{}, isolated: map[tiers.SiteID]int{},
		down: map[tiers.SiteID]map[uint32]bool{}, open: map[string]int{}, cutSince: map[tiers.SiteID]float64{}, cutFor: map[tiers.SiteID]float64{},
	}
}

// begin notes a fault; one that lasts has a name under which it ends.
func (n *network) begin(line int, what, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = n.since()
	if _, ok := n.open[name]; ok && name != "" {
		return
	}
	n.faults = append(n.faults, report.Fault{FromS: n.last, ToS: -1, What: what, Line: line})
	if name != "" {
		n.open[name] = len(n.faults) - 1
	}
	n.account()
}

// end notes that a fault is over.
func (n *network) end(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = n.since()
	if i, ok := n.open[name]; ok {
		n.faults[i].ToS = n.last
		delete(n.open, name)
	}
	n.account()
}

// account brings the time for which each site was cut off from its parent up to
// date. The caller holds mu.
func (n *network) account() {
	for _, l := range n.tree.links() {
		since, was := n.cutSince[l.child]
		switch now := n.blockedLocked(l.child, l.parent); {
		case now && !was:
			n.cutSince[l.child] = n.last
		case !now && was:
			n.cutFor[l.child] += n.last - since
			delete(n.cutSince, l.child)
		}
	}
}

// blocked reports whether nothing can pass between two sites now, in at least one
// direction.
func (n *network) blocked(a, b tiers.SiteID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.blockedLocked(a, b)
}

func (n *network) blockedLocked(a, b tiers.SiteID) bool {
	return n.lines[direction{a, b}].Cut || n.lines[direction{b, a}].Cut || n.isolated[a] > 0 || n.isolated[b] > 0 ||
		n.downLocked(a) || n.downLocked(b)
}

// isDown reports whether a site is down: no majority of its nodes runs.
func (n *network) isDown(id tiers.SiteID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.downLocked(id)
}

func (n *network) downLocked(id tiers.SiteID) bool {
	of := n.tree.nodesOf(id)
	return len(n.down[id]) > 0 && (of-len(n.down[id]))*2 <= of
}

// setDown notes that nodes of a site went down or came up; node 0 means all.
func (n *network) setDown(id tiers.SiteID, node uint32, down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down[id] == nil {
		n.down[id] = map[uint32]bool{}
	}
	for i := range uint32(n.tree.nodesOf(id)) {
		switch {
		case node != 0 && node != i+1:
		case down:
			n.down[id][i+1] = true
		default:
			delete(n.down[id], i+1)
		}
	}
}

// set changes a direction of a line.
func (n *network) set(d direction, change func(l *scenario.Line)) error {
	n.mu.Lock()
	l, ok := n.lines[d]
	if !ok {
		l = n.base
	}
	change(&l)
	n.lines[d] = l
	n.mu.Unlock()
	if err := n.w.Line(d.from, d.to, l); err != nil {
		return fmt.Errorf("line from %s to %s: %w", d.from, d.to, err)
	}
	return nil
}

// cut cuts or mends both directions of a line, or one.
func (n *network) cut(a, b tiers.SiteID, oneWay, cut bool) error {
	change := func(l *scenario.Line) { l.Cut = cut }
	err := n.set(direction{a, b}, change)
	if !oneWay {
		err = errors.Join(err, n.set(direction{b, a}, change))
	}
	return err
}

// isolate cuts a site from everything, or takes one such cut back.
func (n *network) isolate(id tiers.SiteID, cut bool) error {
	n.mu.Lock()
	before := n.isolated[id] > 0
	switch {
	case cut:
		n.isolated[id]++
	case n.isolated[id] > 0:
		n.isolated[id]--
	}
	now := n.isolated[id] > 0
	n.mu.Unlock()
	if before == now {
		return nil
	}
	return n.w.Isolate(id, now)
}

// step plays a step that is about lines.
func (n *network) step(p *player, st scenario.Step) error {
	switch c := st.Do.(type) {
	case scenario.Cut:
		err := n.cut(c.A, c.B, c.OneWay, true)
		n.begin(st.Line, c.String(), lineName(c.A, c.B))
		return err
	case scenario.Slow:
		shape := func(l *scenario.Line) { cut := l.Cut; *l = c.Line; l.Cut = cut }
		err := errors.Join(n.set(direction{c.A, c.B}, shape), n.set(direction{c.B, c.A}, shape))
		n.begin(st.Line, c.String(), "slow "+lineName(c.A, c.B))
		return err
	case scenario.Heal:
		return n.heal(c)
	case scenario.Isolate:
		return n.isolateAll(st.Line, c.At.Of(n.tree.rows()), true)
	case scenario.Rejoin:
		return n.isolateAll(st.Line, c.At.Of(n.tree.rows()), false)
	case scenario.Flap:
		p.beside.Go(func() { p.fatal(n.flap(p.beside.running, st.Line, c)) })
		return nil
	case scenario.Outages:
		drawn, err := outage.Draw(c.Profile, c.At.Of(n.tree.rows()), p.s.Seed, c.Of)
		if err != nil {
			return err
		}
		p.beside.Go(func() { p.fatal(n.outages(p.beside.running, st.Line, outage.Compress(drawn, c.Of, c.Within))) })
		return nil
	default:
		return fmt.Errorf("%w: %s", ErrUnsupported, st.Do)
	}
}

func lineName(a, b tiers.SiteID) string {
	if a > b {
		a, b = b, a
	}
	return fmt.Sprintf("line %s %s", a, b)
}

func (n *network) heal(h scenario.Heal) error {
	mend := func(l *scenario.Line) { *l = n.base }
	if h.A != "" {
		err := errors.Join(n.set(direction{h.A, h.B}, mend), n.set(direction{h.B, h.A}, mend))
		n.end(lineName(h.A, h.B))
		n.end("slow " + lineName(h.A, h.B))
		return err
	}
	n.mu.Lock()
	var lines []direction
	for d, l := range n.lines {
		if l != n.base {
			lines = append(lines, d)
		}
	}
	var alone []tiers.SiteID
	for id, times := range n.isolated {
		if times > 0 {
			alone = append(alone, id)
		}
	}
	clear(n.isolated)
	n.mu.Unlock()
	var errs []error
	for _, d := range lines {
		errs = append(errs, n.set(d, mend))
		n.end(lineName(d.from, d.to))
		n.end("slow " + lineName(d.from, d.to))
	}
	for _, id := range alone {
		errs = append(errs, n.w.Isolate(id, false))
		n.end("isolate " + string(id))
	}
	n.end("") // something changed, whatever it was
	return errors.Join(errs...)
}

func (n *network) isolateAll(line int, ids []tiers.SiteID, cut bool) error {
	for _, id := range ids {
		if err := n.isolate(id, cut); err != nil {
			return fmt.Errorf("isolate %s: %w", id, err)
		}
		if cut {
			n.begin(line, "isolate "+string(id), "isolate "+string(id))
		} else if !n.alone(id) {
			n.end("isolate " + string(id))
		}
	}
	return nil
}

func (n *network) alone(id tiers.SiteID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.isolated[id] > 0
}

// flap cuts and mends a line until its time is over or ctx ends, and leaves it
// mended.
func (n *network) flap(ctx context.Context, line int, f scenario.Flap) error {
	until := time.Now().Add(f.For)
	name := lineName(f.A, f.B)
	for time.Now().Before(until) && ctx.Err() == nil {
		if err := n.cut(f.A, f.B, false, true); err != nil {
			return err
		}
		n.begin(line, "flap: cut "+string(f.A)+" "+string(f.B), name)
		_ = wait(ctx, f.Down) // mended below in any case
		if err := n.cut(f.A, f.B, false, false); err != nil {
			return err
		}
		n.end(name)
		_ = wait(ctx, f.Every-f.Down) // the loop ends with ctx
	}
	return nil
}

// outages plays drawn outages, which are in order of their beginning.
func (n *network) outages(ctx context.Context, line int, drawn []outage.Outage) error {
	began := time.Now()
	var over []outage.Outage // under way, in order of their end
	for len(drawn) > 0 || len(over) > 0 {
		end := len(drawn) == 0 || len(over) > 0 && over[0].To <= drawn[0].From
		next := over
		if !end {
			next = drawn
		}
		at := next[0].From
		if end {
			at = next[0].To
		}
		if wait(ctx, time.Until(began.Add(at))) != nil {
			return nil //nolint:nilerr // the run is over
		}
		if end {
			if err := n.isolateAll(line, []tiers.SiteID{over[0].Site}, false); err != nil {
				return err
			}
			over = over[1:]
			continue
		}
		if err := n.isolateAll(line, []tiers.SiteID{drawn[0].Site}, true); err != nil {
			return err
		}
		over = insert(over, drawn[0])
		drawn = drawn[1:]
	}
	return nil
}

// insert keeps outages in the order of their ends.
func insert(all []outage.Outage, o outage.Outage) []outage.Outage {
	i := len(all)
	for i > 0 && all[i-1].To > o.To {
		i--
	}
	all = append(all, outage.Outage{})
	copy(all[i+1:], all[i:])
	all[i] = o
	return all
}

// took returns the faults so far and for how long each site was cut off.
func (n *network) took() ([]report.Fault, map[tiers.SiteID]float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := map[tiers.SiteID]float64{}
	for id, s := range n.cutFor {
		out[id] += s
	}
	now := n.since()
	for id, since := range n.cutSince {
		out[id] += now - since
	}
	return append([]report.Fault{}, n.faults...), out
}

// lastChange is when something was last broken or mended.
func (n *network) lastChange() float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last
}
