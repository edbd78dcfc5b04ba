package sim_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/report"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/testbed/sim"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// domainSites are one site a tier, whose city has published its rules.
const domainSites = "site 500000 city\nsite 500101 district under 500000\nsite 500101001 township under 500101\npublish\nuntil converged within 60s\n"

// doubly has both sides of a cut take one task.
const doubly = `event leak at 500101001
until state of leak at 500101 = dispatched within 30s
isolate 500101001
task leak sign at 500101001
task leak override at 500101
heal
until converged within 60s
`

// play plays a script's steps in a world that tells what it is made to.
func play(t *testing.T, steps string, world func(*sim.World) run.World) (data *report.Data) {
	t.Helper()
	return playAs(t, steps, world, run.Options{Mode: "sim"})
}

func playAs(t *testing.T, steps string, world func(*sim.World) run.World, o run.Options) (data *report.Data) {
	t.Helper()
	s, err := scenario.Parse("x.txt", strings.NewReader(domainSites+steps))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sim.Bubble(t, func(t *testing.T) {
		w := sim.New(sim.Config{Dir: dir})
		data, _ = run.Play(t.Context(), world(w), s, o) // the report says why
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return data
}

func honest(w *sim.World) run.World { return w }

// broke returns how many violations an oracle found.
func broke(t *testing.T, d *report.Data, name string) uint64 {
	t.Helper()
	for _, v := range d.Verdicts {
		if v.Oracle == name {
			if v.Checked == 0 {
				t.Errorf("oracle %s looked at nothing", name)
			}
			return v.Violations
		}
	}
	t.Fatalf("no oracle %s: %+v, %s", name, d.Verdicts, d.Failure)
	return 0
}

// TestDomainSteps: what a script says about the domain and is not so fails the run,
// with the line and what was so.
func TestDomainSteps(t *testing.T) {
	for name, row := range map[string]struct{ steps, failure, got string }{
		"as it is": {doubly + "expect custodian of leak = 500101\nexpect conflicts of leak = 1\nexpect stand-downs of leak >= 1\nexpect moves = 2", "", ""},
		"a move that is not to be made": {
			"event leak at 500101001\ntask leak close at 500101001", `x.txt:7: task leak close at 500101001: site 500101001: rejected`, "",
		},
		"a move that is not refused":       {"event leak at 500101001\nuntil state of leak at 500101001 = dispatched within 20s\nrefused task leak sign at 500101001", "x.txt:8: refused task leak sign at 500101001: site 500101001: it was done", ""},
		"a state that does not come":       {"event leak at 500101001\nuntil state of leak at 500101001 = closed within 5s", "not in time: it is dispatched at 500101001", ""},
		"another custodian":                {doubly + "expect custodian of leak = 500101001", "", "500101 at 500000"},
		"conflicts that are not there":     {doubly + "expect conflicts of leak at districts 0", "", "1 at 500101"},
		"a unit that somebody has":         {"unit p1 skill pump at 500101\nsend p1 to dam at 500101\nexpect holder of p1 at 500101 = nobody", "", "dam at 500101"},
		"a task that a site does not see":  {"event leak at 500101\nuntil state of leak at 500101 = dispatched within 20s\nexpect state of leak at 500101001 = dispatched", "", "absent at 500101001"},
		"an order that is not delivered":   {"isolate 500101001\norder go to all at 500000\nuntil undelivered of go at 500000 = 1 within 20s\nexpect undelivered of go at 500101 = 0\nexpect state of go at 500000 = delivered", "", "1 at 500101issued for 500101001 at 500000"},
		"a receipt that is not the site's": {"order go to districts at 500000\norder go ack at 500101001", "x.txt:7: order go ack at 500101001: site 500101001: not found", ""},
		"an order that is done":            {"order go to 500101 at 500000\norder go execute at 500101\nrefused order go report at 500101", "x.txt:8: refused order go report at 500101: site 500101: it was done", ""},
		"a duplicate":                      {"event leak at 500101001\nduplicate again of leak at 500101001\nmerge again with leak at 500101001\nexpect original of again at 500101001 = again\nexpect reporters of leak at 500101001 = 1", "", "leak at 5001010012 at 500101001"},
		"a merge that cannot be":           {"event leak at 500101001\nduplicate again of leak at 500101\nmerge again with leak at 500101001", "x.txt:8: merge again with leak at 500101001: site 500101001: not found", ""},
		"a mode that is not heard":         {"isolate 500101001\nmode emergency for 500101 at 500000\nuntil mode of 500101 at 500101 = emergency within 20s\nexpect mode of 500101001 = emergency\nexpect mode of 500000 = emergency", "", "normal at 500101001normal at 500000"},
		"a mode that is not its to lift":   {"mode emergency for 500101 at 500000\nmode normal for 500101 at 500101", "x.txt:7: mode normal for 500101 at 500101: site 500101: rejected", ""},
		"a site that is down":              {"kill 500101001\nevent leak at 500101001", "x.txt:7: event leak at 500101001: report line-7-1 at 500101001: ", ""},
	} {
		d := play(t, row.steps+"\n", honest)
		if row.failure == "" && d.Failure != "" || !strings.Contains(d.Failure, row.failure) {
			t.Errorf("%s: it failed with %q, want %q", name, d.Failure, row.failure)
		}
		got := ""
		for _, e := range d.Expected {
			if !e.Holds {
				got += e.Got
			}
		}
		if got != row.got {
			t.Errorf("%s: %q does not hold, want %q", name, got, row.got)
		}
	}
}

// altered is a world in which oracles read other views than the sites have.
type altered struct {
	*sim.World
	kind string
	with func([]byte) []byte
}

func (a altered) Read(id tiers.SiteID) (oracle.Site, error) {
	s, err := a.World.Read(id)
	view := s.View
	s.View = func(k store.DocKey) (crdt.View, error) {
		v, err := view(k)
		if k.Doc.Kind() == a.kind {
			v.JSON = a.with(v.JSON)
		}
		return v, err
	}
	return s, err
}

// TestCustodyInARun: two sites that take one task across a cut are judged by the
// stores, and a view that hides it is found.
func TestCustodyInARun(t *testing.T) {
	for name, row := range map[string]struct {
		with func([]byte) []byte
		bad  bool
	}{
		"as it is": {func(b []byte) []byte { return b }, false},
		"a third site": {func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte(`"custodian":"500101"`), []byte(`"custodian":"500000"`))
		}, true},
		"who lost has it": {func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte(`"custodian":"500101"`), []byte(`"custodian":"500101001"`))
		}, true},
		"who lost is not told": {func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`"stand_down"`), []byte(`"hidden"`)) }, true},
		"both have effect":     {func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`"overruled"`), []byte(`"hidden"`)) }, true},
	} {
		d := play(t, doubly, func(w *sim.World) run.World { return altered{w, "task", row.with} })
		if n := broke(t, d, "custody"); n > 0 != row.bad {
			t.Errorf("%s: %d violations of custody", name, n)
		}
	}
}

