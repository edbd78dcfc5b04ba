package command_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// above names the sites above each, the nearest first.
var above = map[tiers.SiteID][]tiers.SiteID{"c": nil, "d1": {"c"}, "d2": {"c"}, "d1a": {"d1", "c"}, "d1b": {"d1", "c"}, "d2t": {"d2", "c"}}

var sites = []tiers.SiteID{"c", "d1", "d2", "d1a", "d1b", "d2t"}

// at is one site's switches of one area.
type at struct{ by, area tiers.SiteID }

// standingOf reads all switches, the earliest first, and says what stands for a site.
func standingOf(site tiers.SiteID, log []command.Switch) command.Standing {
	standing := map[at]command.Switch{}
	for _, s := range log {
		standing[at{s.By, s.Area}] = s
	}
	want := command.Standing{Site: site, Mode: command.ModeNormal}
	for _, s := range standing {
		over := s.Area == site || slices.Contains(above[site], s.Area)
		may := s.By == s.Area || slices.Contains(above[s.Area], s.By)
		if !over || !may || s.Mode == command.ModeNormal {
			continue
		}
		want.Holding = append(want.Holding, s)
		if want.Mode = command.ModeEmergency; want.Level == 0 || s.Level < want.Level {
			want.Level = s.Level
		}
		if s.Hours != "" {
			want.Hours = s.Hours
		}
	}
	return want
}

// TestModeFold: the mode of each site is a function of the set of switches, whatever
// order they came in, however they were split into documents' copies; it is what a
// reading of the whole list, switch by switch, gives.
func TestModeFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		top := federation(t)
		docs := map[at][]write{}
		var log []command.Switch
		for i := range rapid.IntRange(0, 12).Draw(t, "switches") {
			s := command.Switch{
				At: crdt.HybridTime(rapid.IntRange(0, 3).Draw(t, "at")*100 + i + 1), By: rapid.SampledFrom(sites).Draw(t, "by"),
				Area: rapid.SampledFrom(sites).Draw(t, "area"), Mode: command.ModeNormal, Reason: "r",
			}
			s.Tier = tiers.Tier(len(above[s.By]) + 1)
			if rapid.Bool().Draw(t, "emergency") {
				s.Mode, s.Level, s.Hours = command.ModeEmergency, rapid.IntRange(1, 4).Draw(t, "level"), rapid.SampledFrom([]string{"", "urgent"}).Draw(t, "hours")
			}
			author := rapid.SampledFrom([]tiers.SiteID{s.By, s.By, s.By, "c"}).Draw(t, "author")
			docs[at{s.By, s.Area}] = append(docs[at{s.By, s.Area}], write{author, text(t, s)})
			if author == s.By {
				log = append(log, s)
			}
		}
		fold := func(shuffle bool) (out []command.ModeView) {
			for k, writes := range docs {
				if shuffle {
					writes = rapid.Permutation(append(slices.Clone(writes), writes...)).Draw(t, "shuffled")
				}
				made, err := command.FoldMode(source(tiers.StreamID{Site: k.by, Class: tiers.ClassControl}, command.ModeID(k.area), write{}, writes))
				if err != nil {
					t.Fatal(err)
				}
				v, err := command.ModeFromView(made.JSON)
				if err != nil {
					t.Fatal(err)
				}
				v.Malformed = 0
				out = append(out, v)
			}
			return out
		}
		views, others := fold(false), fold(true)
		slices.SortFunc(log, func(a, b command.Switch) int { return int(a.At) - int(b.At) })
		for _, site := range sites {
			want := standingOf(site, log)
			got := command.Effective(top, site, views)
			if again := command.Effective(top, site, append(rapid.Permutation(others).Draw(t, "order"), views...)); text(t, again) != text(t, got) {
				t.Fatalf("%+v\nor %+v", got, again)
			}
			if got.Mode != want.Mode || got.Level != want.Level || got.Hours != want.Hours || len(got.Holding) != len(want.Holding) {
				t.Fatalf("%+v\nwant %+v", got, want)
			}
		}
	})
}

