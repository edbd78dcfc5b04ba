package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// verify reads every site's store and compares it with what was acknowledged
// and with every other site. It believes no counter.
func (d *player) verify(ctx context.Context) error {
	d.p.Step("7. every site is read back and compared")
	d.table.Reported = len(d.events)
	for _, check := range []func(context.Context) error{
		d.checkEvents, d.checkTasks, d.checkViews, d.checkAudience, d.checkConflict, d.checkBundle, d.checkSteps, d.checkDuties, d.checkProofs,
	} {
		if err := errors.Join(check(ctx), ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// state returns every site's state, for oracles.
func (d *player) state() (out []oracle.Site) {
	for _, n := range d.cluster.Nodes() {
		out = append(out, oracle.Site{ID: n.ID().Site, Store: n.Group().Store(), View: n.Views().View})
	}
	return out
}

// judged prints what an oracle found and returns how many violations.
func (d *player) judged(mark string, v oracle.Verdict) int {
	for _, text := range v.Examples {
		d.p.Line(mark + ": " + text)
	}
	return int(v.Violations)
}

// checkEvents counts acknowledged events that a site of their audience lacks,
// and requests that became more than one event.
func (d *player) checkEvents(context.Context) error {
	var acked []oracle.Acked
	for i, e := range append(slices.Clone(d.events), d.story.extra...) {
		if !e.acked {
			continue
		}
		if i < len(d.events) {
			d.table.Acknowledged++
		}
		acked = append(acked, oracle.Acked{Site: e.site, Stream: e.placed.Stream, Doc: e.placed.Doc, Seq: e.placed.Seq})
	}
	d.table.Lost += d.judged("LOST", oracle.NothingLost(d.topology(), acked, d.state()))
	for _, n := range d.cluster.Nodes() {
		hits, err := n.Group().Store().Index(storeQuery(event.IndexSource))
		if err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, h := range hits {
			if seen[h.Value] {
				d.table.Duplicated++
				d.p.Line(fmt.Sprintf("DUPLICATE: request %s at %s", h.Value, n.ID().Site))
			}
			seen[h.Value] = true
		}
	}
	return nil
}

// checkTasks counts, at the city, the events that have exactly one task, and
// the tasks beyond that.
func (d *player) checkTasks(context.Context) error {
	city := d.cluster.Node(d.cast.city)
	hits, err := city.Group().Store().Index(storeQuery("task"))
	if err != nil {
		return err
	}
	tasks := map[tiers.DocID]int{}
	for _, h := range hits {
		v, err := city.Views().View(h.Key)
		if err != nil {
			return err
		}
		var task struct {
			Brief struct {
				Event tiers.DocID `json:"event"`
			} `json:"brief"`
		}
		if err := json.Unmarshal(v.JSON, &task); err != nil {
			return err
		}
		tasks[task.Brief.Event]++
	}
	for i, e := range append(slices.Clone(d.events), d.story.extra...) {
		switch n := tasks[e.placed.Doc]; {
		case n == 1:
			if i < len(d.events) {
				d.table.Dispatched++
			}
		case n == 0:
			d.table.Lost++
			d.p.Line(fmt.Sprintf("LOST: the task of %s", e.placed.Doc))
		case n > 1:
			d.table.Duplicated += n - 1
			d.p.Line(fmt.Sprintf("DUPLICATE: %s has %d tasks", e.placed.Doc, n))
		}
	}
	return nil
}

// checkViews compares every document's view, byte for byte, between the sites
// that hold it, and counts those that differ or are missing at one.
//
// Sites go on writing while they are read, such as when they last heard of a township:
// what is on its way when the first look comes is there for the next.
func (d *player) checkViews(ctx context.Context) error {
	var v oracle.Verdict
	d.settles(ctx, func() bool {
		v = oracle.SameViews(d.topology(), d.state(), true)
		return v.Violations == 0
	})
	d.table.Diverged += d.judged("DIVERGED", v)
	d.p.Line(fmt.Sprintf("%d copies of documents compared", v.Checked))
	return nil
}

// checkAudience counts streams that a site holds although it is not in their
// audience, and chains whose author may not write there.
func (d *player) checkAudience(context.Context) error {
	d.table.Violations += d.judged("VIOLATION", oracle.Audience(d.topology(), d.state()))
	return nil
}

// checkConflict counts the sites of its audience at which the planted conflict
// can be seen, with both values.
func (d *player) checkConflict(context.Context) error {
	k := store.DocKey{
		Stream: tiers.StreamID{Site: d.cast.cutDistrict, Class: tiers.ClassCatalog},
		Doc:    tiers.NewDocID("track", conflictTrack),
	}
	for _, site := range d.topology().Audience(k.Stream) {
		d.table.ConflictSites++
		shown, err := shows(d.cluster.Node(site), k)
		if err != nil {
			return err
		}
		if shown {
			d.table.Conflicts++
		} else {
			d.p.Line(fmt.Sprintf("HIDDEN: conflict of %s at %s", k, site))
		}
	}
	return nil
}

func shows(n *node.Node, k store.DocKey) (bool, error) {
	v, err := n.Views().View(k)
	if err != nil {
		return false, err
	}
	var view struct {
		Conflicts []struct {
			Field  string `json:"field"`
			Values []struct {
				Site tiers.SiteID `json:"site"`
			} `json:"values"`
		} `json:"conflicts"`
	}
	if err := json.Unmarshal(v.JSON, &view); err != nil {
		return false, err
	}
	for _, c := range view.Conflicts {
		if c.Field == "target" && len(c.Values) == 2 && c.Values[0].Site != c.Values[1].Site {
			return true, nil
		}
	}
	return false, nil
}
