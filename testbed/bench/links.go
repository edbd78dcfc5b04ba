package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/testbed/relay"
	"github.com/tiermesh/tiermesh/tiers"
)

// The sites of the link benchmarks.
const (
	citySite     = tiers.SiteID("500000")
	districtSite = tiers.SiteID("500101")
	townshipSite = tiers.SiteID("500101001")
)

func cityRow() tiers.Site {
	return tiers.Site{ID: citySite, Tier: tiers.TierCity, Name: "city"}
}

func districtRow(i int) tiers.Site {
	id := tiers.SiteID(fmt.Sprint(500101 + i))
	return tiers.Site{ID: id, Tier: tiers.TierDistrict, Name: "district", Parent: citySite}
}

func townshipRow() tiers.Site {
	return tiers.Site{ID: townshipSite, Tier: tiers.TierTownship, Name: "township", Parent: districtSite}
}

// Line is what every link benchmark says of the line and of what went over it.
type Line struct {
	RTTMS float64 `json:"rtt_ms"`
	// RateBitS is 0 for no bound.
	RateBitS float64 `json:"rate_bit_s"`
	// WireBytes are UDP payload of both directions; WireUp is towards the
	// parent. TLSBytes of them are QUIC's Initial and Handshake packets.
	WireBytes uint64 `json:"wire_bytes"`
	WireUp    uint64 `json:"wire_up"`
	WireDown  uint64 `json:"wire_down"`
	TLSBytes  uint64 `json:"tls_bytes"`
	// Dropped are datagrams that found the line's queue full.
	Dropped uint64 `json:"dropped"`
	// JSONBytes are those of the documents that crossed, WireRatio the wire's
	// over them.
	JSONBytes int64   `json:"json_bytes"`
	WireRatio float64 `json:"wire_ratio"`
	// RedialS is from the heal of the line to the link being up at the end that
	// dials. FirstS and ConvergeS count from there: until the parent lists a
	// first document, and until it holds all (fsynced).
	RedialS   float64 `json:"redial_s"`
	FirstS    float64 `json:"first_s"`
	ConvergeS float64 `json:"converge_s"`
}

func (c LinkConfig) line(n relay.Counts, jsonBytes int64) Line {
	l := Line{
		RTTMS: float64(c.RTT) / float64(time.Millisecond), RateBitS: c.BytesPerS * 8,
		WireBytes: n.Total(), WireUp: n.Up.Bytes, WireDown: n.Down.Bytes, TLSBytes: n.Handshake(),
		Dropped: n.Up.Dropped + n.Down.Dropped, JSONBytes: jsonBytes,
	}
	if jsonBytes > 0 {
		l.WireRatio = float64(l.WireBytes) / float64(jsonBytes)
	}
	return l
}

// cost fills in what a site's process cost; disk is its data directory.
func (m *mesh) cost(ctx context.Context, id tiers.SiteID, c *Case) (enginesMB float64, err error) {
	s, err := m.status(ctx, id)
	if err != nil {
		return 0, err
	}
	disk, err := dirBytes(m.data(id))
	c.RSSMB, c.DiskMB = s.RSSMB, float64(disk)/(1<<20)
	return s.EnginesMB, err
}

// CatchupConfig says what an edge wrote while it was cut off.
type CatchupConfig struct {
	LinkConfig
	// N is the number of events.
	N int
}

// CatchupCase is what a catch-up came to. OpsS are documents a second until all
// are stored and fsynced at the parent, ViewsOpsS until all their views are up
// to date; RSSMB and CPUS are the parent's, EnginesMB its engine processes'
// memory, and CPUS counts them in.
type CatchupCase struct {
	Case
	Line
	ViewsOpsS float64 `json:"views_s"`
	EnginesMB float64 `json:"engines_rss_mb"`
	EdgeCPUS  float64 `json:"edge_cpu_s"`
	FillOpsS  float64 `json:"fill_ops_s"`
}

// String is one line for people.
func (c CatchupCase) String() string {
	return fmt.Sprintf("catch-up of %d documents, rtt %g ms: stored %.0f/s, views %.0f/s, wire %.1f %% of the JSON, first %.2f s, parent %.0f MB (engines %.0f MB), CPU parent %.1f s edge %.1f s, redial %.1f s",
		c.N, c.RTTMS, c.OpsS, c.ViewsOpsS, 100*c.WireRatio, c.FirstS, c.RSSMB, c.EnginesMB, c.CPUS, c.EdgeCPUS, c.RedialS)
}

