package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
)

// TestPrintDifferences: what differs is told in words, with the exit code of a
// proof that does not hold.
func TestPrintDifferences(t *testing.T) {
	for name, row := range map[string]struct {
		output string
		r      api.ProveResult
		want   []string
		err    string
	}{
		"differences": {"table", api.ProveResult{More: true, Differences: []api.ChainDifference{
			{Stream: "500101/routine", Author: "500101@1", Mine: 9, Theirs: 4},
			{Stream: "500101/routine", Author: "500000@1", Mine: 4, Theirs: 9},
			{Stream: "500101/urgent", Author: "500101@1", Mine: 3, Theirs: 3},
		}}, []string{"500000 lacks 5 to 9", "this site lacks 5 to 9", "fork: the records up to 3 differ", "and more"}, ""},
		"a reason": {"table", api.ProveResult{Reason: "topology version 9"}, nil, "site 500000: topology version 9"},
		"JSON":     {"json", api.ProveResult{Reason: "x"}, []string{`"reason":"x"`, `"equal":false`}, ""},
	} {
		var out strings.Builder
		err := printDifferences(&out, row.output, "500000", row.r)
		if !errors.Is(err, errUnequal) || exitCode(err) != exitProof || !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range row.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%s", name, want, out.String())
			}
		}
	}
}

// TestTransferTimeout: a transfer may take longer than the time-out as long as it
// moves, and ends when it does not.
func TestTransferTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &global{api: "unix:none", timeout: duration(10 * time.Second)}
		cmd := &cobra.Command{}
		cmd.SetContext(context.Background())
		wait := func(ctx context.Context, d time.Duration) error {
			select {
			case <-time.After(d):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err := g.transfer(cmd, func(ctx context.Context, _ *api.Client, moved func()) error {
			for range 10 {
				if err := wait(ctx, 9*time.Second); err != nil {
					return err
				}
				moved()
			}
			return nil
		})
		if err != nil {
			t.Errorf("90 s of slow progress: %v", err)
		}
		err = g.transfer(cmd, func(ctx context.Context, _ *api.Client, moved func()) error {
			moved()
			return wait(ctx, time.Minute)
		})
		if !errors.Is(err, errIdle) || exitCode(err) != exitUnreachable {
			t.Errorf("no progress: %v", err)
		}
	})
}

func TestByteRate(t *testing.T) {
	for text, want := range map[string]float64{"500kbit": 62500, "2MB": 2e6, "1.5 Mbit": 187500, "8bit": 1, "3B": 3, "1GB": 1e9} {
		var r byteRate
		if err := r.Set(text); err != nil || float64(r) != want {
			t.Errorf("%s: %v, %v", text, float64(r), err)
		}
	}
	for _, text := range []string{"", "fast", "-1MB", "0kB", "NaNkB", "1e300GB", "5"} {
		var r byteRate
		if err := r.Set(text); err == nil {
			t.Errorf("%q is %v", text, float64(r))
		}
	}
}
