package sim

import (
	"context"
	"slices"

	"github.com/tiermesh/tiermesh/testbed/scenario"
)

// Shrink returns the smallest script that it finds to fail, of a random one that
// does: it drops steps, many at a time at first, and keeps the ending. Fails runs
// one; a script that no longer parses must not fail. It stops early with ctx.
func Shrink(ctx context.Context, s *scenario.Script, fails func(*scenario.Script) bool) *scenario.Script {
	steps := len(s.Steps) - Ending(s)
	for size := max(steps/2, 1); ; size /= 2 {
		for at := 0; at < steps && ctx.Err() == nil; {
			n := min(size, steps-at)
			less := *s
			less.Steps = slices.Delete(slices.Clone(s.Steps), at, at+n)
			if fails(&less) {
				s, steps = &less, steps-n
				continue
			}
			at += n
		}
		if size <= 1 || ctx.Err() != nil {
			return s
		}
	}
}
