package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// unitKey is a unit's row, positionKey its place.
func unitKey(home tiers.SiteID, code string) store.DocKey {
	return docKey(home, tiers.ClassReading, tiers.NewDocID(responder.Kind, code))
}

func positionKey(home tiers.SiteID, code string) store.DocKey {
	return docKey(home, tiers.ClassReading, tiers.NewDocID(responder.KindPosition, code))
}

// RegisterUnit writes a unit of this site into its registry. The error wraps
// [responder.ErrInvalid] or [ErrExists].
func (n *Node) RegisterUnit(ctx context.Context, key string, u responder.Unit) (store.DocKey, error) {
	k := unitKey(n.creds.ID.Site, u.Code)
	ops, err := responder.CreateOps(u)
	if err != nil {
		return k, err
	}
	_, err = n.docs.write(ctx, key, Edit{Key: k, Create: true, Ops: ops})
	return k, err
}

// UnitChange is what is set of a unit; what is empty or nil stays.
type UnitChange struct {
	Status   string
	Lat, Lon *float64
}

// SetUnit sets a unit's availability and place. The error wraps
// [responder.ErrInvalid] or [store.ErrNotFound].
func (n *Node) SetUnit(ctx context.Context, key, code string, c UnitChange) error {
	if c.Status == "" && c.Lat == nil && c.Lon == nil || (c.Lat == nil) != (c.Lon == nil) {
		return fmt.Errorf("%w: status %q, lat and lon: want a status, or both of lat and lon, or all", responder.ErrInvalid, c.Status)
	}
	var edits []Edit
	if c.Status != "" {
		op, err := responder.StatusOp(c.Status)
		if err != nil {
			return err
		}
		edits = append(edits, Edit{Key: unitKey(n.creds.ID.Site, code), Ops: []crdt.Op{op}})
	}
	if c.Lat != nil {
		ops, err := responder.PositionOps(responder.Position{Lat: *c.Lat, Lon: *c.Lon, AtMS: n.opts.Now().UnixMilli()})
		if err != nil {
			return err
		}
		edits = append(edits, Edit{Key: positionKey(n.creds.ID.Site, code), Ops: ops})
	}
	if _, err := n.board.unit(n, unitRef{n.creds.ID.Site, code}); err != nil {
		return err
	}
	_, err := n.docs.write(ctx, key, edits...)
	return err
}

// ref names a unit; without a home it is this site's.
func (n *Node) ref(home tiers.SiteID, code string) unitRef {
	if home == "" {
		home = n.creds.ID.Site
	}
	return unitRef{home, code}
}

// order is what a terminal is told of a grant.
func (n *Node) order(u boardUnit, granted uint64, holder string) (responder.Order, error) {
	o := responder.Order{Epoch: u.epoch(granted), For: holder}
	if u.pool == "" {
		return o, nil
	}
	p, err := n.pool(u.pool)
	if err != nil {
		return o, err
	}
	o.NotAfterMS = p.AssignUntilMS
	return o, p.MayAssign(n.later())
}

// ClaimUnit gives a unit that this site may send to a holder, such as a task.
// With force it is taken from whoever has it; that is written down with the
// reason. The error wraps [responder.ErrInvalid], [responder.ErrNow],
// [store.ErrNotFound] or [store.ErrHeld].
func (n *Node) ClaimUnit(ctx context.Context, key string, home tiers.SiteID, code, holder string, force bool, reason string) (responder.Order, error) {
	if err := responder.CheckHolder(holder); err != nil {
		return responder.Order{}, err
	}
	if force {
		if err := responder.CheckReason(reason); err != nil {
			return responder.Order{}, err
		}
	}
	ref := n.ref(home, code)
	done, err := n.board.hold(ref.String())
	if err != nil {
		return responder.Order{}, err
	}
	defer done()
	u, err := n.board.unit(n, ref)
	if err != nil {
		return responder.Order{}, err
	}
	from := u.claim
	switch {
	case u.pool == "" && strings.HasPrefix(from.Holder, responder.HolderPool) && (!force || !n.unwritten(from.Holder)):
		return responder.Order{}, fmt.Errorf("%w: %s is lent: %s: take the pool back", responder.ErrNow, ref, from.Holder)
	case u.view.Status != responder.Available && !force:
		return responder.Order{}, fmt.Errorf("%w: %s is %s: want %s, or force", responder.ErrNow, ref, u.view.Status, responder.Available)
	}
	o, err := n.grant(ctx, key, u, holder, force)
	if err != nil || !force || from.Holder == "" {
		return o, err
	}
	return o, n.recordForce(ctx, key, u, from, o, reason)
}

