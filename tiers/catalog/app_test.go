package catalog_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers/catalog"
)

// TestLacksNothing: what a site that lacks nothing runs together never exceeds what
// it has, whatever is installed and replaced in whatever order, and every need is
// met, by a naive count.
func TestLacksNothing(t *testing.T) {
	versions := []string{"1.0.0", "1.2.0", "1.10.0", "2.0.0-rc.1", "2.0.0"} // ascending
	rank := func(v string) int { return slices.Index(versions, v) }
	rapid.Check(t, func(t *rapid.T) {
		small := func(name string) float64 { return float64(rapid.IntRange(0, 4).Draw(t, name)) }
		has := catalog.Capacity{CPUCores: small("cpu"), MemoryMB: small("memory"), DiskMB: small("disk"), GPU: small("gpu"), Runtimes: []string{"k8s=1.2.0", "java"}}
		var runs []catalog.Install
		for range rapid.IntRange(1, 10).Draw(t, "orders") {
			a := catalog.App{App: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "app"), Version: rapid.SampledFrom(versions).Draw(t, "version")}
			a.Needs = catalog.Needs{CPUCores: small("needs cpu"), MemoryMB: small("needs memory"), DiskMB: small("needs disk"), GPU: small("needs gpu")}
			if rapid.IntRange(0, 3).Draw(t, "runtime") == 0 {
				a.Needs.Runtimes = []string{rapid.SampledFrom([]string{"k8s", "k8s>=1.1.0", "k8s>=1.10.0", "java", "java>=1.0.0", "go"}).Draw(t, "which runtime")}
			}
			if other := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "other"); rapid.Bool().Draw(t, "needs an app") && other != a.App {
				a.Needs.Apps = []string{other + ">=" + rapid.SampledFrom(versions).Draw(t, "least")}
			}
			before := slices.Clone(runs)
			missing := catalog.Lacks(a, has, runs)
			if !slices.EqualFunc(before, runs, func(x, y catalog.Install) bool { return x.App == y.App && x.Version == y.Version }) {
				t.Fatal("it changed what runs")
			}
			next := slices.DeleteFunc(slices.Clone(runs), func(i catalog.Install) bool { return i.App == a.App })
			next = append(next, catalog.Install{App: a.App, Version: a.Version, Needs: a.Needs})
			if good := fitsTogether(has, next, rank); good != (len(missing) == 0) {
				t.Fatalf("%+v beside %+v on %+v: lacks %q, but fits: %v", a, runs, has, missing, good)
			}
			if len(missing) == 0 {
				runs = next
			}
		}
	})
}

// fitsTogether says whether a site can run all of these, counting naively.
func fitsTogether(has catalog.Capacity, runs []catalog.Install, rank func(string) int) bool {
	var cpu, memory, disk, gpu float64
	version := map[string]string{}
	for _, i := range runs {
		cpu, memory, disk, gpu = cpu+i.Needs.CPUCores, memory+i.Needs.MemoryMB, disk+i.Needs.DiskMB, gpu+i.Needs.GPU
		version[i.App] = i.Version
	}
	last := runs[len(runs)-1] // what ran before may need more than there is by now
	over := last.Needs.CPUCores > 0 && cpu > has.CPUCores || last.Needs.MemoryMB > 0 && memory > has.MemoryMB ||
		last.Needs.DiskMB > 0 && disk > has.DiskMB || last.Needs.GPU > 0 && gpu > has.GPU
	if over {
		return false
	}
	for _, want := range last.Needs.Runtimes {
		if !slices.Contains([]string{"k8s", "k8s>=1.1.0", "java"}, want) {
			return false
		}
	}
	for _, i := range runs {
		for _, want := range i.Needs.Apps {
			name, least, _ := strings.Cut(want, ">=")
			if (i.App == last.App || name == last.App) && (version[name] == "" || rank(version[name]) < rank(least)) {
				return false
			}
		}
	}
	return true
}

