package sim_test

import (
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/testbed/run"
)

// TestTimesAreNoVerdict: in real time, where a script's times depend on the machine,
// what comes too late is told, with how fast the machine is; in virtual time it fails
// the run. What does not come, or is wrong, fails it in both.
func TestTimesAreNoVerdict(t *testing.T) {
	const late = "cut 500101 500000\nreport 1 urgent from made at 500101\nuntil 500101 500000 linked within 1s\n"
	for name, row := range map[string]struct {
		steps   string
		virtual bool // holds in virtual time
		real    bool
		told    string
	}{
		"in time":           {"report 1 urgent from made at 500101\nuntil converged within 60s\nexpect urgent max < 1m\n", true, true, ""},
		"a time-out":        {"slow 500101 500000 1s\nmode emergency for 500101 at 500000\nuntil mode of 500101001 = emergency within 500ms\n", false, true, "until mode of 500101001"},
		"a latency":         {"report 1 urgent from made at 500101001\nuntil converged within 60s\nexpect urgent max < 1ms\n", false, true, ""},
		"what never comes":  {late, false, false, ""},
		"what is not right": {"report 1 from made at 500101\nuntil converged within 60s\nexpect reported 3\n", false, false, ""},
	} {
		if d := playAs(t, row.steps, honest, run.Options{Mode: "sim"}); d.Holds() != row.virtual || len(d.Count.Machine) > 0 || len(d.Count.Late) > 0 {
			t.Errorf("%s, in virtual time: holds is %v, failure %q, %+v, %+v", name, d.Holds(), d.Failure, d.Expected, d.Count)
		}
		d := playAs(t, row.steps, honest, run.Options{Mode: "sim", RealTime: true})
		if d.Holds() != row.real || len(d.Count.Machine) != 2 || d.Count.Machine[0].CPUMS <= 0 {
			t.Errorf("%s, in real time: holds is %v, failure %q, %+v, %+v", name, d.Holds(), d.Failure, d.Expected, d.Count)
		}
		if told := strings.Join(d.Count.Late, "; "); row.told == "" && told != "" || !strings.Contains(told, row.told) {
			t.Errorf("%s: late is %q, want %q", name, told, row.told)
		}
	}
}
