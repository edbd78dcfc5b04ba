package bench_test

import (
	"context"
	"errors"
	"testing"

	"github.com/tiermesh/tiermesh/testbed/bench"
)

// TestWrites measures little, to see that every case runs and counts.
func TestWrites(t *testing.T) {
	for _, via := range []string{bench.ViaProcess, bench.ViaAPI} {
		var got []bench.Case
		err := bench.Writes(context.Background(), bench.WritesConfig{
			Dir: t.TempDir(), N: 60, Clients: []int{1, 4}, Via: via, Baseline: true,
		}, func(c bench.Case) error { got = append(got, c); return nil })
		if err != nil || len(got) != 2 {
			t.Fatalf("%v, %v", got, err)
		}
		for _, c := range got {
			if c.N != 60 || c.OpsS <= 0 || c.BaselineOpsS <= 0 || c.Ratio <= 0 || c.P50MS > c.P99MS || c.P99MS <= 0 || c.DiskMB <= 0 {
				t.Errorf("%+v", c)
			}
		}
	}
}

func TestConfigRefusals(t *testing.T) {
	for _, c := range []bench.WritesConfig{
		{N: 0, Clients: []int{1}, Via: bench.ViaAPI}, {N: 1, Via: bench.ViaAPI}, {N: 1, Clients: []int{0}, Via: bench.ViaAPI}, {N: 1, Clients: []int{1}, Via: "mail"},
	} {
		if err := bench.Writes(context.Background(), c, nil); !errors.Is(err, bench.ErrConfig) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// BenchmarkWrites is one case for a profiler.
func BenchmarkWrites(b *testing.B) {
	for b.Loop() {
		err := bench.Writes(context.Background(), bench.WritesConfig{
			Dir: b.TempDir(), N: 40_000, Clients: []int{64}, Via: bench.ViaProcess,
		}, func(c bench.Case) error {
			b.ReportMetric(c.OpsS, "events/s")
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
