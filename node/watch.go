package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/indicator"
)

const (
	// redefineEvery is how soon a new definition is taken up for series that no
	// reading comes to.
	redefineEvery = 5 * time.Second
	// thinEvery is how often what is older than its limits is looked for.
	thinEvery = time.Hour
	// watchBack is how far back a series is read to know in which state its levels
	// are; further when that does not tell.
	watchBack = 24 * time.Hour
	// watchPoints bounds the points that are read at once.
	watchPoints = 1 << 20
	// raisedKept is how many alerts of a series are remembered here, until the index
	// of events shows them.
	raisedKept = 32
)

// watched is a series that the leader follows.
type watched struct {
	def     indicator.Definition
	watches []indicator.Watch
	last    int64 // the time of the last point
	// open are crossings that may cover others, raised the beginnings of those of
	// which an alert was just made, by level.
	open   []*indicator.Crossing
	raised map[string][]int64
}

// runIndicators watches this site's vital signs, and drops old readings, while this
// node leads. What it knows is made anew from the readings after each change of
// leadership: no crossing is lost, and none raises a second alert.
func (n *Node) runIndicators(ctx context.Context, changed <-chan struct{}) error {
	return n.eachTerm(ctx, func(lead context.Context) error { return n.watchWhile(ctx, lead, changed) })
}

