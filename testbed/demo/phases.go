package demo

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/testbed/content"
	"github.com/tiermesh/tiermesh/testbed/data"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/track"
)

// reported is one request of the input and what became of it.
type reported struct {
	key    string
	site   tiers.SiteID
	report event.Report
	placed replication.Written
	acked  bool
}

// workers is how many reporters work at once, over all townships.
const workers = 12

// conflictTrack is the track entry that city and district edit in conflict.
const conflictTrack = "flood-control"

// publish writes the city's catalog and waits until every site has it.
func (d *player) publish(ctx context.Context) error {
	d.p.Step("1. the city publishes boards, tracks, event types and rules")
	entries, err := content.Catalog()
	if err != nil {
		return err
	}
	city := d.cluster.Node(d.cast.city)
	if err := city.Publish(ctx, "demo", entries); err != nil {
		return err
	}
	if err := d.defineLevel(ctx); err != nil {
		return err
	}
	if err := d.converge(ctx, "sites have the catalog"); err != nil {
		return err
	}
	// The district adopts a track: the entry that will be edited in conflict.
	if err := d.cluster.Node(d.cast.cutDistrict).Adopt(ctx, "demo:adopt", api.AdoptRequest{Code: conflictTrack}); err != nil {
		return err
	}
	if err := d.converge(ctx, "sites have the adopted track"); err != nil {
		return err
	}
	d.p.Line(fmt.Sprintf("%d catalog entries at %d sites", len(entries), d.table.Sites))
	return nil
}

// readInput takes the first Events good rows of the input, over again when it
// has fewer, and deals them out to the townships by a fixed hash.
func (d *player) readInput(ctx context.Context) error {
	for pass := 0; len(d.events) < d.cfg.Events; pass++ {
		before := len(d.events)
		if err := d.readPass(pass); err != nil {
			return err
		}
		if len(d.events) == before {
			return fmt.Errorf("%w: the input holds no usable row", ErrConfig)
		}
		if d.cfg.Input != nil && len(d.events) < d.cfg.Events {
			return fmt.Errorf("%w: the input holds %d usable rows, --events asks for %d", ErrConfig, len(d.events), d.cfg.Events)
		}
	}
	reports := make([]event.Report, len(d.events))
	for i, e := range d.events {
		reports[i] = e.report
	}
	entries, err := content.Types(reports)
	if err != nil || len(entries) == 0 {
		return err
	}
	if err := d.cluster.Node(d.cast.city).Publish(ctx, "demo:types", entries); err != nil {
		return err
	}
	return d.converge(ctx, "sites have the types of the input")
}

func (d *player) readPass(pass int) error {
	in := d.cfg.Input
	if in == nil {
		in = data.NYC311()
	}
	rows := data.Requests(in)
	for len(d.events) < d.cfg.Events {
		r, err := rows.Next()
		var bad *data.RowError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &bad):
			if pass == 0 {
				d.table.Quarantined++
				d.p.Line(fmt.Sprintf("quarantined line %d: %s", bad.Line, bad.Reason))
			}
			continue
		case err != nil:
			return err
		}
		key := r.Key
		if pass > 0 {
			key = fmt.Sprintf("%s-%d", r.Key, pass)
		}
		d.events = append(d.events, reported{key: key, site: d.township(key), report: content.Report(key, r)})
	}
	return nil
}

// township deals a request to a township by a hash of its key and the seed.
func (d *player) township(key string) tiers.SiteID {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d/%s", d.cfg.Seed, key)
	return d.townships[h.Sum64()%uint64(len(d.townships))]
}

// reportConnected reports the first half with all links up.
func (d *player) reportConnected(ctx context.Context) error {
	half := len(d.events) / 2
	d.p.Step(fmt.Sprintf("2. %d requests are reported with all links up", half))
	if err := d.report(ctx, d.events[:half]); err != nil {
		return err
	}
	return d.converge(ctx, "sites agree")
}

// report hands events to their townships, at most workers at a time, and waits
// for each acknowledgement. A township that goes down in the middle is tried
// again with the same key.
func (d *player) report(ctx context.Context, events []reported) error {
	g, ctx := errgroup.WithContext(ctx) // ends with the last report
	g.SetLimit(workers)
	var done atomic.Int64
	for i := range events {
		g.Go(func() error {
			if err := d.reportOne(ctx, &events[i]); err != nil {
				return err
			}
			if n := int(done.Add(1)); n%20 == 0 || n == len(events) {
				d.p.Bar(n, len(events), "acknowledged")
			}
			return nil
		})
	}
	return g.Wait()
}

