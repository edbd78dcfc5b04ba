package scenario_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// TestScripts: each script of testdata prints as it is understood, or what is
// wrong with each line and what would be valid.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s, err := scenario.Parse("x.txt", strings.NewReader(d.Input))
			if err != nil {
				if !errors.Is(err, scenario.ErrScript) {
					t.Errorf("%v does not wrap ErrScript", err)
				}
				return err.Error() + "\n"
			}
			least, most := s.Takes()
			return fmt.Sprintf("%stakes %s to %s\n", s, least, most)
		})
	})
}

// TestRoundTrip: what a script prints parses to the same commands.
func TestRoundTrip(t *testing.T) {
	const head = "limit 366d\nsite c city\nsite d district under c\nsite e district under c\nsite t township under d\nsite u township under e\nnodes 3 at t\n" +
		"event leak at t\nunit p1 skill pump at d\nask help skill pump of d at t\nlend spare p1 to t for 5h at d\norder go to all at c\nduplicate again of leak at t\n"
	ids := []string{"c", "d", "e", "t", "u"}
	duration := rapid.SampledFrom([]string{"1ms", "500ms", "1.5s", "30s", "90s", "5m", "2h", "36h", "3d"})
	rapid.Check(t, func(rt *rapid.T) {
		var b strings.Builder
		b.WriteString(head)
		site := func() string { return rapid.SampledFrom(ids).Draw(rt, "site") }
		at := func() string {
			return rapid.SampledFrom(append([]string{"all", "city", "districts", "townships", "townships of d"}, ids...)).Draw(rt, "at")
		}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			a, other := site(), site()
			if a == other {
				other = map[bool]string{true: "d", false: "c"}[a == "c"]
			}
			d := func() string { return duration.Draw(rt, "duration") }
			b.WriteString(rapid.SampledFrom([]string{
				"publish", "hush", "reorganise", "claim 90/m at " + at() + " for " + d(), "report 20 at " + at(), "report 7/h at " + at(), "report 2.5/s urgent from made at " + at() + " for " + d(),
				"cut " + a + " " + other, "cut " + a + "->" + other, "heal", "heal " + a + " " + other, "isolate " + at(), "rejoin " + at(),
				"flap " + a + " " + other + " every 5d down " + d() + " for " + d(), "slow " + a + " " + other + " 500kbit 300ms loss=2.5%", "slow " + a + " " + other + " mtu=1280", "slow " + a + " " + other + " 2s mtu=68 loss=1%",
				"kill " + a, "pause 2 of t", "start t", "clock " + a + " -" + d(), "reparent t under " + rapid.SampledFrom([]string{"c", "e"}).Draw(rt, "under"),
				"backup t\nrestore-backup t\nclone t", "outages flood at " + at() + " 72d within " + d(), "after " + d(),
				"task leak sign at " + site(), "task leak delegate to t at " + site(), "work 2/s at " + at(), "work 2/s on orders at " + at() + " for " + d(), "work 3/m on mode at " + a, "aid 90/m at " + at() + " for " + d(),
				"send p1 force to leak at " + a, "recall p1 at " + a, "give-back help", "rule r organ 水利站 at " + a, "rule r organ x order 7 type 01 skill s to t at c",
				"refused task leak void at " + a, "refused take-back spare force", "expect state of leak at " + at() + " = closed", "expect conflicts of leak <= 3",
				"order go ack at " + a, "merge leak with again at " + a, "mode emergency for " + a + " at " + other, "rule r organ x mode normal at c",
				"refused order late to townships of d at " + a, "expect state of go to " + at() + " at " + at() + " = issued", "expect undelivered of go 2",
				"until mode of " + a + " at " + at() + " = normal within " + d(), "expect reporters of leak at " + at() + " = 2",
				"until holder of p1 at d nobody within " + d(),
				"until converged within " + d(), "until " + a + " " + other + " linked within " + d(), "expect lost 0",
				"expect urgent p99 < " + d(), "expect connected <= 4", "expect wire ratio < 1.25", "expect unlinked " + a + " " + other,
			}).Draw(rt, "step") + "\n")
		}
		first, err := scenario.Parse("a", strings.NewReader(b.String()))
		if err != nil {
			if strings.Contains(err.Error(), "already") {
				rt.Skip("the same parent twice")
			}
			rt.Fatalf("%v in\n%s", err, b.String())
		}
		again, err := scenario.Parse("a", strings.NewReader(first.String()))
		if err != nil {
			rt.Fatalf("%v in\n%s", err, first)
		}
		for i := range first.Steps {
			if !reflect.DeepEqual(first.Steps[i].Do, again.Steps[i].Do) {
				rt.Fatalf("%#v became %#v", first.Steps[i].Do, again.Steps[i].Do)
			}
		}
		if first.String() != again.String() || !reflect.DeepEqual(first.Federation, again.Federation) {
			rt.Fatalf("%s\nbecame\n%s", first, again)
		}
	})
}

// TestMoves: a script can make every move of a task's life but those that sites make
// by themselves, and the one that needs another task.
func TestMoves(t *testing.T) {
	want := slices.DeleteFunc(dispatch.Kinds(), func(k string) bool { return k == dispatch.ActionRelay || k == dispatch.ActionMerge })
	if got := scenario.Moves(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestChongqing: the real city is 1 + 38 + 1,031 sites.
func TestChongqing(t *testing.T) {
	s, err := scenario.Parse("x", strings.NewReader("chongqing\n"))
	if err != nil {
		t.Fatal(err)
	}
	count := map[tiers.Tier]int{}
	for _, r := range s.Federation.Sites {
		count[r.Tier]++
	}
	if count[tiers.TierCity] != 1 || count[tiers.TierDistrict] != 38 || count[tiers.TierTownship] != 1031 {
		t.Errorf("%v", count)
	}
}

// FuzzParse: no text makes the parser fail but by an [scenario.Error], and what it
// takes it also prints.
func FuzzParse(f *testing.F) {
	f.Add("chongqing districts 2 townships 3\nreport 20/s at townships of 500101 for 5s\ncut 500101->500000\nafter 30s\nheal\nuntil converged within 60s\nexpect lost 0\n")
	f.Add("site c city\nsite t township under c\nevent leak at t\ntask leak override at c\nunit p skill s at c\nlend q p to t for 5h at c\norder o to townships at c\norder o ack at t\nduplicate two of leak at c\nmerge two with leak at c\nmode normal for t at c\nexpect state of o to t at c = issued\nexpect mode of t normal\nrefused take-back q\nexpect holder of p = q")
	f.Add("site c city\nsite d district under c\nslow c d 1kbit 1s loss=99%\nslow d c mtu=1280 20ms\nclock d +1h\nexpect urgent p99 < 1s")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := scenario.Parse("x", strings.NewReader(text))
		if err != nil {
			if !errors.Is(err, scenario.ErrScript) {
				t.Fatal(err)
			}
			return
		}
		if _, err := scenario.Parse("x", strings.NewReader(s.String())); err != nil {
			t.Fatalf("%v in\n%s", err, s)
		}
	})
}
