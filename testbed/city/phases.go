package city

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/testbed/content"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/tiers"
)

const megabyte = 1 << 20

// sample notes the memory in use.
func (c *player) sample() {
	c.table.RSSMB = max(c.table.RSSMB, float64(run.ThisProcess().RSSBytes)/megabyte)
}

func (c *player) start(ctx context.Context) (err error) {
	c.p.Step(fmt.Sprintf("1. %d sites start in %s", len(c.sites), c.cfg.Dir))
	c.before = float64(run.ThisProcess().RSSBytes) / megabyte
	began := time.Now()
	c.cluster, err = local.Open(ctx, local.Config{
		Dir: c.cfg.Dir, Federation: "chongqing", Sites: c.sites, Logger: c.cfg.Logger,
		RedialMax: c.cfg.RedialMax, LinkIdle: c.cfg.LinkIdle,
	}, func(up, of int) { c.p.Bar(up, of, "sites up") })
	if err != nil {
		return err
	}
	if err := c.converge(ctx, "sites are linked", nil); err != nil {
		return err
	}
	c.table.StartS = time.Since(began).Seconds()
	c.p.Line(fmt.Sprintf("all up and linked after %.1f s", c.table.StartS))
	return nil
}

// publish gives the city's catalog to every site.
func (c *player) publish(ctx context.Context) error {
	c.p.Step("2. the city publishes boards, tracks, event types and rules")
	entries, err := content.Catalog()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := c.cluster.Node(c.cluster.Topology().City()).Publish(ctx, "city", entries); err != nil {
		return err
	}
	if err := c.converge(ctx, "sites have the catalog", nil); err != nil {
		return err
	}
	c.p.Line(fmt.Sprintf("%d entries at every site after %.1f s", len(entries), time.Since(began).Seconds()))
	return nil
}

func (c *player) reportConnected(ctx context.Context) error {
	c.p.Step("3. every township reports")
	if err := c.report(ctx, c.cfg.Reports/2); err != nil {
		return err
	}
	return c.converge(ctx, "sites agree", nil)
}

// reporters is how many reports are under way at once.
const reporters = 32

// report has every township take in so many reports.
func (c *player) report(ctx context.Context, each int) error {
	requests, err := content.Requests()
	if err != nil {
		return err
	}
	townships := c.townships()
	all, from := each*len(townships), c.made
	c.made += all
	c.table.Reported += all
	g, ctx := errgroup.WithContext(ctx) // ends with the last report
	g.SetLimit(reporters)
	var mu sync.Mutex // guards c.acked
	var done atomic.Int64
	for i := range all {
		g.Go(func() error {
			r := requests[(from+i)%len(requests)]
			a, err := c.reportOne(ctx, townships[i%len(townships)].ID, fmt.Sprintf("%s-%d", r.Key, from+i), r)
			if err != nil {
				return err
			}
			mu.Lock()
			c.acked = append(c.acked, a)
			mu.Unlock()
			c.p.Bar(int(done.Add(1)), all, "reports acknowledged")
			return nil
		})
	}
	return g.Wait()
}

