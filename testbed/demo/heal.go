package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/tiers"
)

// stallAfter ends a demo in which nothing that it waits for has come for so long.
const stallAfter = 5 * time.Minute

func storeQuery(index string) store.IndexQuery { return store.IndexQuery{Name: index} }

// until polls f until its first result reaches its second.
func (d *player) until(ctx context.Context, what string, f func() (done, of int, err error)) error {
	most, moved := 0, time.Now()
	for {
		done, of, err := f()
		if done > most {
			most, moved = done, time.Now()
		}
		if err == nil {
			err = d.cluster.Ended() // what is waited for would not come
		}
		if err != nil {
			return err
		}
		d.p.Bar(done, of, what)
		if done == of {
			return nil
		}
		if time.Since(moved) > stallAfter {
			return errors.Join(fmt.Errorf("demo: %d of %d, and nothing moved for %s, waiting for: %s", done, of, stallAfter, what), d.unproven())
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), d.unproven())
		}
	}
}

// unproven says which links are not proven equal, for who waited in vain.
func (d *player) unproven() (all error) {
	for _, l := range d.linkEnds() {
		if !l.proven() {
			all = errors.Join(all, fmt.Errorf("link %s to %s is %s and %s, owes %d up and %d down; last errors %q and %q",
				l.child, l.parent, l.down.State, l.up.State, l.down.OwedOut, l.up.OwedOut, l.down.LastError, l.up.LastError))
		}
	}
	return all
}

// linkEnds is one link of the tree: the child's and the parent's view of it.
type linkEnds struct {
	child, parent tiers.SiteID
	down, up      node.LinkState // as the child and as the parent see it
}

// linkEnds returns every link of the tree.
func (d *player) linkEnds() []linkEnds {
	var out []linkEnds
	for _, s := range d.topology().Sites() {
		if s.Parent == "" {
			continue
		}
		out = append(out, linkEnds{
			child: s.ID, parent: s.Parent,
			down: linkTo(d.cluster.Node(s.ID), s.Parent), up: linkTo(d.cluster.Node(s.Parent), s.ID),
		})
	}
	return out
}

func linkTo(n *node.Node, peer tiers.SiteID) node.LinkState {
	if n != nil {
		return n.Link(peer)
	}
	return node.LinkState{Peer: peer}
}

// proven reports whether both ends say that they hold the same, and with the
// same digest.
func (l linkEnds) proven() bool {
	return l.down.Equal && l.up.Equal && l.down.Digest == l.up.Digest
}

// converge waits until every link is proven equal at both ends and every view
// is up to date.
func (d *player) converge(ctx context.Context, what string) error {
	return d.agree(ctx, what, func(linkEnds) bool { return true })
}

// agree waits until the links that are in scope are proven equal, and every
// view is up to date.
func (d *player) agree(ctx context.Context, what string, inScope func(linkEnds) bool) error {
	return d.until(ctx, what, func() (done, of int, err error) {
		for _, l := range d.linkEnds() {
			if inScope(l) {
				of++
				if l.proven() {
					done++
				}
			}
		}
		for _, n := range d.cluster.Nodes() {
			of++
			if n.Group().Store().Counts().Dirty == 0 {
				done++
			}
		}
		return done, of, nil
	})
}

// heal ends the cuts and reports, per link, what it took to agree again.
func (d *player) heal(ctx context.Context) error {
	d.p.Step("5. the links heal")
	before := map[tiers.SiteID]linkEnds{}
	for _, l := range d.linkEnds() {
		before[l.child] = l
	}
	d.table.Machine = run.Measure()
	began := time.Now()
	d.cluster.Heal()
	took := map[tiers.SiteID]time.Duration{}
	err := d.until(ctx, "links proven equal", func() (int, int, error) {
		links := d.linkEnds()
		for _, l := range links {
			if !l.proven() {
				delete(took, l.child) // records from below can make a link unequal again
			} else if took[l.child] == 0 {
				took[l.child] = time.Since(began)
			}
		}
		return len(took), len(links), nil
	})
	if err != nil {
		return err
	}
	if err := d.converge(ctx, "sites agree"); err != nil {
		return err
	}
	if id := d.cast.standIn; id != "" {
		if err := d.until(ctx, "the stand-in ends", func() (int, int, error) { return flag(d.wentBack(id)), 1, nil }); err != nil {
			return err
		}
	}
	d.table.ConvergeS = time.Since(began).Seconds()
	d.p.Line(fmt.Sprintf("%-10s %-10s %9s %9s %11s %11s %8s  %s", "child", "parent", "seconds", "records", "wire bytes", "needed", "share", "digest of both ends"))
	for _, l := range d.linkEnds() {
		d.linkLine(before[l.child], l, took[l.child])
	}
	if err := d.standDown(ctx); err != nil {
		return err
	}
	return d.carryOut(ctx)
}

// linkLine prints one link's share of the heal. Wire bytes are UDP payload in
// both directions, with handshakes and acknowledgements; needed bytes are those
// of records that the receiving end lacked.
func (d *player) linkLine(was, is linkEnds, took time.Duration) {
	wire := is.down.Totals.SentBytes + is.up.Totals.SentBytes - was.down.Totals.SentBytes - was.up.Totals.SentBytes
	records := is.down.Totals.ReceivedRecords + is.up.Totals.ReceivedRecords - was.down.Totals.ReceivedRecords - was.up.Totals.ReceivedRecords
	needed := is.down.Totals.NeededBytes + is.up.Totals.NeededBytes - was.down.Totals.NeededBytes - was.up.Totals.NeededBytes
	batch := is.down.Totals.BatchBytes + is.up.Totals.BatchBytes - was.down.Totals.BatchBytes - was.up.Totals.BatchBytes
	d.table.WireBytes += wire
	d.table.NeededBytes += needed
	share := "-"
	if batch > 0 {
		share = fmt.Sprintf("%.1f %%", 100*float64(needed)/float64(batch))
	}
	d.p.Line(fmt.Sprintf("%-10s %-10s %9.2f %9d %11d %11d %8s  %s = %s", is.child, is.parent, took.Seconds(), records, wire, needed, share, is.down.Digest, is.up.Digest))
}