// Catchup measures how fast a parent gets what an edge wrote while cut off.
func Catchup(ctx context.Context, cfg CatchupConfig) (c CatchupCase, err error) {
	cfg.LinkConfig = cfg.withDefaults()
	if err := errors.Join(within("events", cfg.N, 1, 10_000_000), cfg.validate(cfg.N, cfg.N)); err != nil {
		return c, err
	}
	m, err := openMesh(cfg.LinkConfig, []tiers.Site{cityRow(), districtRow(0)})
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.startAll(ctx); err != nil {
		return c, err
	}
	filled, err := m.fill(ctx, districtSite, cfg.N, cfg.Seed)
	if err != nil {
		return c, err
	}
	got, err := m.catchUp(ctx, "catchup", districtSite)
	if err != nil {
		return c, err
	}
	c.Case = Case{Peer: "tiermesh", Workload: "catchup", N: cfg.N, Clients: 1, Replicas: 1, CPUS: got.parent.CPUS}
	c.Line = cfg.line(got.wire, filled.JSONBytes)
	c.RedialS, c.FirstS, c.ConvergeS = seconds(got.healed, got.edge.Link), seconds(got.edge.Link, got.parent.First), seconds(got.edge.Link, got.parent.stored())
	c.OpsS, c.ViewsOpsS = float64(cfg.N)/c.ConvergeS, float64(cfg.N)/max(c.ConvergeS, seconds(got.edge.Link, got.parent.Views))
	c.ViewsS, c.EdgeCPUS, c.FillOpsS = seconds(got.parent.stored(), got.parent.Views), got.edge.CPUS, float64(cfg.N)/filled.Seconds
	c.EnginesMB, err = m.cost(ctx, citySite, &c.Case)
	return c, err
}

// caughtUp is what both ends saw of a catch-up.
type caughtUp struct {
	healed       int64
	parent, edge *awaited
	wire         relay.Counts
}

// catchUp heals the city's line and waits until the city has all of a
// district's events and their views.
func (m *mesh) catchUp(ctx context.Context, name string, edge tiers.SiteID) (c caughtUp, err error) {
	heads, err := m.heads(ctx, edge, edge)
	if err != nil {
		return c, err
	}
	city, district := m.sites[citySite], m.sites[edge].process
	before := city.line.Counts()
	if err := errors.Join(
		city.process.begin(ctx, request{Await: &awaitRequest{Heads: heads, First: true, Views: true}, Profile: m.profile(name, citySite)}),
		district.begin(ctx, request{Await: &awaitRequest{Peer: citySite, Link: true, Equal: true}, Profile: m.profile(name, edge)}),
	); err != nil {
		return c, err
	}
	c.healed = time.Now().UnixNano()
	city.line.Heal()
	parent, err := city.process.finish(ctx, m.bar("documents stored at "+string(citySite)))
	if err != nil {
		return c, err
	}
	end, err := district.finish(ctx, nil)
	if err != nil {
		return c, err
	}
	c.parent, c.edge, c.wire = parent.Awaited, end.Awaited, city.line.Counts().Minus(before)
	return c, nil
}

// FaninConfig says how many edges catch up at once.
type FaninConfig struct {
	LinkConfig
	Edges int
	// N is the number of events an edge.
	N int
}

// FaninCase is what that came to: OpsS from the first link that was up until
// the parent held everything. An edge's time is from its own link to its last
// document.
type FaninCase struct {
	Case
	Line
	Edges     int     `json:"edges"`
	ViewsOpsS float64 `json:"views_s"`
	SlowestS  float64 `json:"slowest_s"`
	MedianS   float64 `json:"median_s"`
	// Spread is SlowestS over MedianS.
	Spread    float64 `json:"slowest_to_median"`
	EnginesMB float64 `json:"engines_rss_mb"`
}

// String is one line for people.
func (c FaninCase) String() string {
	return fmt.Sprintf("fan-in of %d edges with %d documents each: stored %.0f/s, views %.0f/s, slowest edge %.2f s, median %.2f s (%.2f times), wire %.1f %% of the JSON, parent %.0f MB",
		c.Edges, c.N, c.OpsS, c.ViewsOpsS, c.SlowestS, c.MedianS, c.Spread, 100*c.WireRatio, c.RSSMB)
}

// fillers is how many edges are filled at once.
const fillers = 4

// faninRedial keeps the edges together: with the node's default they would come
// back over a quarter of a minute.
const faninRedial = 500 * time.Millisecond

