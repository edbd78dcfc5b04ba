package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

const (
	// issueOne is how often a client gives a new order: one time in so many.
	issueOne = 5
	// rareStep is how often it refuses, takes back or tries what is not its to do.
	rareStep = 6
	// eventsKept is how many of the last events clients merge.
	eventsKept = 12
)

// workOn returns what a client does each time, at a site.
func (c *client) workOn(on string) func(ctx context.Context, id tiers.SiteID) error {
	switch on {
	case scenario.OnOrders:
		return c.command
	case scenario.OnDuplicates:
		m := &merger{client: c}
		return m.act
	case scenario.OnMode:
		return c.switchMode
	default:
		return c.move
	}
}

// command gives an order, or makes a step of one that the site knows.
func (c *client) command(ctx context.Context, id tiers.SiteID) error {
	site, err := c.p.w.Site(id)
	if err != nil {
		return err
	}
	return site.Ask(ctx, func(d Domain) error {
		if below := c.p.tree.topology().Children(id); len(below) > 0 && c.rnd.IntN(issueOne) == 0 {
			return c.issue(ctx, d, id, below)
		}
		return c.stepOrder(ctx, d, id)
	})
}

// issue gives an order to one site, a few, a tier or an area.
func (c *client) issue(ctx context.Context, d Domain, id tiers.SiteID, below []tiers.SiteID) error {
	key := c.next()
	to := c.of(below)
	if further := c.p.tree.topology().Children(to); len(further) > 0 && c.rnd.IntN(2) == 0 {
		to = c.of(further)
	}
	address := []string{string(to), string(to) + "," + string(c.of(below)), "tier:" + tiers.TierTownship.String(), "area:" + string(id)}[c.rnd.IntN(4)]
	done, err := d.IssueOrder(ctx, api.OrderRequest{Key: key, To: address, Title: key})
	if err == nil {
		c.p.ledger.wrote(id, key, done.WriteResult)
	}
	if errors.Is(err, api.ErrInvalid) && strings.Contains(err.Error(), ": to ") {
		return nil // the site knows of another topology than this client
	}
	return err
}

// stepOrder makes a step: mostly one that is the site's to make as it sees things.
func (c *client) stepOrder(ctx context.Context, d Domain, id tiers.SiteID) error {
	order, next, err := c.choice(ctx, d, id)
	if err != nil || order == "" {
		return err
	}
	rare := c.rnd.IntN(rareStep) == 0
	var kinds []string
	for _, k := range next {
		if (k == command.StepRefuse || k == command.StepCancel) == rare {
			kinds = append(kinds, k)
		}
	}
	if len(kinds) == 0 && rare {
		kinds = scenario.Receipts() // which it may have to refuse
	}
	if len(kinds) == 0 {
		return nil
	}
	kind, key := kinds[c.rnd.IntN(len(kinds))], c.next()
	done, err := d.StepOrder(ctx, api.OrderStepRequest{Key: key, Order: order, Step: stepOf(kind, id)})
	if err == nil {
		c.p.ledger.wrote(id, key, done.WriteResult)
	}
	return err
}

// choice chooses an order that a site has issued, or holds for itself or a site below.
func (c *client) choice(ctx context.Context, d Domain, id tiers.SiteID) (order string, next []string, err error) {
	if c.rnd.IntN(3) == 0 {
		page, err := d.ListOrders(ctx, api.ListQuery{Limit: workPage})
		if err != nil || len(page.Items) == 0 {
			return "", nil, err
		}
		row := page.Items[c.rnd.IntN(len(page.Items))]
		if row.Site == id {
			next = []string{command.StepCancel, command.StepRemind}
		}
		return row.ID.Name(), next, nil
	}
	q := api.ReceiptQuery{ListQuery: api.ListQuery{Limit: workPage, Site: id}}
	if c.rnd.IntN(rareStep) == 0 {
		q.Site = "" // also those of sites below
	}
	page, err := d.ListReceipts(ctx, q)
	if err != nil || len(page.Items) == 0 {
		return "", nil, err
	}
	row := page.Items[c.rnd.IntN(len(page.Items))]
	return row.ID.Name(), row.Next(id), nil
}

// stepOf is a step of an order, with what the step needs besides.
func stepOf(kind string, at tiers.SiteID) api.OrderStep {
	s := api.OrderStep{Kind: kind, Who: "officer-" + string(at)}
	switch kind {
	case command.StepRefuse:
		s.Reason = command.RefuseReasons()[0]
	case command.StepReport:
		s.Note = "under way"
	}
	return s
}