func (d *player) reportOne(ctx context.Context, e *reported) error {
	for {
		var err error
		if n := d.cluster.Node(e.site); n == nil {
			err = replication.ErrClosed
		} else if e.placed, err = n.Report(ctx, "nyc311:"+e.key, e.report); err == nil {
			if e.placed.Doc.Kind() != event.Kind {
				return fmt.Errorf("report %s at %s: it is in quarantine as %s", e.key, e.site, e.placed.Doc)
			}
			e.acked = true
			return nil
		}
		retry := errors.Is(err, replication.ErrClosed) || errors.Is(err, replication.ErrUnknown) || errors.Is(err, replication.ErrNotLeader)
		if !retry {
			return fmt.Errorf("report %s at %s: %w", e.key, e.site, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// partition cuts, goes on reporting, edits in conflict, kills a township, and has both
// sides go on with their duties.
func (d *player) partition(ctx context.Context) error {
	d.p.Step(fmt.Sprintf("3. %s with its townships is cut from the city, %s from everything", d.cast.cutDistrict, d.cast.isolated))
	if err := d.offer(ctx); err != nil {
		return err
	}
	d.cut()
	if err := errors.Join(d.move(ctx), d.alerts(ctx)); err != nil {
		return err
	}
	rest := d.events[len(d.events)/2:]
	g, gctx := errgroup.WithContext(ctx) // ends with both
	g.Go(func() error { return d.report(gctx, rest) })
	g.Go(func() error { return d.killAndRestart(gctx, rest) })
	if err := errors.Join(d.conflict(ctx), g.Wait()); err != nil {
		return err
	}
	if err := errors.Join(d.dispatched(ctx), d.doDuties(ctx)); err != nil {
		return err
	}
	down := []tiers.SiteID{d.cast.cutDistrict, d.cast.isolated, d.cast.standIn, d.cast.moved}
	return d.agree(ctx, "sites agree where links are up", func(l linkEnds) bool { return !slices.Contains(down, l.child) })
}

// goOn shows what still gets through while the links are cut, and what a copy of
// a disk that is too old does.
func (d *player) goOn(ctx context.Context) error {
	d.p.Step("4. still cut: a file carries records, the city stands in, an old disk comes back")
	for _, step := range []func(context.Context) error{d.carry, d.rejoin, d.awaitStandIn, d.restore, d.waits} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// conflict edits one field of one track entry at city and district while they
// cannot see each other.
func (d *player) conflict(ctx context.Context) error {
	stream := tiers.StreamID{Site: d.cast.cutDistrict, Class: tiers.ClassCatalog}
	for _, e := range []struct {
		site  tiers.SiteID
		value string
	}{{d.cast.city, fmt.Sprintf("城区内涝点 %d 分钟内到场", 14+d.run)}, {d.cast.cutDistrict, fmt.Sprintf("城区内涝点 %d 分钟内到场", 30+d.run)}} {
		ops, err := track.EditOps(map[string]string{"target": e.value})
		if err != nil {
			return err
		}
		key := fmt.Sprintf("demo:conflict:%d:%s", d.run, e.site)
		if _, err := d.cluster.Node(e.site).Edit(ctx, key, stream, tiers.NewDocID("track", conflictTrack), ops); err != nil {
			return err
		}
		d.p.Line(fmt.Sprintf("%s sets the target of %s to %q", e.site, conflictTrack, e.value))
	}
	return nil
}

// killAndRestart crashes the isolated township when half of its reports are in.
func (d *player) killAndRestart(ctx context.Context, events []reported) error {
	n := d.cluster.Node(d.cast.isolated)
	base := n.Group().Store().Counts().Records
	var own uint64
	for i := range events { // whose other fields the reporters write meanwhile
		if events[i].site == d.cast.isolated {
			own++
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for n.Group().Store().Counts().Records < base+own/2 && time.Now().Before(deadline) {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	records := n.Group().Store().Counts().Records
	if err := d.cluster.Crash(d.cast.isolated); err != nil {
		return err
	}
	began := time.Now()
	if err := d.cluster.Start(ctx, d.cast.isolated); err != nil {
		return err
	}
	d.p.Line(fmt.Sprintf("%s was killed with %d records and takes writes again after %.2f s, still cut off",
		d.cast.isolated, records, time.Since(began).Seconds()))
	return nil
}

// dispatched waits until every township has dispatched what it took in.
func (d *player) dispatched(ctx context.Context) error {
	return d.until(ctx, "townships dispatched", func() (int, int, error) {
		done := 0
		for _, t := range d.townships {
			n := d.cluster.Node(t)
			hits, err := n.Group().Store().Index(storeQuery(event.IndexUndispatched))
			if err != nil {
				return 0, 0, err
			}
			if len(hits) == 0 && n.Group().Store().Counts().Dirty == 0 {
				done++
			}
		}
		return done, len(d.townships), nil
	})
}
