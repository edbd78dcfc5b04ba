package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// UrgentConfig says what waits at an edge when a slow line is healed.
type UrgentConfig struct {
	LinkConfig
	// BacklogBytes are the JSON bytes of the routine events that wait.
	BacklogBytes int64
	// PerS urgent events a second are reported for Drain from the link on.
	PerS  float64
	Drain time.Duration
}

// UrgentCase is what urgent events of 2 KB had to wait. P50MS, P99MS and MaxMS
// are those of the ones during the drain, from their acknowledgement until a
// list of the parent shows them and they have been read.
type UrgentCase struct {
	Case
	Line
	BacklogBytes int64 `json:"backlog_bytes"`
	// UrgentMS is when the one from before the heal could be read at the parent,
	// after the link was up; UrgentHealMS is that after the line was healed.
	UrgentMS     float64 `json:"urgent_ms"`
	UrgentHealMS float64 `json:"urgent_heal_ms"`
	Drain        int     `json:"drain_n"`
	MaxMS        float64 `json:"max_ms"`
	// Drained is the share of the backlog that had arrived when the last urgent
	// event had: below 1, the line was busy all the time.
	Drained float64 `json:"drained"`
}

// String is one line for people.
func (c UrgentCase) String() string {
	return fmt.Sprintf("urgent over a backlog of %d documents (%.1f MB) at %.0f kbit/s, rtt %g ms: visible %.0f ms after the link (%.0f ms after the heal); during the drain p50 %.0f ms, p99 %.0f ms, at most %.0f ms of %d; %.0f %% of the backlog had arrived",
		c.N, float64(c.BacklogBytes)/1e6, c.RateBitS/1e3, c.RTTMS, c.UrgentMS, c.UrgentHealMS, c.P50MS, c.P99MS, c.MaxMS, c.Drain, 100*c.Drained)
}

const (
	// meanDocumentBytes is the mean of the documents' JSON.
	meanDocumentBytes = 573
	urgentPriority    = 1
	urgentTextBytes   = 1700 // makes 2 KB of JSON with the other fields
)

// Urgent measures how urgent events overtake a backlog on a slow line.
func Urgent(ctx context.Context, cfg UrgentConfig) (c UrgentCase, err error) {
	cfg.LinkConfig = cfg.withDefaults()
	n, paced := int(cfg.BacklogBytes/meanDocumentBytes), int(cfg.PerS*cfg.Drain.Seconds())
	if err := errors.Join(within("backlog's documents", n, 1, 10_000_000), paceBound(cfg.PerS), cfg.validate(n, n)); err != nil {
		return c, err
	}
	if err := within("urgent events", paced, 1, 1_000_000); err != nil {
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
	filled, err := m.fill(ctx, districtSite, n, cfg.Seed)
	if err != nil {
		return c, err
	}
	c.Case = Case{Peer: "tiermesh", Workload: "urgent", N: n, Clients: 1, Replicas: 1}
	c.BacklogBytes, c.Drain = filled.JSONBytes, paced
	return c, m.urgent(ctx, cfg, &c)
}

func (m *mesh) urgent(ctx context.Context, cfg UrgentConfig, c *UrgentCase) error {
	city, edge := m.sites[citySite], m.sites[districtSite].process
	pace := paceRequest{N: 1, PerS: cfg.PerS, Seed: cfg.Seed, Priority: urgentPriority, TextBytes: urgentTextBytes}
	if _, err := edge.do(ctx, request{Pace: &pace}, nil); err != nil {
		return err
	}
	backlog, err := m.routine(ctx, districtSite)
	if err != nil {
		return err
	}
	before := city.line.Counts()
	if err := errors.Join(
		city.process.begin(ctx, request{Observe: &observeRequest{N: 1 + c.Drain}, Profile: m.profile("urgent", citySite)}),
		edge.begin(ctx, request{Await: &awaitRequest{Peer: citySite, Link: true}}),
	); err != nil {
		return err
	}
	healed := time.Now().UnixNano()
	city.line.Heal()
	up, err := edge.finish(ctx, nil)
	if err != nil {
		return err
	}
	pace.First, pace.N = 1, c.Drain
	wrote, err := edge.do(ctx, request{Pace: &pace, Profile: m.profile("urgent", districtSite)}, m.bar("urgent events written"))
	if err != nil {
		return err
	}
	res, err := city.process.finish(ctx, nil)
	if err != nil {
		return err
	}
	arrived, err := m.routine(ctx, citySite)
	if err != nil {
		return err
	}
	c.Line = cfg.line(city.line.Counts().Minus(before), 0)
	link, seen := up.Awaited.Link, res.Seen
	c.RedialS, c.FirstS, c.ConvergeS = seconds(healed, link), seconds(link, seen[0]), seconds(link, slices.Max(seen))
	c.UrgentMS, c.UrgentHealMS = 1e3*c.FirstS, 1e3*seconds(healed, seen[0])
	c.Drained = float64(arrived) / float64(backlog)
	c.OpsS = float64(arrived) / c.ConvergeS
	var during run
	for i, w := range wrote.Paced {
		during.latencies = append(during.latencies, time.Duration(seen[1+i]-w.Acked))
	}
	c.P50MS, c.P99MS, c.MaxMS = during.quantile(0.5), during.quantile(0.99), during.quantile(1)
	_, err = m.cost(ctx, citySite, &c.Case)
	return err
}

// routine returns how many of the edge's routine records a site holds.
func (m *mesh) routine(ctx context.Context, at tiers.SiteID) (n uint64, err error) {
	heads, err := m.heads(ctx, at, districtSite)
	for _, h := range heads {
		if h.Stream.Class == tiers.ClassRoutine {
			n += h.Seq
		}
	}
	return n, err
}