// watchWhile watches until the leadership or ctx ends, or a write could not be made
// now.
func (n *Node) watchWhile(ctx, lead context.Context, changed <-chan struct{}) error {
	w := watcher{n: n, series: map[string]*watched{}}
	define, thin := time.NewTicker(redefineEvery), time.NewTicker(thinEvery)
	defer define.Stop()
	defer thin.Stop()
	run, stale := w.redefine, false
	for {
		err := run(ctx)
		switch {
		case ctx.Err() != nil || lead.Err() != nil || errors.Is(err, replication.ErrNotLeader) || errors.Is(err, replication.ErrUnknown) ||
			errors.Is(err, ErrBusy) || errors.Is(err, crdt.ErrUnavailable):
			return nil
		case err != nil:
			return err
		}
		run = func(context.Context) error { return nil }
		select {
		case <-n.indicators.wake:
			run = w.look
		case <-changed:
			stale = true
		case <-define.C:
			if stale {
				run, stale = w.redefine, false
			}
		case <-thin.C:
			run = func(ctx context.Context) error { _, err := n.thin(ctx); return err }
		case <-lead.Done():
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// watcher follows the vital signs of the site. One goroutine owns it.
type watcher struct {
	n      *Node
	series map[string]*watched
}

// recently is how old a crossing that has ended may be to raise an alert when a
// series is looked at for the first time, or by a new definition.
const recently = time.Hour

// redefine takes up definitions that are new or changed.
func (w *watcher) redefine(ctx context.Context) error {
	codes, err := w.n.codes()
	if err != nil {
		return err
	}
	for _, code := range codes {
		d, err := w.n.definition(code)
		if err != nil {
			return err
		}
		names, err := w.n.group.Store().Series(w.n.creds.ID.Site, code, "", 1<<30)
		if err != nil {
			return err
		}
		for _, name := range names {
			if s := w.series[name]; s != nil && same(s.def, d) || len(d.Levels) == 0 {
				continue
			}
			if err := w.again(ctx, name, d, w.n.opts.Now().Add(-recently).UnixMilli()); err != nil {
				return err
			}
		}
	}
	return w.look(ctx)
}

// same reports whether two definitions are equal.
func same(a, b indicator.Definition) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// look follows the series that were touched.
func (w *watcher) look(ctx context.Context) error {
	for name, since := range w.n.indicators.take() {
		d, err := w.n.definition(reading.Code(name))
		s := w.series[name]
		switch {
		case err != nil || len(d.Levels) == 0:
		case s == nil || since <= s.last || !same(s.def, d):
			err = w.again(ctx, name, d, since)
		default:
			err = w.further(ctx, name, s)
		}
		if err != nil {
			return err // the next leader, or this one again, follows all series anew
		}
	}
	return nil
}

// further takes in the points behind the last one.
func (w *watcher) further(ctx context.Context, name string, s *watched) error {
	points, err := w.n.group.Store().Readings(w.n.creds.ID.Site, name, s.last+1, reading.TimeMaxMS, watchPoints)
	if err != nil || len(points) == 0 {
		return err
	}
	s.last = points[len(points)-1].AtMS
	return w.alert(ctx, name, s, indicator.Crossings(s.watches, points), 0)
}

// again follows a series from far enough back to know its state, and raises what
// was raised since a time or has not ended.
func (w *watcher) again(ctx context.Context, name string, d indicator.Definition, since int64) error {
	s := &watched{def: d, raised: map[string][]int64{}}
	if old := w.series[name]; old != nil {
		s.raised = old.raised
	}
	st, self := w.n.group.Store(), w.n.creds.ID.Site
	end, _, err := st.LastReading(self, name, d.Range())
	if err != nil || !end.Known {
		return err
	}
	var found []*indicator.Crossing
	from := min(since, end.Value.AtMS)
	for back := watchBack; ; back *= 8 {
		s.watches = d.Watches()
		begin := from - back.Milliseconds()
		points, err := st.Readings(self, name, begin, reading.TimeMaxMS, watchPoints)
		if err != nil || len(points) == 0 {
			return err
		}
		found = indicator.Crossings(s.watches, points)
		s.last = points[len(points)-1].AtMS
		unsure := slices.ContainsFunc(s.watches, func(x indicator.Watch) bool { return !x.Sure() }) ||
			slices.ContainsFunc(found, func(c *indicator.Crossing) bool { return !c.Certain })
		if !unsure || begin <= 0 {
			break
		}
	}
	w.series[name] = s
	return w.alert(ctx, name, s, found, since)
}

// alert raises the alerts of crossings that were raised since a time or have not
// ended.
func (w *watcher) alert(ctx context.Context, name string, s *watched, found []*indicator.Crossing, since int64) error {
	s.open = append(slices.DeleteFunc(s.open, func(c *indicator.Crossing) bool { return c.ClearedMS != 0 }), found...)
	alerts := s.def.Alerts(s.open)
	for _, c := range found {
		if !slices.Contains(alerts, c) || c.RaisedMS < since && c.ClearedMS != 0 {
			continue
		}
		starts, err := w.n.raisedStarts(w.n.creds.ID.Site, name, c.Name)
		if err != nil {
			return err
		}
		starts = append(starts, s.raised[c.Name]...)
		// Of readings that were dropped nobody knows whether it began among them.
		if c.Raised(starts) || !c.Certain && slices.ContainsFunc(starts, func(at int64) bool { return at < c.StartMS }) {
			continue
		}
		if err := w.n.raise(ctx, s.def, name, c); err != nil {
			return err
		}
		s.raised[c.Name] = append(s.raised[c.Name], c.StartMS)
		if n := len(s.raised[c.Name]); n > raisedKept {
			s.raised[c.Name] = s.raised[c.Name][n-raisedKept:]
		}
	}
	return nil
}

// thin drops readings that are older than their limits, of this site and of all
// below it, as far as what those wrote since has come. It returns how many hours it
// worked on.
func (n *Node) thin(ctx context.Context) (done int, err error) {
	codes, err := n.codes()
	if err != nil {
		return 0, err
	}
	st := n.group.Store()
	for _, stream := range st.Streams() {
		if stream.Class != tiers.ClassReading {
			continue
		}
		until, err := st.LastReadingTime(stream.Site)
		if err != nil {
			return done, err
		}
		for _, code := range codes {
			_, d, err := n.definitionAt(stream.Site, code)
			if err != nil {
				return done, err
			}
			if d.Code == "" {
				continue
			}
			k, err := n.thinOne(ctx, stream.Site, d, until)
			if done += k; err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

func (n *Node) thinOne(ctx context.Context, site tiers.SiteID, d indicator.Definition, until crdt.HybridTime) (done int, err error) {
	readings, minutes := d.Limits(until.Time())
	kept, err := n.group.Store().Kept(site, d.Code)
	if err != nil {
		return 0, err
	}
	if int64(readings)*reading.HourMS <= kept.ReadingsFromMS && int64(minutes)*reading.HourMS <= kept.MinutesFromMS {
		return 0, nil
	}
	names, err := n.group.Store().Series(site, d.Code, "", 1)
	if err != nil || len(names) == 0 {
		return 0, err
	}
	for {
		k, err := n.group.Thin(ctx, store.Thin{Site: site, Code: d.Code, Readings: readings, Minutes: minutes, Values: d.Range()})
		if done += k; err != nil || k == 0 {
			return done, err
		}
	}
}
