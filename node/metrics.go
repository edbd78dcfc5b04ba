package node

import "github.com/prometheus/client_golang/prometheus"

// registerMetrics exposes what the store and the links know. Gauges read the
// truth when they are scraped, so nothing has to be kept in step.
func (n *Node) registerMetrics() {
	st := n.group.Store()
	for _, m := range []struct {
		name, help string
		value      func() float64
	}{
		{"tiermesh_views_dirty", "documents whose view is behind", func() float64 { return float64(st.Counts().Dirty) }},
		{"tiermesh_store_records", "records in all chains", func() float64 { return float64(st.Counts().Records) }},
		{"tiermesh_store_refused_records", "records whose change can never apply", func() float64 { return float64(st.Counts().Refused) }},
		{"tiermesh_store_applied_index", "raft index that the store reflects", func() float64 { return float64(st.AppliedIndex()) }},
		{"tiermesh_node_links_connected", "links with a session", func() float64 { return float64(len(n.links.drivers())) }},
		{"tiermesh_node_owed_records", "records that peers are known to lack", func() float64 {
			var owed uint64
			for _, l := range n.Links() {
				owed += l.OwedOut
			}
			return float64(owed)
		}},
		{"tiermesh_node_links_comparing", "accepted links that compare what they hold", func() float64 { return float64(len(n.links.admission.slots)) }},
		{"tiermesh_node_links_turned_away", "accepted links that were told to come back later", func() float64 { return float64(n.links.admission.turnedAway()) }},
		{"tiermesh_transport_handshakes_refused", "handshakes that were too many at once", func() float64 { return float64(n.endpoint.Handshakes().Refused) }},
		{"tiermesh_transport_handshakes_failed", "handshakes without a certificate of this federation, or not finished", func() float64 { return float64(n.endpoint.Handshakes().Failed) }},
	} {
		n.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: m.name, Help: m.help}, m.value))
	}
}
