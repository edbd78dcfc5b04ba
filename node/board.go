package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// unitRef names a unit at its home site.
type unitRef struct {
	home tiers.SiteID
	code string
}

// String returns home/code.
func (r unitRef) String() string { return string(r.home) + "/" + r.code }

// boardUnit is a unit that this site may send: its own, or of a pool lent to it.
type boardUnit struct {
	ref  unitRef
	view responder.UnitView
	// pool is the pool that it comes from; empty for a unit of this site.
	pool tiers.DocID
	lent responder.Lent
	at   *responder.Position
	// resource is what this site's Raft grants, claim its state.
	resource string
	claim    store.Claim
}

// board holds the units that this site may send, and who has them, so that the
// nearest free one is found without reading 500 documents for each event. Who
// has a unit is decided by Raft alone; the board only saves asking in vain.
type board struct {
	mu    sync.Mutex // guards the fields below
	from  seen
	units map[unitRef]*boardUnit
	pools map[tiers.DocID]responder.PoolView
	// list is the units as the choice sees them; nil after a change.
	list []dispatch.Unit
	// changing are units and pools that somebody is about to claim, lend or
	// free here.
	changing map[string]bool
}

// refresh reads the board anew when units, places or pools changed. Without
// list, one that was listed only just now may be missing. The caller holds the
// lock.
func (b *board) refresh(n *Node, list bool) error {
	self := n.creds.ID.Site
	vectors := n.vectors(tiers.StreamID{Site: self, Class: tiers.ClassReading})
	// Of the command stream, which moves with every task, what others wrote.
	command := tiers.StreamID{Site: self, Class: tiers.ClassCommand}
	others := n.group.Store().Vector(command)
	for a := range others {
		if a.Site == self {
			delete(others, a)
		}
	}
	vectors[command] = others
	now, err := n.look(b.from, list || b.units == nil, vectors, responder.Kind, responder.KindPosition, responder.IndexPoolOpen)
	if err != nil {
		return err
	}
	if b.units != nil && now.equal(b.from) {
		return nil
	}
	units, pools, err := n.readUnits()
	if err != nil {
		return err
	}
	b.units, b.pools, b.from, b.list = units, pools, now, nil
	return nil
}

