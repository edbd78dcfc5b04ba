package sim_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/testbed/sim"
)

// sitesMax leaves scenarios of the whole municipality to "tiermesh testbed run": they
// take minutes.
const sitesMax = 100

// TestScenarios plays the scenarios that the project has.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("../scenarios/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scenarios, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			script, err := scenario.Parse(path, f)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(script.Federation.Sites); n > sitesMax {
				t.Skipf("%d sites", n)
			}
			data, err := sim.Run(t.Context(), script, sim.Options{Command: worker("sim")})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%.1f s of the world took %.1f s", data.WorldS, data.TookS)
			for _, e := range data.Expected {
				if !e.Holds {
					t.Errorf("line %d: %s: got %s", e.Line, e.Text, e.Got)
				}
			}
			for _, v := range data.Verdicts {
				if !v.Holds() {
					t.Errorf("%s: %d violations: %q", v.Oracle, v.Violations, v.Examples)
				}
			}
			if data.Failure != "" {
				t.Error(data.Failure)
			}
		})
	}
}
