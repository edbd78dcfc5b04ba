package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// Claimer is a [Site] whose exclusive units can be claimed. Sites in this process
// can; the API claims units of the registry only.
type Claimer interface {
	Claim(ctx context.Context, key, unit, holder string, force bool) (epoch uint64, err error)
	Release(ctx context.Context, key, unit string, epoch uint64) error
}

// claimants is how many clients claim at a site at once, and units how many units
// they claim.
const (
	claimants = 4
	units     = 3
)

// claims is what clients that claim units were told.
type claims struct {
	mu      sync.Mutex // guards the fields below
	granted []oracle.Granted
	history map[tiers.SiteID][]oracle.Op
	// gaveUp are sites whose old disk was put back: what they granted since its
	// copy was made they cannot know.
	gaveUp map[tiers.SiteID]bool
}

func newClaims() *claims {
	return &claims{history: map[tiers.SiteID][]oracle.Op{}, gaveUp: map[tiers.SiteID]bool{}}
}

func (c *claims) add(site tiers.SiteID, op oracle.Op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gaveUp[site] {
		return
	}
	c.history[site] = append(c.history[site], op)
	if op.Kind == oracle.OpClaim && op.Outcome == oracle.Done {
		c.granted = append(c.granted, oracle.Granted{Site: site, Resource: op.Object, Holder: op.Holder, Epoch: op.Epoch})
	}
}

// giveUp forgets what a site's clients were told, for good.
func (c *claims) giveUp(site tiers.SiteID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gaveUp[site] = true
	delete(c.history, site)
	c.granted = slices.DeleteFunc(c.granted, func(g oracle.Granted) bool { return g.Site == site })
}

// seen returns what was granted, and each site's history.
func (c *claims) seen() ([]oracle.Granted, [][]oracle.Op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all [][]oracle.Op
	for _, id := range slices.Sorted(maps.Keys(c.history)) {
		all = append(all, slices.Clone(c.history[id]))
	}
	return slices.Clone(c.granted), all
}

// claim starts clients that claim and release units, at each site on their own.
func (p *player) claim(line int, c scenario.Claim) error {
	for _, id := range c.At.Of(p.tree.rows()) {
		s, err := p.w.Site(id)
		if err == nil {
			if _, ok := s.(Claimer); !ok {
				return fmt.Errorf("%w: claim units of %s", ErrUnsupported, id)
			}
		}
		for i := range claimants {
			p.beside.Go(func() { p.fatal(p.claimant(p.beside.loads, line, i, id, c)) })
		}
	}
	return nil
}

// claimant is one client: it claims a unit, holds it for a moment, releases it.
func (p *player) claimant(ctx context.Context, line, me int, id tiers.SiteID, c scenario.Claim) error {
	rnd := rand.New(rand.NewPCG(p.s.Seed, uint64(line)<<16|uint64(me))) //nolint:gosec // a load, not a secret
	gap := time.Duration(float64(time.Second) * claimants / c.PerSecond)
	began := time.Now()
	for n := 0; ctx.Err() == nil && (c.For == 0 || time.Since(began) < c.For); n++ {
		unit, holder := fmt.Sprintf("unit-%d", rnd.IntN(units)), fmt.Sprintf("client-%d-%d", me, n)
		epoch, err := p.claimOnce(ctx, id, fmt.Sprintf("claim-%d-%d-%d-%s", line, me, n, id), unit, holder, rnd.IntN(4) == 0)
		if err != nil {
			return err
		}
		_ = wait(ctx, gap) // the loop ends with ctx
		if epoch == 0 {
			continue
		}
		if err := p.releaseOnce(ctx, id, fmt.Sprintf("release-%d-%d-%d-%s", line, me, n, id), unit, holder, epoch); err != nil {
			return err
		}
	}
	return nil
}

// claimOnce claims once and notes what came of it.
func (p *player) claimOnce(ctx context.Context, id tiers.SiteID, key, unit, holder string, force bool) (uint64, error) {
	s, ok := p.claimer(id)
	if !ok {
		return 0, nil
	}
	op := oracle.Op{Kind: oracle.OpClaim, Object: unit, Holder: holder, Force: force, Call: time.Since(p.began)}
	epoch, err := s.Claim(ctx, key, unit, holder, force)
	op.Return, op.Epoch = time.Since(p.began), epoch
	return epoch, p.note(id, op, err)
}

func (p *player) releaseOnce(ctx context.Context, id tiers.SiteID, key, unit, holder string, epoch uint64) error {
	s, ok := p.claimer(id)
	if !ok {
		return nil
	}
	op := oracle.Op{Kind: oracle.OpRelease, Object: unit, Holder: holder, Epoch: epoch, Call: time.Since(p.began)}
	err := s.Release(ctx, key, unit, epoch)
	op.Return = time.Since(p.began)
	return p.note(id, op, err)
}

func (p *player) claimer(id tiers.SiteID) (Claimer, bool) {
	s, err := p.w.Site(id)
	if err != nil {
		return nil, false // it is down: another time
	}
	c, ok := s.(Claimer)
	return c, ok
}

// note adds an operation with its outcome. An operation that did nothing for
// certain and said nothing about the unit is left out.
func (p *player) note(id tiers.SiteID, op oracle.Op, err error) error {
	switch {
	case err == nil:
		op.Outcome = oracle.Done
	case errors.Is(err, store.ErrHeld), errors.Is(err, store.ErrFenced):
		op.Outcome = oracle.Rejected
	case errors.Is(err, replication.ErrNotLeader):
		return nil
	case passing(err), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		op.Outcome = oracle.Unknown
	default:
		return fmt.Errorf("%s of %s at %s: %w", op.Kind, op.Object, id, err)
	}
	p.claims.add(id, op)
	return nil
}
