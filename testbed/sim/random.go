package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// Random makes a script from a seed: a small federation, ten to thirty steps of
// faults, loads and waits, then everything is healed and has to be whole. It parses
// as what it is, and a part of the steps before its [Ending] does.
//
// Left out is what a federation cannot be whole after without an operator: bit rot,
// and a clone, whose own acknowledged reports end with it.
func Random(seed uint64) *scenario.Script {
	g := &generator{
		rng:  rand.New(rand.NewPCG(seed, 5)), //nolint:gosec // reproducible
		down: map[tiers.SiteID]bool{}, harmed: map[tiers.SiteID]bool{}, saved: map[tiers.SiteID]bool{}, claimed: map[tiers.SiteID]bool{}, parent: map[tiers.SiteID]tiers.SiteID{},
		script: &scenario.Script{
			File: fmt.Sprintf("seed-%d.txt", seed), Seed: seed, Limit: 2 * time.Hour,
			Federation: scenario.Federation{Nodes: map[tiers.SiteID]int{}},
		},
	}
	g.federation()
	if g.one(3) > 0 {
		g.add(scenario.Publish{})
	}
	// A site that speaks the oldest protocol cannot get over a history that forks,
	// which restored disks can make.
	g.upgrades = g.one(4) == 0
	for range 10 + g.rng.IntN(21) {
		g.step()
	}
	g.ending()
	return g.script
}

// endingFixed are the steps at the end of a random script behind those that start
// the sites.
const endingFixed = 9

// Ending returns how many of a random script's last steps heal, wait and expect.
func Ending(s *scenario.Script) int {
	n := endingFixed
	for _, st := range slices.Backward(s.Steps[:len(s.Steps)-endingFixed]) {
		a, ok := st.Do.(scenario.Act)
		if !ok || a.Kind != scenario.ActStart && a.Kind != scenario.ActResume {
			break
		}
		n++
	}
	return n
}

// generator makes one script. It knows what is down, so that a step that would be
// an error is not made.
type generator struct {
	rng      *rand.Rand
	script   *scenario.Script
	upgrades bool

	townships []tiers.SiteID
	districts []tiers.SiteID
	all       []tiers.SiteID
	parent    map[tiers.SiteID]tiers.SiteID
	down      map[tiers.SiteID]bool // or a node of it
	harmed    map[tiers.SiteID]bool // at any time
	saved     map[tiers.SiteID]bool
	claimed   map[tiers.SiteID]bool
}

const cityID tiers.SiteID = "500000"

// one returns 0 in one of n cases.
func (g *generator) one(n int) int { return g.rng.IntN(n) }

func (g *generator) of(ids []tiers.SiteID) tiers.SiteID { return ids[g.rng.IntN(len(ids))] }

// seconds returns a time from low to high, in whole seconds.
func (g *generator) seconds(low, high int) time.Duration {
	return time.Duration(low+g.rng.IntN(high-low+1)) * time.Second
}

func (g *generator) add(c scenario.Command) {
	g.script.Steps = append(g.script.Steps, scenario.Step{Line: len(g.script.Steps) + 1, Do: c})
}

// federation builds two or three districts and four to eight townships, some of
// three nodes, some with slow lines.
func (g *generator) federation() {
	f := &g.script.Federation
	build := func(id tiers.SiteID, tier tiers.Tier, name string, parent tiers.SiteID, three int) {
		f.Sites = append(f.Sites, tiers.Site{ID: id, Tier: tier, Name: name, Parent: parent})
		g.all, g.parent[id] = append(g.all, id), parent
		if g.one(three) == 0 {
			f.Nodes[id] = 3
		}
	}
	build(cityID, tiers.TierCity, "city", "", 6)
	for i := range 2 + g.one(2) {
		id := tiers.SiteID(fmt.Sprintf("5001%02d", i+1))
		build(id, tiers.TierDistrict, fmt.Sprintf("district-%d", i+1), cityID, 4)
		g.districts = append(g.districts, id)
	}
	for i := range 4 + g.one(5) {
		parent := g.districts[i%len(g.districts)]
		id := tiers.SiteID(fmt.Sprintf("%s%03d", parent, i+1))
		build(id, tiers.TierTownship, fmt.Sprintf("township-%d", i+1), parent, 8)
		g.townships = append(g.townships, id)
	}
	if g.one(3) == 0 {
		f.Line = scenario.Line{BitsPerSecond: 2_000_000, Delay: time.Duration(5+g.one(60)) * time.Millisecond}
	}
}

