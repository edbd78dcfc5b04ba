package demo

import (
	"context"

	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
)

// Rerun reads every site of a run's cluster back again, after a test has
// planted a defect.
type Rerun struct{ d *player }

// Played plays the job and keeps what is needed to check again.
func Played(ctx context.Context, cfg Config) (*Rerun, *local.Cluster, error) {
	d := &player{cfg: cfg, p: cfg.Progress}
	for _, phase := range []func(context.Context) error{d.open, d.publish, d.readInput, d.reportConnected, d.partition, d.goOn, d.heal, d.prove} {
		if err := phase(ctx); err != nil {
			return nil, d.cluster, err
		}
	}
	return &Rerun{d}, d.cluster, nil
}

// Verify checks again from nothing.
func (r *Rerun) Verify(ctx context.Context) (Table, error) {
	was := r.d.table
	r.d.table = Table{Sites: was.Sites, Steps: Steps{
		BundleRecords: was.BundleRecords, BundleUrgent: was.BundleUrgent, BundleKnown: was.BundleKnown, StoodIn: was.StoodIn,
	}}
	err := r.d.verify(ctx)
	return r.d.table, err
}

// Agree waits until all sites are equal again.
func (r *Rerun) Agree(ctx context.Context) error { return r.d.converge(ctx, "test") }

// Placed returns where the first event stands, and who reported it.
func (r *Rerun) Placed() (tiers.SiteID, replication.Written) {
	return r.d.events[0].site, r.d.events[0].placed
}

// Invent pretends that one more event was acknowledged.
func (r *Rerun) Invent() func() {
	e := r.d.events[0]
	e.placed.Doc = "event:never-written"
	r.d.events = append(r.d.events, e)
	return func() { r.d.events = r.d.events[:len(r.d.events)-1] }
}
