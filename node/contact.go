package node

import (
	"context"
	"errors"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/aggregate"
)

// A site below that is not linked for contactLost silent links' lives is said to be
// out of contact. Shorter gaps are not told, so that a link that flaps fills no
// stream; what is told is wrong by that much at most.
const contactLost = 2

// runContact tells the sites above, until ctx ends, when a site below goes out of
// contact and when it is back. A site with nobody below it rests.
func (n *Node) runContact(ctx context.Context) error {
	since := map[tiers.SiteID]time.Time{} // unlinked, as this loop saw it
	for {
		wait := n.opts.LinkIdle
		if len(n.Topology().Children(n.creds.ID.Site)) == 0 {
			wait *= 20
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		if !n.group.Leads() {
			clear(since)
			continue
		}
		if err := n.tellContacts(ctx, since); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// tellContacts writes what changed.
func (n *Node) tellContacts(ctx context.Context, since map[tiers.SiteID]time.Time) error {
	self, now := n.creds.ID.Site, time.Now()
	told, err := n.contacts()
	if err != nil {
		return err
	}
	said := map[tiers.SiteID]int64{}
	for _, c := range told[self] {
		said[c.Peer] = c.LostMS
	}
	known, err := n.knownSites()
	if err != nil {
		return err
	}
	var edits []Edit
	for _, child := range n.Topology().Children(self) {
		c := aggregate.Contact{Peer: child}
		if n.links.driver(child) == nil {
			if since[child].IsZero() {
				since[child] = now
			}
			if now.Sub(since[child]) < contactLost*n.opts.LinkIdle || known[child] == 0 {
				continue // not for long, or never heard of
			}
			c.LostMS = known[child]
		} else {
			delete(since, child)
		}
		if lost, ok := said[child]; ok && (lost == 0) == (c.LostMS == 0) {
			continue
		}
		edits = append(edits, Edit{Key: docKey(self, tiers.ClassReading, aggregate.ContactDoc(child)), Ops: c.Ops()})
	}
	if len(edits) == 0 {
		return nil
	}
	_, err = n.docs.write(ctx, "", edits...)
	if errors.Is(err, replication.ErrNotLeader) || errors.Is(err, replication.ErrUnknown) || errors.Is(err, ErrBusy) || errors.Is(err, crdt.ErrUnavailable) {
		return nil // the next time, or the next leader
	}
	return err
}

// contacts returns what each site said of those below it, as far as it came here.
func (n *Node) contacts() (map[tiers.SiteID][]aggregate.Contact, error) {
	hits, err := n.group.Store().Index(store.IndexQuery{Name: aggregate.IndexContact})
	out := map[tiers.SiteID][]aggregate.Contact{}
	for _, h := range hits {
		if c, ok := aggregate.ReadContact(h.Value); ok && h.Key.Stream.Class == tiers.ClassReading {
			out[h.Key.Stream.Site] = append(out[h.Key.Stream.Site], c)
		}
	}
	return out, err
}

// knownSites returns as of when each site is known here, in Unix milliseconds.
func (n *Node) knownSites() (map[tiers.SiteID]int64, error) {
	told, err := n.contacts()
	if err != nil {
		return nil, err
	}
	newest, err := n.group.Store().Newest()
	if err != nil {
		return nil, err
	}
	k := aggregate.Knowledge{
		Self: n.creds.ID.Site, NowMS: n.opts.Now().UnixMilli(), Direct: n.links.complete(), Told: told, Newest: map[tiers.SiteID]int64{},
	}
	for s, at := range newest {
		k.Newest[s] = at.Millis()
	}
	return k.Known(n.Topology()), nil
}

// complete returns, of each peer, as of when everything that it held was here, in
// Unix milliseconds.
func (l *links) complete() map[tiers.SiteID]int64 {
	caughtUp := map[tiers.SiteID]bool{}
	for _, d := range l.drivers() {
		status, _ := d.snapshot()
		l.note(d.peer, func(r *linkRecord) { r.absorb(status) })
		caughtUp[d.peer] = status.Greeted && status.Settled && status.OwedIn == 0
	}
	out := map[tiers.SiteID]int64{}
	l.mu.Lock()
	defer l.mu.Unlock()
	for peer, r := range l.known {
		at := r.provenAt
		if caughtUp[peer] && l.live[peer] != nil && r.lastContact.After(at) {
			at = r.lastContact
		}
		if !at.IsZero() {
			out[peer] = at.UnixMilli()
		}
	}
	return out
}