// readUnits reads the units that this site may send, and the pools that it has.
func (n *Node) readUnits() (map[unitRef]*boardUnit, map[tiers.DocID]responder.PoolView, error) {
	self := n.creds.ID.Site
	units, pools := map[unitRef]*boardUnit{}, map[tiers.DocID]responder.PoolView{}
	add := func(u boardUnit) error {
		var err error
		if u.claim, err = n.group.Store().Claim(u.resource); err != nil {
			return err
		}
		units[u.ref] = &u
		return nil
	}
	err := n.eachView(responder.Kind, func(k store.DocKey, b []byte) error {
		if k.Stream.Site != self {
			return nil
		}
		u := boardUnit{ref: unitRef{self, k.Doc.Name()}, resource: responder.Resource(k.Doc.Name())}
		if err := json.Unmarshal(b, &u.view); err != nil {
			return fmt.Errorf("view of %s: %w", k, err)
		}
		return add(u)
	})
	if err != nil {
		return nil, nil, err
	}
	err = n.eachView(responder.IndexPoolOpen, func(k store.DocKey, b []byte) error {
		var p responder.PoolView
		if err := json.Unmarshal(b, &p); err != nil {
			return fmt.Errorf("view of %s: %w", k, err)
		}
		if p.Pool.Child != self || k.Stream.Site != self {
			return nil
		}
		pools[p.ID] = p
		for _, l := range p.Pool.Units {
			u := boardUnit{ref: unitRef{p.Pool.Home, l.Unit}, pool: p.ID, lent: l, resource: responder.LentResource(p.ID, l.Unit)}
			u.view = lentView(p, l)
			if l.Lat != nil && l.Lon != nil {
				u.at = &responder.Position{Lat: *l.Lat, Lon: *l.Lon, AtMS: p.Pool.LentAtMS}
			}
			if err := add(u); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return units, pools, n.eachView(responder.KindPosition, func(k store.DocKey, b []byte) error {
		u := units[unitRef{k.Stream.Site, k.Doc.Name()}]
		if u == nil {
			return nil
		}
		var p responder.PositionView
		if err := json.Unmarshal(b, &p); err != nil {
			return fmt.Errorf("view of %s: %w", k, err)
		}
		u.at = &p.Position
		return nil
	})
}

// lentView is what a borrower knows of a unit: what the pool says of it.
func lentView(p responder.PoolView, l responder.Lent) responder.UnitView {
	return responder.UnitView{
		ID: tiers.NewDocID(responder.Kind, l.Unit), Stream: p.Stream, Site: p.Pool.Home,
		Unit: responder.Unit{Code: l.Unit, Name: l.Name, Kind: l.Kind, Skills: l.Skills, Organ: l.Organ, Status: responder.Available},
	}
}

// busy says why a unit cannot be sent now; empty when it can.
func (b *board) busy(u *boardUnit, now time.Time) string {
	switch {
	case u.claim.Holder != "" && u.pool == "" && strings.HasPrefix(u.claim.Holder, responder.HolderPool):
		return "lent: " + u.claim.Holder
	case u.claim.Holder != "":
		return fmt.Sprintf("held by %s in epoch %s", u.claim.Holder, u.epoch(u.claim.Epoch))
	case u.view.Status != responder.Available:
		return u.view.Status
	case b.changing[u.ref.String()]:
		return "being claimed"
	}
	if u.pool != "" {
		if err := b.pools[u.pool].MayAssign(now); err != nil {
			return err.Error()
		}
	}
	return ""
}

// epoch is what a terminal is told of a grant of this site's Raft.
func (u *boardUnit) epoch(granted uint64) responder.Epoch {
	if u.pool != "" {
		return responder.Epoch{Home: u.lent.Epoch, Lent: granted}
	}
	return responder.Epoch{Home: granted}
}

// choices returns the units as the choice sees them. The caller holds the lock.
func (b *board) choices(now time.Time) []dispatch.Unit {
	if b.list == nil || len(b.pools) > 0 { // a lease ends without a document's changing
		refs := slices.SortedFunc(maps.Keys(b.units), func(x, y unitRef) int { return strings.Compare(x.String(), y.String()) })
		b.list = make([]dispatch.Unit, 0, len(refs))
		for _, r := range refs {
			u := b.units[r]
			c := dispatch.Unit{ID: r.String(), Name: u.view.Name, Skills: u.view.Skills, Busy: b.busy(u, now)}
			if u.at != nil {
				c.Lat, c.Lon, c.HasPoint = u.at.Lat, u.at.Lon, true
			}
			b.list = append(b.list, c)
		}
	}
	return b.list
}

// candidates returns a copy of the units as the choice sees them.
func (b *board) candidates(n *Node) ([]dispatch.Unit, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(n, true); err != nil {
		return nil, err
	}
	return slices.Clone(b.choices(n.later())), nil
}

// changed brings one unit of the list up to date. The caller holds the lock.
func (b *board) changed(r unitRef, now time.Time) {
	u := b.units[r]
	if u == nil || b.list == nil {
		return
	}
	if i, ok := slices.BinarySearchFunc(b.list, r.String(), func(c dispatch.Unit, id string) int { return strings.Compare(c.ID, id) }); ok {
		b.list[i].Busy = b.busy(u, now)
	}
}

// errChanging reports that somebody else is about to change the same thing.
var errChanging = fmt.Errorf("%w: somebody claims, lends or frees it just now: try again", responder.ErrNow)

// hold keeps others from claiming, lending or freeing units or a pool at this
// node until the returned function is called; no other node can write.
func (b *board) hold(what ...string) (done func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range what {
		if b.changing[w] {
			return nil, fmt.Errorf("%s: %w", w, errChanging)
		}
	}
	if b.changing == nil {
		b.changing = map[string]bool{}
	}
	for _, w := range what {
		b.changing[w] = true
	}
	b.list = nil
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, w := range what {
			delete(b.changing, w)
		}
		b.list = nil
	}, nil
}

// take picks a unit for a holder and holds it: the one that the holder has
// already, or the nearest free one. ok is false when there is none.
func (b *board) take(n *Node, s dispatch.Subject, skill, holder string, own bool) (u boardUnit, ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(n, false); err != nil {
		return u, false, err
	}
	for _, x := range b.units {
		if x.claim.Holder == holder {
			return *x, true, nil
		}
	}
	now := n.later()
	list := b.choices(now)
	if own {
		list = slices.DeleteFunc(slices.Clone(list), func(c dispatch.Unit) bool { return !strings.HasPrefix(c.ID, string(n.creds.ID.Site)+"/") })
	}
	i := dispatch.Nearest(s, skill, list)
	if i < 0 {
		return u, false, nil
	}
	home, code, _ := strings.Cut(list[i].ID, "/")
	x := b.units[unitRef{tiers.SiteID(home), code}]
	if b.changing == nil {
		b.changing = map[string]bool{}
	}
	b.changing[x.ref.String()] = true
	b.changed(x.ref, now)
	return *x, true, nil
}

// settle ends what take began, and reads who has the unit now.
func (b *board) settle(n *Node, u boardUnit) error {
	c, err := n.group.Store().Claim(u.resource)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.changing, u.ref.String())
	if x := b.units[u.ref]; x != nil && err == nil {
		x.claim = c
	}
	b.changed(u.ref, n.later())
	return err
}

// unit returns a unit that this site may send, as it is now. The error wraps
// [store.ErrNotFound].
func (b *board) unit(n *Node, r unitRef) (u boardUnit, err error) {
	if r.home == n.creds.ID.Site {
		u, err = n.ownUnit(r)
	} else {
		u, err = b.lentUnit(n, r)
	}
	if err == nil {
		u.claim, err = n.group.Store().Claim(u.resource)
	}
	return u, err
}

// ownUnit reads a unit of this site.
func (n *Node) ownUnit(r unitRef) (boardUnit, error) {
	u := boardUnit{ref: r, resource: responder.Resource(r.code)}
	k := unitKey(r.home, r.code)
	if err := k.Doc.Validate(); err != nil {
		return u, err
	}
	v, err := n.views.View(k)
	if isNotFound(err) {
		return u, fmt.Errorf("%w: site %s has no unit %s", store.ErrNotFound, r.home, r.code)
	}
	if err == nil {
		err = json.Unmarshal(v.JSON, &u.view)
	}
	if err != nil {
		return u, err
	}
	v, err = n.views.View(positionKey(r.home, r.code))
	if isNotFound(err) {
		return u, nil
	}
	if err == nil {
		u.at = &responder.Position{}
		err = json.Unmarshal(v.JSON, u.at)
	}
	return u, err
}

// lentUnit returns a unit of a pool that was lent to this site.
func (b *board) lentUnit(n *Node, r unitRef) (boardUnit, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(n, true); err != nil {
		return boardUnit{}, err
	}
	u := b.units[r]
	if u == nil {
		return boardUnit{}, fmt.Errorf("%w: unit %s is neither of site %s nor lent to it", store.ErrNotFound, r, n.creds.ID.Site)
	}
	return *u, nil
}

// later is the latest time that this node has reason to believe in: a lease that
// is borrowed is over when either clock says so.
func (n *Node) later() time.Time {
	now, hybrid := n.opts.Now(), n.group.Clock().Now().Time()
	if hybrid.After(now) {
		return hybrid
	}
	return now
}

// isNotFound is errors.Is with [store.ErrNotFound].
func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }
