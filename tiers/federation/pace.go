package federation

import "time"

// How much a link may have under way. Bulk keeps a link busy, and an urgent
// record waits behind no more of it than queueTarget's worth.
const (
	// queueTarget is how long a byte may wait behind others on the slowest hop.
	queueTarget = 100 * time.Millisecond
	// windowFirst is the window before anything was acknowledged, windowMin the
	// least at any rate.
	windowFirst = 32 << 10
	windowMin   = 16 << 10
	// batchMin is the least size of a batch; fewer records cost more than they
	// save.
	batchMin = 4 << 10
	// rttLasts is how long the shortest round trip counts. Then the link is let run
	// empty, for its own queue would pass for distance.
	rttLasts = 10 * time.Second
	// bulkFlights bounds the batches of a lane that has a backlog.
	bulkFlights = 64
)

// pace measures what a link delivers and derives how much may be under way: the
// rate of acknowledged bytes times the shortest round trip, and queueTarget on
// top. The rate is measured as BBR does (Cardwell et al., ACM Queue 14(5), 2016,
// section "Estimating delivery rate"): what was acknowledged between sending a
// batch and its acknowledgement, over that time.
type pace struct {
	now       time.Duration
	inFlight  int
	bulk      int           // of these, bytes of lanes that wait for the window
	delivered int           // bytes acknowledged so far
	at        time.Duration // when delivered last grew, or sending began
	rate      float64       // bytes a second
	rtt       time.Duration // the shortest of late
	rttAt     time.Duration // when that was seen
}

// stamp is what a flight remembers of the moment it left.
type stamp struct {
	sent, at  time.Duration
	delivered int
	idle      bool // nothing more was owed: it says little about the link's rate
	alone     bool // no bulk was under way: it says what the round trip is
	bulk      bool
}

// sending takes in a flight that leaves now.
func (p *pace) sending(bytes int, bulk, idle bool) stamp {
	if p.inFlight == 0 {
		p.at = p.now
	}
	s := stamp{sent: p.now, at: p.at, delivered: p.delivered, idle: idle, alone: p.bulk == 0, bulk: bulk}
	p.inFlight += bytes
	if bulk {
		p.bulk += bytes
	}
	return s
}

// landed takes in a flight's acknowledgement.
func (p *pace) landed(bytes int, s stamp) {
	p.dropped(bytes, s)
	p.delivered += bytes
	p.at = p.now
	if rtt := p.now - s.sent; p.rtt == 0 || rtt <= p.rtt || s.alone {
		p.rtt, p.rttAt = rtt, p.now
	}
	took := p.now - s.at
	if took <= 0 {
		return
	}
	rate := float64(p.delivered-s.delivered) / took.Seconds()
	switch {
	case rate > p.rate:
		p.rate = rate
	case !s.idle:
		p.rate += (rate - p.rate) / 8
	}
}

// dropped takes in a flight that nobody will acknowledge.
func (p *pace) dropped(bytes int, s stamp) {
	p.inFlight -= bytes
	if s.bulk {
		p.bulk -= bytes
	}
}

// window returns how many bytes may be under way, at most most.
func (p *pace) window(most int) int {
	switch {
	case p.rate == 0:
		return min(windowFirst, most)
	case p.stale():
		return 1
	}
	return min(max(int(p.rate*(p.rtt+queueTarget).Seconds()), windowMin), most)
}

// stale reports whether the round trip has to be measured anew.
func (p *pace) stale() bool { return p.rate > 0 && p.now-p.rttAt > rttLasts }

// room reports whether bulk may start another flight. What of it is under way when
// the round trip is stale lands first, and the next one goes alone. Urgent flights,
// which do not wait, do not count then: they may follow each other for ever.
func (p *pace) room(most int) bool {
	if p.stale() {
		return p.bulk == 0
	}
	return p.inFlight < p.window(most)
}

// Now tells the session what time it is: how long since any one moment. The
// driver says so before each call that may send or acknowledge; a session that
// is never told paces nothing.
func (s *Session) Now(t time.Duration) { s.pace.now = t }

// batchBytes is the size at which the next batch ends: small on a slow link, so
// that what is urgent finds a gap soon.
func (s *Session) batchBytes() int {
	return min(s.cfg.BatchBytes, max(s.pace.window(s.cfg.WindowBytes)/2, batchMin))
}

// room reports whether a lane may start another flight. Urgent lanes have a
// window of their own; all others share what the link bears.
func (s *Session) room(lane int) bool {
	l := &s.out.lanes[lane]
	flights := s.cfg.FlightsMax
	if l.backlog {
		flights = bulkFlights
	}
	if len(l.flights) >= flights {
		return false
	}
	if lane <= urgentLanes {
		return l.bytes < s.cfg.WindowBytes
	}
	return s.pace.room(s.cfg.WindowBytes)
}

// urgentLanes is the last of the lanes that never wait for bulk.
const urgentLanes = 1