// Fanin measures many edges that return to one parent at once.
func Fanin(ctx context.Context, cfg FaninConfig) (c FaninCase, err error) {
	cfg.LinkConfig = cfg.withDefaults()
	if cfg.RedialMax == 0 {
		cfg.RedialMax = faninRedial
	}
	if err := errors.Join(within("edges", cfg.Edges, 1, 200), within("events an edge", cfg.N, 1, 1_000_000), cfg.validate(cfg.Edges*cfg.N, cfg.Edges*cfg.N)); err != nil {
		return c, err
	}
	rows := []tiers.Site{cityRow()}
	for i := range cfg.Edges {
		rows = append(rows, districtRow(i))
	}
	m, err := openMesh(cfg.LinkConfig, rows)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.startAll(ctx); err != nil {
		return c, err
	}
	return m.fanin(ctx, cfg, rows[1:])
}

// fillEdges writes n events at each edge and returns the chains that hold them.
func (m *mesh) fillEdges(ctx context.Context, cfg FaninConfig, edges []tiers.Site) (heads []head, jsonBytes int64, err error) {
	for i := 0; i < len(edges); i += fillers {
		for k, e := range edges[i:min(i+fillers, len(edges))] {
			if err := m.sites[e.ID].process.begin(ctx, request{Fill: &fillRequest{N: cfg.N, Seed: cfg.Seed + uint64(i+k)}}); err != nil {
				return nil, 0, err
			}
		}
		for _, e := range edges[i:min(i+fillers, len(edges))] {
			res, err := m.sites[e.ID].process.finish(ctx, nil)
			if err != nil {
				return nil, 0, err
			}
			jsonBytes += res.Filled.JSONBytes
			its, err := m.heads(ctx, e.ID, e.ID)
			if err != nil {
				return nil, 0, err
			}
			if len(its) != 1 {
				return nil, 0, fmt.Errorf("%w: site %s fills %d chains", ErrWorker, e.ID, len(its))
			}
			heads = append(heads, its...)
		}
		m.cfg.Progress.Bar(len(heads), len(edges), "edges filled")
	}
	return heads, jsonBytes, nil
}

func (m *mesh) fanin(ctx context.Context, cfg FaninConfig, edges []tiers.Site) (c FaninCase, err error) {
	heads, jsonBytes, err := m.fillEdges(ctx, cfg, edges)
	if err != nil {
		return c, err
	}
	city := m.sites[citySite]
	before := city.line.Counts()
	if err := city.process.begin(ctx, request{Await: &awaitRequest{Heads: heads, First: true, Views: true}, Profile: m.profile("fanin", citySite)}); err != nil {
		return c, err
	}
	for _, e := range edges {
		if err := m.sites[e.ID].process.begin(ctx, request{Await: &awaitRequest{Peer: citySite, Link: true}}); err != nil {
			return c, err
		}
	}
	healed := time.Now().UnixNano()
	city.line.Heal()
	res, err := city.process.finish(ctx, m.bar("documents stored at "+string(citySite)))
	if err != nil {
		return c, err
	}
	got, took, first := res.Awaited, make([]float64, len(edges)), int64(0)
	for i, e := range edges {
		its, err := m.sites[e.ID].process.finish(ctx, nil)
		if err != nil {
			return c, err
		}
		up := its.Awaited.Link
		took[i] = seconds(up, got.Heads[i])
		if first == 0 || up < first {
			first = up
		}
	}
	slices.Sort(took)
	total := cfg.N * len(edges)
	c = FaninCase{
		Case:  Case{Peer: "tiermesh", Workload: "fanin", N: cfg.N, Clients: len(edges), Replicas: 1, CPUS: got.CPUS},
		Line:  cfg.line(city.line.Counts().Minus(before), jsonBytes),
		Edges: len(edges), SlowestS: took[len(took)-1], MedianS: took[len(took)/2],
	}
	c.Spread = c.SlowestS / c.MedianS
	c.RedialS, c.FirstS, c.ConvergeS = seconds(healed, first), seconds(first, got.First), seconds(first, got.stored())
	c.OpsS, c.ViewsOpsS, c.ViewsS = float64(total)/c.ConvergeS, float64(total)/seconds(first, got.Views), seconds(got.stored(), got.Views)
	c.EnginesMB, err = m.cost(ctx, citySite, &c.Case)
	return c, err
}

// restoreFile is where a benchmark keeps a backup.
func (m *mesh) restoreFile(id tiers.SiteID) string { return filepath.Join(m.dir, string(id)+".backup") }

// copyData copies a stopped site's data directory.
func copyData(from, to string) error { return os.CopyFS(to, os.DirFS(from)) }
