package run

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/tiers"
)

// urgentEvery is how often the city is asked for urgent events that are on their
// way: what is measured is exact to that.
const urgentEvery = 20 * time.Millisecond

// urgents measures how long urgent events take to the city: from their
// acknowledgement, or while something on their way is cut from when that was
// mended, to where the city shows them.
type urgents struct {
	p *player

	mu      sync.Mutex // guards the fields below
	pending []pendingUrgent
	took    []time.Duration
	passed  []oracle.Passage
	lengths map[tiers.SiteID][]oracle.Length // of sites' routine streams, at the city
	wake    chan struct{}
}

type pendingUrgent struct {
	oracle.Acked
	since time.Time
}

func newUrgents(p *player) *urgents {
	return &urgents{p: p, wake: make(chan struct{}, 1), lengths: map[tiers.SiteID][]oracle.Length{}}
}

func (u *urgents) acked(a oracle.Acked) {
	u.mu.Lock()
	u.pending = append(u.pending, pendingUrgent{a, time.Now()})
	u.mu.Unlock()
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// forget gives up waiting for events that an old disk took from the world.
func (u *urgents) forget(keys []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pending = slices.DeleteFunc(u.pending, func(a pendingUrgent) bool { return slices.Contains(keys, a.Key) })
}

// watch looks for pending events at the city until ctx ends.
func (u *urgents) watch(ctx context.Context) {
	for ctx.Err() == nil {
		u.mu.Lock()
		idle := len(u.pending) == 0
		u.mu.Unlock()
		if idle {
			select {
			case <-u.wake:
			case <-ctx.Done():
			}
			continue
		}
		u.look(ctx)
		_ = wait(ctx, urgentEvery) // the loop ends with ctx
	}
}

// lookMax bounds the events that are looked for in one round, the oldest first.
const lookMax = 256

func (u *urgents) look(ctx context.Context) {
	city := u.p.tree.city()
	s, err := u.p.w.Site(city)
	u.mu.Lock()
	looked := slices.Clone(u.pending[:min(len(u.pending), lookMax)])
	u.mu.Unlock()
	u.measure(city, looked)
	seen := map[string]time.Duration{}
	moved := map[string]bool{}
	for _, a := range looked {
		if u.p.cutOff(a.Site, city) {
			moved[a.Key] = true
			continue
		}
		if err != nil {
			continue
		}
		if _, err := s.View(ctx, a.Doc.Kind(), a.Doc.Name()); err == nil {
			seen[a.Key] = time.Since(a.since)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	u.pending = slices.DeleteFunc(u.pending, func(a pendingUrgent) bool {
		d, ok := seen[a.Key]
		if ok {
			u.took = append(u.took, d)
			u.passed = append(u.passed, u.passage(a, d))
		}
		return ok
	})
	for i := range u.pending {
		if moved[u.pending[i].Key] {
			u.pending[i].since = now
		}
	}
}

// cutOff reports whether a site's way to the city is cut somewhere now.
func (p *player) cutOff(id, city tiers.SiteID) bool {
	if p.net.isDown(id) {
		return true
	}
	t := p.tree.topology()
	for id != city {
		row, ok := t.Site(id)
		if !ok || row.Parent == "" || p.net.blocked(id, row.Parent) {
			return true
		}
		id = row.Parent
	}
	return false
}

// percentile returns the share's quantile of what was measured, in seconds, and how
// many measurements and pending events there are.
func (u *urgents) percentile(share float64) (s float64, n, pending int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	sorted := slices.Sorted(slices.Values(u.took))
	if len(sorted) > 0 {
		s = sorted[int(share*float64(len(sorted)-1)+0.5)].Seconds()
	}
	return s, len(sorted), len(u.pending)
}

// passage is the way of an event that was seen at the city some time after it
// could be on its way. The caller holds mu.
func (u *urgents) passage(a pendingUrgent, took time.Duration) oracle.Passage {
	began := u.p.began
	return oracle.Passage{
		From: a.Site, To: u.p.tree.city(), Doc: a.Doc, Urgent: a.Urgent, Acked: a.At.Sub(began), Open: a.since.Sub(began),
		Visible: a.since.Add(took).Sub(began),
	}
}

// measure notes how much of the routine streams the city holds of the sites whose
// urgent events are on their way: those are what an urgent event overtakes.
func (u *urgents) measure(city tiers.SiteID, pending []pendingUrgent) {
	at, err := u.p.w.Read(city)
	if err != nil {
		return // not readable here, or down
	}
	now := time.Since(u.p.began)
	done := map[tiers.SiteID]bool{}
	for _, a := range pending {
		if done[a.Site] {
			continue
		}
		done[a.Site] = true
		n := uint64(0)
		for _, h := range at.Store.Vector(tiers.StreamID{Site: a.Site, Class: tiers.ClassRoutine}) {
			n += h.Seq
		}
		u.mu.Lock()
		if seen := u.lengths[a.Site]; len(seen) == 0 || seen[len(seen)-1].Records != n {
			u.lengths[a.Site] = append(seen, oracle.Length{At: now, Records: n})
		}
		u.mu.Unlock()
	}
}

// passages returns the ways of all urgent events that were followed, and of the
// routine ones that came meanwhile.
func (u *urgents) passages() []oracle.Passage {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := slices.Clone(u.passed)
	for id, seen := range u.lengths {
		out = append(out, oracle.Grown(id, u.p.tree.city(), seen)...)
	}
	return out
}
