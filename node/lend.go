package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// pool returns a pool that was lent to this site.
func (n *Node) pool(id tiers.DocID) (responder.PoolView, error) {
	return n.poolAt(docKey(n.creds.ID.Site, tiers.ClassCommand, id))
}

func (n *Node) poolAt(k store.DocKey) (p responder.PoolView, err error) {
	v, err := n.views.View(k)
	if err == nil {
		err = json.Unmarshal(v.JSON, &p)
	}
	return p, err
}

// poolNamed finds a pool in the streams that this site holds.
func (n *Node) poolNamed(name string) (store.DocKey, responder.PoolView, error) {
	k, err := n.commandNamed(tiers.NewDocID(responder.KindPool, name))
	if err != nil {
		return k, responder.PoolView{}, err
	}
	p, err := n.poolAt(k)
	return k, p, err
}

// commandNamed finds a document in the command streams that this site holds. The
// error is as [Node.find]'s.
func (n *Node) commandNamed(doc tiers.DocID) (store.DocKey, error) {
	return n.find(doc, tiers.ClassCommand)
}

// lendHolder is who holds the units of a pool at their home.
func lendHolder(id tiers.DocID) string { return string(id) }

// Lend gives the claims of units to a site below until a time: see package
// responder. All of them or none. A second call with the same key continues or
// repeats the first. The error wraps [responder.ErrInvalid], [responder.ErrNow],
// [store.ErrNotFound] or [store.ErrHeld].
func (n *Node) Lend(ctx context.Context, key string, child tiers.SiteID, codes []string, untilMS int64, reason string) (responder.PoolView, error) {
	self := n.creds.ID.Site
	// The key names the pool, so that what a first call claimed is the same pool's.
	id := tiers.NewDocID(responder.KindPool, uuid.NewSHA1(uuid.NameSpaceOID, []byte("tiermesh pool "+string(self)+" "+key)).String())
	k := docKey(child, tiers.ClassCommand, id)
	err := errors.Join(responder.CheckUnits(codes), responder.CheckReason(reason))
	if err == nil && !n.Topology().IsAncestor(self, child) {
		err = fmt.Errorf("%w: site %s: want one below site %s", responder.ErrInvalid, child, self)
	}
	if err != nil {
		return responder.PoolView{}, err
	}
	if p, err := n.poolAt(k); !isNotFound(err) {
		return p, err // the first call came to its end
	}
	if err := responder.CheckLease(untilMS, n.opts.Now()); err != nil {
		return responder.PoolView{}, err
	}
	holds := []string{string(id)}
	for _, c := range codes {
		holds = append(holds, unitRef{self, c}.String())
	}
	done, err := n.board.hold(holds...)
	if err != nil {
		return responder.PoolView{}, err
	}
	defer done()
	p := responder.Pool{Home: self, Child: child, UntilMS: untilMS, LentAtMS: n.opts.Now().UnixMilli(), Reason: reason}
	if p.Units, err = n.claimPool(ctx, id, codes); err != nil {
		return responder.PoolView{}, err
	}
	ops, err := responder.PoolOps(p)
	if err == nil {
		_, err = n.docs.write(ctx, "lend:"+string(id), Edit{Key: k, Create: true, Ops: ops})
	}
	if err != nil {
		return responder.PoolView{}, err
	}
	return n.poolAt(k)
}

// claimPool claims units for a pool, all or none.
func (n *Node) claimPool(ctx context.Context, id tiers.DocID, codes []string) ([]responder.Lent, error) {
	self := n.creds.ID.Site
	var units []boardUnit
	for _, c := range codes {
		u, err := n.board.unit(n, unitRef{self, c})
		if err == nil && u.view.Status != responder.Available {
			err = fmt.Errorf("%w: %s is %s: want %s", responder.ErrNow, u.ref, u.view.Status, responder.Available)
		}
		if err != nil {
			return nil, err
		}
		units = append(units, u)
	}
	var lent []responder.Lent
	for i, u := range units {
		epoch, err := n.group.Claim(ctx, "", u.resource, lendHolder(id), false)
		err = errors.Join(err, n.board.settle(n, u))
		if err != nil {
			if errors.Is(err, store.ErrHeld) {
				for j, l := range lent {
					err = errors.Join(err, n.group.Release(ctx, "", units[j].resource, l.Epoch), n.board.settle(n, units[j]))
				}
			}
			return nil, fmt.Errorf("unit %s: %w", units[i].ref, err)
		}
		l := responder.Lent{Unit: u.ref.code, Epoch: epoch, Name: u.view.Name, Kind: u.view.Kind, Organ: u.view.Organ, Skills: u.view.Skills}
		if u.at != nil {
			l.Lat, l.Lon = &u.at.Lat, &u.at.Lon
		}
		lent = append(lent, l)
	}
	return lent, nil
}