// step adds a step, and a wait behind it.
func (g *generator) step() {
	steps := []func(){
		g.report, g.report, g.report, g.load, g.cut, g.cut, g.heal, g.isolate, g.flap, g.slow,
		g.kill, g.kill, g.start, g.start, g.pause, g.disk, g.clock, g.backup, g.reparent, g.claim,
		g.work, g.work, g.aid, g.orders, g.orders, g.duplicates, g.mode,
	}
	steps[g.rng.IntN(len(steps))]()
	if g.one(3) > 0 {
		g.add(scenario.After{For: g.seconds(1, 30)})
	}
}

func (g *generator) report() {
	at := scenario.Sites{ID: g.of(g.all)}
	if g.one(3) == 0 {
		at = scenario.Sites{Tier: tiers.TierTownship}
	}
	g.add(scenario.Report{Count: 1 + g.one(30), From: scenario.SourceMade, At: at, Urgent: g.one(4) == 0})
}

func (g *generator) load() {
	g.add(scenario.Report{
		PerSecond: float64(1 + g.one(10)), For: g.seconds(5, 30), From: scenario.SourceMade,
		At: scenario.Sites{Tier: tiers.TierTownship}, Urgent: g.one(4) == 0,
	})
}

// claim claims units at a site whose disk is not put back: an old disk knows no
// later claims, and no other site does.
func (g *generator) claim() {
	id := g.of(g.all)
	if g.saved[id] {
		return
	}
	g.claimed[id] = true
	g.add(scenario.Claim{PerSecond: float64(1 + g.one(5)), For: g.seconds(5, 20), At: scenario.Sites{ID: id}})
}

// work makes moves on tasks at all sites.
func (g *generator) work() {
	g.add(scenario.Work{PerSecond: float64(1 + g.one(10)), For: g.seconds(5, 60)})
}

// orders gives orders to sites and makes their steps, at all sites.
func (g *generator) orders() { g.workOn(scenario.OnOrders) }

// duplicates reports the same at several sites and merges it, at all sites.
func (g *generator) duplicates() { g.workOn(scenario.OnDuplicates) }

// mode switches areas to emergency and back, at all sites.
func (g *generator) mode() { g.workOn(scenario.OnMode) }

func (g *generator) workOn(what string) {
	g.add(scenario.Work{PerSecond: float64(1 + g.one(10)), On: what, For: g.seconds(5, 60)})
}

// aid sends units of all sites around, unless an old disk may be put back somewhere,
// as with claims.
func (g *generator) aid() {
	if len(g.saved) > 0 {
		return
	}
	for _, id := range g.all {
		g.claimed[id] = true
	}
	g.add(scenario.Aid{PerSecond: float64(1 + g.one(10)), For: g.seconds(5, 40)})
}

// ends returns two ends of a line, mostly of the tree.
func (g *generator) ends() (a, b tiers.SiteID) {
	a = g.of(g.all[1:])
	b = g.parent[a]
	if g.one(4) == 0 {
		if b = g.of(g.all); a == b {
			b = g.parent[a]
		}
	}
	if g.one(2) == 0 {
		return b, a
	}
	return a, b
}

func (g *generator) cut() {
	a, b := g.ends()
	g.add(scenario.Cut{A: a, B: b, OneWay: g.one(3) == 0})
}

func (g *generator) heal() {
	if g.one(2) == 0 {
		g.add(scenario.Heal{})
		return
	}
	a, b := g.ends()
	g.add(scenario.Heal{A: a, B: b})
}

