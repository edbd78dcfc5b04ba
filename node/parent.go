package node

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// upward is how this site stands with those above it. links.mu guards it.
type upward struct {
	// movedAt is when the parent last took something in, or was shown to lack
	// nothing: a parent that answers and does not move on is as good as silent.
	movedAt time.Time
	// gone says that the parent told this site to go elsewhere.
	gone bool
	// redirect is where a former parent sent this site, until that was tried.
	redirect *target
	// standIn is the ancestor that is linked to in the parent's place.
	standIn tiers.SiteID
	// back ends the stand-in's link; nil without one.
	back context.CancelFunc
	// retired says that the city has retired this site.
	retired bool
}

// target is a site to dial and its nodes' addresses.
type target struct {
	site  tiers.SiteID
	addrs []string
}

func (l *links) targetOf(id tiers.SiteID) target {
	s, _ := l.n.Topology().Site(id)
	to := target{site: id}
	for _, n := range s.Nodes {
		to.addrs = append(to.addrs, n.Addr)
	}
	return to
}

// above returns this site's ancestors, its parent first.
func (l *links) above() []tiers.SiteID { return l.n.Topology().Ancestors(l.n.creds.ID.Site) }

// comeBack spreads the hints that a peer gave, by a random number from 0 to 1:
// at least the hint, and up to half as much again.
func comeBack(hint time.Duration, random float64) time.Duration {
	return hint + time.Duration(random*float64(hint)/2)
}

