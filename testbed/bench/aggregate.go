package bench

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/data"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// AggregateConfig says how large a city to ask.
type AggregateConfig struct {
	// Dir is where the site lives; it must exist.
	Dir string
	// N is the number of events, spread over the streams of the real sites.
	N int
	// OpenPercent is how many of a hundred events are open.
	OpenPercent int
	// Queries is how often each view is asked for; zero means 300.
	Queries int
	// Progress is told how far filling is; nil is told nothing.
	Progress func(text string)
}

// Validate reports the first size out of bounds. The error wraps [ErrConfig].
func (c AggregateConfig) Validate() error {
	switch {
	case c.N < 1:
		return fmt.Errorf("%w: %d events", ErrConfig, c.N)
	case c.OpenPercent < 0 || c.OpenPercent > 100:
		return fmt.Errorf("%w: %d percent open: want 0 to 100", ErrConfig, c.OpenPercent)
	}
	return nil
}

// AggregateCase is what a view of the whole city costs.
type AggregateCase struct {
	Peer     string `json:"peer"`
	Workload string `json:"workload"`
	N        int    `json:"n"`
	// Sites is how many sites the view is of, Open how many events it counts.
	Sites int   `json:"sites"`
	Open  int64 `json:"open"`
	// P50MS and P99MS are of one view, of the kind that takes longest; ByMS is each
	// kind's p99.
	P50MS float64            `json:"p50_ms"`
	P99MS float64            `json:"p99_ms"`
	ByMS  map[string]float64 `json:"by_p99_ms"`
	// BaselineMS is what reading every event's view once takes. Equal says that both
	// came to the same numbers, for every site.
	BaselineMS float64 `json:"baseline_ms"`
	Ratio      float64 `json:"ratio"`
	Equal      bool    `json:"equal"`
	FillOpsS   float64 `json:"fill_ops_s"`
	RSSMB      float64 `json:"rss_mb"`
}

// errUnequal ends a benchmark whose two sides disagree.
var errUnequal = errors.New("bench: counters and scan disagree")

