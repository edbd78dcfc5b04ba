package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// undeliveredShown is how many targets a line names.
const undeliveredShown = 4

// command has the city give an order to every township, and waits until those have it
// that the city can reach.
func (d *player) command(ctx context.Context) error {
	w, o, err := d.cluster.Node(d.cast.city).IssueOrder(ctx, fmt.Sprintf("demo:order:%d", d.run), command.Brief{
		To: "tier:" + tiers.TierTownship.String(), Title: "排查低洼地带, 备足沙袋", Who: "指挥长",
	})
	if err != nil {
		return err
	}
	d.story.order, d.story.targets = w.Doc, o.Targets
	away := d.away()
	out := append(slices.Clone(away), d.cast.standIn) // which gets it as soon as the city stands in
	if err := d.delivered(ctx, func(id tiers.SiteID) bool { return !slices.Contains(out, id) }); err != nil {
		return err
	}
	there, _, err := d.undelivered(ctx, away)
	d.p.Line(fmt.Sprintf("%s gives townships (%d) an order, %q. At once: %d; out of reach: %d; once the city stands in for their district: %d",
		d.cast.city, len(o.Targets), o.Title, there, len(away), len(o.Targets)-there-len(away)))
	return err
}

// waits counts, while the links are still cut, at which townships out of reach the city
// shows the order as undelivered.
func (d *player) waits(ctx context.Context) error {
	away := d.away()
	there, waiting, err := d.undelivered(ctx, away)
	d.table.OrderAway, d.table.OrderWaited = len(away), len(waiting)
	if n := len(waiting) - undeliveredShown; n > 0 {
		waiting = append(waiting[:undeliveredShown], fmt.Sprintf("%d more", n))
	}
	d.p.Line(fmt.Sprintf("%s shows its order as delivered to %d of %d townships, and as undelivered: %s",
		d.cast.city, there, len(d.story.targets), strings.Join(waiting, ", ")))
	return err
}

// away are the townships that no line joins to the city, straight or by their
// district.
func (d *player) away() (out []tiers.SiteID) {
	for _, id := range d.story.targets {
		if d.parent(id) == d.cast.cutDistrict || id == d.cast.isolated || id == d.cast.moved {
			out = append(out, id)
		}
	}
	return out
}

// delivered waits until the city shows the order as delivered to some of its targets.
func (d *player) delivered(ctx context.Context, to func(tiers.SiteID) bool) error {
	return d.until(ctx, "the order is there", func() (done, of int, err error) {
		o, err := d.cluster.Node(d.cast.city).Backend().Order(ctx, d.story.order.Name())
		for _, row := range o.Targets {
			if to(row.Site) {
				of++
				done += flag(row.State != command.StateIssued)
			}
		}
		return done, of, err
	})
}

// undelivered returns how many targets the city shows to have the order, and those of
// some sites that it shows not to, with for how long that is.
func (d *player) undelivered(ctx context.Context, ids []tiers.SiteID) (there int, waiting []string, err error) {
	o, err := d.cluster.Node(d.cast.city).Backend().Order(ctx, d.story.order.Name())
	for _, row := range o.Targets {
		if row.State == command.StateIssued && row.AgeMS > 0 && slices.Contains(ids, row.Site) {
			waiting = append(waiting, fmt.Sprintf("%s for %.2f s", row.Site, float64(row.AgeMS)/1000))
		}
	}
	return o.Counts.Delivered, waiting, err
}

// carryOut has every township take note of the order and carry it out, once it has it.
func (d *player) carryOut(ctx context.Context) error {
	if err := d.delivered(ctx, func(tiers.SiteID) bool { return true }); err != nil {
		return err
	}
	for _, id := range d.story.targets {
		for _, kind := range []string{command.StepAck, command.StepExecute} {
			key := fmt.Sprintf("demo:order:%d:%s", d.run, kind)
			if _, err := d.cluster.Node(id).StepOrder(ctx, key, d.story.order.Name(), command.Step{Kind: kind, Who: "值班员"}); err != nil {
				return fmt.Errorf("%s of %s at %s: %w", kind, d.story.order, id, err)
			}
		}
	}
	d.p.Line(fmt.Sprintf("the order is delivered to all %d townships now; each acknowledges it and carries it out", len(d.story.targets)))
	return d.converge(ctx, "the order is carried out")
}

// checkOrder counts the targets at which every site that is to hold the order there
// shows it delivered, acknowledged and executed.
func (d *player) checkOrder(context.Context) error {
	for _, target := range d.story.targets {
		d.table.OrderTargets++
		k := store.DocKey{Stream: tiers.StreamID{Site: target, Class: tiers.ClassCommand}, Doc: command.ReceiptID(d.story.order, target)}
		good := true
		for _, at := range d.topology().Audience(k.Stream) {
			if why := d.unexecuted(at, k); why != "" {
				good = false
				d.p.Line(fmt.Sprintf("NOT CARRIED OUT: %s at %s: %s", k.Doc, at, why))
			}
		}
		d.table.OrderExecuted += flag(good)
	}
	return nil
}

// unexecuted says what a site's view of an order at a target lacks, or "".
func (d *player) unexecuted(at tiers.SiteID, k store.DocKey) string {
	view, err := d.cluster.Node(at).Views().View(k)
	if err != nil {
		return err.Error()
	}
	var v command.ReceiptView
	if err := json.Unmarshal(view.JSON, &v); err != nil {
		return err.Error()
	}
	if v.State != command.StateExecuted || v.DeliveredMS == 0 || v.AcknowledgedMS == 0 {
		return fmt.Sprintf("it is %s, delivered at %d, acknowledged at %d", v.State, v.DeliveredMS, v.AcknowledgedMS)
	}
	return ""
}
