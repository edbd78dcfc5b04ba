package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
)

// Steps are the closing table's lines on bundles, stand-ins, moves, rollbacks and
// proofs. Its JSON keys follow those of [Table].
type Steps struct {
	// BundleRecords were new where the bundle was taken in. Of BundleUrgent events
	// that were unknown there, BundleKnown were known before a link returned.
	BundleRecords uint64 `json:"bundle_records"`
	BundleUrgent  int    `json:"bundle_urgent"`
	BundleKnown   int    `json:"bundle_known"`
	// BundleAgain are records that were new when the bundle was taken in again,
	// after the heal; BundleResent those that the link carried once more when it
	// came back.
	BundleAgain  uint64 `json:"bundle_again"`
	BundleResent uint64 `json:"bundle_resent"`
	// Of StandIns townships with a silent district, StoodIn were linked straight to
	// the city, and WentBack after the heal.
	StandIns int `json:"stand_ins"`
	StoodIn  int `json:"stood_in"`
	WentBack int `json:"went_back"`
	// Of Moves townships that got another parent while they were cut off, Moved
	// are under it with their whole history.
	Moves int `json:"moves"`
	Moved int `json:"moved"`
	// Of Restored townships with an old copy for a disk, RolledBack found out and
	// hold what the copy lacks.
	Restored   int `json:"restored"`
	RolledBack int `json:"rolled_back"`
	// Of Links, Proven have a certificate that checks.
	Links  int `json:"links"`
	Proven int `json:"proven"`
	Duties
}

// hold reports whether every step ended as it should.
func (s Steps) hold() bool {
	return s.BundleRecords > 0 && s.BundleUrgent > 0 && s.BundleKnown == s.BundleUrgent && s.BundleAgain == 0 && s.BundleResent == 0 &&
		s.StoodIn == s.StandIns && s.WentBack == s.StandIns && s.Moved == s.Moves && s.RolledBack == s.Restored &&
		s.Proven == s.Links && s.Links > 0 && s.Duties.hold()
}

// certificates is the directory of the links' certificates, and of the topology
// that they are checked by.
func (d *player) certificates() string { return filepath.Join(d.cfg.Dir, "certificates") }

func (d *player) certificate(child tiers.SiteID) string {
	return filepath.Join(d.certificates(), fmt.Sprintf("%s-%s.json", child, d.parent(child)))
}

// prove gets a certificate of every link, signed by both ends, into a file.
func (d *player) prove(ctx context.Context) error {
	d.p.Step("6. each link is proven: both ends sign that they hold the same")
	topology, err := d.topology().Marshal()
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(d.certificates()), os.MkdirAll(d.certificates(), 0o700)); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.certificates(), "topology.json"), topology, 0o600); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	written := map[tiers.SiteID]bool{}
	return d.until(ctx, "links certified", func() (int, int, error) {
		links := d.linkEnds()
		for _, l := range links {
			if written[l.child] {
				continue
			}
			r, err := d.cluster.Node(l.child).Backend().Prove(ctx, l.parent)
			if err != nil && !errors.Is(err, api.ErrUnavailable) {
				return 0, 0, err
			}
			if err == nil && r.Equal {
				if err := os.WriteFile(d.certificate(l.child), r.Certificate, 0o600); err != nil {
					return 0, 0, fmt.Errorf("certificates: %w", err)
				}
				written[l.child] = true
			}
		}
		return len(written), len(links), nil
	})
}

// checkProofs reads every link's certificate back and checks it without a node.
func (d *player) checkProofs(context.Context) error {
	b, err := os.ReadFile(filepath.Join(d.certificates(), "topology.json"))
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	t, err := tiers.ParseTopology(b)
	if err != nil {
		return err
	}
	for _, l := range d.linkEnds() {
		d.table.Links++
		if err := checkCertificate(d.certificate(l.child), t, l); err != nil {
			d.p.Line(fmt.Sprintf("UNPROVEN: %s and %s: %v", l.child, l.parent, err))
			continue
		}
		d.table.Proven++
	}
	d.p.Line(fmt.Sprintf("%d of %d certificates check without a node, both signatures and every digest", d.table.Proven, d.table.Links))
	return nil
}

