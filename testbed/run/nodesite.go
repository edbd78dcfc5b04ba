package run

import (
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
)

// nodeSite is a node in this process.
type nodeSite struct {
	api.Backend
	n *node.Node
}

var (
	_ Site    = nodeSite{}
	_ Claimer = nodeSite{}
)

// NodeSite returns a node in this process as a [Site], which is also a [Claimer].
func NodeSite(n *node.Node) Site { return nodeSite{n.Backend(), n} }

func (s nodeSite) Ask(_ context.Context, f func(Domain) error) error { return f(s.Backend) }

func (s nodeSite) Publish(ctx context.Context, key string, entries []node.Entry) error {
	return s.n.Publish(ctx, key, entries)
}

func (s nodeSite) Claim(ctx context.Context, key, unit, holder string, force bool) (uint64, error) {
	return s.n.Group().Claim(ctx, key, unit, holder, force)
}

func (s nodeSite) Release(ctx context.Context, key, unit string, epoch uint64) error {
	return s.n.Group().Release(ctx, key, unit, epoch)
}

// ThisProcess returns what this process uses: processor time, and memory where it
// can be read.
func ThisProcess() (u Usage) {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		u.CPUSeconds = float64(r.Utime.Sec+r.Stime.Sec) + float64(r.Utime.Usec+r.Stime.Usec)/1e6
	}
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return u
	}
	if fields := strings.Fields(string(b)); len(fields) > 1 {
		pages, _ := strconv.ParseUint(fields[1], 10, 64) // zero where it is no number
		u.RSSBytes = pages * uint64(os.Getpagesize())
	}
	return u
}
