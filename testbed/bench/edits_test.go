package bench_test

import (
	"errors"
	"testing"

	"github.com/tiermesh/tiermesh/testbed/bench"
)

// TestEdits measures little, to see that the edits are made and both sites come back.
func TestEdits(t *testing.T) {
	c, err := bench.Edits(t.Context(), bench.EditsConfig{Dir: t.TempDir(), N: 30})
	if err != nil || c.N != 30 || c.Window != 15 || c.FirstMS <= 0 || c.LastMS <= 0 || c.Ratio <= 0 || c.P50MS <= 0 || c.ReopenedMS <= 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, n := range []int{-1, 1, 40_001} {
		if _, err := bench.Edits(t.Context(), bench.EditsConfig{N: n}); !errors.Is(err, bench.ErrConfig) {
			t.Errorf("%d edits: %v", n, err)
		}
	}
}