// ExtendPool makes a lease longer, at the home. The error wraps
// [responder.ErrInvalid] or [responder.ErrNow].
func (n *Node) ExtendPool(ctx context.Context, key, name string, untilMS int64) (responder.PoolView, error) {
	done, err := n.board.hold(string(tiers.NewDocID(responder.KindPool, name)))
	if err != nil {
		return responder.PoolView{}, err
	}
	defer done()
	k, p, err := n.homePool(name)
	if err != nil {
		return p, err
	}
	switch {
	case p.State != responder.PoolLent:
		return p, fmt.Errorf("%w: %s is %s: want %s", responder.ErrNow, p.ID, p.State, responder.PoolLent)
	case untilMS <= p.UntilMS:
		return p, fmt.Errorf("%w: until %d: the lease ends at %d already: want later", responder.ErrInvalid, untilMS, p.UntilMS)
	}
	if err := responder.CheckLease(untilMS, n.opts.Now()); err != nil {
		return p, err
	}
	// A taking back that ended before its step was written has made new grants: what
	// it took must not be lent any longer.
	for _, l := range p.Pool.Units {
		c, err := n.group.Store().Claim(responder.Resource(l.Unit))
		if err == nil && (c.Epoch != l.Epoch || c.Holder != string(p.ID)) {
			err = fmt.Errorf("%w: unit %s of %s was taken back: lend it anew", responder.ErrNow, l.Unit, p.ID)
		}
		if err != nil {
			return p, err
		}
	}
	return n.stepPool(ctx, key, k, responder.Entry{Kind: responder.StepExtend, UntilMS: untilMS})
}

// homePool finds a pool of this site's units.
func (n *Node) homePool(name string) (store.DocKey, responder.PoolView, error) {
	k, p, err := n.poolNamed(name)
	if err == nil && p.Pool.Home != n.creds.ID.Site {
		err = fmt.Errorf("%w: %s is of site %s: ask there", responder.ErrNow, p.ID, p.Pool.Home)
	}
	return k, p, err
}

func (n *Node) stepPool(ctx context.Context, key string, k store.DocKey, e responder.Entry) (responder.PoolView, error) {
	e.At, e.By = n.group.Clock().Now(), n.creds.ID.Site
	op, err := responder.EntryOp(e)
	if err == nil {
		_, err = n.docs.write(ctx, key, Edit{Key: k, Ops: []crdt.Op{op}})
	}
	if err != nil {
		return responder.PoolView{}, err
	}
	return n.poolAt(k)
}

// HandBack gives a pool back before its end, at the borrower. Units that are out
// must be released first. The error wraps [responder.ErrNow] or
// [store.ErrHeld].
func (n *Node) HandBack(ctx context.Context, key, name string) (responder.PoolView, error) {
	k, p, err := n.poolNamed(name)
	switch {
	case err != nil:
		return p, err
	case p.Pool.Child != n.creds.ID.Site:
		return p, fmt.Errorf("%w: %s is lent to site %s: hand it back there", responder.ErrNow, p.ID, p.Pool.Child)
	case p.State != responder.PoolLent:
		return p, nil
	}
	holds := []string{string(p.ID)}
	for _, l := range p.Pool.Units {
		holds = append(holds, unitRef{p.Pool.Home, l.Unit}.String())
	}
	done, err := n.board.hold(holds...)
	if err != nil {
		return p, err
	}
	defer done()
	for _, l := range p.Pool.Units {
		c, err := n.group.Store().Claim(responder.LentResource(p.ID, l.Unit))
		if err == nil && c.Holder != "" && c.Holder != responder.HolderReturned+string(p.ID) {
			err = fmt.Errorf("%w: unit %s is held by %s: release it first", store.ErrHeld, l.Unit, c.Holder)
		}
		if err != nil {
			return p, err
		}
	}
	// Nobody gets them from here on, whatever happens before the step is written.
	for _, l := range p.Pool.Units {
		if _, err := n.group.Claim(ctx, "", responder.LentResource(p.ID, l.Unit), responder.HolderReturned+string(p.ID), false); err != nil {
			return p, fmt.Errorf("hand back %s: %w", l.Unit, err)
		}
	}
	return n.stepPool(ctx, key, k, responder.Entry{Kind: responder.StepHandBack})
}

