package sim_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/testbed/sim"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

const (
	city     tiers.SiteID = "500000"
	district tiers.SiteID = "500101"
	township tiers.SiteID = "500101001"
)

// world is a small federation under test.
type world struct {
	*sim.World
	t *testing.T
	n int // reports so far
}

// script has a federation of one site a tier.
func script(nodes map[tiers.SiteID]int) *scenario.Script {
	return &scenario.Script{Seed: 1, Federation: scenario.Federation{
		Nodes: nodes, Sites: []tiers.Site{
			{ID: city, Tier: tiers.TierCity, Name: "重庆市"},
			{ID: district, Tier: tiers.TierDistrict, Name: "万州区", Parent: city},
			{ID: township, Tier: tiers.TierTownship, Name: "高笋塘街道", Parent: district},
		},
	}}
}

// in runs f in a bubble, with a federation of one site a tier.
func in(t *testing.T, nodes map[tiers.SiteID]int, f func(w *world)) {
	t.Helper()
	played(t, script(nodes), f)
}

// played runs f in a bubble with a script's federation.
func played(t *testing.T, script *scenario.Script, f func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	sim.Bubble(t, func(t *testing.T) {
		w := &world{World: sim.New(sim.Config{Dir: dir}), t: t}
		defer func() {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}()
		up := 0
		err := w.Open(t.Context(), script, func(n, _ int) { up = n })
		if err != nil || up != len(script.Federation.Sites) {
			t.Fatalf("open: %d sites are up: %v", up, err)
		}
		f(w)
	})
}

// wait waits until f holds, in virtual time.
func (w *world) wait(what string, f func() bool) {
	w.t.Helper()
	began := time.Now()
	for !f() {
		if time.Since(began) > 5*time.Minute {
			for _, id := range []tiers.SiteID{city, district, township} {
				if s, err := w.Site(id); err == nil {
					st, err := s.Status(w.t.Context())
					w.t.Logf("%s: %+v, %v", id, st, err)
				}
			}
			w.t.Fatalf("after five minutes: no %s", what)
		}
		pass(50 * time.Millisecond)
	}
}

func (w *world) act(kind scenario.ActKind, id tiers.SiteID) {
	w.t.Helper()
	w.do(scenario.Act{Kind: kind, Site: id})
}

func (w *world) do(a scenario.Act) {
	w.t.Helper()
	if err := w.Act(w.t.Context(), a); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) line(from, to tiers.SiteID, l scenario.Line) {
	w.t.Helper()
	if err := w.Line(from, to, l); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) node(id tiers.SiteID) *node.Node {
	w.t.Helper()
	n, err := w.Node(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// report reports n events at a site, each until it is acknowledged.
func (w *world) report(id tiers.SiteID, n int) {
	w.t.Helper()
	for range n {
		w.n++
		r := request(w.n)
		w.wait("acknowledged report", func() bool {
			s, err := w.Site(id)
			if err == nil {
				ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
				defer cancel()
				_, err = s.Report(ctx, r)
			}
			return err == nil
		})
	}
}

func request(n int) api.ReportRequest {
	key := fmt.Sprintf("k%d", n)
	return api.ReportRequest{Key: key, Report: event.Report{Type: "01001", Title: "井盖 " + key, Priority: 3, SourceKey: key}}
}

// held counts the routine records of the township that a site holds.
func (w *world) held(id tiers.SiteID) (n uint64) {
	w.t.Helper()
	s, err := w.Read(id)
	if errors.Is(err, run.ErrDown) {
		return 0
	}
	if err != nil {
		w.t.Fatal(err)
	}
	for _, head := range s.Store.Vector(tiers.StreamID{Site: township, Class: tiers.ClassRoutine}) {
		n += head.Seq
	}
	return n
}

// everywhere waits until all three sites hold n routine records of the township.
func (w *world) everywhere(n uint64) {
	w.t.Helper()
	w.wait(fmt.Sprintf("%d records everywhere", n), func() bool {
		return w.held(city) == n && w.held(district) == n && w.held(township) == n
	})
}

var cut = scenario.Line{Cut: true}

// TestCutAndHeal: across a cut nothing comes, after the heal everything does, in
// minutes that take a moment.
func TestCutAndHeal(t *testing.T) {
	in(t, nil, func(w *world) {
		w.report(township, 3)
		w.everywhere(3)
		w.line(district, city, cut)
		w.line(city, district, cut)
		w.report(township, 5)
		pass(10 * time.Minute)
		if w.held(city) != 3 || w.held(district) != 8 {
			t.Errorf("city holds %d, district %d; want 3 and 8", w.held(city), w.held(district))
		}
		w.line(district, city, scenario.Line{})
		w.line(city, district, scenario.Line{})
		w.everywhere(8)
		if u := w.Usage(); u.WireBytes == 0 || u.RSSBytes == 0 {
			t.Errorf("usage %+v", u)
		}
	})
}

// TestOneWayCut: what goes into a line that is cut in one direction does not come
// out, nor is anything taken for delivered.
func TestOneWayCut(t *testing.T) {
	in(t, nil, func(w *world) {
		w.report(township, 1)
		w.everywhere(1)
		w.line(district, city, cut)
		w.line(township, city, cut)
		w.report(township, 4)
		pass(3 * time.Minute)
		if w.held(city) != 1 {
			t.Errorf("city holds %d", w.held(city))
		}
		w.line(district, city, scenario.Line{})
		w.line(township, city, scenario.Line{})
		w.everywhere(5)
	})
}
