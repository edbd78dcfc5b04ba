package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// LiveConfig says how fast events come in at an edge.
type LiveConfig struct {
	LinkConfig
	// N is the number of events, PerS how many are reported a second.
	N    int
	PerS float64
	// Tiers is 2 (district and city) or 3 (township, district, city).
	Tiers int
}

// LiveCase is what one site saw of it: P50MS and P99MS are from an event's
// acknowledgement at the edge until a list of the site shows it and its view
// has been read.
type LiveCase struct {
	Case
	Line
	// At is the observing site's tier, Hops its distance from the edge.
	At    string  `json:"at"`
	Hops  int     `json:"hops"`
	PerS  float64 `json:"rate"`
	MaxMS float64 `json:"max_ms"`
	// AckP50MS and AckP99MS are the edge's own: from the call to the
	// acknowledgement.
	AckP50MS float64 `json:"ack_p50_ms"`
	AckP99MS float64 `json:"ack_p99_ms"`
}

// String is one line for people.
func (c LiveCase) String() string {
	return fmt.Sprintf("live, %g/s, %d events: visible at the %s, %d up, after p50 %.2f ms, p99 %.2f ms, at most %.1f ms (acknowledged within p50 %.2f, p99 %.2f ms), wire %.0f bytes a document",
		c.PerS, c.N, c.At, c.Hops, c.P50MS, c.P99MS, c.MaxMS, c.AckP50MS, c.AckP99MS, float64(c.WireBytes)/float64(c.N))
}

// Live measures how long after its acknowledgement an event can be read at the
// sites above, and hands each of them to emit, the nearest first.
func Live(ctx context.Context, cfg LiveConfig, emit func(LiveCase) error) (err error) {
	cfg.LinkConfig = cfg.withDefaults()
	if err := errors.Join(within("events", cfg.N, 1, 1_000_000), within("tiers", cfg.Tiers, 2, 3), paceBound(cfg.PerS), cfg.validate(cfg.N, cfg.N, cfg.N)); err != nil {
		return err
	}
	rows := []tiers.Site{cityRow(), districtRow(0), townshipRow()}[:cfg.Tiers]
	m, err := openMesh(cfg.LinkConfig, rows)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.startAll(ctx); err != nil {
		return err
	}
	if err := m.linkUp(ctx, rows); err != nil {
		return err
	}
	edge := m.sites[rows[len(rows)-1].ID].process
	slices.Reverse(rows)
	above := rows[1:]
	for _, r := range above {
		if err := m.sites[r.ID].process.begin(ctx, request{Observe: &observeRequest{N: cfg.N}, Profile: m.profile("live", r.ID)}); err != nil {
			return err
		}
	}
	before := m.counts(above)
	res, err := edge.do(ctx, request{Pace: &paceRequest{N: cfg.N, PerS: cfg.PerS, Seed: cfg.Seed, Priority: 3}, Profile: m.profile("live", rows[0].ID)}, m.bar("events written"))
	if err != nil {
		return err
	}
	for i, r := range above {
		seen, err := m.sites[r.ID].process.finish(ctx, nil)
		if err != nil {
			return err
		}
		c := LiveCase{
			Case: Case{Peer: "tiermesh", Workload: "live", N: cfg.N, Clients: 1, Replicas: 1, OpsS: cfg.PerS},
			Line: cfg.line(m.counts(above)[i].Minus(before[i]), 0), At: r.Tier.String(), Hops: i + 1, PerS: cfg.PerS,
		}
		c.latencies(res.Paced, seen.Seen)
		if _, err := m.cost(ctx, r.ID, &c.Case); err != nil {
			return err
		}
		if err := emit(c); err != nil {
			return err
		}
	}
	return nil
}

// paceBound refuses a rate that a pace cannot keep.
func paceBound(perS float64) error {
	if !(perS > 0 && perS <= 10_000) { // also refuses NaN
		return fmt.Errorf("%w: %g events a second: want more than 0 and at most 10000", ErrConfig, perS)
	}
	return nil
}

// linkUp heals every line and waits until each child is linked to its parent
// and both hold the same.
func (m *mesh) linkUp(ctx context.Context, rows []tiers.Site) error {
	for _, r := range rows {
		if r.Parent != "" {
			if err := m.sites[r.ID].process.begin(ctx, request{Await: &awaitRequest{Peer: r.Parent, Link: true, Equal: true}}); err != nil {
				return err
			}
		}
	}
	for _, s := range m.sites {
		s.line.Heal()
	}
	for _, r := range rows {
		if r.Parent != "" {
			if _, err := m.sites[r.ID].process.finish(ctx, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// latencies fills in how long after each acknowledgement an event was seen.
func (c *LiveCase) latencies(paced []written, seen []int64) {
	visible, acked := run{}, run{}
	for i, w := range paced {
		visible.latencies = append(visible.latencies, time.Duration(seen[i]-w.Acked))
		acked.latencies = append(acked.latencies, time.Duration(w.Acked-w.Began))
	}
	c.P50MS, c.P99MS, c.MaxMS = visible.quantile(0.5), visible.quantile(0.99), visible.quantile(1)
	c.AckP50MS, c.AckP99MS = acked.quantile(0.5), acked.quantile(0.99)
	c.FirstS = float64(seen[0]-paced[0].Acked) / float64(time.Second)
	c.ConvergeS = seconds(paced[0].Began, slices.Max(seen))
}