// reportOne hands one report in, again with the same key while its outcome is not
// known.
func (c *player) reportOne(ctx context.Context, at tiers.SiteID, key string, r request) (a oracle.Acked, err error) {
	report := content.Report(key, r)
	for {
		w, err := c.cluster.Node(at).Report(ctx, key, report)
		if err == nil {
			return oracle.Acked{Site: at, Key: key, Stream: w.Stream, Doc: w.Doc, Seq: w.Seq, Urgent: report.Priority <= 2, At: time.Now()}, nil
		}
		if !errors.Is(err, replication.ErrUnknown) && !errors.Is(err, replication.ErrNotLeader) {
			return a, fmt.Errorf("report %s at %s: %w", key, at, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return a, ctx.Err()
		}
	}
}

// idle measures what the sites cost when nothing happens.
func (c *player) idle(ctx context.Context) error {
	c.p.Step(fmt.Sprintf("4. nothing happens for %s", c.cfg.Idle))
	debug.FreeOSMemory()
	select { // rates and acknowledgements come to rest
	case <-time.After(5 * time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	before, began := run.ThisProcess(), time.Now()
	select {
	case <-time.After(c.cfg.Idle):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, n := run.ThisProcess(), float64(len(c.sites))
	c.table.IdleMB = (float64(after.RSSBytes)/megabyte - c.before) / n
	c.table.IdleCPUMS = 1000 * (after.CPUSeconds - before.CPUSeconds) / time.Since(began).Seconds() / n
	c.table.Machine.Idle = run.Measure()
	c.p.Line(fmt.Sprintf("a site uses %.2f MB of memory, and %.3f ms of processor time a second", c.table.IdleMB, c.table.IdleCPUMS))
	c.p.Line("for comparison: " + c.table.Machine.Idle.String())
	return nil
}

// partition cuts districts, with the townships below them, off from the city, and
// goes on reporting on both sides.
func (c *player) partition(ctx context.Context) error {
	city, off := c.cluster.Topology().City(), c.cutOff()
	c.p.Step(fmt.Sprintf("5. %d districts are cut off, and every township reports", len(off)))
	for _, s := range c.sites {
		if off[s.ID] || off[s.Parent] {
			c.cluster.Cut(city, s.ID)
		}
	}
	if err := c.report(ctx, c.cfg.Reports-c.cfg.Reports/2); err != nil {
		return err
	}
	return c.converge(ctx, "sites agree where links are up", func(child, _ tiers.SiteID) bool { return !off[child] })
}

func (c *player) heal(ctx context.Context) error {
	c.p.Step("6. the links heal")
	began := time.Now()
	c.cluster.Heal()
	if err := c.converge(ctx, "sites agree", nil); err != nil {
		return err
	}
	c.table.ConvergeS = time.Since(began).Seconds()
	c.p.Line(fmt.Sprintf("every link is proven equal after %.1f s", c.table.ConvergeS))
	return nil
}

// reorganise publishes the reorganisation while some of the townships that it moves
// are isolated, and lets these rejoin.
func (c *player) reorganise(ctx context.Context) error {
	alone := map[tiers.SiteID]bool{}
	for i := range min(c.cfg.Isolated, len(c.next)) {
		alone[c.next[i*len(c.next)/min(c.cfg.Isolated, len(c.next))].Township] = true
	}
	c.p.Step(fmt.Sprintf("7. %d townships change their district, %d of them are isolated", len(c.next), len(alone)))
	for id := range alone {
		c.cluster.Isolate(id)
	}
	city := c.cluster.Node(c.cluster.Topology().City())
	next, _, err := city.PublishTopology(ctx, "reorganisation", c.reorganised(city.Topology()), false)
	if err != nil {
		return err
	}
	if err := c.convergeTo(ctx, next, "sites are where they belong", func(child, _ tiers.SiteID) bool { return !alone[child] }); err != nil {
		return err
	}
	began := time.Now()
	c.cluster.Heal()
	if err := c.convergeTo(ctx, next, "isolated townships are where they belong, too", nil); err != nil {
		return err
	}
	c.table.ReorgConvergeS = time.Since(began).Seconds()
	for _, m := range c.next {
		if c.cluster.Node(m.Township).Link(m.To).Equal {
			c.table.Moved++
		}
	}
	c.p.Line(fmt.Sprintf("%d of %d moved, with their whole history, %.1f s after they rejoined", c.table.Moved, len(c.next), c.table.ReorgConvergeS))
	return nil
}

// reorganised is the topology in which townships have their new parents; districts
// that lost all of theirs end.
func (c *player) reorganised(t *tiers.Topology) tiers.TopologyDoc {
	doc := t.Doc()
	doc.Sites, doc.Version = slices.Clone(doc.Sites), doc.Version+1
	to, lost, left := map[tiers.SiteID]tiers.SiteID{}, map[tiers.SiteID]bool{}, map[tiers.SiteID]bool{}
	for _, m := range c.next {
		to[m.Township] = m.To
		lost[m.From] = true
	}
	for i := range doc.Sites {
		s := &doc.Sites[i]
		if p := to[s.ID]; p != "" {
			s.Parent = p
		}
		left[s.Parent] = true
	}
	doc.Sites = slices.DeleteFunc(doc.Sites, func(s tiers.Site) bool { return lost[s.ID] && !left[s.ID] })
	return doc
}