// generous is a world whose sites send each unit to everybody who asks.
type generous struct{ *sim.World }

func (g generous) Site(id tiers.SiteID) (run.Site, error) {
	s, err := g.World.Site(id)
	return generousSite{s}, err
}

type generousSite struct{ run.Site }

func (s generousSite) Ask(ctx context.Context, f func(run.Domain) error) error {
	return s.Site.Ask(ctx, func(d run.Domain) error { return f(generousDomain{d}) })
}

type generousDomain struct{ run.Domain }

func (d generousDomain) ClaimUnit(ctx context.Context, code string, r api.UnitClaimRequest) (responder.Order, error) {
	o, err := d.Domain.ClaimUnit(ctx, code, r)
	if err != nil {
		o, err = responder.Order{Epoch: responder.Epoch{Home: 1 << 40}, For: r.Holder}, nil
	}
	return o, err
}

// TestOnePlaceInARun: a unit that two clients were told was theirs is found.
func TestOnePlaceInARun(t *testing.T) {
	const once = "unit p1 skill pump at 500101\nsend p1 to dam at 500101\nrecall p1 at 500101\nsend p1 to bridge at 500101\n"
	if n := broke(t, play(t, once, honest), "one place"); n != 0 {
		t.Errorf("sent on: %d violations", n)
	}
	const twice = "unit p1 skill pump at 500101\nsend p1 to dam at 500101\nafter 1s\nsend p1 to bridge at 500101\n"
	if n := broke(t, play(t, twice, func(w *sim.World) run.World { return generous{w} }), "one place"); n != 1 {
		t.Errorf("sent to two places: %d violations", n)
	}
	if d := play(t, twice, honest); !strings.Contains(d.Failure, "send p1 to bridge at 500101: site 500101: rejected") {
		t.Errorf("an honest site sends it: %q", d.Failure)
	}
}
