package node

import (
	"context"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// Bounds of what children that dial at once can take up.
const (
	// comparingMax is how many accepted sessions compare what they hold at once.
	comparingMax = 32
	// admissionQueue is how many wait for each place; further ones are sent away
	// with a hint when to come back.
	admissionQueue = 4
	// comparingFor is how long a session may hold its place, and how long one may
	// wait for it: a peer that does nothing holds up nobody for longer.
	comparingFor = 10 * time.Second
	// placesOfPeer is how many links of one peer may have a place or wait for one:
	// the one that lives, whose end may not know yet that it is dead, and the next.
	placesOfPeer = 2
	// comeBackMin is the shortest hint.
	comeBackMin = time.Second
)

// admission bounds the sessions that compare at once, so that a thousand
// children that come back together are served a few at a time, in the order in
// which they came, instead of all of them slowly. Safe for concurrent use.
type admission struct {
	slots chan struct{}
	queue chan struct{}

	mu sync.Mutex // guards the fields below
	// of counts the links of each peer that have a place or wait.
	of map[tiers.SiteID]int
	// away are the peers that were sent away and have not come back, as far as is
	// known: each is given a later time than the one before.
	away int
	took time.Duration // how long a session compares, smoothed
	// turned is how many were sent away.
	turned uint64
}

func newAdmission(slots, queue int) *admission {
	return &admission{slots: make(chan struct{}, slots), queue: make(chan struct{}, queue), of: map[tiers.SiteID]int{}, took: 50 * time.Millisecond}
}

// enter waits for a place for a peer's link. It returns how to leave it, which may
// be called more than once; or nil and after how long to come back.
func (a *admission) enter(ctx context.Context, peer tiers.SiteID) (leave func(), retry time.Duration) {
	if !a.count(peer) {
		return nil, comeBackMin // and nobody else's hint is longer for it
	}
	defer func() {
		if leave == nil {
			a.uncount(peer)
		}
	}()
	select {
	case a.queue <- struct{}{}:
	default:
		return nil, a.turnAway()
	}
	defer func() { <-a.queue }()
	limit := time.NewTimer(comparingFor)
	defer limit.Stop()
	select {
	case a.slots <- struct{}{}:
	case <-limit.C:
		return nil, a.turnAway()
	case <-ctx.Done():
		return nil, comeBackMin
	}
	began, once := time.Now(), sync.Once{}
	end := func() {
		once.Do(func() {
			a.left(time.Since(began))
			a.uncount(peer)
			<-a.slots
		})
	}
	late := time.AfterFunc(comparingFor, end)
	return func() { late.Stop(); end() }, 0
}

// count takes one of the peer's places, if there is one.
func (a *admission) count(peer tiers.SiteID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of[peer] >= placesOfPeer {
		a.turned++
		return false
	}
	a.of[peer]++
	return true
}

func (a *admission) uncount(peer tiers.SiteID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of[peer]--; a.of[peer] == 0 {
		delete(a.of, peer)
	}
}

func (a *admission) left(took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.took += (took - a.took) / 8
	a.away = max(a.away-1, 0)
}

// turnAway returns after how long the next peer should come back: behind all
// that wait or were sent away before it.
func (a *admission) turnAway() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.away++
	a.turned++
	ahead := float64(len(a.queue)+a.away) / float64(cap(a.slots))
	return max(comeBackMin, time.Duration(ahead*float64(a.took)))
}

// turnedAway returns how many peers were told to come back later.
func (a *admission) turnedAway() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.turned
}
