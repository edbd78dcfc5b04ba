package run

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// unitID is a unit of a home site.
type unitID struct {
	home tiers.SiteID
	code string
}

func (u unitID) String() string { return string(u.home) + "/" + u.code }

// orders are the orders to units that clients were told of.
type orders struct {
	mu  sync.Mutex // guards the fields below
	all []oracle.Order
	// forgot are the homes whose old disk was put back.
	forgot []tiers.SiteID
}

func newOrders() *orders { return &orders{} }

func (o *orders) add(x oracle.Order) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, x)
}

// end notes when the end of orders was asked for.
func (o *orders) end(at time.Duration, which func(x oracle.Order) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.all {
		if o.all[i].Until == 0 && which(o.all[i]) {
			o.all[i].Until = at
		}
	}
}

// over ends the orders for a task that a move ends.
func (o *orders) over(move, task string, at time.Duration) {
	if slices.Contains([]string{dispatch.ActionClose, dispatch.ActionVoid, dispatch.ActionMerge}, move) {
		o.end(at, func(x oracle.Order) bool { return x.For == task })
	}
}

// granted notes that a request was seen to be granted.
func (o *orders) granted(t thing, r responder.RequestView, at time.Duration) {
	unit := unitID{r.Request.Home, r.Unit}.String()
	o.mu.Lock()
	known := slices.ContainsFunc(o.all, func(x oracle.Order) bool { return x.Unit == unit && x.Epoch == r.Epoch })
	o.mu.Unlock()
	if !known {
		o.add(oracle.Order{Unit: unit, For: string(t.doc), By: r.Request.Home, Epoch: r.Epoch, Call: t.asked, Return: at})
	}
}

// last returns the last order of a site to a unit.
func (o *orders) last(by tiers.SiteID, unit string) (x oracle.Order, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, x := range slices.Backward(o.all) {
		if x.By == by && x.Unit == unit {
			return x, true
		}
	}
	return x, false
}

func (o *orders) seen() ([]oracle.Order, []tiers.SiteID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.all), slices.Clone(o.forgot)
}

// forget leaves a site's units out from then on.
func (o *orders) forget(id tiers.SiteID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forgot = append(o.forgot, id)
}

func (p *player) unitDeed(key string, c scenario.Unit) deed {
	p.names.put(c.Name, thing{kind: responder.Kind, at: c.At})
	return deed{at: c.At, do: func(ctx context.Context, d Domain) error { return register(ctx, d, key, c.Name, c.Skill) }}
}

func register(ctx context.Context, d Domain, key, code, skill string) error {
	_, err := d.RegisterUnit(ctx, api.UnitRequest{Key: key, Unit: responder.Unit{
		Code: code, Name: code, Kind: "team", Skills: []string{skill}, Organ: "应急管理办公室", Status: responder.Available,
	}})
	return err
}

// sendDeed sends a unit: to the task of an event, or to a place of that name.
func (p *player) sendDeed(key string, c scenario.Send) deed {
	to := c.To
	if t := p.names.get(c.To); t.kind == kindEvent {
		to = string(dispatch.TaskID(t.doc))
	}
	return p.send(key, c.At, unitID{p.names.get(c.Unit).at, c.Unit}, to, c.Force)
}

// send sends a unit and notes the order.
func (p *player) send(key string, at tiers.SiteID, u unitID, to string, force bool) deed {
	x := oracle.Order{Unit: u.String(), For: to, By: at, Force: force}
	return deed{
		at: at, begin: func() { x.Call = p.elapsed() },
		do: func(ctx context.Context, d Domain) error {
			r := api.UnitClaimRequest{Key: key, Home: u.home, Holder: to, Force: force}
			if force {
				r.Reason = "emergency"
			}
			o, err := d.ClaimUnit(ctx, u.code, r)
			if err != nil {
				return err
			}
			x.Epoch = o.Epoch
			if o.NotAfterMS != 0 {
				x.NotAfter = time.UnixMilli(o.NotAfterMS).Sub(p.began)
			}
			return nil
		},
		done: func() {
			x.Return = p.elapsed()
			p.orders.add(x)
		},
	}
}

func (p *player) recallDeed(key string, c scenario.Recall) deed {
	return p.recall(key, c.At, unitID{p.names.get(c.Unit).at, c.Unit})
}

// errNotSent reports a unit that was to be called back and never sent.
var errNotSent = errors.New("run: the site has not sent it")

// recall frees a unit of the epoch in which the site sent it last.
func (p *player) recall(key string, at tiers.SiteID, u unitID) deed {
	x, ok := p.orders.last(at, u.String())
	return deed{
		at: at, begin: func() {
			p.orders.end(p.elapsed(), func(o oracle.Order) bool { return o.Unit == x.Unit && o.Epoch == x.Epoch && o.By == at })
		},
		do: func(ctx context.Context, d Domain) error {
			epoch := x.Epoch
			if !ok { // a rule sent it
				list, err := d.Units(ctx)
				if err != nil {
					return err
				}
				if epoch = epochOf(list, u); epoch == (responder.Epoch{}) {
					return fmt.Errorf("%s: %w", u, errNotSent)
				}
			}
			_, err := d.ReleaseUnit(ctx, u.code, api.UnitReleaseRequest{Key: key, Home: u.home, Epoch: epoch})
			return err
		},
	}
}