// TestModeHolds: the cases that people ask about: a city's emergency outlives a
// township's own, and the other way round.
func TestModeHolds(t *testing.T) {
	top := federation(t)
	view := func(by, area tiers.SiteID, mode string, level int) command.ModeView {
		return command.ModeView{Site: by, Area: area, Last: command.Switch{By: by, Area: area, Mode: mode, Level: level, Tier: tiers.Tier(len(above[by]) + 1)}}
	}
	for _, c := range []struct {
		name  string
		views []command.ModeView
		want  string // the modes of d1a, d1b and d2t
	}{
		{"nothing", nil, "normal normal normal"},
		{"a district, by the city", []command.ModeView{view("c", "d1", "emergency", 2)}, "emergency emergency normal"},
		{"a township, by itself", []command.ModeView{view("d1a", "d1a", "emergency", 3)}, "emergency normal normal"},
		{"the city lifted its own, the township holds", []command.ModeView{view("c", "d1", "normal", 0), view("d1a", "d1a", "emergency", 3)}, "emergency normal normal"},
		{"the township lifted its own, the city holds", []command.ModeView{view("c", "c", "emergency", 1), view("d1a", "d1a", "normal", 0)}, "emergency emergency emergency"},
		{"somebody else's area", []command.ModeView{view("d2", "d1a", "emergency", 1), view("d1a", "d1", "emergency", 1)}, "normal normal normal"},
	} {
		var got []string
		for _, site := range []tiers.SiteID{"d1a", "d1b", "d2t"} {
			got = append(got, command.Effective(top, site, c.views).Mode)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

// TestSwitchRefusals: what is refused names field, value and what is allowed.
func TestSwitchRefusals(t *testing.T) {
	good := command.Switch{Area: "d1", Mode: command.ModeEmergency, Level: 1, Reason: "flood"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*command.Switch){
		`mode "war"`: func(s *command.Switch) { s.Mode = "war" }, "level 0": func(s *command.Switch) { s.Level = 0 }, "level 5": func(s *command.Switch) { s.Level = 5 },
		"normal mode takes none": func(s *command.Switch) { s.Mode = command.ModeNormal }, `hours "slow"`: func(s *command.Switch) { s.Hours = "slow" },
		"reason is empty": func(s *command.Switch) { s.Reason = "" }, "reason is 1048576": func(s *command.Switch) { s.Reason = strings.Repeat("x", 1<<20) },
		"who is 1048576": func(s *command.Switch) { s.Who = strings.Repeat("x", 1<<20) }, `site "a b"`: func(s *command.Switch) { s.Area = "a b" },
	} {
		s := good
		change(&s)
		if err := s.Validate(); !errors.Is(err, command.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestLimits: which limit of silence holds, and what is refused.
func TestLimits(t *testing.T) {
	top := federation(t)
	city, own := command.Limit{By: "c", Tier: tiers.TierTownship, AfterMS: 60_000}, command.Limit{By: "d1", Site: "d1a", AfterMS: 90_000, Event: 2}
	loose := command.Limit{By: "d1", Tier: tiers.TierTownship, AfterMS: 3_600_000}
	higher := command.Limit{By: "c", Site: "d1a", AfterMS: 30_000}
	taken, foreign := command.Limit{By: "c", Site: "d1a"}, command.Limit{By: "d2", Site: "d1a", AfterMS: 20_000}
	for _, c := range []struct {
		site tiers.SiteID
		set  []command.Limit
		want int64
	}{
		{"d1a", nil, 900_000}, {"d1", nil, 300_000}, {"d1a", []command.Limit{city}, 60_000}, {"d1a", []command.Limit{city, loose}, 60_000},
		{"d1a", []command.Limit{loose}, 3_600_000}, {"d1a", []command.Limit{city, own}, 90_000}, {"d1b", []command.Limit{city, own}, 60_000},
		{"d1a", []command.Limit{own, higher, city}, 30_000}, {"d1a", []command.Limit{taken, foreign}, 900_000}, {"d1", []command.Limit{city}, 300_000},
	} {
		reversed := slices.Clone(c.set)
		slices.Reverse(reversed)
		if a, b := command.LimitOf(top, c.site, c.set), command.LimitOf(top, c.site, reversed); a.AfterMS != c.want || a != b {
			t.Errorf("%s of %+v: %+v or %+v, want %d", c.site, c.set, a, b, c.want)
		}
	}
	for want, l := range map[string]command.Limit{
		"want one of both": {AfterMS: 60_000}, "tier city": {Tier: tiers.TierCity, AfterMS: 60_000}, "after 1 ms": {Site: "d1", AfterMS: 1},
		"after 2592000001 ms": {Site: "d1", AfterMS: 2_592_000_001}, "event 9": {Site: "d1", AfterMS: 60_000, Event: 9}, `site "a b"`: {Site: "a b", AfterMS: 60_000},
		`site "d1"`: {Site: "d1", Tier: tiers.TierTownship, AfterMS: 60_000},
	} {
		if err := l.Validate(); !errors.Is(err, command.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, l := range []command.Limit{{Site: "township", AfterMS: 60_000, Event: 1}, {Tier: tiers.TierTownship, AfterMS: 70_000}} {
		ops, err := command.LimitOps(l)
		if err != nil {
			t.Fatal(err)
		}
		fields := map[string]any{}
		for _, op := range ops {
			fields[op.Key] = op.Value
		}
		b, err := json.Marshal(map[string]any{"id": l.Doc(), "site": "c", "fields": fields})
		if err != nil {
			t.Fatal(err)
		}
		l.By = "c"
		if got, err := command.LimitFromView(b); err != nil || got != l {
			t.Errorf("%+v, %v, want %+v", got, err, l)
		}
	}
}
