package bench_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/testbed/bench"
)

// TestDispatch measures little, to see that every case runs and counts.
func TestDispatch(t *testing.T) {
	var got []bench.Case
	err := bench.Dispatch(context.Background(), bench.DispatchConfig{
		Dir: t.TempDir(), N: 40, Rules: 30, Units: 100, Clients: 4, PerS: 50, PacedFor: 200 * time.Millisecond,
	}, func(c bench.Case) error { got = append(got, c); return nil })
	if err != nil || len(got) != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	for i, c := range got {
		if c.N != []int{40, 10, 10}[i] || c.OpsS <= 0 || c.P50MS > c.P99MS || c.P99MS <= 0 || c.DiskMB <= 0 {
			t.Errorf("%+v", c)
		}
	}
}

func TestDispatchRefusals(t *testing.T) {
	good := bench.DispatchConfig{N: 1, Rules: 1, Units: 1, Clients: 1, PerS: 1, PacedFor: 1}
	for name, change := range map[string]func(*bench.DispatchConfig){
		"no events": func(c *bench.DispatchConfig) { c.N = 0 }, "no rules": func(c *bench.DispatchConfig) { c.Rules = 0 },
		"no units": func(c *bench.DispatchConfig) { c.Units = 0 }, "no clients": func(c *bench.DispatchConfig) { c.Clients = 0 },
		"no rate": func(c *bench.DispatchConfig) { c.PerS = 0 }, "no time": func(c *bench.DispatchConfig) { c.PacedFor = 0 },
	} {
		c := good
		change(&c)
		if err := c.Validate(); !errors.Is(err, bench.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}
