package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

const (
	aidUnits = 2 // that each site registers
	aidSkill = "aid"
	aidLease = 4 * time.Hour
	aidForce = 4 // one in so many sends is by force
)

// aider is a client of one site: it sends its units and calls them back, asks others
// for theirs and gives them back, lends and takes back.
type aider struct {
	*client
	id    tiers.SiteID
	sites []tiers.SiteID
	own   []unitID
	sent  []unitID
	asked []thing
	lent  []thing
	pools *pools
}

// pools are what aiders have lent each other.
type pools struct {
	mu  sync.Mutex // guards all
	all []thing
}

func (p *pools) add(t thing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, t)
}

// at lists the units that were lent to a site.
func (p *pools) at(id tiers.SiteID) (out []unitID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.all {
		for _, l := range t.units {
			if t.to == id {
				out = append(out, unitID{t.at, l.Unit})
			}
		}
	}
	return out
}

// aid starts a client at each of the sites.
func (p *player) aid(line int, c scenario.Aid) {
	ids, all := c.At.Of(p.tree.rows()), &pools{}
	ctx := p.beside.loads
	for i, id := range ids {
		a := &aider{client: p.newClient(line, i), id: id, sites: ids, pools: all}
		p.beside.Go(func() {
			p.fatal(steadily(ctx, c.PerSecond/float64(len(ids)), c.For, func() error {
				if err := a.act(ctx, line); !harmless(ctx, err) && !p.clocksMoved(err) {
					return fmt.Errorf("aid: %w", err)
				}
				return nil
			}))
		})
	}
}

// clocksMoved reports whether a lease was refused for its length, in a script that
// moves clocks.
func (p *player) clocksMoved(err error) bool {
	return errors.Is(err, api.ErrInvalid) && uses(p.s, movesClocks)
}

// act does something at random.
func (a *aider) act(ctx context.Context, line int) error {
	if len(a.own) < aidUnits {
		u := unitID{a.id, fmt.Sprintf("aid-%d-%d", line, len(a.own)+1)}
		d := deed{at: a.id, do: func(ctx context.Context, d Domain) error { return register(ctx, d, a.key+u.code, u.code, aidSkill) }}
		d.done = func() { a.own = append(a.own, u) }
		return a.once(ctx, d)
	}
	acts := []func() (deed, bool){a.send, a.send, a.send, a.recall, a.recall, a.ask, a.giveBack, a.lend, a.takeBack}
	d, ok := acts[a.rnd.IntN(len(acts))]()
	if !ok {
		return nil
	}
	return a.once(ctx, d)
}

// once asks for a deed once, whatever comes of it.
func (c *client) once(ctx context.Context, d deed) error {
	s, err := c.p.w.Site(d.at)
	if err != nil {
		return err
	}
	if d.begin != nil {
		d.begin()
	}
	err = s.Ask(ctx, func(x Domain) error { return d.do(ctx, x) })
	if err == nil && d.done != nil {
		d.done()
	}
	return err
}

// then adds to what is done when a deed is.
func (d deed) then(f func()) deed {
	before := d.done
	d.done = func() {
		if before != nil {
			before()
		}
		f()
	}
	return d
}

// take takes one of some things at random.
func take[T any](c *client, from *[]T) (x T, ok bool) {
	if len(*from) == 0 {
		return x, false
	}
	i := c.rnd.IntN(len(*from))
	x = (*from)[i]
	*from = slices.Delete(*from, i, i+1)
	return x, true
}

func (a *aider) send() (deed, bool) {
	can := slices.Concat(a.own, a.pools.at(a.id))
	u, key := can[a.rnd.IntN(len(can))], a.next()
	d := a.p.send(key, a.id, u, "scene-"+key+"-"+string(a.id), a.rnd.IntN(aidForce) == 0)
	return d.then(func() { a.sent = append(a.sent, u) }), true
}

func (a *aider) recall() (deed, bool) {
	u, ok := take(a.client, &a.sent)
	return a.p.recall(a.next(), a.id, u), ok
}

func (a *aider) ask() (deed, bool) {
	of := a.of(a.sites)
	var r responder.RequestView
	key, began := a.next(), a.p.elapsed()
	d := deed{at: a.id, do: func(ctx context.Context, d Domain) (err error) {
		r, err = d.AskUnit(ctx, api.UnitAskRequest{Key: key, Home: of, Skill: aidSkill, For: "task:" + key, Reason: "aid"})
		return err
	}}
	return d.then(func() { a.asked = append(a.asked, a.p.requested(r, began)) }), of != a.id
}

func (a *aider) giveBack() (deed, bool) {
	t, ok := take(a.client, &a.asked)
	return a.p.giveBack(a.next(), t), ok
}

func (a *aider) lend() (deed, bool) {
	below := a.p.tree.topology().Children(a.id)
	if len(below) == 0 {
		return deed{}, false
	}
	u, to, key := a.own[a.rnd.IntN(len(a.own))], a.of(below), a.next()
	var v responder.PoolView
	d := deed{at: a.id, do: func(ctx context.Context, d Domain) (err error) {
		v, err = d.Lend(ctx, api.LendRequest{Key: key, Child: to, Units: []string{u.code}, UntilMS: time.Now().Add(aidLease).UnixMilli(), Reason: "aid"})
		return err
	}}
	return d.then(func() {
		t := pooled(v)
		a.pools.add(t)
		a.lent = append(a.lent, t)
	}), true
}

func (a *aider) takeBack() (deed, bool) {
	t, ok := take(a.client, &a.lent)
	return a.p.takeBack(a.next(), t, true), ok
}