// TakeBack frees the units of a pool at their home: when it was handed back or
// its lease is over, or by force at any time, which fences whatever the borrower
// does. The error wraps [responder.ErrNow].
func (n *Node) TakeBack(ctx context.Context, name string, force bool, reason string) (responder.PoolView, error) {
	if err := responder.CheckReason(reason); err != nil {
		return responder.PoolView{}, err
	}
	id := tiers.NewDocID(responder.KindPool, name)
	k, p, err := n.homePool(name)
	if err != nil {
		return p, err
	}
	holds := []string{string(id)}
	for _, l := range p.Pool.Units {
		holds = append(holds, unitRef{p.Pool.Home, l.Unit}.String())
	}
	done, err := n.board.hold(holds...)
	if err != nil {
		return p, err
	}
	defer done()
	// Only now nobody extends it any more.
	if p, err = n.poolAt(k); err != nil || p.State == responder.PoolTaken {
		return p, err
	}
	// The wall clock alone: others may have pulled the hybrid one ahead.
	if err := p.MayTakeBack(n.opts.Now()); err != nil && !force {
		return p, err
	}
	var edits []Edit
	step := responder.Entry{At: n.group.Clock().Now(), By: n.creds.ID.Site, Kind: responder.StepTakeBack, Reason: reason}
	for _, l := range p.Pool.Units {
		if now, err := n.group.Store().Claim(responder.Resource(l.Unit)); err != nil {
			return p, err
		} else if now.Epoch != l.Epoch && now.Holder != responder.HolderReturned+string(id) {
			continue // it was fenced before, by a restored site: whoever has it keeps it
		}
		// A grant of a new epoch, also without force: a borrower that has not heard
		// is fenced in any case. The key makes it one grant, however often it is
		// tried.
		epoch, err := n.group.Claim(ctx, "takeback:"+string(id)+":"+l.Unit, responder.Resource(l.Unit), responder.HolderReturned+string(id), true)
		if err == nil {
			err = n.freeTaken(ctx, l.Unit, epoch)
		}
		if err != nil {
			return p, fmt.Errorf("take back %s: %w", l.Unit, err)
		}
		if force && p.MayTakeBack(n.opts.Now()) != nil {
			op, err := responder.ForcedOp(responder.Forced{
				At: step.At, By: step.By, From: string(id), Lost: responder.Epoch{Home: l.Epoch}, To: "nobody", Epoch: responder.Epoch{Home: epoch}, Reason: reason,
			})
			if err != nil {
				return p, err
			}
			edits = append(edits, Edit{Key: unitKey(step.By, l.Unit), Ops: []crdt.Op{op}})
		}
	}
	op, err := responder.EntryOp(step)
	if err != nil {
		return p, err
	}
	if _, err := n.docs.write(ctx, "takeback:"+string(id), append(edits, Edit{Key: k, Ops: []crdt.Op{op}})...); err != nil {
		return p, err
	}
	return n.poolAt(k)
}

// freeTaken releases a unit that was taken back, unless somebody has it since.
func (n *Node) freeTaken(ctx context.Context, code string, epoch uint64) error {
	err := n.group.Release(ctx, "", responder.Resource(code), epoch)
	if errors.Is(err, store.ErrFenced) {
		err = nil
	}
	u, found := n.board.unit(n, unitRef{n.creds.ID.Site, code})
	if found != nil {
		return errors.Join(err, found)
	}
	return errors.Join(err, n.board.settle(n, u))
}
