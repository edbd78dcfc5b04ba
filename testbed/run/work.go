package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// rareMoves are made one time in [rareOne] of those in which they could be: the rest
// of the time work goes on.
var rareMoves = []string{
	dispatch.ActionReturn, dispatch.ActionDispute, dispatch.ActionSuspend, dispatch.ActionOverride, dispatch.ActionVoid, dispatch.ActionReopen,
	dispatch.ActionSupervise, dispatch.ActionExtend, dispatch.ActionEscalate, dispatch.ActionDelegate,
}

const (
	rareOne = 6
	// takeOne is how often custody is taken where it can be: one time in so many.
	takeOne = 3
	// workPage is how many tasks a client chooses from.
	workPage = 50
)

// client is one of those that act on their own, at a rate.
type client struct {
	p   *player
	rnd *rand.Rand
	key string // begins those of its writes
	n   int
}

// newClient makes a client that is the same for a seed, a line and a number.
func (p *player) newClient(line, me int) *client {
	return &client{
		p: p, key: fmt.Sprintf("client-%d-%d", line, me),
		rnd: rand.New(rand.NewPCG(p.s.Seed, uint64(line)<<16|uint64(me))), //nolint:gosec // a load, not a secret
	}
}

// next returns a key that the client has not used.
func (c *client) next() string {
	c.n++
	return fmt.Sprintf("%s-%d", c.key, c.n)
}

func (c *client) of(ids []tiers.SiteID) tiers.SiteID { return ids[c.rnd.IntN(len(ids))] }

// steadily calls f at a rate until its time is over or ctx ends, or f fails.
func steadily(ctx context.Context, perSecond float64, lasts time.Duration, f func() error) error {
	gap := time.Duration(float64(time.Second) / perSecond)
	began := time.Now()
	for i := 0; ctx.Err() == nil && (lasts == 0 || time.Since(began) < lasts); i++ {
		if wait(ctx, time.Until(began.Add(time.Duration(i)*gap))) != nil {
			return nil //nolint:nilerr // hush, or the end of the run
		}
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// harmless reports whether an outcome is one that a client which tries at random may
// meet: it was refused, or what was asked for is not there, or not now.
func harmless(ctx context.Context, err error) bool {
	return err == nil || passing(err) || ctx.Err() != nil || errors.Is(err, api.ErrRejected) || errors.Is(err, api.ErrNotFound)
}

// work makes moves on tasks at a rate, or does what the script says instead.
func (p *player) work(ctx context.Context, line int, c scenario.Work) error {
	worker, ids := p.newClient(line, 0), c.At.Of(p.tree.rows())
	act := worker.workOn(c.On)
	return steadily(ctx, c.PerSecond, c.For, func() error {
		err := act(ctx, worker.of(ids))
		if !harmless(ctx, err) {
			return fmt.Errorf("work: %w", err)
		}
		return nil
	})
}

// move makes a move on some task at a site, one that may be made as the site sees it.
func (c *client) move(ctx context.Context, id tiers.SiteID) error {
	site, err := c.p.w.Site(id)
	if err != nil {
		return err
	}
	return site.Ask(ctx, func(d Domain) error {
		page, err := d.ListTasks(ctx, api.TaskQuery{ListQuery: api.ListQuery{Limit: workPage}})
		if err != nil || len(page.Items) == 0 {
			return err
		}
		var v dispatch.TaskView
		if err := json.Unmarshal(page.Items[c.rnd.IntN(len(page.Items))], &v); err != nil {
			return err
		}
		a, ok := c.choose(id, v)
		if !ok {
			return nil
		}
		key := c.next()
		c.p.orders.over(a.Kind, string(v.ID), c.p.elapsed())
		done, err := d.ActOnTask(ctx, api.TaskActionRequest{Key: key, Task: v.ID, Action: a})
		if err == nil {
			c.p.ledger.moved(id, key, done.WriteResult)
		}
		return err
	})
}

// choose chooses one of the moves that a site may make on a task.
func (c *client) choose(id tiers.SiteID, v dispatch.TaskView) (dispatch.Action, bool) {
	t := c.p.tree.topology()
	row, _ := t.Site(id)
	next := slices.DeleteFunc(v.Next(id, row.Tier), func(k string) bool { return !slices.Contains(scenario.Moves(), k) })
	common := slices.DeleteFunc(slices.Clone(next), func(k string) bool { return slices.Contains(rareMoves, k) })
	takes := slices.DeleteFunc(slices.Clone(next), func(k string) bool { return !(dispatch.Action{Kind: k}).Takes() })
	switch {
	case len(takes) > 0 && c.rnd.IntN(takeOne) == 0:
		next = takes
	case len(common) > 0 && c.rnd.IntN(rareOne) > 0:
		next = common
	}
	if len(next) == 0 {
		return dispatch.Action{}, false
	}
	kind, to := next[c.rnd.IntN(len(next))], tiers.SiteID("")
	switch kind {
	case dispatch.ActionAssign, dispatch.ActionRule:
		to = v.Site
	case dispatch.ActionEscalate:
		to = row.Parent
	case dispatch.ActionDelegate:
		below := t.Children(id)
		if len(below) == 0 {
			return dispatch.Action{}, false
		}
		to = c.of(below)
	}
	return moveOf(kind, id, to), true
}

// contested counts the tasks of which the city shows a conflict.
func (p *player) contested(ctx context.Context) (n float64, err error) {
	s, err := p.w.Site(p.tree.city())
	if err != nil {
		return 0, err
	}
	q := api.ListQuery{Kind: dispatch.KindTask, Limit: contestedPage} // also those that are done
	for {
		var page api.Page
		err := s.Ask(ctx, func(d Domain) (err error) {
			page, err = d.List(ctx, q)
			return err
		})
		if err != nil {
			return 0, err
		}
		for _, item := range page.Items {
			var v dispatch.TaskView
			if err := json.Unmarshal(item, &v); err != nil {
				return 0, err
			}
			if len(v.Conflicts) > 0 {
				n++
			}
		}
		if q.After = page.Next; q.After == "" {
			return n, nil
		}
	}
}

// contestedPage is how many tasks are looked at at once.
const contestedPage = 500
