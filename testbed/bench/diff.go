package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/testbed/relay"
	"github.com/tiermesh/tiermesh/tiers"
)

// What a site has forgotten in a difference benchmark.
const (
	// ForgetNothing: the edge changes documents while cut off.
	ForgetNothing = "nothing"
	// ForgetPeer: as that, and the parent was restarted meanwhile, so that all
	// that it knew about its peer is gone.
	ForgetPeer = "peer"
	// ForgetParent: the changes had arrived; then the parent was restored from a
	// backup from before them.
	ForgetParent = "parent-backup"
	// ForgetEdge: the changes had arrived; then the edge was restored from a
	// backup from before them, and made as many others while cut off.
	ForgetEdge = "edge-backup"
	// ForgetCopy: the changes had arrived; then the edge's directory was replaced
	// with a copy from before them, which nothing but the parent can tell it.
	ForgetCopy = "edge-copy"
)

// Forgets lists all of them, in the order in which they are measured.
func Forgets() []string {
	return []string{ForgetNothing, ForgetPeer, ForgetParent, ForgetEdge, ForgetCopy}
}

// DiffConfig says how much both ends hold and how much of it differs.
type DiffConfig struct {
	LinkConfig
	// N is the number of documents that both hold, D how many change.
	N, D int
	// Forget lists the cases.
	Forget []string
}

// DiffCase is what one difference cost. ConvergeS is until both ends hold the
// same, RoundTrips that over the line's round trip.
type DiffCase struct {
	Case
	Line
	D      int    `json:"d"`
	Forget string `json:"forget"`
	// RoundTrips is 0 on a line without delay.
	RoundTrips float64 `json:"round_trips"`
	// SessionBytes are the wire's without QUIC's handshakes, until both ends had
	// proven that they hold the same, ProvenS after the link was up.
	SessionBytes uint64  `json:"session_bytes"`
	ProvenS      float64 `json:"proven_s"`
	// Records are those that both ends lacked.
	Records uint64 `json:"records"`
}

// String is one line for people.
func (c DiffCase) String() string {
	return fmt.Sprintf("%d of %d documents differ, forgot %s: converged after %.3f s (%.2f round trips), %d bytes without TLS (%d up, %d down with it), proven after %.3f s, redial %.1f s",
		c.D, c.N, c.Forget, c.ConvergeS, c.RoundTrips, c.SessionBytes, c.WireUp, c.WireDown, c.ProvenS, c.RedialS)
}

// diffIdle is how soon a link that was cut is noticed.
const diffIdle = 3 * time.Second

