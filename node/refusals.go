package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/identity"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// refusalsMax bounds the pairs of peer and reason that are told apart; beyond
// it, refusals are counted by reason alone.
const refusalsMax = 8192

// refusals counts what peers sent and this site did not take. Safe for
// concurrent use.
type refusals struct {
	log    *slog.Logger
	alarms *alarms
	total  *prometheus.CounterVec

	mu sync.Mutex // guards the fields below
	by map[tiers.SiteID]map[wire.Code]uint64
	n  int // pairs in by

	strangers map[stranger]bool
	heard     time.Time // when the minute of told began
	told      int
}

// stranger is a caller whose certificate was not accepted, and why.
type stranger struct {
	from netip.Addr
	why  error
}

// How many callers are told apart, and of how many the log tells in a minute: whoever
// reaches the socket can be one, under any number of addresses.
const (
	strangersMax  = 256
	strangersTold = 10
)

// stranger notes a caller whose certificate was not accepted; see
// [transport.Config.Refused]. The first of an address and reason is logged and raises an
// alarm. What it claims to be is told and counted against nobody: anyone can claim.
func (r *refusals) stranger(x transport.Refusal) {
	r.total.WithLabelValues(wire.CodeFederation.String()).Inc()
	key := stranger{from: x.From}
	for _, why := range []error{identity.ErrFederation, identity.ErrUntrusted, identity.ErrExpired, identity.ErrNoIdentity} {
		if errors.Is(x.Err, why) {
			key.why = why
		}
	}
	if !r.tell(key, time.Now()) {
		return
	}
	claims := ""
	if x.Claims.Site != "" {
		claims = ", which claims to be site " + string(x.Claims.Site)
	}
	r.log.Warn("caller refused", "peer", x.From.String(), "claims", x.Claims.String(), "err", x.Err)
	text := fmt.Sprintf("a caller at %s%s was refused: %v", x.From, claims, x.Err)
	r.alarms.raise(alarmStranger, x.From.String(), text)
}

// tell returns whether a stranger is to be told of.
func (r *refusals) tell(key stranger, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.heard) > time.Minute {
		r.heard, r.told = now, 0
	}
	if r.strangers[key] || r.told >= strangersTold {
		return false
	}
	if len(r.strangers) >= strangersMax {
		clear(r.strangers)
	}
	r.strangers[key] = true
	r.told++
	return true
}

func newRefusals(log *slog.Logger, a *alarms, reg prometheus.Registerer) *refusals {
	r := &refusals{log: log, alarms: a, by: map[tiers.SiteID]map[wire.Code]uint64{}, strangers: map[stranger]bool{}, total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tiermesh_federation_refused_total", Help: "messages and links of peers that were refused, by reason",
	}, []string{"reason"})}
	reg.MustRegister(r.total)
	return r
}

// note counts one refusal. The first of a peer and reason is logged and raises
// an alarm; a peer that goes on cannot flood either.
func (r *refusals) note(peer tiers.SiteID, code wire.Code, why string) {
	r.total.WithLabelValues(code.String()).Inc()
	if !r.count(peer, code) {
		return
	}
	r.log.Warn("peer refused", "peer", string(peer), "reason", code.String(), "err", why)
	r.alarms.raiseOf(peer, "peer "+string(peer)+" was refused ("+code.String()+"): "+why)
}

// count returns whether it is the first of its kind.
func (r *refusals) count(peer tiers.SiteID, code wire.Code) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	by := r.by[peer]
	if by[code] == 0 && r.n >= refusalsMax {
		return false
	}
	if by == nil {
		by = map[wire.Code]uint64{}
		r.by[peer] = by
	}
	if by[code]++; by[code] > 1 {
		return false
	}
	r.n++
	return true
}

// of returns the counts of one peer, by reason; nil for none.
func (r *refusals) of(peer tiers.SiteID) map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.by[peer]) == 0 {
		return nil
	}
	out := map[string]uint64{}
	for code, n := range r.by[peer] {
		out[code.String()] = n
	}
	return out
}