// unwritten tells whether a pool that holds units was never written: its site
// ended in between. Nobody knows of it, so that force may take its units.
func (n *Node) unwritten(pool string) bool {
	_, err := n.commandNamed(tiers.DocID(pool))
	return isNotFound(err)
}

// grant claims a unit. Under a lease it looks at the clock again when the claim
// stands: Raft may have taken a while.
func (n *Node) grant(ctx context.Context, key string, u boardUnit, holder string, force bool) (responder.Order, error) {
	if u.pool != "" {
		if _, err := n.order(u, 0, holder); err != nil {
			return responder.Order{}, err
		}
	}
	epoch, err := n.group.Claim(ctx, key, u.resource, holder, force)
	if err = errors.Join(err, n.board.settle(n, u)); err != nil {
		return responder.Order{}, err
	}
	o, err := n.order(u, epoch, holder)
	if err != nil {
		err = errors.Join(err, n.group.Release(ctx, "", u.resource, epoch), n.board.settle(n, u))
		return responder.Order{}, err
	}
	return o, nil
}

// recordForce writes down that a unit was taken by force: in its log, and in the
// request that it was granted for.
func (n *Node) recordForce(ctx context.Context, key string, u boardUnit, from store.Claim, o responder.Order, reason string) error {
	self, at := n.creds.ID.Site, n.group.Clock().Now()
	var edits []Edit
	if u.pool == "" {
		op, err := responder.ForcedOp(responder.Forced{
			At: at, By: self, From: from.Holder, Lost: u.epoch(from.Epoch), To: o.For, Epoch: o.Epoch, Reason: reason,
		})
		if err != nil {
			return err
		}
		edits = append(edits, Edit{Key: unitKey(self, u.ref.code), Ops: []crdt.Op{op}})
	}
	if strings.HasPrefix(from.Holder, responder.HolderRequest) {
		k, r, err := n.requestNamed(tiers.DocID(from.Holder).Name())
		if err != nil {
			return err
		}
		op, err := responder.EntryOp(responder.Entry{At: at, By: self, Kind: responder.StepReclaim, Unit: u.ref.code, Epoch: r.Epoch, Reason: reason})
		if err != nil {
			return err
		}
		edits = append(edits, Edit{Key: k, Ops: []crdt.Op{op}})
	}
	if len(edits) == 0 {
		return nil
	}
	if key != "" {
		key += ":forced"
	}
	_, err := n.docs.write(ctx, key, edits...)
	return err
}

// granted is [board.unit] for whoever needs the grant alone: a unit of this site
// that was granted once exists, and its documents need not be read.
func (n *Node) granted(r unitRef) (boardUnit, error) {
	if r.home == n.creds.ID.Site {
		u := boardUnit{ref: r, resource: responder.Resource(r.code)}
		var err error
		if u.claim, err = n.group.Store().Claim(u.resource); err != nil || u.claim.Epoch != 0 {
			return u, err
		}
	}
	return n.board.unit(n, r)
}

// ReleaseUnit frees a unit that was claimed in an epoch. The error wraps
// [store.ErrFenced], [responder.ErrFenced] or [store.ErrNotFound].
func (n *Node) ReleaseUnit(ctx context.Context, key string, home tiers.SiteID, code string, epoch responder.Epoch) error {
	u, err := n.granted(n.ref(home, code))
	if err != nil {
		return err
	}
	granted := epoch.Home
	if u.pool != "" {
		granted = epoch.Lent
	}
	if u.epoch(granted) != epoch {
		return fmt.Errorf("%w: epoch %s of %s: the last grant is %s", responder.ErrFenced, epoch, u.ref, u.epoch(u.claim.Epoch))
	}
	for _, p := range []string{responder.HolderPool, responder.HolderRequest, responder.HolderReturned} {
		if strings.HasPrefix(u.claim.Holder, p) && u.claim.Epoch == granted {
			return fmt.Errorf("%w: %s is held by %s: give that back, or claim the unit by force", responder.ErrNow, u.ref, u.claim.Holder)
		}
	}
	return errors.Join(n.group.Release(ctx, key, u.resource, granted), n.board.settle(n, u))
}

