package run

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// duplicate reports what an event reports once more: the same type, place and
// priority, now, so that the one which was reported first is the original.
func (p *player) duplicate(ctx context.Context, line int, c scenario.Duplicate) error {
	next, err := p.ledger.make(line, scenario.Report{From: scenario.SourceMade})
	if err != nil {
		return err
	}
	r := p.names.get(c.Of).report
	r.SourceKey, r.Title, r.ReportedAtMS = next.SourceKey, c.Name, time.Now().UnixMilli()
	return p.eventNamed(ctx, c.Name, c.At, r)
}

func (p *player) mergeDeed(key string, c scenario.Merge) deed {
	a, b := p.names.get(c.Event), p.names.get(c.With)
	var done api.EventResult
	return deed{
		at: c.At,
		do: func(ctx context.Context, d Domain) (err error) {
			done, err = d.MergeEvents(ctx, api.MergeRequest{Key: key, Event: a.doc, With: b.doc, Note: "the same"})
			return err
		},
		done: func() { p.ledger.wrote(c.At, key, done.WriteResult) },
	}
}

// orderDeed gives an order to the sites that a script means; a whole tier is addressed
// as such.
func (p *player) orderDeed(key string, c scenario.Order) deed {
	var to []string
	for _, id := range c.To.Of(p.tree.rows()) {
		if id != c.At {
			to = append(to, string(id))
		}
	}
	address := strings.Join(to, ",")
	switch {
	case c.To == scenario.Sites{}:
		address = "area:" + string(c.At)
	case c.To.Tier != 0 && c.To.ID == "":
		address = "tier:" + c.To.Tier.String()
	}
	var done api.OrderResult
	return deed{
		at: c.At,
		do: func(ctx context.Context, d Domain) (err error) {
			done, err = d.IssueOrder(ctx, api.OrderRequest{Key: key, To: address, Title: c.Name})
			return err
		},
		done: func() {
			stream := tiers.StreamID{Site: c.At, Class: tiers.ClassCommand}
			p.names.put(c.Name, thing{kind: command.KindOrder, doc: done.ID, stream: stream, at: c.At, targets: done.Targets})
			p.ledger.wrote(c.At, key, done.WriteResult)
		},
	}
}

// receiptDeed makes a step of an order, with what the step needs besides.
func (p *player) receiptDeed(key string, c scenario.Receipt) deed {
	step := stepOf(c.Step, c.At)
	var done api.OrderStepResult
	return deed{
		at: c.At,
		do: func(ctx context.Context, d Domain) (err error) {
			done, err = d.StepOrder(ctx, api.OrderStepRequest{Key: key, Order: p.names.get(c.Order).doc.Name(), Step: step})
			return err
		},
		done: func() { p.ledger.wrote(c.At, key, done.WriteResult) },
	}
}

// modeDeed switches an area. In an emergency every limit counts round the clock.
func (p *player) modeDeed(key string, c scenario.Mode) deed {
	r := api.ModeRequest{Key: key, Area: c.For, Mode: c.Mode, Reason: "scenario"}
	if c.Mode == command.ModeEmergency {
		r.Level, r.Hours = command.LevelMin, command.HoursUrgent
	}
	var done api.ModeResult
	return deed{
		at: c.At,
		do: func(ctx context.Context, d Domain) (err error) {
			done, err = d.SwitchMode(ctx, r)
			return err
		},
		done: func() { p.ledger.wrote(c.At, key, done.WriteResult) },
	}
}

// modeShown is the mode of a site as another one has heard.
func (p *player) modeShown(ctx context.Context, id, of tiers.SiteID) (text string, elsewhere bool, err error) {
	err = p.askOnce(ctx, id, func(d Domain) error {
		s, err := d.Mode(ctx, of)
		text = s.Mode
		return err
	})
	if errors.Is(err, api.ErrNotFound) { // neither above nor below it
		return scenario.Absent, true, nil
	}
	return text, false, err
}

// askOnce asks a site that is up.
func (p *player) askOnce(ctx context.Context, id tiers.SiteID, f func(Domain) error) error {
	s, err := p.w.Site(id)
	if err != nil {
		return err
	}
	return s.Ask(ctx, f)
}

// orderShown is a measure of an order at those of its targets that a site is to know
// of: what all of them show, or the first that is not as expected, with the target.
func (p *player) orderShown(ctx context.Context, id tiers.SiteID, t thing, c scenario.Expect) (text string, elsewhere bool, err error) {
	var detail api.OrderDetail
	err = p.askOnce(ctx, id, func(d Domain) (err error) {
		detail, err = d.Order(ctx, t.doc.Name())
		return err
	})
	if err != nil && !errors.Is(err, api.ErrNotFound) {
		return "", false, err
	}
	states := map[tiers.SiteID]string{}
	for _, row := range detail.Targets {
		states[row.Site] = row.State
	}
	asked, seen, open := c.To.Of(p.tree.rows()), 0, 0
	for _, target := range t.targets {
		known := p.tree.topology().InAudience(tiers.StreamID{Site: target, Class: tiers.ClassCommand}, id)
		if !known || !slices.Contains(asked, target) {
			continue
		}
		seen++
		state := cmp.Or(states[target], scenario.Absent)
		if state == command.StateIssued || state == scenario.Absent {
			open++
		}
		if text == "" || c.HoldsText(text) {
			if text = state; !c.HoldsText(state) && len(t.targets) > 1 {
				text += " for " + string(target)
			}
		}
	}
	if c.Measure == scenario.MeasureOpen {
		text = fmt.Sprint(open)
	}
	return text, seen == 0, nil
}

// eventShows is one measure of an event's view.
func (p *player) eventShows(m scenario.Measure, view json.RawMessage) (string, error) {
	var v event.View
	if err := json.Unmarshal(view, &v); err != nil {
		return "", err
	}
	v.Derive()
	switch m {
	case scenario.MeasureReporters:
		return fmt.Sprint(max(len(v.Reporters), 1)), nil
	case scenario.MeasureTasks:
		return fmt.Sprint(len(v.OpenTasks())), nil
	default:
		return p.names.nameOf(string(cmp.Or(v.Into, v.ID))), nil
	}
}
