package crdt

import (
	"sync"
	"time"
)

// HybridTime orders what happened across sites: milliseconds since the Unix
// epoch in the upper 48 bits and a logical counter in the lower 16 (Kulkarni
// et al., "Logical Physical Clocks", 2014). Zero means "not stamped".
type HybridTime uint64

// NewHybridTime returns the stamp of a wall time with logical counter 0.
// Times outside 1970–10889 are cut to that range's ends.
func NewHybridTime(t time.Time) HybridTime {
	ms := min(max(t.UnixMilli(), 0), 1<<48-1)
	return HybridTime(uint64(ms) << 16)
}

// Millis returns the wall-clock part, in milliseconds since the Unix epoch.
func (h HybridTime) Millis() int64 { return int64(h >> 16) }

// Time returns the wall-clock part.
func (h HybridTime) Time() time.Time { return time.UnixMilli(h.Millis()).UTC() }

// driftMax is how far ahead of the local clock a peer's stamp may pull it. A
// stamp further ahead is stored as it is and does not move the clock, so one
// site with a wrong year cannot carry the federation along.
const driftMax = time.Hour

// Clock issues hybrid times that never repeat or go back. It is safe for
// concurrent use.
type Clock struct {
	now func() time.Time

	mu   sync.Mutex // guards last
	last HybridTime
}

// NewClock returns a clock over the given wall clock.
func NewClock(now func() time.Time) *Clock { return &Clock{now: now} }

// Now returns the next stamp: later than every stamp issued or observed.
func (c *Clock) Now() HybridTime {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last+1, NewHybridTime(c.now()))
	return c.last
}

// Observe moves the clock past a stamp from elsewhere, unless that stamp is
// more than an hour ahead of the wall clock.
func (c *Clock) Observe(h HybridTime) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h <= NewHybridTime(c.now().Add(driftMax)) {
		c.last = max(c.last, h)
	}
}