func checkCertificate(path string, t *tiers.Topology, l linkEnds) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	c, err := federation.ParseCertificate(b)
	if err != nil {
		return err
	}
	if c.Asker != l.child || c.Peer != l.parent {
		return fmt.Errorf("%w: it is of %s and %s", federation.ErrCertificate, c.Asker, c.Peer)
	}
	return c.Verify(t)
}

// checkBundleKnown counts the urgent events of the bundle that its receiver has.
func (d *player) checkBundleKnown() {
	d.table.BundleUrgent, d.table.BundleKnown = len(d.story.urgent), 0
	for _, e := range d.story.urgent {
		if holds(d.cluster.Node(d.cast.cutDistrict), e) {
			d.table.BundleKnown++
		} else {
			d.p.Line(fmt.Sprintf("UNKNOWN: %s at %s", e.placed.Doc, d.cast.cutDistrict))
		}
	}
}

// checkBundleResent counts what the link has carried since the bundle came, as far
// as the district had it. It holds while that link is the township's only one: over
// a second one it would learn, and pass on, what others wrote.
func (d *player) checkBundleResent() {
	received, held := d.fromIsolated()
	d.table.BundleResent = 0
	if grown := held - d.story.taken; received-d.story.received > grown {
		d.table.BundleResent = received - d.story.received - grown
	}
}

// checkBundle takes the bundle in once more.
func (d *player) checkBundle(ctx context.Context) error {
	r, err := d.importBundle(ctx)
	if err != nil {
		return err
	}
	d.table.BundleAgain = r.New
	d.p.Line(fmt.Sprintf("the bundle is taken in again: %d records were there, %d are new", r.Held, r.New))
	return nil
}

// checkSteps looks whether the township with a silent district is back, the
// moved one under its new parent, and the restored one whole.
func (d *player) checkSteps(ctx context.Context) error {
	for _, step := range []struct {
		site  tiers.SiteID
		of, n *int
		ok    func() bool
		bad   string
	}{
		{d.cast.standIn, &d.table.StandIns, &d.table.WentBack, func() bool { return d.wentBack(d.cast.standIn) }, "NOT BACK: the city stands in for the parent of"},
		{d.cast.moved, &d.table.Moves, &d.table.Moved, d.settled, "NOT MOVED: its new parent and the city do not hold the same of"},
		{d.cast.restored, &d.table.Restored, &d.table.RolledBack, d.rolledBack, "NOT WHOLE: an old copy is all there is of"},
	} {
		if step.site == "" {
			continue
		}
		*step.of++
		if d.settles(ctx, step.ok) {
			*step.n++
		} else {
			d.p.Line(fmt.Sprintf("%s %s", step.bad, step.site))
		}
	}
	return nil
}

// settles polls ok, for as long as anything is waited for: on a busy machine a link may
// be down for a while, and sites go on writing while they are read.
func (d *player) settles(ctx context.Context, ok func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(d.patience, stallAfter))
	defer cancel()
	for {
		began := time.Now()
		if ok() {
			return true
		}
		select {
		case <-time.After(max(20*time.Millisecond, 2*time.Since(began))): // looking costs, too
		case <-ctx.Done():
			return false
		}
	}
}

// settled reports whether the moved township is under its new parent with its
// whole history, and its former parent has received nothing since it knew.
func (d *player) settled() bool {
	id := d.cast.moved
	want := owned(d.cluster.Node(id), id)
	return d.cluster.Node(id).Topology().Version() == d.topology().Version() &&
		same(owned(d.cluster.Node(d.cast.cutDistrict), id), want) && same(owned(d.cluster.Node(d.cast.city), id), want) &&
		same(owned(d.cluster.Node(d.story.from), id), d.story.kept)
}
