package node

import (
	"sync/atomic"
	"time"
)

// beat is when a link's session is ticked: at every tick while one could change
// something, and slowly on a quiet link, so that a thousand of these cost nothing.
// It belongs to the loop, but for count.
type beat struct {
	fast, slow time.Duration
	quiet      bool
	ticker     *time.Ticker
	began      time.Time
	count      atomic.Uint64 // of ticks, for tests
}

// newBeat returns the beat of a node's links. On a quiet one contact is noted when
// somebody asks, else once in as long as a silent link lives.
func newBeat(o Options) beat {
	return beat{fast: o.Tick, slow: max(o.LinkIdle, o.Tick)}
}

func (b *beat) begin() { b.ticker, b.began = time.NewTicker(b.fast), time.Now() }

// since is the session's time.
func (b *beat) since() time.Duration { return time.Since(b.began) }

func (b *beat) end() { b.ticker.Stop() }

func (b *beat) ticks() <-chan time.Time { return b.ticker.C }

// set makes the beat slow or fast, and reports whether it was made fast.
func (b *beat) set(quiet bool) (woke bool) {
	if quiet == b.quiet {
		return false
	}
	b.quiet = quiet
	if quiet {
		b.ticker.Reset(b.slow)
		return false
	}
	b.ticker.Reset(b.fast)
	return true
}

// keepBeat makes the beat slow on a link where nothing happens, and fast again when
// something did.
func (d *linkDriver) keepBeat() {
	if d.beat.set(d.session.Quiet() && d.probe.meter.still()) {
		d.probe.meter.resume(d.n.opts.Now())
	}
}