// TestCapacityRefusals: what no site can have is refused by field.
func TestCapacityRefusals(t *testing.T) {
	for _, x := range []struct {
		c    catalog.Capacity
		want string
	}{
		{catalog.Capacity{CPUCores: -1}, "cpu_cores -1"}, {catalog.Capacity{MemoryMB: 1e13}, "memory_mb"}, {catalog.Capacity{Runtimes: []string{"a b"}}, `runtime "a b"`},
		{catalog.Capacity{Runtimes: []string{"k8s=new"}}, "want NAME or NAME=1.2.0"}, {catalog.Capacity{Runtimes: slices.Repeat([]string{"abcdefgh"}, 600)}, "runtimes is 5399 bytes"},
	} {
		if _, err := catalog.CapacityOps(nil, x.c); !errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v, want %q", err, x.want)
		}
	}
	ops, err := catalog.CapacityOps(nil, catalog.Capacity{CPUCores: 2, Runtimes: []string{"k8s=1.2.0", "java"}})
	if err != nil {
		t.Fatal(err)
	}
	f := catalog.Fields{}
	for _, op := range ops {
		f[op.Key] = op.Value.(string)
	}
	if c := catalog.CapacityOf(f); c.CPUCores != 2 || !slices.Equal(c.Runtimes, []string{"k8s=1.2.0", "java"}) {
		t.Errorf("%+v", c)
	}
}

// TestGrantRefusals: a request or step that breaks a rule is refused by field.
func TestGrantRefusals(t *testing.T) {
	good := catalog.Grant{Resource: "r", Owner: "500000", Grantee: "500101", Purpose: "p", UntilMS: 2000}
	if err := good.Validate(1000); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*catalog.Grant){
		`resource ""`: func(g *catalog.Grant) { g.Resource = "" }, "owner": func(g *catalog.Grant) { g.Owner = "5 0" },
		"needs no grant": func(g *catalog.Grant) { g.Owner = g.Grantee }, "purpose is empty": func(g *catalog.Grant) { g.Purpose = "" },
		"purpose is 1048576 bytes":    func(g *catalog.Grant) { g.Purpose = strings.Repeat("x", 1<<20) },
		"until_ms 500":                func(g *catalog.Grant) { g.UntilMS = 500 },
		"until_ms -5":                 func(g *catalog.Grant) { g.UntilMS = -5 },
		"until_ms 253370764800000":    func(g *catalog.Grant) { g.UntilMS = 253370764800000 }, // 9999
		"want UTF-8 without control ": func(g *catalog.Grant) { g.Purpose = "\xff" },
	} {
		g := good
		change(&g)
		if err := g.Validate(1000); !errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	v := catalog.GrantView{Grant: good, State: catalog.GrantRequested}
	for _, x := range []struct {
		step catalog.Step
		is   error
		want string
	}{
		{catalog.Step{By: "500000", Kind: "dance"}, catalog.ErrInvalid, `step "dance": want one of [grant refuse revoke withdraw]`},
		{catalog.Step{By: "500101", Kind: catalog.StepGrant}, catalog.ErrNow, "grant is for site 500000, not 500101"},
		{catalog.Step{By: "500000", Kind: catalog.StepRevoke}, catalog.ErrNow, "want one that is granted"},
		{catalog.Step{By: "500000", Kind: catalog.StepRefuse, UntilMS: 3000}, catalog.ErrInvalid, "only a grant has an end"},
		{catalog.Step{By: "500000", Kind: catalog.StepGrant, UntilMS: 10}, catalog.ErrInvalid, "until_ms 10"},
		{catalog.Step{By: "500000", Kind: catalog.StepGrant, Note: strings.Repeat("x", 1<<20)}, catalog.ErrInvalid, "note is 1048576 bytes"},
	} {
		if _, err := v.Check(x.step, 1000); !errors.Is(err, x.is) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v, want %q", err, x.want)
		}
	}
	if op, err := v.Check(catalog.Step{By: "500000", Kind: catalog.StepGrant}, 1000); err != nil || op.Kind != crdt.OpAppend {
		t.Errorf("%v, %v", op, err)
	}
	for _, r := range []catalog.Replication{{To: "5 0"}, {To: "500000", Note: strings.Repeat("x", 1<<20)}} {
		if _, err := catalog.ReplicationOps(r); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%v", err)
		}
	}
}
