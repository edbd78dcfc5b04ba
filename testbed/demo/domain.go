package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/indicator"
)

// Duties are the closing table's lines on what the sites do for the city: tasks,
// indicators, orders. Its JSON keys follow those of [Steps].
type Duties struct {
	// Of ContestSites sites that hold the task that both sides of the cut assigned,
	// ContestSettled name the same one custodian, record the conflict, and know that
	// who lost it has stood down.
	ContestSites   int `json:"contest_sites"`
	ContestSettled int `json:"contest_settled"`
	// Of AlertSites sites above or at the township that measured, Alerted hold the
	// crossing's event and its task.
	AlertSites int `json:"alert_sites"`
	Alerted    int `json:"alerted"`
	// Of OrderAway townships that the city could not reach, OrderWaited were shown there
	// as undelivered, with since when. Of OrderTargets townships that the order was for,
	// OrderExecuted are shown everywhere as having got it, acknowledged it and carried it
	// out.
	OrderAway     int `json:"order_away"`
	OrderWaited   int `json:"order_waited"`
	OrderTargets  int `json:"order_targets"`
	OrderExecuted int `json:"order_executed"`
	// CustodyViolations are tasks with two custodians, or one that did not sign.
	CustodyViolations int `json:"custody_violations"`
}

// hold reports whether every duty was done as it should be.
func (t Duties) hold() bool {
	return t.ContestSites > 0 && t.ContestSettled == t.ContestSites && t.AlertSites > 0 && t.Alerted == t.AlertSites && t.CustodyViolations == 0 &&
		t.OrderAway > 0 && t.OrderWaited == t.OrderAway && t.OrderTargets > 0 && t.OrderExecuted == t.OrderTargets
}

// duties is what the steps during the cut leave for the checks after it.
type duties struct {
	contested tiers.DocID // a task of the isolated township
	alert     store.DocKey
	order     tiers.DocID // of the city, to targets
	targets   []tiers.SiteID
}

// floodLevel is a vital sign that every township measures.
const floodLevel = "flood_level"

// defineLevel has the city publish a vital sign with one level.
func (d *player) defineLevel(ctx context.Context) error {
	_, err := d.cluster.Node(d.cast.city).Define(ctx, fmt.Sprintf("demo:indicator:%d", d.run), indicator.Definition{
		Code: floodLevel, Name: "内涝水位", Kind: indicator.Vital, Unit: "m",
		Levels: []indicator.Level{{Name: "red", Op: indicator.AtLeast, Threshold: 3.5, Priority: 1}},
	})
	return err
}

// offer reports the event whose task both sides of the cut will assign, and waits
// until its district and the city have the task.
func (d *player) offer(ctx context.Context) error {
	e, err := d.extraEvent(ctx, d.cast.isolated)
	if err != nil {
		return err
	}
	d.story.contested = dispatch.TaskID(e.placed.Doc)
	return d.until(ctx, "a task is there for its district to see", func() (done, of int, err error) {
		holders := d.holders(d.cast.isolated)
		for _, id := range holders {
			_, _, err := d.cluster.Node(id).Task(d.story.contested)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return 0, 0, err
			}
			done += flag(err == nil)
		}
		return done, len(holders), nil
	})
}

// holders are a township and all sites above it.
func (d *player) holders(id tiers.SiteID) []tiers.SiteID {
	return append([]tiers.SiteID{id}, d.topology().Ancestors(id)...)
}

