package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// standInAfter is for how long a district is silent until the city stands in.
const standInAfter = time.Second

// linkIdle is how long a link outlives a cut: short, so that after the heal it
// is dialled anew instead of waiting for a retransmission that backed off.
const linkIdle = 2 * time.Second

// cast says which site plays which part. A part is empty when the federation is
// too small for it; its step is then left out, and counts as none of none.
type cast struct {
	city tiers.SiteID
	// cutDistrict is cut from the city; isolated, one of its townships, from all.
	cutDistrict, isolated tiers.SiteID
	// restored, another township of it, comes back from an old copy of its disk.
	restored tiers.SiteID
	// standIn is cut from its own district only, and is linked to the city.
	standIn tiers.SiteID
	// moved is cut from all, and gets the cut district as its parent meanwhile.
	moved tiers.SiteID
}

// castFor deals the parts out. The townships are in the order of districts.
func castFor(city tiers.SiteID, districts []tiers.SiteID, townships []tiers.Site) cast {
	c := cast{city: city, cutDistrict: districts[0], isolated: townships[0].ID}
	last := townships[len(townships)-1]
	for _, t := range townships[1:] {
		switch {
		case t.Parent == c.cutDistrict:
			c.restored = t.ID
		case c.standIn == "":
			c.standIn = t.ID
		}
	}
	if last.Parent != c.cutDistrict && last.ID != c.standIn {
		c.moved = last.ID
	}
	return c
}

// story is what the steps during the cut leave for the checks after it.
type story struct {
	// extra are events beside the input's, new in each run of a directory.
	extra []reported
	// urgent are the isolated township's urgent events that its district lacked
	// when the bundle came; the other two are how it stood after the import.
	urgent          []reported
	received, taken uint64
	// from is the moved township's former parent, and kept what that held when
	// it heard of the move.
	from tiers.SiteID
	kept map[tiers.StreamID]crdt.Vector
	// lost are the events that the old copy lacks, made as incarnation.
	lost        []reported
	incarnation uint32
	duties
}

// topology returns the topology in force.
func (d *player) topology() *tiers.Topology { return d.cluster.Node(d.cast.city).Topology() }

func (d *player) parent(id tiers.SiteID) tiers.SiteID {
	row, _ := d.topology().Site(id)
	return row.Parent
}

func (d *player) cut() {
	t := d.topology()
	for _, s := range append([]tiers.SiteID{d.cast.cutDistrict}, t.Children(d.cast.cutDistrict)...) {
		d.cluster.Cut(s, d.cast.city)
	}
	d.cluster.Isolate(d.cast.isolated)
	if d.cast.standIn != "" {
		d.cluster.Cut(d.cast.standIn, d.parent(d.cast.standIn))
	}
	if d.cast.moved != "" {
		d.cluster.Isolate(d.cast.moved)
	}
}

// extraEvent reports an urgent event that no earlier run has reported.
func (d *player) extraEvent(ctx context.Context, site tiers.SiteID) (reported, error) {
	e := reported{key: fmt.Sprintf("demo-%d-%d", d.run, len(d.story.extra)), site: site, report: d.events[0].report}
	e.report.SourceKey, e.report.Priority = e.key, 1
	if err := d.reportOne(ctx, &e); err != nil {
		return e, err
	}
	d.story.extra = append(d.story.extra, e)
	return e, nil
}

