package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// unitsPause is the least time between two passes over requests, pools and
// units whose tasks have ended.
const unitsPause = 200 * time.Millisecond

// endedMax bounds the held units that a pass looks at.
const endedMax = 64

// requestKeys returns where a request stands: at the asking site, and at the home
// where that is another stream.
func (n *Node) requestKeys(r responder.Request, id tiers.DocID) (asking, home store.DocKey) {
	asking, home = docKey(r.From, tiers.ClassCommand, id), docKey(r.Home, tiers.ClassCommand, id)
	t := n.Topology()
	switch {
	case t.IsAncestor(r.Home, r.From):
		home = asking
	case t.IsAncestor(r.From, r.Home):
		asking = home
	}
	return asking, home
}

// relays returns the site that passes a request on between two that share no
// stream: the nearest one above both.
func (n *Node) relays(r responder.Request) tiers.SiteID {
	t := n.Topology()
	above := t.Ancestors(r.Home)
	for _, a := range t.Ancestors(r.From) {
		if slices.Contains(above, a) {
			return a
		}
	}
	return ""
}

// AskUnit asks another site for a unit. The answer comes as steps of the
// request, when links allow. The error wraps [responder.ErrInvalid].
func (n *Node) AskUnit(ctx context.Context, key string, r responder.Request) (store.DocKey, error) {
	r.From, r.AskedAtMS = n.creds.ID.Site, n.opts.Now().UnixMilli()
	ops, err := responder.RequestOps(r)
	if err != nil {
		return store.DocKey{}, err
	}
	if s, ok := n.Topology().Site(r.Home); !ok || s.Retired {
		return store.DocKey{}, fmt.Errorf("%w: home %s: the topology lists no such site", responder.ErrInvalid, r.Home)
	}
	id := tiers.NewDocID(responder.KindRequest, uuid.NewSHA1(uuid.NameSpaceOID, []byte("tiermesh unit request "+string(r.From)+" "+key)).String())
	k, _ := n.requestKeys(r, id)
	_, err = n.docs.write(ctx, key, Edit{Key: k, Create: true, Ops: ops})
	return k, err
}

// requestNamed finds a request: this site's copy first.
func (n *Node) requestNamed(name string) (store.DocKey, responder.RequestView, error) {
	k, err := n.commandNamed(tiers.NewDocID(responder.KindRequest, name))
	if err != nil {
		return k, responder.RequestView{}, err
	}
	v, err := n.requestAt(k)
	return k, v, err
}

func (n *Node) requestAt(k store.DocKey) (r responder.RequestView, err error) {
	v, err := n.views.View(k)
	if err == nil {
		err = json.Unmarshal(v.JSON, &r)
	}
	return r, err
}

// ReturnUnit gives back what was granted, or takes the request back, at the
// asking site. The error wraps [responder.ErrNow] or [store.ErrNotFound].
func (n *Node) ReturnUnit(ctx context.Context, key, name string) (responder.RequestView, error) {
	k, r, err := n.requestNamed(name)
	switch {
	case err != nil:
		return r, err
	case r.Request.From != n.creds.ID.Site:
		return r, fmt.Errorf("%w: %s is of site %s: give it back there", responder.ErrNow, r.ID, r.Request.From)
	case r.State != responder.RequestPending && r.State != responder.RequestGranted:
		return r, fmt.Errorf("%w: %s is %s: want %s or %s", responder.ErrNow, r.ID, r.State, responder.RequestPending, responder.RequestGranted)
	}
	if err := n.stepRequest(ctx, key, k, responder.Entry{Kind: responder.StepReturn, Unit: r.Unit, Epoch: r.Epoch}); err != nil {
		return r, err
	}
	return n.requestAt(k)
}

func (n *Node) stepRequest(ctx context.Context, key string, k store.DocKey, e responder.Entry) error {
	e.At, e.By = n.group.Clock().Now(), n.creds.ID.Site
	op, err := responder.EntryOp(e)
	if err == nil {
		_, err = n.docs.write(ctx, key, Edit{Key: k, Ops: []crdt.Op{op}})
	}
	return err
}