// statusOf finds a unit that a site may send in its list.
func statusOf(list api.UnitList, u unitID) (api.UnitStatus, bool) {
	var out api.UnitStatus
	found := false
	for _, s := range list.Items {
		if s.Site == u.home && s.Code == u.code && (!found || s.Holder != "") {
			out, found = s, true
		}
	}
	return out, found
}

func epochOf(list api.UnitList, u unitID) responder.Epoch {
	s, _ := statusOf(list, u)
	return s.Epoch
}

// holder is what a site says of who has a unit.
func (p *player) holder(ctx context.Context, at tiers.SiteID, u unitID) (string, error) {
	s, err := p.w.Site(at)
	if err != nil {
		return "", err
	}
	var list api.UnitList
	err = s.Ask(ctx, func(d Domain) (err error) {
		list, err = d.Units(ctx)
		return err
	})
	if err != nil {
		return "", err
	}
	status, ok := statusOf(list, u)
	if !ok {
		return scenario.Absent, nil
	}
	return p.names.nameOf(status.Holder), nil
}

func (p *player) askDeed(key string, c scenario.Ask) deed {
	var r responder.RequestView
	began := p.elapsed()
	return deed{
		at: c.At, do: func(ctx context.Context, d Domain) (err error) {
			r, err = d.AskUnit(ctx, api.UnitAskRequest{Key: key, Home: c.Of, Skill: c.Skill, For: "task:" + c.Name, Reason: c.Name})
			return err
		},
		done: func() { p.names.put(c.Name, p.requested(r, began)) },
	}
}

func (p *player) requested(r responder.RequestView, asked time.Duration) thing {
	stream, _ := parseStream(r.Stream) // as the site wrote it
	return thing{kind: responder.KindRequest, doc: r.ID, stream: stream, at: r.Request.From, asked: asked}
}

func (p *player) lendDeed(key string, c scenario.Lend) deed {
	var v responder.PoolView
	until := time.Now().Add(c.For).UnixMilli()
	return deed{
		at: c.At, do: func(ctx context.Context, d Domain) (err error) {
			v, err = d.Lend(ctx, api.LendRequest{Key: key, Child: c.To, Units: c.Units, UntilMS: until, Reason: c.Name})
			return err
		},
		done: func() { p.names.put(c.Name, pooled(v)) },
	}
}

func pooled(v responder.PoolView) thing {
	stream, _ := parseStream(v.Stream) // as the site wrote it
	return thing{kind: responder.KindPool, doc: v.ID, stream: stream, at: v.Pool.Home, to: v.Pool.Child, units: v.Pool.Units}
}

// giveBackDeed gives back what a site was granted or lent.
func (p *player) giveBackDeed(key string, c scenario.GiveBack) deed {
	t := p.names.get(c.Name)
	if t.kind == responder.KindPool {
		return deed{at: t.to, do: func(ctx context.Context, d Domain) error {
			_, err := d.ChangePool(ctx, t.doc.Name(), api.PoolRequest{Key: key, Do: api.PoolHandBack})
			return err
		}}
	}
	return p.giveBack(key, t)
}

func (p *player) giveBack(key string, t thing) deed {
	return deed{
		at: t.at, begin: func() {
			p.orders.end(p.elapsed(), func(o oracle.Order) bool { return o.For == string(t.doc) })
		},
		do: func(ctx context.Context, d Domain) error {
			_, err := d.ReturnUnit(ctx, t.doc.Name(), api.KeyRequest{Key: key})
			return err
		},
	}
}

func (p *player) takeBackDeed(key string, c scenario.TakeBack) deed {
	return p.takeBack(key, p.names.get(c.Name), c.Force)
}

// takeBack takes a pool back: that fences whatever the borrower sends under it. By
// force it does also what was sent before; otherwise nothing may be out any more, if
// no clock was moved.
func (p *player) takeBack(key string, t thing, force bool) deed {
	began := p.elapsed()
	fence := func() {
		for _, l := range t.units {
			p.orders.add(oracle.Order{
				Unit: unitID{t.at, l.Unit}.String(), For: "taken back from " + string(t.doc), By: t.at, Epoch: responder.Epoch{Home: l.Epoch, Lent: math.MaxUint64},
				Call: began, Return: p.elapsed(), Until: p.elapsed(), Force: force || uses(p.s, movesClocks),
			})
		}
	}
	d := deed{at: t.at, do: func(ctx context.Context, d Domain) error {
		_, err := d.ChangePool(ctx, t.doc.Name(), api.PoolRequest{Key: key, Do: api.PoolTakeBack, Force: force, Reason: "emergency"})
		return err
	}}
	if d.done = fence; force {
		d.begin, d.done = fence, nil // whether or not it is heard that it was done
	}
	return d
}

func movesClocks(c scenario.Command) bool {
	a, ok := c.(scenario.Act)
	return ok && a.Kind == scenario.ActClock
}