// doDuties goes on with the sites' duties while the links are cut.
func (d *player) doDuties(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.contend, d.measure, d.command,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// act makes a move on the contested task.
func (d *player) act(ctx context.Context, at tiers.SiteID, a dispatch.Action) error {
	_, err := d.cluster.Node(at).Act(ctx, fmt.Sprintf("demo:contest:%d:%s:%s", d.run, at, a.Kind), d.story.contested, a)
	return err
}

// contend has the isolated township sign for a task and work on it, and its
// district, which hears nothing, take the same task over.
func (d *player) contend(ctx context.Context) error {
	below, above := d.cast.isolated, d.cast.cutDistrict
	err := errors.Join(
		d.act(ctx, below, dispatch.Action{Kind: dispatch.ActionSign}),
		d.act(ctx, below, dispatch.Action{Kind: dispatch.ActionDispose, Who: "张三"}),
		d.act(ctx, above, dispatch.Action{Kind: dispatch.ActionOverride, Reason: "no_answer"}),
		d.act(ctx, above, dispatch.Action{Kind: dispatch.ActionDispose, Who: "李四"}))
	if err == nil {
		d.p.Line(fmt.Sprintf("%s signs for a task and works on it; %s hears nothing and takes it over: two custodians", below, above))
	}
	return err
}

// measure takes readings in at the isolated township, which cross the level, and
// waits for the event and its task.
func (d *player) measure(ctx context.Context) error {
	id := d.cast.isolated
	n := d.cluster.Node(id)
	series := fmt.Sprintf("%s/%d", floodLevel, d.run)
	from := time.Now().Add(-time.Hour).Truncate(time.Minute)
	var in []node.Reading
	for i, v := range []float64{2.1, 2.6, 3.1, 3.4, 3.6, 3.9} {
		in = append(in, node.Reading{Series: series, Point: reading.Point{AtMS: from.Add(time.Duration(i) * time.Minute).UnixMilli(), Value: v}})
	}
	done, err := n.Import(ctx, fmt.Sprintf("demo:readings:%d", d.run), in, false)
	for _, b := range done.Bad {
		err = errors.Join(err, b)
	}
	if err != nil {
		return err
	}
	err = d.until(ctx, "an alert and its task", func() (int, int, error) {
		q := storeQuery(event.IndexSource)
		q.Prefix = indicator.SourcePrefix(series, "red")
		hits, err := n.Group().Store().Index(q)
		if err != nil || len(hits) == 0 {
			return 0, 2, err
		}
		d.story.alert = hits[0].Key
		return 1 + flag(d.alerted(id)), 2, nil
	})
	if err != nil {
		return err
	}
	d.story.extra = append(d.story.extra, reported{
		key: series, site: id, acked: true, placed: replication.Written{Stream: d.story.alert.Stream, Doc: d.story.alert.Doc},
	})
	d.p.Line(fmt.Sprintf("%s measures %d water levels; the last two cross the city's red line: an alert becomes %s and its task, with every link cut",
		id, len(in), d.story.alert.Doc))
	return d.showAlert(n)
}

// showAlert prints what the alert says, and whose task it is.
func (d *player) showAlert(n *node.Node) error {
	_, e, err := n.Event(d.story.alert.Doc)
	if err != nil {
		return err
	}
	_, t, err := n.Task(dispatch.TaskID(d.story.alert.Doc))
	d.p.Line(fmt.Sprintf("    priority %d: %s (%s); task for %s, within %d %s", e.Report.Priority, e.Report.Title, e.Report.Place,
		t.Brief.Organ, t.Brief.Limit.Amount, t.Brief.Limit.Unit))
	return err
}

// standDown has the township that lost the task call its responders back, once the
// links tell it so.
func (d *player) standDown(ctx context.Context) error {
	below := d.cast.isolated
	_, v, err := d.cluster.Node(below).Task(d.story.contested)
	if err != nil {
		return err
	}
	if len(v.Conflicts) == 0 || !slices.ContainsFunc(v.StandDown, func(s dispatch.StandDown) bool { return s.Site == below }) {
		d.p.Line(fmt.Sprintf("NOT TOLD: %s has lost %s and is not told to stand down", below, v.ID))
		return nil // the checks find it
	}
	d.p.Line(fmt.Sprintf("%s had two custodians: %s keeps it, %d conflict recorded, %s is told to stand down: %s",
		v.ID, v.Custodian, len(v.Conflicts), below, v.StandDown[0].Why))
	for _, x := range v.Conflicts[0].Values {
		d.p.Line(fmt.Sprintf("    %s %v by %s at %s", v.Conflicts[0].Field, x.Value, x.Site, time.UnixMilli(x.AtMS).Format("15:04:05.000")))
	}
	if err := d.act(ctx, below, dispatch.Action{Kind: dispatch.ActionStandDown}); err != nil {
		return err
	}
	return d.converge(ctx, "it has stood down")
}

// checkDuties counts the sites at which the contested task is settled, and those
// that hold the alert's event and task.
func (d *player) checkDuties(ctx context.Context) error {
	for _, id := range d.holders(d.cast.isolated) {
		d.table.ContestSites++
		if why := d.unsettled(id); why == "" {
			d.table.ContestSettled++
		} else {
			d.p.Line(fmt.Sprintf("UNSETTLED: %s at %s: %s", d.story.contested, id, why))
		}
		d.table.AlertSites++
		if d.alerted(id) {
			d.table.Alerted++
		} else {
			d.p.Line(fmt.Sprintf("NO ALERT: %s or its task at %s", d.story.alert, id))
		}
	}
	if err := d.checkOrder(ctx); err != nil {
		return err
	}
	d.table.CustodyViolations += d.judged("CUSTODY", oracle.Custody(d.state()))
	return nil
}

// unsettled says what a site's view of the contested task lacks, or "".
func (d *player) unsettled(at tiers.SiteID) string {
	_, v, err := d.cluster.Node(at).Task(d.story.contested)
	stoodDown := slices.ContainsFunc(v.Actions, func(s dispatch.Step) bool {
		return s.Kind == dispatch.ActionStandDown && s.By == d.cast.isolated && s.Overruled == ""
	})
	both := slices.ContainsFunc(v.Conflicts, func(c crdt.Conflict) bool {
		var sites []tiers.SiteID
		for _, x := range c.Values {
			sites = append(sites, x.Site)
		}
		return slices.Contains(sites, d.cast.isolated) && slices.Contains(sites, d.cast.cutDistrict)
	})
	switch {
	case err != nil:
		return err.Error()
	case v.Custodian != d.cast.cutDistrict:
		return fmt.Sprintf("its custodian is %q", v.Custodian)
	case !both:
		return "the conflict is not shown"
	case !stoodDown || len(v.StandDown) > 0:
		return "who lost it has not stood down"
	}
	return ""
}

// alerted reports whether a site holds the event of the crossing and its task.
func (d *player) alerted(at tiers.SiteID) bool {
	n := d.cluster.Node(at)
	if _, err := n.Views().View(d.story.alert); err != nil {
		return false
	}
	_, v, err := n.Task(dispatch.TaskID(d.story.alert.Doc))
	return err == nil && v.Brief.Event == d.story.alert.Doc && strings.Contains(v.Brief.Place, floodLevel)
}