// alerts makes each site that is cut off take in an urgent event at once.
func (d *player) alerts(ctx context.Context) error {
	for _, id := range []tiers.SiteID{d.cast.isolated, d.cast.standIn, d.cast.moved} {
		if id == "" {
			continue
		}
		if _, err := d.extraEvent(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// move publishes that a township, which cannot hear of it, has another parent.
func (d *player) move(ctx context.Context) error {
	id := d.cast.moved
	if id == "" {
		return nil
	}
	d.story.from = d.parent(id)
	doc := d.topology().Doc()
	doc.Version, doc.Sites = doc.Version+1, slices.Clone(doc.Sites)
	for i := range doc.Sites {
		if doc.Sites[i].ID == id {
			doc.Sites[i].Parent = d.cast.cutDistrict
		}
	}
	next, _, err := d.cluster.Node(d.cast.city).PublishTopology(ctx, fmt.Sprintf("demo:move:%d", d.run), doc, false)
	if err != nil {
		return err
	}
	former := d.cluster.Node(d.story.from)
	err = d.until(ctx, "the former parent knows", func() (int, int, error) {
		return flag(former.Topology().Version() >= next.Version()), 1, nil
	})
	if err != nil {
		return err
	}
	d.story.kept = owned(former, id)
	d.p.Line(fmt.Sprintf("the city moves %s from %s to %s: topology version %d, which neither it nor %s can hear of",
		id, d.story.from, d.cast.cutDistrict, next.Version(), d.cast.cutDistrict))
	return nil
}

// owned returns what a node holds of a site's own streams.
func owned(n *node.Node, site tiers.SiteID) map[tiers.StreamID]crdt.Vector {
	out := map[tiers.StreamID]crdt.Vector{}
	for _, class := range tiers.Classes() {
		s := tiers.StreamID{Site: site, Class: class}
		if v := n.Group().Store().Vector(s); len(v) > 0 {
			out[s] = v
		}
	}
	return out
}

func same(a, b map[tiers.StreamID]crdt.Vector) bool { return maps.EqualFunc(a, b, maps.Equal) }

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// bundleFile is where the bundle lies that is carried between two sites.
func (d *player) bundleFile() string {
	return filepath.Join(d.cfg.Dir, fmt.Sprintf("%s-%s.bundle", d.cast.isolated, d.cast.cutDistrict))
}

// carry brings what the isolated township wrote to its district as a file: the
// district says what it holds, the township writes the difference.
func (d *player) carry(ctx context.Context) error {
	from, to := d.cluster.Node(d.cast.isolated), d.cluster.Node(d.cast.cutDistrict)
	var ask, answer bytes.Buffer
	if err := to.Backend().RequestBundle(ctx, d.cast.isolated, &ask); err != nil {
		return err
	}
	if err := from.Backend().ExportBundle(ctx, api.ExportQuery{Have: ask.Bytes()}, &answer); err != nil {
		return err
	}
	if err := os.WriteFile(d.bundleFile(), answer.Bytes(), 0o600); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	d.story.urgent = nil
	for _, e := range append(slices.Clone(d.events), d.story.extra...) {
		if e.site == d.cast.isolated && e.placed.Stream.Class == tiers.ClassUrgent && !holds(to, e) {
			d.story.urgent = append(d.story.urgent, e)
		}
	}
	r, err := d.importBundle(ctx)
	if err != nil {
		return err
	}
	d.table.BundleRecords = r.New
	d.story.received, d.story.taken = d.fromIsolated()
	d.checkBundleKnown()
	d.p.Line(fmt.Sprintf("a bundle of %d bytes is carried from %s to %s: %d records new there, %d of %d urgent events known with every link cut",
		answer.Len(), d.cast.isolated, d.cast.cutDistrict, r.New, d.table.BundleKnown, d.table.BundleUrgent))
	return nil
}

// rejoin brings the isolated township's link to its district back, before all
// others, and counts what that carries of what the bundle brought.
func (d *player) rejoin(ctx context.Context) error {
	d.cluster.Mend(d.cast.isolated, d.cast.cutDistrict)
	err := d.agree(ctx, "the township is back", func(l linkEnds) bool { return l.child == d.cast.isolated })
	if err != nil {
		return err
	}
	d.checkBundleResent()
	d.p.Line(fmt.Sprintf("the link between the two comes back first: %d records of the bundle are sent again", d.table.BundleResent))
	return nil
}

// importBundle takes the bundle's file in at the district.
func (d *player) importBundle(ctx context.Context) (api.ImportReport, error) {
	f, err := os.Open(d.bundleFile())
	if err != nil {
		return api.ImportReport{}, fmt.Errorf("bundle: %w", err)
	}
	defer func() { _ = f.Close() }()
	return d.cluster.Node(d.cast.cutDistrict).Backend().ImportBundle(ctx, f)
}

func holds(n *node.Node, e reported) bool {
	_, err := n.Group().Store().Heads(store.DocKey{Stream: e.placed.Stream, Doc: e.placed.Doc})
	return err == nil
}

// fromIsolated returns how many records the district received over the isolated
// township's link, and how many of that township's it holds.
func (d *player) fromIsolated() (received, held uint64) {
	n := d.cluster.Node(d.cast.cutDistrict)
	for _, v := range owned(n, d.cast.isolated) {
		for author, h := range v {
			if author.Site == d.cast.isolated {
				held += h.Seq
			}
		}
	}
	return linkTo(n, d.cast.isolated).Totals.ReceivedRecords, held
}

// awaitStandIn waits until the city stands in for the silent district.
func (d *player) awaitStandIn(ctx context.Context) error {
	id := d.cast.standIn
	if id == "" {
		return nil
	}
	err := d.until(ctx, "the city stands in", func() (int, int, error) { return flag(d.standsIn(id)), 1, nil })
	if err != nil {
		return err
	}
	d.table.StoodIn = 1
	d.p.Line(fmt.Sprintf("%s, whose district %s is silent, is linked straight to the city, which holds all it has", id, d.parent(id)))
	return nil
}

// standsIn reports whether the city has taken the place of a township's parent,
// and holds everything that the township wrote.
func (d *player) standsIn(id tiers.SiteID) bool {
	own, city := d.cluster.Node(id), d.cluster.Node(d.cast.city)
	down, up := linkTo(own, d.cast.city), linkTo(city, id)
	return down.Findings.StandIn && down.Equal && up.Equal && down.Digest == up.Digest && same(owned(own, id), owned(city, id))
}

// wentBack reports whether nobody stands in for a township's parent any more.
func (d *player) wentBack(id tiers.SiteID) bool {
	city := linkTo(d.cluster.Node(id), d.cast.city)
	return !city.Findings.StandIn && city.State != "connected"
}

// lostEvents is how many events the old copy of a disk lacks.
const lostEvents = 3

// restore puts an old copy of a township's disk in place of the disk, as somebody
// would who has no better one, and waits until the township was told.
func (d *player) restore(ctx context.Context) error {
	id := d.cast.restored
	if id == "" {
		return nil
	}
	disk := diskOf(d.cfg.Dir, id)
	if err := errors.Join(os.RemoveAll(disk.copied), os.RemoveAll(disk.replaced), d.cluster.Crash(id)); err != nil {
		return err
	}
	if err := errors.Join(os.CopyFS(disk.copied, os.DirFS(disk.data)), d.cluster.Start(ctx, id)); err != nil {
		return err
	}
	for range lostEvents {
		e, err := d.extraEvent(ctx, id)
		if err != nil {
			return err
		}
		d.story.lost = append(d.story.lost, e)
	}
	if err := d.dispatched(ctx); err != nil {
		return err
	}
	if err := d.agree(ctx, "what it wrote is shipped", func(l linkEnds) bool { return l.child == id }); err != nil {
		return err
	}
	d.story.incarnation = d.cluster.Node(id).Group().Store().Incarnation()
	if err := errors.Join(d.cluster.Crash(id), disk.exchange(), d.cluster.Start(ctx, id)); err != nil {
		return err
	}
	err := d.until(ctx, "the rollback is found", func() (int, int, error) { return flag(d.rolledBack()), 1, nil })
	if err != nil {
		return err
	}
	d.p.Line(fmt.Sprintf("%s comes back from an old copy of its disk, is told so by %s, goes on as incarnation %d and has its %d lost events back",
		id, d.parent(id), d.cluster.Node(id).Group().Store().Incarnation(), len(d.story.lost)))
	return nil
}

// rolledBack reports whether the restored township was told by its parent, and
// holds again what its old copy lacks.
func (d *player) rolledBack() bool {
	n := d.cluster.Node(d.cast.restored)
	for _, e := range d.story.lost {
		if !holds(n, e) {
			return false
		}
	}
	told := "this site was rolled back: " + string(d.parent(d.cast.restored))
	return n.Group().Store().Incarnation() > d.story.incarnation &&
		slices.ContainsFunc(n.Alarms(), func(a string) bool { return strings.Contains(a, told) })
}

// disk is a township's data directory, a copy of it, and where it goes when the
// copy takes its place.
type disk struct{ data, copied, replaced string }

func diskOf(dir string, id tiers.SiteID) disk {
	site := filepath.Join(dir, string(id))
	return disk{filepath.Join(site, "data"), filepath.Join(site, "data-copied"), filepath.Join(site, "data-replaced")}
}

// exchange puts the copy in the disk's place.
func (k disk) exchange() error {
	if err := os.Rename(k.data, k.replaced); err != nil {
		return fmt.Errorf("exchange disks: %w", err)
	}
	if err := os.Rename(k.copied, k.data); err != nil {
		return fmt.Errorf("exchange disks: %w", err)
	}
	return os.RemoveAll(k.replaced)
}

// undo ends an exchange that was interrupted half-way: without its disk the
// township would start with nothing, and forget which reports it took in.
func (k disk) undo() error {
	if _, err := os.Stat(k.data); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(k.replaced, k.data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("exchange disks: %w", err)
	}
	return nil
}
