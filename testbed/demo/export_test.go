package demo

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// Rerun reads every site of a run's cluster back again, after a test has
// planted a defect.
type Rerun struct{ d *player }

// Played plays the job and keeps what is needed to check again.
func Played(ctx context.Context, cfg Config) (*Rerun, *local.Cluster, error) {
	again, cluster, err := CutOff(ctx, cfg)
	if err == nil {
		err = errors.Join(again.d.heal(ctx), again.d.prove(ctx))
	}
	return again, cluster, err
}

// Verify checks again from nothing.
func (r *Rerun) Verify(ctx context.Context) (Table, error) {
	was := r.d.table
	r.d.table = Table{Sites: was.Sites, Steps: Steps{
		BundleRecords: was.BundleRecords, BundleUrgent: was.BundleUrgent, BundleKnown: was.BundleKnown,
		BundleResent: was.BundleResent, StoodIn: was.StoodIn, Duties: Duties{OrderAway: was.OrderAway, OrderWaited: was.OrderWaited},
	}}
	r.d.patience = 5 * time.Second // for what was planted, which does not settle
	err := r.d.verify(ctx)
	return r.d.table, err
}

// CutOff plays the job to where the links are still cut.
func CutOff(ctx context.Context, cfg Config) (*Rerun, *local.Cluster, error) {
	d := &player{cfg: cfg, p: cfg.Progress}
	for _, phase := range []func(context.Context) error{d.open, d.publish, d.readInput, d.reportConnected, d.partition, d.goOn} {
		if err := phase(ctx); err != nil {
			return nil, d.cluster, err
		}
	}
	return &Rerun{d}, d.cluster, nil
}

// Bundled counts again which urgent events of the bundle its receiver has, and
// what came by link, too.
func (r *Rerun) Bundled() Steps {
	r.d.checkBundleKnown()
	r.d.checkBundleResent()
	return r.d.table.Steps
}

// InventUrgent pretends that the bundle held one more urgent event.
func (r *Rerun) InventUrgent() func() {
	e := r.d.story.urgent[0]
	e.placed.Doc = "event:never-written"
	r.d.story.urgent = append(r.d.story.urgent, e)
	return func() { r.d.story.urgent = r.d.story.urgent[:len(r.d.story.urgent)-1] }
}

// InventLost pretends that the restored township lost one more event.
func (r *Rerun) InventLost() func() {
	e := r.d.story.lost[0]
	e.placed.Doc = "event:never-written"
	r.d.story.lost = append(r.d.story.lost, e)
	return func() { r.d.story.lost = r.d.story.lost[:len(r.d.story.lost)-1] }
}

// HideReceived pretends that the district had received n records less by link when
// it took the bundle in.
func (r *Rerun) HideReceived(n uint64) func() {
	r.d.story.received -= n
	return func() { r.d.story.received += n }
}

// Contested is the task that both sides of the cut assigned, and where it stands.
func (r *Rerun) Contested() store.DocKey {
	return store.DocKey{Stream: tiers.StreamID{Site: r.d.cast.isolated, Class: tiers.ClassCommand}, Doc: r.d.story.contested}
}

// Undelivered returns the townships that the city cannot reach, and how many of these
// it shows not to have the order; also is one that counts as out of reach and has it.
func (r *Rerun) Undelivered(ctx context.Context, also ...tiers.SiteID) (away, waiting int, err error) {
	if err := r.d.delivered(ctx, func(id tiers.SiteID) bool { return slices.Contains(also, id) }); err != nil {
		return 0, 0, err
	}
	ids := append(r.d.away(), also...)
	_, text, err := r.d.undelivered(ctx, ids)
	return len(ids), len(text), err
}

// Receipt is the order at the isolated township.
func (r *Rerun) Receipt() store.DocKey {
	id := r.d.cast.isolated
	return store.DocKey{Stream: tiers.StreamID{Site: id, Class: tiers.ClassCommand}, Doc: command.ReceiptID(r.d.story.order, id)}
}

// InventOrder pretends that the order was another one.
func (r *Rerun) InventOrder() func() {
	was := r.d.story.order
	r.d.story.order = "order:never-given"
	return func() { r.d.story.order = was }
}

// InventAlert pretends that another event was the alert.
func (r *Rerun) InventAlert() func() {
	was := r.d.story.alert
	r.d.story.alert.Doc = "event:never-written"
	return func() { r.d.story.alert = was }
}

// StandsIn reports whether the city stands in for a township's parent.
func (r *Rerun) StandsIn(id tiers.SiteID) bool { return r.d.standsIn(id) }

// AwaitStandIn waits until the city stands in.
func (r *Rerun) AwaitStandIn(ctx context.Context) error { return r.d.awaitStandIn(ctx) }

// Extra reports one more event at a site.
func (r *Rerun) Extra(ctx context.Context, id tiers.SiteID) error {
	_, err := r.d.extraEvent(ctx, id)
	return err
}

// Parts returns who is isolated, stood in for, moved, and the districts that the
// moved one comes from and goes to.
func (r *Rerun) Parts() (isolated, standIn, moved, from, to tiers.SiteID) {
	return r.d.cast.isolated, r.d.cast.standIn, r.d.cast.moved, r.d.story.from, r.d.cast.cutDistrict
}

// Exchange puts a copy of a site's disk in the disk's place; half only moves the
// disk away.
func Exchange(dir string, id tiers.SiteID, half bool) error {
	k := diskOf(dir, id)
	if half {
		return os.Rename(k.data, k.replaced)
	}
	return k.exchange()
}

// UndoExchange is what a start does about an exchange that was interrupted.
func UndoExchange(dir string, id tiers.SiteID) error { return diskOf(dir, id).undo() }

// Certificate is the file of a township's link.
func (r *Rerun) Certificate(child tiers.SiteID) string { return r.d.certificate(child) }

// Bundle is the file that was carried.
func (r *Rerun) Bundle() string { return r.d.bundleFile() }

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