// switchMode switches the site's area, or one below, to emergency or back.
func (c *client) switchMode(ctx context.Context, id tiers.SiteID) error {
	site, err := c.p.w.Site(id)
	if err != nil {
		return err
	}
	area := id
	if below := c.p.tree.topology().Children(id); len(below) > 0 && c.rnd.IntN(2) == 0 {
		area = c.of(below)
	}
	r := api.ModeRequest{Key: c.next(), Area: area, Mode: command.ModeNormal, Reason: "scenario"}
	if c.rnd.IntN(2) == 0 {
		r.Mode, r.Level = command.ModeEmergency, command.LevelMin+c.rnd.IntN(command.LevelMax)
		r.Hours = []string{"", command.HoursUrgent}[c.rnd.IntN(2)]
	}
	return site.Ask(ctx, func(d Domain) error {
		done, err := d.SwitchMode(ctx, r)
		if err == nil {
			c.p.ledger.wrote(id, r.Key, done.WriteResult)
		}
		if errors.Is(err, api.ErrInvalid) && strings.Contains(err.Error(), "area") {
			return nil // it was moved, and the site knows it or does not
		}
		return err
	})
}

// merger is a client that reports the same at several sites, and merges.
type merger struct {
	*client
	mu    sync.Mutex // guards known
	known []thing    // the last events
}

// act reports something, or the same once more, or merges two, or takes that back.
func (m *merger) act(ctx context.Context, id tiers.SiteID) error {
	a, b, two := m.pair()
	switch n := m.rnd.IntN(8); {
	case !two || n == 0:
		return m.report(id, thing{})
	case n < 4:
		return m.report(id, a)
	default:
		return m.merge(ctx, m.place(id, a, b), a, b, n == 7)
	}
}

// pair chooses two events.
func (m *merger) pair() (a, b thing, two bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.known) < 2 {
		return a, b, false
	}
	p := m.rnd.Perm(len(m.known))
	return m.known[p[0]], m.known[p[1]], true
}

// place chooses where two events are merged: at the home of one of them, the parent of
// it, or anywhere.
func (m *merger) place(id tiers.SiteID, a, b thing) tiers.SiteID {
	row, _ := m.p.tree.topology().Site(a.at)
	return []tiers.SiteID{a.at, b.at, cmp.Or(row.Parent, id), m.p.tree.city(), id}[m.rnd.IntN(5)]
}

// report reports something, or what an event reports once more. It is handed in while
// the script goes on, so that it may be under way when the site dies.
func (m *merger) report(id tiers.SiteID, same thing) error {
	r, err := m.p.ledger.make(0, scenario.Report{From: scenario.SourceMade, Urgent: m.rnd.IntN(4) == 0})
	if err != nil {
		return err
	}
	if r.SourceKey = m.next(); same.doc != "" {
		first := r.SourceKey
		r = same.report
		r.SourceKey, r.Title, r.ReportedAtMS = first, first, time.Now().UnixMilli()
	}
	m.p.beside.Go(func() {
		a, err := m.p.handed(m.p.beside.running, id, r)
		switch {
		case err == nil:
			m.add(thing{kind: kindEvent, doc: a.Doc, stream: a.Stream, at: id, report: r})
		case m.p.beside.running.Err() == nil:
			m.p.fatal(err)
		}
	})
	return nil
}

func (m *merger) add(t thing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known = append(m.known, t); len(m.known) > eventsKept {
		m.known = m.known[1:]
	}
}

// merge says at a site that two events are one, or are not.
func (m *merger) merge(ctx context.Context, id tiers.SiteID, a, b thing, back bool) error {
	site, err := m.p.w.Site(id)
	if err != nil {
		return err
	}
	key := m.next()
	return site.Ask(ctx, func(d Domain) error {
		r := api.MergeRequest{Key: key, Event: a.doc, With: b.doc, Note: "the same"}
		do := d.MergeEvents
		if back {
			r.With, do = "", d.UnmergeEvents
		}
		done, err := do(ctx, r)
		if err == nil {
			m.p.ledger.wrote(id, key, done.WriteResult)
		}
		if err != nil && !harmless(ctx, err) {
			return fmt.Errorf("merge %s with %s at %s: %w", a.doc, b.doc, id, err)
		}
		return err
	})
}