// CheckUnit tells whether an epoch is that of the grant that stands, and what a
// terminal would do that obeyed an earlier order of epoch last.
func (n *Node) CheckUnit(ctx context.Context, home tiers.SiteID, code string, epoch, last responder.Epoch) (api.UnitVerdict, error) {
	if err := n.group.Linearize(ctx); err != nil {
		return api.UnitVerdict{}, err
	}
	u, err := n.board.unit(n, n.ref(home, code))
	if err != nil {
		return api.UnitVerdict{}, err
	}
	v := api.UnitVerdict{Order: responder.Order{Epoch: epoch}}
	if u.claim.Holder != "" {
		v.Held, err = n.order(u, u.claim.Epoch, u.claim.Holder)
		if err != nil && !errors.Is(err, responder.ErrNow) {
			return v, err
		}
	}
	lent := u.pool == "" && strings.HasPrefix(u.claim.Holder, responder.HolderPool)
	switch {
	case v.Held.Epoch == (responder.Epoch{}):
		v.Reason = fmt.Sprintf("nobody has %s: its last epoch was %s", u.ref, u.epoch(u.claim.Epoch))
	case lent && epoch.Home == u.claim.Epoch && epoch.Lent != 0:
		v.Reason = fmt.Sprintf("%s is lent: %s: the borrower can tell", u.ref, u.claim.Holder)
	case epoch != v.Held.Epoch:
		v.Reason = fmt.Sprintf("epoch %s is not that of the grant that stands, %s for %s", epoch, v.Held.Epoch, v.Held.For)
	default:
		v.Order = v.Held
		t := responder.Terminal{Obeyed: responder.Order{Epoch: last}}
		if last == epoch {
			t.Obeyed.For = v.Held.For
		}
		if err := t.Obey(v.Order, n.later()); err != nil {
			v.Reason = err.Error()
		}
	}
	v.Obey = v.Reason == ""
	return v, nil
}

// statusOf shows a unit that this site may send.
func (n *Node) statusOf(u *boardUnit) api.UnitStatus {
	s := api.UnitStatus{UnitView: u.view, Position: u.at, Pool: u.pool, Holder: u.claim.Holder}
	if u.claim.Epoch != 0 {
		s.Epoch = u.epoch(u.claim.Epoch)
	}
	n.board.mu.Lock()
	defer n.board.mu.Unlock()
	s.Why = n.board.busy(u, n.later())
	s.Free = s.Why == ""
	return s
}

// Units lists the units that this site knows: its own, those lent to it, and
// those of the sites below it.
func (n *Node) Units(context.Context) ([]api.UnitStatus, error) {
	if _, err := n.board.candidates(n); err != nil { // so that it knows the pools
		return nil, err
	}
	units, _, err := n.readUnits()
	if err != nil {
		return nil, err
	}
	var out []api.UnitStatus
	for _, u := range units {
		out = append(out, n.statusOf(u))
	}
	err = n.eachView(responder.Kind, func(k store.DocKey, text []byte) error {
		if k.Stream.Site == n.creds.ID.Site {
			return nil
		}
		s := api.UnitStatus{Why: "site " + string(k.Stream.Site) + " sends it"}
		if err := json.Unmarshal(text, &s.UnitView); err != nil {
			return fmt.Errorf("view of %s: %w", k, err)
		}
		pk := positionKey(k.Stream.Site, k.Doc.Name())
		if v, err := n.views.View(pk); err == nil {
			s.Position = &responder.Position{}
			if err := json.Unmarshal(v.JSON, s.Position); err != nil {
				return fmt.Errorf("view of %s: %w", pk, err)
			}
		} else if !isNotFound(err) {
			return err
		}
		out = append(out, s)
		return nil
	})
	slices.SortFunc(out, func(a, b api.UnitStatus) int {
		return strings.Compare(string(a.Site)+"/"+a.Code+"/"+string(a.Pool), string(b.Site)+"/"+b.Code+"/"+string(b.Pool))
	})
	return out, err
}

// assign claims the nearest free unit with a skill for a task. ok is false when
// there is none. Several tasks at once do not ask for the same unit.
func (n *Node) assign(ctx context.Context, s dispatch.Subject, skill string, task tiers.DocID) (u boardUnit, o responder.Order, ok bool, err error) {
	for range assignAttempts {
		u, ok, err = n.board.take(n, s, skill, string(task), false)
		if err != nil || !ok {
			return u, o, false, err
		}
		o, err = n.grant(ctx, "", u, string(task), false)
		if errors.Is(err, store.ErrHeld) || errors.Is(err, responder.ErrNow) {
			if settled := n.board.settle(n, u); settled != nil {
				return u, o, false, settled
			}
			continue // somebody was faster
		}
		return u, o, err == nil, err
	}
	return u, o, false, nil
}

// assignAttempts is how many units are tried for one task.
const assignAttempts = 16