func (g *generator) isolate() {
	at := scenario.Sites{ID: g.of(g.all)}
	if g.one(2) == 0 {
		g.add(scenario.Rejoin{At: at})
		return
	}
	g.add(scenario.Isolate{At: at})
}

func (g *generator) flap() {
	a, b := g.ends()
	every := g.seconds(2, 8)
	g.add(scenario.Flap{A: a, B: b, Every: every, Down: every / 2, For: g.seconds(10, 60)})
}

func (g *generator) slow() {
	a, b := g.ends()
	g.add(scenario.Slow{A: a, B: b, Line: scenario.Line{
		BitsPerSecond: int64(100_000 * (1 + g.one(20))), Delay: time.Duration(10*(1+g.one(50))) * time.Millisecond, Loss: float64(g.one(6)) / 100,
	}})
}

// act does something to a site that is up: to all of it, or to one of three nodes.
func (g *generator) act(kind scenario.ActKind) {
	id := g.of(g.all)
	if g.down[id] {
		return
	}
	a := scenario.Act{Kind: kind, Site: id}
	if g.script.Federation.NodesOf(id) > 1 && g.one(3) > 0 {
		a.Node = uint32(1 + g.one(3))
	}
	g.down[id], g.harmed[id] = true, true
	g.add(a)
}

func (g *generator) kill() { g.act(scenario.ActKill) }

func (g *generator) pause() { g.act(scenario.ActPause) }

func (g *generator) disk() {
	if g.one(2) == 0 {
		g.act(scenario.ActDiskFull)
		return
	}
	g.act(scenario.ActFsyncError)
}

// start brings a site back.
func (g *generator) start() {
	for _, id := range g.all {
		if g.down[id] {
			g.add(scenario.Act{Kind: scenario.ActResume, Site: id})
			g.add(scenario.Act{Kind: scenario.ActStart, Site: id})
			g.down[id] = false
			return
		}
	}
}

func (g *generator) clock() {
	by := time.Duration(g.one(240)-120) * time.Minute
	if by == 0 {
		by = time.Hour
	}
	g.add(scenario.Act{Kind: scenario.ActClock, Site: g.of(g.all), By: by})
}

// backup makes a copy of a site's disk, or puts it back, or upgrades the site.
func (g *generator) backup() {
	id := g.of(g.all)
	switch {
	case g.down[id]:
	case g.upgrades: // no disk is put back
		g.add(scenario.Act{Kind: scenario.ActUpgrade, Site: id})
	case g.saved[id]:
		g.add(scenario.Act{Kind: scenario.ActRestoreBackup, Site: id})
	case !g.claimed[id]:
		g.saved[id] = true
		g.add(scenario.Act{Kind: scenario.ActBackup, Site: id})
	}
}

// reparent moves a township; the city has to be there to say so.
func (g *generator) reparent() {
	id, under := g.of(g.townships), g.of(g.districts)
	if g.down[cityID] || g.parent[id] == under {
		return
	}
	g.parent[id] = under
	g.add(scenario.Reparent{Site: id, Under: under})
}

// ending heals everything and expects it to be whole.
func (g *generator) ending() {
	for _, id := range g.all {
		if g.harmed[id] {
			g.add(scenario.Act{Kind: scenario.ActResume, Site: id})
			g.add(scenario.Act{Kind: scenario.ActStart, Site: id})
		}
	}
	for _, c := range [endingFixed]scenario.Command{
		scenario.Hush{}, scenario.Heal{},
		scenario.After{For: 2 * time.Minute}, // a site looks once a minute at what it has to do
		scenario.Until{What: scenario.Acknowledged, Within: 5 * time.Minute},
		scenario.Until{What: scenario.Converged, Within: 10 * time.Minute},
		scenario.Expect{Measure: scenario.MeasureLost, Op: "="}, scenario.Expect{Measure: scenario.MeasureDuplicated, Op: "="},
		scenario.Expect{Measure: scenario.MeasureDiverged, Op: "="}, scenario.Expect{Measure: scenario.MeasureViolations, Op: "="},
	} {
		g.add(c)
	}
}
