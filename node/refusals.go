package node

import (
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tiermesh/tiermesh/tiers"
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

	mu sync.Mutex // guards by
	by map[tiers.SiteID]map[wire.Code]uint64
	n  int // pairs in by
}

func newRefusals(log *slog.Logger, a *alarms, reg prometheus.Registerer) *refusals {
	r := &refusals{log: log, alarms: a, by: map[tiers.SiteID]map[wire.Code]uint64{}, total: prometheus.NewCounterVec(prometheus.CounterOpts{
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
