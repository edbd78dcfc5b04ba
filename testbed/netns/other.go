//go:build !linux

package netns

import (
	"context"
	"fmt"
	"runtime"

	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
)

// World cannot be opened on this system; only Open, Supports and Close may be
// called.
type World struct{ run.World }

// New returns a world that cannot be opened.
func New(Config) *World { return &World{} }

// Check says that there are no network namespaces. The error wraps [ErrMissing].
func Check() error {
	return fmt.Errorf("%w: network namespaces need Linux, this is %s", ErrMissing, runtime.GOOS)
}

// Open implements [run.World].
func (*World) Open(context.Context, *scenario.Script, func(up, of int)) error { return Check() }

// Supports implements [run.World].
func (*World) Supports(scenario.ActKind) bool { return false }

// Close implements [run.World].
func (*World) Close() error { return nil }