// dialParent keeps a link to the parent, or to where a former parent says that
// this site belongs, with exponential backoff and jitter between attempts.
func (l *links) dialParent(ctx context.Context) error {
	wait := l.n.opts.RedialMin
	for ctx.Err() == nil {
		began := time.Now()
		bye := l.dialSite(ctx, l.nextTarget())
		if time.Since(began) > l.n.opts.RedialMax {
			wait = l.n.opts.RedialMin // it held: start over
		}
		pause := wait/2 + rand.N(wait/2+1) //nolint:gosec // spreading load, not a secret
		wait = min(wait*2, l.n.opts.RedialMax)
		if bye != nil && bye.RetryAfterMS > 0 {
			hint := min(time.Duration(bye.RetryAfterMS)*time.Millisecond, comeBackMax)
			pause = comeBack(hint, rand.Float64()) //nolint:gosec // as above
		}
		if bye != nil && l.redirected(bye) {
			wait = l.n.opts.RedialMin
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return nil
}

// comeBackMax bounds for how long a peer can keep this site from dialling.
const comeBackMax = 2 * time.Minute

// nextTarget returns whom to dial next: a redirect once, else the parent.
func (l *links) nextTarget() target {
	l.mu.Lock()
	to := l.up.redirect
	l.up.redirect = nil
	l.mu.Unlock()
	if to != nil {
		return *to
	}
	if up := l.above(); len(up) > 0 {
		return l.targetOf(up[0])
	}
	return target{}
}

// redirected notes where a former parent sends this site. It is tried once: the
// topology comes with the visit, or nothing does.
func (l *links) redirected(bye *wire.Bye) bool {
	r := bye.Redirect
	if r == nil || r.TopologyVersion <= l.n.Topology().Version() {
		return false
	}
	to := &target{site: r.Parent, addrs: r.Addrs}
	if len(to.addrs) == 0 {
		*to = l.targetOf(r.Parent)
	}
	l.n.log.Info("redirected", "peer", string(r.Parent), "topology_version", r.TopologyVersion)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up.redirect = to
	return true
}

// dialSite tries a site's nodes, from a random one on, until one of them was
// linked to: the one that leads. It returns the peer's goodbye, if it said one.
func (l *links) dialSite(ctx context.Context, to target) *wire.Bye {
	if len(to.addrs) == 0 {
		return nil
	}
	first := rand.IntN(len(to.addrs)) //nolint:gosec // any node will do
	for i := range to.addrs {
		if ctx.Err() != nil {
			return nil
		}
		if bye, linked := l.dialOnce(ctx, to.site, to.addrs[(first+i)%len(to.addrs)]); linked {
			return bye
		}
	}
	return nil
}

// dialOnce dials one node and runs the link to its end. It returns false when
// there was none.
func (l *links) dialOnce(ctx context.Context, peer tiers.SiteID, addr string) (*wire.Bye, bool) {
	l.note(peer, func(r *linkRecord) {
		if r.state != linkConnecting && r.state != linkRefused {
			r.state, r.since = linkConnecting, l.n.opts.Now()
		}
	})
	link, err := l.n.endpoint.Dial(ctx, addr, peer)
	if err != nil {
		l.n.log.Debug("dial failed", "peer", string(peer), "err", err)
		l.note(peer, func(r *linkRecord) { r.lastError = err.Error() })
		return nil, false
	}
	bye, err := l.serve(ctx, link, nil)
	var closed *transport.ClosedError
	if !errors.As(err, &closed) {
		return bye, true
	}
	if closed.Code == wire.CodeRetired || bye != nil && bye.Code == wire.CodeRetired {
		l.retirement(peer)
	}
	return bye, closed.Code != wire.CodeNotLeader
}

// retirement notes that an ancestor says that it or this site is retired. The
// city is never retired, so what it says is of this site; of another one, the
// city will know.
func (l *links) retirement(peer tiers.SiteID) {
	if peer != l.n.Topology().City() {
		l.mu.Lock()
		l.up.gone = true
		l.mu.Unlock()
		select {
		case l.sentAway <- struct{}{}:
		default:
		}
		return
	}
	l.mu.Lock()
	first := !l.up.retired
	l.up.retired = true
	l.standLocked()
	l.mu.Unlock()
	if first {
		l.n.alarms.raise(alarmRetired, "links", "this site is retired: the city refuses its links; its data stays readable")
		l.sendAway("this site is retired")
	}
}

// sendAway ends the links of the sites below, which look for the next ancestor.
func (l *links) sendAway(why string) {
	for _, d := range l.drivers() {
		if l.n.Topology().IsAncestor(l.n.creds.ID.Site, d.peer) {
			d.close(wire.CodeRetired, why)
		}
	}
}

func (l *links) isRetired() bool {
	self, _ := l.n.Topology().Site(l.n.creds.ID.Site)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up.retired || self.Retired
}

// resetUp forgets what was known of the parent: there may be another one.
func (l *links) resetUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up.movedAt, l.up.gone, l.up.redirect, l.up.retired = time.Now(), false, nil, false
	l.standLocked()
}

// moved notes that a link moved on, or that it has nothing to move. When it is
// the parent's, nobody has to stand in for it any more.
func (l *links) moved(peer tiers.SiteID) {
	up := l.above()
	if len(up) == 0 || up[0] != peer {
		return
	}
	l.mu.Lock()
	l.up.movedAt, l.up.gone = time.Now(), false
	back := l.up.back
	l.up.back = nil
	l.mu.Unlock()
	if back != nil {
		back()
	}
}

// endedWith notes that the link to the parent was in order until now.
func (l *links) endedWith(peer tiers.SiteID, last linkStatus) {
	if up := l.above(); len(up) == 0 || up[0] != peer || !last.movesNothing() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up.movedAt = time.Now()
}

// standInLook is how often it is looked at least: the time may be set anew.
const standInLook = time.Minute

// runStandIn links to the next ancestor while the parent is silent for long
// enough, and goes back when the parent is there again. Every ancestor is in the
// audience of this site's streams already; the parent is dialled all along.
func (l *links) runStandIn(ctx context.Context) error {
	wait := l.n.opts.RedialMin
	for {
		poll := max(min(l.n.config().standInAfter()/4, time.Second), 10*time.Millisecond)
		// Before then the parent cannot have been silent for long enough.
		next := min(max(l.silentIn(), poll), standInLook) + rand.N(poll) //nolint:gosec // spreading load, not a secret
		select {
		case <-time.After(next):
		case <-l.sentAway:
		case <-ctx.Done():
			return nil
		}
		up := l.above()
		if len(up) < 2 || !l.parentSilent() {
			wait = l.n.opts.RedialMin
			continue
		}
		for _, id := range up[1:] {
			if !l.parentSilent() || !l.standInBy(ctx, id) {
				break
			}
		}
		select { // the parent may be down for days: no more often than it is dialled
		case <-time.After(wait/2 + rand.N(wait/2+1)): //nolint:gosec // as above
		case <-ctx.Done():
		}
		wait = min(wait*2, l.n.opts.RedialMax)
	}
}

// standInBy runs a link to an ancestor until that ends or the parent is back. It
// returns false when ctx ended.
func (l *links) standInBy(ctx context.Context, id tiers.SiteID) bool {
	standing, stop := context.WithCancel(ctx)
	defer stop()
	l.mu.Lock()
	l.up.standIn, l.up.back = id, func() {
		l.n.log.Info("the parent is back", "peer", string(id))
		l.closePeer(id, "the parent is back")
		stop()
	}
	l.mu.Unlock()
	l.dialSite(standing, l.targetOf(id))
	l.mu.Lock()
	l.up.standIn, l.up.back = "", nil
	l.standLocked()
	l.mu.Unlock()
	return ctx.Err() == nil
}

// parentSilent reports whether the parent has not moved on for long enough.
func (l *links) parentSilent() bool { return l.silentIn() < 0 }

// silentIn returns in how long the parent will not have moved on for long enough,
// at the soonest; less than zero when that is now.
func (l *links) silentIn() time.Duration {
	still := false
	if up := l.above(); len(up) > 0 {
		if d := l.driver(up[0]); d != nil {
			still = d.movesNothing()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case still:
		l.up.movedAt = time.Now()
	case l.up.gone:
		return -1
	}
	return l.n.config().standInAfter() - time.Since(l.up.movedAt)
}

// closePeer ends the link to one peer.
func (l *links) closePeer(peer tiers.SiteID, why string) {
	l.mu.Lock()
	d := l.live[peer]
	l.mu.Unlock()
	if d != nil {
		d.close(wire.CodeOK, why)
	}
}