// Diff measures what it takes to find and mend a small difference between two
// large sites, and hands each case to emit.
func Diff(ctx context.Context, cfg DiffConfig, emit func(DiffCase) error) (err error) {
	cfg.LinkConfig = cfg.withDefaults()
	if cfg.Idle == 0 {
		cfg.Idle = diffIdle
	}
	if err := errors.Join(within("documents", cfg.N, 1, 10_000_000), within("changed documents", cfg.D, 1, cfg.N), cfg.validate(2*cfg.N, 2*cfg.N)); err != nil {
		return err
	}
	for _, f := range cfg.Forget {
		if !slices.Contains(Forgets(), f) {
			return fmt.Errorf("%w: forget %q: want some of %v", ErrConfig, f, Forgets())
		}
	}
	m, err := openMesh(cfg.LinkConfig, []tiers.Site{cityRow(), districtRow(0)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.startAll(ctx); err != nil {
		return err
	}
	if _, err := m.fill(ctx, districtSite, cfg.N, cfg.Seed); err != nil {
		return err
	}
	city := m.sites[citySite]
	if err := city.line.SetShape(relay.Shape{}); err != nil { // both ends come to hold all without delay
		return err
	}
	if _, err := m.catchUp(ctx, "fill", districtSite); err != nil {
		return err
	}
	if err := city.line.SetShape(cfg.shape()); err != nil {
		return err
	}
	for round, forget := range cfg.Forget {
		cfg.Progress.Line(fmt.Sprintf("%d of %d documents differ, forget %s", cfg.D, cfg.N, forget))
		d := &difference{mesh: m, cfg: cfg, round: 2 * round, forget: forget}
		c, err := d.run(ctx)
		if err != nil {
			return fmt.Errorf("forget %s: %w", forget, err)
		}
		if err := emit(c); err != nil {
			return err
		}
	}
	return nil
}

// difference is one case at work. Both ends are linked and equal when it begins
// and when it ends.
type difference struct {
	*mesh
	cfg    DiffConfig
	round  int
	forget string
}

func (d *difference) run(ctx context.Context) (c DiffCase, err error) {
	if err := d.plant(ctx); err != nil {
		return c, err
	}
	// What either end lacks of what the other holds of the edge's streams.
	up, err := d.lacks(ctx, citySite, districtSite)
	if err != nil {
		return c, err
	}
	down, err := d.lacks(ctx, districtSite, citySite)
	if err != nil {
		return c, err
	}
	city, edge := d.sites[citySite], d.sites[districtSite].process
	before := city.line.Counts()
	if err := errors.Join(
		city.process.begin(ctx, request{Await: &awaitRequest{Peer: districtSite, Heads: up.heads, Equal: true}, Profile: d.profile("diff-"+d.forget, citySite)}),
		edge.begin(ctx, request{Await: &awaitRequest{Peer: citySite, Link: true, Heads: down.heads, Equal: true}, Profile: d.profile("diff-"+d.forget, districtSite)}),
	); err != nil {
		return c, err
	}
	healed := time.Now().UnixNano()
	city.line.Heal()
	atCity, err := city.process.finish(ctx, nil)
	if err != nil {
		return c, err
	}
	atEdge, err := edge.finish(ctx, nil)
	if err != nil {
		return c, err
	}
	c = DiffCase{
		Case: Case{Peer: "tiermesh", Workload: "diff", N: d.cfg.N, Clients: 1, Replicas: 1, CPUS: atCity.Awaited.CPUS},
		Line: d.cfg.line(city.line.Counts().Minus(before), 0), D: d.cfg.D, Forget: d.forget, Records: up.records + down.records,
	}
	link := atEdge.Awaited.Link
	c.RedialS, c.ConvergeS = seconds(healed, link), seconds(link, max(atCity.Awaited.stored(), atEdge.Awaited.stored()))
	c.FirstS = c.ConvergeS // one batch each way
	c.ProvenS = seconds(link, max(atCity.Awaited.Equal, atEdge.Awaited.Equal))
	c.SessionBytes = c.WireBytes - c.TLSBytes
	if d.cfg.RTT > 0 {
		c.RoundTrips = c.ConvergeS / d.cfg.RTT.Seconds()
	}
	_, err = d.cost(ctx, citySite, &c.Case)
	return c, err
}

// plant cuts the line and makes the ends differ.
func (d *difference) plant(ctx context.Context) error {
	switch d.forget {
	case ForgetNothing:
		if err := d.cut(ctx); err != nil {
			return err
		}
		return d.edit(ctx, d.round)
	case ForgetPeer:
		if err := d.cut(ctx); err != nil {
			return err
		}
		return errors.Join(d.stop(citySite), d.edit(ctx, d.round), d.start(ctx, citySite))
	case ForgetParent:
		return d.restore(ctx, citySite)
	case ForgetEdge:
		if err := d.restore(ctx, districtSite); err != nil {
			return err
		}
		return d.edit(ctx, d.round+1)
	default:
		return d.putBack(ctx)
	}
}

func (d *difference) edit(ctx context.Context, round int) error {
	_, err := d.sites[districtSite].process.do(ctx, request{Edit: &editRequest{N: d.cfg.N, D: d.cfg.D, Round: round, Seed: d.cfg.Seed}}, nil)
	return err
}

// cut cuts the line and waits until both ends have noticed.
func (d *difference) cut(ctx context.Context) error {
	d.sites[citySite].line.Cut()
	for at, peer := range map[tiers.SiteID]tiers.SiteID{citySite: districtSite, districtSite: citySite} {
		if p := d.sites[at].process; p != nil {
			if _, err := p.do(ctx, request{Await: &awaitRequest{Peer: peer, Down: true}}, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// ship changes documents at the edge and waits until the city has them.
func (d *difference) ship(ctx context.Context) error {
	if err := d.edit(ctx, d.round); err != nil {
		return err
	}
	lacks, err := d.lacks(ctx, citySite, districtSite)
	if err != nil {
		return err
	}
	_, err = d.sites[citySite].process.do(ctx, request{Await: &awaitRequest{Heads: lacks.heads, Views: true}}, nil)
	return err
}

// restore makes a backup of a site, lets the change happen and arrive, cuts the
// line and goes on with the site as the product restores it from the backup.
func (d *difference) restore(ctx context.Context, id tiers.SiteID) error {
	file := d.restoreFile(id)
	if _, err := d.sites[id].process.do(ctx, request{Backup: file}, nil); err != nil {
		return err
	}
	if err := d.ship(ctx); err != nil {
		return err
	}
	if err := d.cut(ctx); err != nil {
		return err
	}
	if err := errors.Join(d.stop(id), os.RemoveAll(d.data(id))); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	_, err = replication.Restore(f, d.data(id), benchFederation, id)
	if err := errors.Join(err, f.Close(), os.Remove(file)); err != nil {
		return err
	}
	return d.start(ctx, id)
}

// putBack does the same with a copy of the edge's directory.
func (d *difference) putBack(ctx context.Context) error {
	kept := filepath.Join(d.dir, "copy")
	if err := errors.Join(d.stop(districtSite), copyData(d.data(districtSite), kept), d.start(ctx, districtSite)); err != nil {
		return err
	}
	if err := d.ship(ctx); err != nil {
		return err
	}
	d.sites[citySite].line.Cut()
	if err := errors.Join(d.stop(districtSite), os.RemoveAll(d.data(districtSite)), os.Rename(kept, d.data(districtSite))); err != nil {
		return err
	}
	if err := d.cut(ctx); err != nil {
		return err
	}
	return d.start(ctx, districtSite)
}

// lack is what a site lacks.
type lack struct {
	heads   []head
	records uint64
}

// lacks returns what a site lacks of what its peer holds of the edge's streams.
func (d *difference) lacks(ctx context.Context, at, from tiers.SiteID) (l lack, err error) {
	theirs, err := d.heads(ctx, from, districtSite)
	if err != nil {
		return l, err
	}
	mine, err := d.heads(ctx, at, districtSite)
	if err != nil {
		return l, err
	}
	held := map[head]uint64{}
	for _, h := range mine {
		held[head{Stream: h.Stream, Author: h.Author}] = h.Seq
	}
	for _, h := range theirs {
		if has := held[head{Stream: h.Stream, Author: h.Author}]; h.Seq > has {
			l.heads = append(l.heads, h)
			l.records += h.Seq - has
		}
	}
	return l, nil
}
