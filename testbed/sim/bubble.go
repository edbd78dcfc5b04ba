package sim

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tiermesh/tiermesh/transport/wire"
)

// warm uses once, outside of any bubble, what the nodes of a process share: its
// channels would belong to the first bubble, and no other could use them.
var warm = sync.OnceValue(func() error {
	frame, err := wire.Append(nil, &wire.Bye{Reason: strings.Repeat("compressible ", 100)})
	if err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	const length = 4
	if _, err := wire.Decode(frame[length:]); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	return nil
})

// epoch is when worlds begin: bubbles do in 2000, when the events that are reported
// had not happened yet.
var epoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// Bubble runs body in a bubble of virtual time in which worlds can be made.
func Bubble(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	if err := warm(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(epoch))
		body(t)
	})
}
