package sim_test

import (
	"bytes"
	"sync/atomic"
	"testing"

	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/sim"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// ordering has an order go to two sites, of which one is cut off for a while.
const ordering = `isolate 500101001
order go to all at 500000
until state of go to 500101 at 500000 = delivered within 20s
order go ack at 500101
heal
until state of go to 500101001 at 500000 = delivered within 20s
order go execute at 500101001
until converged within 60s
`

// TestOrdersInARun: the orders of a run are judged all along, and views that take
// something back for a while, or say what is not so, are found.
func TestOrdersInARun(t *testing.T) {
	var looks atomic.Int64
	for name, row := range map[string]struct {
		with func([]byte) []byte
		bad  bool
	}{
		"as it is": {func(b []byte) []byte { return b }, false},
		"executed by itself": {func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte(`"state":"acknowledged"`), []byte(`"state":"executed"`))
		}, true},
		"for a moment only": {func(b []byte) []byte {
			if looks.Add(1) == 1 {
				return bytes.ReplaceAll(b, []byte(`"title":"go"`), []byte(`"title":"stay"`))
			}
			return b
		}, true},
	} {
		d := play(t, ordering, func(w *sim.World) run.World { return altered{w, command.KindReceipt, row.with} })
		if n := broke(t, d, "orders"); n > 0 != row.bad {
			t.Errorf("%s: %d violations of orders: %s", name, n, d.Failure)
		}
	}
}
