package node

import (
	"cmp"
	"time"
)

// Rates are how fast records moved on a link, in bytes a second: now, and in
// the last transfer that was long enough to measure; zero for none.
type Rates struct {
	OutNow, InNow, OutLast, InLast float64
}

// follow takes newer rates over; one that was not measured anew stays.
func (r *Rates) follow(n Rates) {
	r.OutNow, r.InNow = n.OutNow, n.InNow
	r.OutLast, r.InLast = cmp.Or(n.OutLast, r.OutLast), cmp.Or(n.InLast, r.InLast)
}

// rateMeter measures rates from a link's counters, which it is shown at every
// tick.
type rateMeter struct {
	at      time.Time
	out, in flow
}

// A transfer is long enough to tell a rate from when it moved so much, and ends
// after so long without any.
const (
	rateBytesMin = 64 << 10
	ratePause    = time.Second
	// rateWindow is the time over which the present rate is averaged.
	rateWindow = 2 * time.Second
	// rateBacklog is how many records must wait for a transfer to show what the
	// link can do, and not what there was to move.
	rateBacklog = 64
)

// flow is one direction.
type flow struct {
	total uint64
	now   float64 // exponentially weighted over rateWindow
	last  float64
	// burst is the transfer under way: what it moved from begun to moved, full
	// whether there was more to move all along.
	burst        uint64
	full         bool
	begun, moved time.Time
}

// tick takes the counters in: bytes of records sent and received so far, and
// records that wait at either end.
func (m *rateMeter) tick(now time.Time, sent, received, waitOut, waitIn uint64) Rates {
	if !m.at.IsZero() && now.After(m.at) {
		m.out.step(m.at, now, sent, waitOut >= rateBacklog)
		m.in.step(m.at, now, received, waitIn >= rateBacklog)
	}
	m.at, m.out.total, m.in.total = now, sent, received
	return Rates{OutNow: m.out.now, InNow: m.in.now, OutLast: m.out.last, InLast: m.in.last}
}

// still reports whether nothing moves: further ticks would change no rate.
func (m *rateMeter) still() bool {
	return !m.at.IsZero() && m.out.now == 0 && m.in.now == 0 && m.out.burst == 0 && m.in.burst == 0
}

// resume ends a time without ticks, in which nothing moved.
func (m *rateMeter) resume(now time.Time) { m.at = now }

func (f *flow) step(before, now time.Time, total uint64, full bool) {
	moved, took := total-f.total, now.Sub(before)
	weight := min(1, float64(took)/float64(rateWindow))
	f.now += weight * (float64(moved)/took.Seconds() - f.now)
	if moved == 0 {
		if now.Sub(f.moved) > ratePause {
			f.burst, f.now = 0, 0
		}
		return
	}
	if f.burst == 0 || f.full != full {
		f.burst, f.begun, f.full = 0, before, full
	}
	f.burst += moved
	f.moved = now
	if f.burst < rateBytesMin {
		return
	}
	if full {
		f.last = float64(f.burst) / now.Sub(f.begun).Seconds()
	} else { // nothing waited: the link can do at least what came in
		f.last = max(f.last, f.now)
	}
}
