package bench_test

import (
	"errors"
	"testing"

	"github.com/tiermesh/tiermesh/testbed/bench"
)

// TestAggregate measures little, to see that counters and scan agree on every site.
func TestAggregate(t *testing.T) {
	c, err := bench.Aggregate(t.Context(), bench.AggregateConfig{Dir: t.TempDir(), N: 3000, OpenPercent: 30, Queries: 3})
	if err != nil || !c.Equal || c.Open != 900 || c.Sites != 1070 || c.P99MS <= 0 || c.BaselineMS <= 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, bad := range []bench.AggregateConfig{{N: 0}, {N: 1, OpenPercent: 101}, {N: 1, OpenPercent: -1}} {
		if _, err := bench.Aggregate(t.Context(), bad); !errors.Is(err, bench.ErrConfig) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