// runUnits answers requests for this site's units, passes on those between two
// sites below it, frees the units of pools that were handed back and of tasks
// that have ended. Its work lists are indexes, so it goes on after a crash.
func (n *Node) runUnits(ctx context.Context, changed <-chan struct{}) error {
	return n.eachTerm(ctx, func(lead context.Context) error {
		n.board.forget()
		for ctx.Err() == nil && lead.Err() == nil {
			err := n.unitsPass(ctx)
			if err != nil && !passes(err) && !n.passOver("a request for a unit cannot be answered", err) && ctx.Err() == nil {
				return err
			}
			select {
			case <-time.After(unitsPause):
			case <-ctx.Done():
				return nil
			}
			if again(err) {
				continue
			}
			select {
			case <-changed:
			case <-lead.Done():
			case <-ctx.Done():
			}
		}
		return nil
	})
}

// passes tells whether an error goes away by itself, or is one operation's.
func passes(err error) bool {
	for _, e := range []error{
		replication.ErrNotLeader, replication.ErrUnknown, replication.ErrClosed, ErrBusy, responder.ErrNow, responder.ErrInvalid,
		store.ErrHeld, store.ErrFenced, store.ErrNotFound, crdt.ErrUnavailable, context.Canceled,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// again tells whether an error goes away without a document's changing.
func again(err error) bool {
	return errors.Is(err, replication.ErrUnknown) || errors.Is(err, ErrBusy) || errors.Is(err, errChanging) || errors.Is(err, crdt.ErrUnavailable)
}

// forget makes the board be read anew: this node did not see what changed while
// another one led.
func (b *board) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.units, b.changing = nil, map[string]bool{}
}

func (n *Node) unitsPass(ctx context.Context) error {
	self := n.creds.ID.Site
	var errs []error
	err := n.eachView(responder.IndexRequestOpen, func(k store.DocKey, b []byte) error {
		var r responder.RequestView
		if err := json.Unmarshal(b, &r); err != nil {
			return fmt.Errorf("view of %s: %w", k, err)
		}
		asking, home := n.requestKeys(r.Request, r.ID)
		switch {
		case k == home && r.Request.Home == self:
			errs = append(errs, n.answer(ctx, k, r))
		case k == asking && asking != home && n.relays(r.Request) == self:
			errs = append(errs, n.relay(ctx, asking, home, r))
		}
		return nil
	})
	errs = append(errs, err, n.eachView(responder.IndexPoolOpen, func(k store.DocKey, b []byte) error {
		var p responder.PoolView
		if err := json.Unmarshal(b, &p); err != nil {
			return fmt.Errorf("view of %s: %w", k, err)
		}
		if p.Pool.Home == self && p.State == responder.PoolReturned {
			_, err := n.TakeBack(ctx, p.ID.Name(), false, "handed back")
			errs = append(errs, err)
		}
		return nil
	}), n.freeEnded(ctx))
	return errors.Join(errs...)
}

// answer grants or refuses a request for a unit of this site, or frees what was
// given back.
func (n *Node) answer(ctx context.Context, k store.DocKey, r responder.RequestView) error {
	key := "answer:" + string(r.ID)
	switch r.Due() {
	case responder.AnswerNothing:
	case responder.AnswerDecide:
		u, epoch, why, err := n.decideRequest(ctx, r)
		if err != nil {
			return err
		}
		if why != "" {
			return n.stepRequest(ctx, key, k, responder.Entry{Kind: responder.StepRefuse, Reason: why})
		}
		return n.stepRequest(ctx, key, k, responder.Entry{Kind: responder.StepGrant, Unit: u.ref.code, Epoch: responder.Epoch{Home: epoch}})
	case responder.AnswerRefuse:
		if err := n.freeHolder(ctx, string(r.ID)); err != nil {
			return err
		}
		return n.stepRequest(ctx, key, k, responder.Entry{Kind: responder.StepRefuse, Reason: "taken back before it was decided"})
	case responder.AnswerFree:
		err := n.group.Release(ctx, "", responder.Resource(r.Unit), r.Epoch.Home)
		if errors.Is(err, store.ErrFenced) {
			err = nil // taken by force meanwhile
		}
		if err == nil {
			err = n.settleUnit(r.Unit)
		}
		if err != nil {
			return err
		}
		return n.stepRequest(ctx, key+":freed", k, responder.Entry{Kind: responder.StepReleased, Unit: r.Unit, Epoch: r.Epoch})
	}
	return nil
}

func (n *Node) settleUnit(code string) error {
	u, err := n.board.unit(n, unitRef{n.creds.ID.Site, code})
	if err != nil {
		return err
	}
	return n.board.settle(n, u)
}

// decideRequest claims a unit for a request, or says why none is granted.
func (n *Node) decideRequest(ctx context.Context, r responder.RequestView) (u boardUnit, epoch uint64, why string, err error) {
	self, q := n.creds.ID.Site, r.Request
	if q.Unit == "" {
		s := dispatch.Subject{}
		if q.Lat != nil && q.Lon != nil {
			s.Lat, s.Lon, s.HasPoint = *q.Lat, *q.Lon, true
		}
		var ok bool
		if u, ok, err = n.board.take(n, s, q.Skill, string(r.ID), true); err != nil {
			return u, 0, "", err
		}
		if !ok {
			return u, 0, fmt.Sprintf("site %s has no free unit with skill %s", self, q.Skill), nil
		}
	} else {
		u, err = n.board.unit(n, unitRef{self, q.Unit})
		switch {
		case isNotFound(err):
			return u, 0, fmt.Sprintf("site %s has no unit %s", self, q.Unit), nil
		case err != nil:
			return u, 0, "", err
		case u.view.Status != responder.Available && u.claim.Holder != string(r.ID):
			return u, 0, fmt.Sprintf("unit %s is %s", q.Unit, u.view.Status), nil
		}
	}
	epoch, err = n.group.Claim(ctx, "", u.resource, string(r.ID), false)
	held := errors.Is(err, store.ErrHeld)
	if held {
		err = nil
	}
	if err = errors.Join(err, n.board.settle(n, u)); err != nil {
		return u, 0, "", err
	}
	switch {
	case held && q.Unit == "":
		return u, 0, "", fmt.Errorf("%w: unit %s was taken meanwhile", ErrBusy, u.ref.code) // the next pass tries another
	case held:
		c, err := n.group.Store().Claim(u.resource)
		return u, 0, fmt.Sprintf("unit %s is held by %s", q.Unit, c.Holder), err
	}
	return u, epoch, "", nil
}

// freeHolder frees the unit that a holder has at this site, if any.
func (n *Node) freeHolder(ctx context.Context, holder string) error {
	units, _, err := n.readUnits()
	if err != nil {
		return err
	}
	for _, u := range units {
		if u.claim.Holder == holder {
			return errors.Join(n.group.Release(ctx, "", u.resource, u.claim.Epoch), n.board.settle(n, *u))
		}
	}
	return nil
}

// relay brings the two copies of a request to the same steps.
func (n *Node) relay(ctx context.Context, asking, home store.DocKey, r responder.RequestView) error {
	there, err := n.requestAt(home)
	if isNotFound(err) {
		ops, err := responder.RequestOps(r.Request)
		if err != nil {
			return err
		}
		_, err = n.docs.write(ctx, "relay:"+string(r.ID), Edit{Key: home, Create: true, Ops: ops})
		return err
	}
	if err != nil {
		return err
	}
	for _, to := range []struct {
		key   store.DocKey
		steps []responder.Entry
	}{{home, responder.Missing(r, there, true)}, {asking, responder.Missing(there, r, false)}} {
		for _, e := range to.steps {
			op, err := responder.EntryOp(e)
			if err == nil {
				_, err = n.docs.write(ctx, "relay:"+string(r.ID)+":"+e.Kind, Edit{Key: to.key, Ops: []crdt.Op{op}})
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// endedStates are those in which a task needs its unit no more.
var endedStates = []string{dispatch.StateClosed, dispatch.StateEvaluated, dispatch.StateMerged, dispatch.StateVoid}

// freeEnded releases units whose task has ended, some of them at a time.
func (n *Node) freeEnded(ctx context.Context) error {
	var errs []error
	for _, u := range n.board.holding(n, endedMax) {
		doc := tiers.DocID(u.claim.Holder)
		if doc.Kind() != dispatch.KindTask || doc.Validate() != nil {
			continue
		}
		k, err := n.commandNamed(doc)
		if isNotFound(err) {
			continue
		}
		var t struct {
			State string `json:"state"`
		}
		v, err := n.views.View(k)
		if err == nil {
			err = json.Unmarshal(v.JSON, &t)
		}
		if err == nil && slices.Contains(endedStates, t.State) {
			err = errors.Join(n.group.Release(ctx, "", u.resource, u.claim.Epoch), n.board.settle(n, u))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// holding returns some of the units that tasks have, others the next time.
func (b *board) holding(n *Node, most int) (out []boardUnit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refresh(n, true) != nil {
		return nil // the next one to ask is told
	}
	for _, u := range b.units { // a map's order: nobody is left out for long
		if u.claim.Holder != "" && len(out) < most {
			out = append(out, *u)
		}
	}
	return out
}