// Aggregate fills a city's store with events of its sites, and asks for the view of
// the city.
func Aggregate(ctx context.Context, cfg AggregateConfig) (c AggregateCase, err error) {
	if err := cfg.Validate(); err != nil {
		return c, err
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	if cfg.Queries == 0 {
		cfg.Queries = 300
	}
	cluster, n, err := openSite(ctx, cfg.Dir)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	sites, err := listSites(ctx, n)
	if err != nil {
		return c, err
	}
	c = AggregateCase{Peer: "tiermesh", Workload: "aggregate", N: cfg.N, Sites: len(sites), ByMS: map[string]float64{}}
	if c.FillOpsS, err = fillCity(ctx, n, sites, cfg); err != nil {
		return c, err
	}
	if _, err := viewsBehind(ctx, n); err != nil {
		return c, err
	}
	if err := n.Group().Store().Flush(); err != nil {
		return c, err
	}
	if err := c.ask(ctx, n, cfg.Queries); err != nil {
		return c, err
	}
	c.RSSMB = residentMB()
	return c, c.compare(ctx, n)
}

// listSites publishes a topology of the real sites at the city that is running, and
// returns those that events are of. None of the others runs.
func listSites(ctx context.Context, n *node.Node) ([]tiers.SiteID, error) {
	doc := n.Topology().Doc()
	doc.Sites = slices.Clone(doc.Sites)
	out := []tiers.SiteID{benchSite}
	add := func(id tiers.SiteID, tier tiers.Tier, name string, parent tiers.SiteID) {
		seed := sha256.Sum256([]byte(id)) // a key of nobody's that runs
		key, _ := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
		doc.Sites = append(doc.Sites, tiers.Site{ID: id, Tier: tier, Name: name, Parent: parent, Key: key})
		out = append(out, id)
	}
	districts, err := data.Districts()
	for _, d := range districts {
		add(d.Code, tiers.TierDistrict, d.Name, benchSite)
	}
	townships, err2 := data.Townships()
	for _, t := range townships {
		add(t.Code, tiers.TierTownship, t.Name, t.District)
	}
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	doc.Version++
	if _, err := n.Backend().PublishTopology(ctx, api.TopologyRequest{Key: "bench-sites", Topology: doc}); err != nil {
		return nil, err
	}
	for len(n.Topology().Sites()) != len(out) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return out, nil
}

// fillBatch is how many events go into one command.
const fillBatch = 64

// fillCity writes events to the streams of all sites, as the city may.
func fillCity(ctx context.Context, n *node.Node, sites []tiers.SiteID, cfg AggregateConfig) (float64, error) {
	_, actor, err := n.Group().Actor()
	if err != nil {
		return 0, err
	}
	types, err := data.EventTypes()
	if err != nil {
		return 0, err
	}
	e, docs := engine.New(), documents{seed: 1}
	r, err := drive(ctx, (cfg.N+fillBatch-1)/fillBatch, 4, func(ctx context.Context, b int) error {
		if b*fillBatch%100_000 < fillBatch && b > 0 {
			cfg.Progress(fmt.Sprintf("%d of %d events", b*fillBatch, cfg.N))
		}
		var items []store.Item
		for i := b * fillBatch; i < min((b+1)*fillBatch, cfg.N); i++ {
			report := docs.report(i)
			report.Type, report.Priority = types[i%len(types)].Code, 1+i%4
			var actions []event.Action
			at := n.Group().Clock().Now()
			if i*37%100 >= cfg.OpenPercent {
				actions = append(actions, event.Action{At: at, By: benchSite, Kind: event.KindClose})
			}
			ops, err := event.CreateOps(report, actions...)
			if err != nil {
				return err
			}
			built, err := e.Build(nil, actor, at.Millis(), ops)
			if err != nil {
				return err
			}
			items = append(items, store.Item{
				Stream: tiers.StreamID{Site: sites[i%len(sites)], Class: event.Class(report.Priority)},
				Doc:    tiers.NewDocID(event.Kind, fmt.Sprintf("bench-%d", i)), Time: at, Change: built.Raw,
			})
		}
		_, err := n.Group().Append(ctx, "", items)
		return err
	})
	return r.rate(cfg.N), err
}

// ask asks for each kind of view.
func (c *AggregateCase) ask(ctx context.Context, n *node.Node, queries int) error {
	for _, by := range []string{api.ByArea, api.BySite, api.ByType, api.ByTrack, api.ByState} {
		took := make([]float64, queries)
		for i := range took {
			began := time.Now()
			o, err := n.Backend().Overview(ctx, api.OverviewQuery{By: by})
			if took[i] = float64(time.Since(began)) / float64(time.Millisecond); err != nil {
				return err
			}
			c.Open = o.Total.Events
		}
		slices.Sort(took)
		p50, p99 := took[len(took)/2], took[len(took)*99/100]
		c.ByMS[by] = math.Round(1000*p99) / 1000
		if p99 > c.P99MS {
			c.P50MS, c.P99MS = p50, p99
		}
	}
	return nil
}

// compare counts by reading every event's view, and holds the answer against it.
func (c *AggregateCase) compare(ctx context.Context, n *node.Node) error {
	began := time.Now()
	scanned, err := scanEvents(ctx, n)
	if err != nil {
		return err
	}
	c.BaselineMS = float64(time.Since(began)) / float64(time.Millisecond)
	c.Ratio = c.BaselineMS / c.P99MS
	o, err := n.Backend().Overview(ctx, api.OverviewQuery{By: api.BySite})
	if err != nil {
		return err
	}
	for _, r := range o.Rows {
		if want := scanned[tiers.SiteID(r.Key)]; r.Numbers != want {
			return fmt.Errorf("%w: site %s: %+v counted, %+v read", errUnequal, r.Key, r.Numbers, want)
		}
	}
	c.Equal = true
	return nil
}

// scanEvents is the baseline: the open events of each site, from every event's view.
func scanEvents(ctx context.Context, n *node.Node) (map[tiers.SiteID]api.Numbers, error) {
	hits, err := n.Group().Store().Index(store.IndexQuery{Name: event.IndexEvent})
	if err != nil {
		return nil, err
	}
	out := map[tiers.SiteID]api.Numbers{}
	for _, h := range hits {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		v, err := n.Views().View(h.Key)
		if err != nil {
			return nil, err
		}
		var e struct {
			State  string `json:"state"`
			Report struct {
				Priority int `json:"priority"`
			} `json:"report"`
		}
		if err := json.Unmarshal(v.JSON, &e); err != nil {
			return nil, err
		}
		if x := out[h.Key.Stream.Site]; event.Open(e.State) {
			if x.Events++; e.Report.Priority <= 2 {
				x.Urgent++
			}
			out[h.Key.Stream.Site] = x
		}
	}
	return out, nil
}
