package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// IssueOrder gives an order to the sites below this one that b.To means, durably;
// it goes out to them from a work list. Issuer, times and topology are the node's to
// set. A key that was used before gives the first order. The error wraps
// [command.ErrInvalid] or what a write returns.
func (n *Node) IssueOrder(ctx context.Context, key string, b command.Brief) (replication.Written, command.Order, error) {
	t, self := n.Topology(), n.creds.ID.Site
	row, _ := t.Site(self)
	now := n.opts.Now()
	id := command.OrderID(self, key)
	k := docKey(self, tiers.ClassCommand, id)
	var earlier command.OrderView
	if err := n.read(k, &earlier); !isNotFound(err) {
		return replication.Written{Stream: k.Stream, Doc: id}, earlier.Order, err
	}
	b.Order, b.Issuer, b.IssuerTier, b.IssuedAtMS = id, self, row.Tier, now.UnixMilli()
	if err := b.Validate(now); err != nil {
		return replication.Written{}, command.Order{}, err
	}
	targets, err := command.Select(t, self, b.To)
	if err != nil {
		return replication.Written{}, command.Order{}, err
	}
	o := command.Order{Brief: b, Targets: targets, Topology: t.Version()}
	ops, err := command.OrderOps(o)
	if err != nil {
		return replication.Written{}, o, err
	}
	done, err := n.docs.write(ctx, key, Edit{Key: k, Create: true, Ops: ops})
	if err != nil {
		return replication.Written{}, o, err
	}
	return done[0], o, nil
}

// orderName is the name of an order, of which that of a receipt may be given.
func orderName(name string) string {
	for _, kind := range []string{command.KindOrder, command.KindReceipt} {
		name = strings.TrimPrefix(name, kind+":")
	}
	name, _, _ = strings.Cut(name, ".")
	return name
}

// StepOrder makes a step of an order in this site's name: as its issuer, or as the
// target that this site is. The error wraps [command.ErrInvalid], [command.ErrNow],
// [store.ErrNotFound] or what a write returns.
func (n *Node) StepOrder(ctx context.Context, key, name string, s command.Step) (w replication.Written, err error) {
	self := n.creds.ID.Site
	row, _ := n.Topology().Site(self)
	s.By, s.Tier, s.Of, s.Count, s.At = self, row.Tier, 0, 0, 0
	if err := s.Validate(); err != nil {
		return w, err
	}
	order := tiers.NewDocID(command.KindOrder, orderName(name))
	if err := order.Validate(); err != nil {
		return w, err
	}
	k := docKey(self, tiers.ClassCommand, command.ReceiptID(order, self))
	ops := n.receiptStep(k, s)
	if s.Kind == command.StepCancel || s.Kind == command.StepRemind {
		k = docKey(self, tiers.ClassCommand, order)
		ops = n.issuerStep(k, s)
	}
	if _, err := n.group.Store().Heads(k); err != nil {
		return w, n.notMine(order, s.Kind, err)
	}
	done, err := n.docs.write(ctx, key, Edit{Key: k, Make: ops})
	if err != nil {
		return w, err
	}
	return done[0], nil
}

// notMine says whose a step of an order is, where it is not this site's.
func (n *Node) notMine(order tiers.DocID, kind string, err error) error {
	if !isNotFound(err) {
		return err
	}
	k, found := n.anyReceipt(order)
	issued, missing := n.commandNamed(order)
	switch {
	case missing == nil && (kind != command.StepCancel && kind != command.StepRemind):
		return fmt.Errorf("%w: %s of %s: this site is not one of its targets, who make that step", command.ErrNow, kind, order)
	case missing == nil:
		return fmt.Errorf("%w: %s of %s: site %s issued it: do that there", command.ErrNow, kind, order, issued.Stream.Site)
	case found:
		return fmt.Errorf("%w: %s of %s: this is not for site %s to do; it holds the order for site %s", command.ErrNow, kind, order, n.creds.ID.Site, k.Stream.Site)
	}
	return fmt.Errorf("%w: this site holds no %s", store.ErrNotFound, order)
}

// anyReceipt finds an order at some target.
func (n *Node) anyReceipt(order tiers.DocID) (store.DocKey, bool) {
	hits, err := n.group.Store().Index(store.IndexQuery{Name: command.IndexReceiptOrder, Prefix: command.IndexPrefix(order.Name()), Limit: 1})
	if err != nil || len(hits) == 0 {
		return store.DocKey{}, false
	}
	return hits[0].Key, true
}

// receiptStep checks a step on the receipt as it is when it is written.
func (n *Node) receiptStep(k store.DocKey, s command.Step) func() ([]crdt.Op, error) {
	return func() ([]crdt.Op, error) {
		var v command.ReceiptView
		if err := n.read(k, &v); err != nil {
			return nil, err
		}
		if err := v.Check(s); err != nil {
			return nil, err
		}
		return n.stamped(s)
	}
}

func (n *Node) issuerStep(k store.DocKey, s command.Step) func() ([]crdt.Op, error) {
	return func() ([]crdt.Op, error) {
		var v command.OrderView
		if err := n.read(k, &v); err != nil {
			return nil, err
		}
		if v.CancelledMS != 0 {
			return nil, fmt.Errorf("%w: %s of %s: it was cancelled; issue another one", command.ErrNow, s.Kind, v.ID)
		}
		return n.stamped(s)
	}
}

// stamped is the operation of a step that is made now.
func (n *Node) stamped(s command.Step) ([]crdt.Op, error) {
	s.At = n.group.Clock().Now()
	op, err := command.StepOp(s)
	return []crdt.Op{op}, err
}

// orderBatch is how many targets an order goes out to in one write, and how many
// receipts are marked in one.
const orderBatch = 32

// ordersEvery is how often the work lists are looked at when nothing changes: under
// another topology, more may be to do.
const ordersEvery = time.Minute

// errOlderTopology keeps an order from going out by a topology that is older than the
// one it was issued under, as a node's is for a moment after its start.
var errOlderTopology = errors.New("node: topology is older than the order's")

// runOrders does what no operator does about orders, while this node leads: it sends
// this site's out, marks those that came here as delivered, and those that it holds
// for a site below as stored. Its work lists are indexes, so it goes on after a crash
// where it stopped.
func (n *Node) runOrders(ctx context.Context, changed <-chan struct{}) error {
	ticks := time.NewTicker(ordersEvery)
	defer ticks.Stop()
	return n.onChange(ctx, changed, ticks.C, n.ordersPass)
}

// ordersPass does one batch of each work list and reports whether it wrote.
func (n *Node) ordersPass(ctx context.Context) (wrote bool, err error) {
	self := n.creds.ID.Site
	for _, pass := range []func() (bool, error){
		func() (bool, error) { return n.sendOrders(ctx) },
		func() (bool, error) {
			return n.markReceipts(ctx, command.StepDelivered, store.IndexQuery{Name: command.IndexReceiptInbox, Prefix: command.IndexPrefix(string(self))})
		},
		func() (bool, error) {
			return n.markReceipts(ctx, command.StepStored, store.IndexQuery{Name: command.IndexReceiptUnstored})
		},
	} {
		w, err := pass()
		if err != nil {
			return wrote, err
		}
		wrote = wrote || w
	}
	return wrote, nil
}

// markReceipts makes a step of this site's own on what an index lists, as far as it
// is this site's to make.
func (n *Node) markReceipts(ctx context.Context, kind string, q store.IndexQuery) (wrote bool, err error) {
	t, self := n.Topology(), n.creds.ID.Site
	row, _ := t.Site(self)
	hits, err := n.group.Store().Index(q)
	if err != nil {
		return false, err
	}
	var edits []Edit
	for _, h := range hits {
		own := h.Key.Stream.Site == self
		if (kind == command.StepDelivered) != own || row.Tier == tiers.TierCity || !t.MayWrite(h.Key.Stream, self) {
			continue
		}
		edits = append(edits, Edit{Key: h.Key, Make: func() ([]crdt.Op, error) { return n.markOps(h.Key, kind, row) }})
	}
	for some := range slices.Chunk(edits, orderBatch) { // a batch of which none can be written keeps no other waiting
		if wrote, err := n.writeGood(ctx, "", nil, some); wrote || err != nil {
			return wrote, err
		}
	}
	return false, nil
}

// writeGood writes edits and a last one together. Documents that others have spoilt
// are left out, with an alarm, and those that wait for records: they keep nobody else
// from being served.
func (n *Node) writeGood(ctx context.Context, key string, last, edits []Edit) (wrote bool, err error) {
	done, err := n.docs.write(ctx, key, append(slices.Clone(edits), last...)...)
	if !spoilt(err) && !errors.Is(err, ErrHeldBack) {
		return slices.ContainsFunc(done, func(w replication.Written) bool { return w.Seq != 0 }), err
	}
	for _, e := range edits {
		done, err := n.docs.write(ctx, "", e)
		switch {
		case n.passOver(fmt.Sprintf("document %s cannot be written", e.Key), err):
		case err != nil:
			return wrote, err
		default:
			wrote = wrote || done[0].Seq != 0
		}
	}
	if len(last) == 0 {
		return wrote, nil
	}
	_, err = n.docs.write(ctx, key, last...)
	return wrote, err
}

// markOps marks a receipt, unless it is marked: an index may be behind.
func (n *Node) markOps(k store.DocKey, kind string, row tiers.Site) ([]crdt.Op, error) {
	var v command.ReceiptView
	err := n.read(k, &v)
	if isNotFound(err) || err == nil && (v.DeliveredMS != 0 || kind == command.StepStored && v.StoredMS != 0) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return n.stamped(command.Step{By: row.ID, Tier: row.Tier, Kind: kind})
}

// sendOrders sends one batch of each of this site's orders that has not gone out.
func (n *Node) sendOrders(ctx context.Context) (wrote bool, err error) {
	hits, err := n.group.Store().Index(store.IndexQuery{Name: command.IndexOrderUnsent, Prefix: command.IndexPrefix(string(n.creds.ID.Site))})
	if err != nil {
		return false, err
	}
	for _, h := range hits {
		var v command.OrderView
		if err := n.read(h.Key, &v); err != nil {
			if isNotFound(err) {
				continue
			}
			return wrote, err
		}
		w, open := v.Unsent()
		if !open {
			continue // the index is behind
		}
		if n.Topology().Version() < v.Order.Topology {
			return wrote, fmt.Errorf("%w: %s", errOlderTopology, v.ID)
		}
		if err := n.sendWave(ctx, h.Key, &v, w); err != nil {
			return wrote, fmt.Errorf("send %s: %w", v.ID, err)
		}
		wrote = true
	}
	return wrote, nil
}

// sendWave sends an order, or a step of its issuer, to the next targets, and notes
// how far it came, in one write. A target that this site may not write to any more is
// passed over.
func (n *Node) sendWave(ctx context.Context, k store.DocKey, v *command.OrderView, w command.Wave) error {
	t, self := n.Topology(), n.creds.ID.Site
	row, _ := t.Site(self)
	next := v.Order.Targets[w.Sent:min(w.Sent+orderBatch, len(v.Order.Targets))]
	sent := []Edit{{Key: k, Make: func() ([]crdt.Op, error) {
		return n.stamped(command.Step{By: self, Tier: row.Tier, Kind: command.StepSent, Of: w.Step.At, Count: w.Sent + len(next)})
	}}}
	var edits []Edit
	for _, site := range next {
		r := docKey(site, tiers.ClassCommand, command.ReceiptID(v.ID, site))
		if t.MayWrite(r.Stream, self) {
			edits = append(edits, Edit{Key: r, Make: func() ([]crdt.Op, error) { return n.waveOps(r, v, w) }})
		}
	}
	_, err := n.writeGood(ctx, fmt.Sprintf("%s:%d:%d", v.ID, w.Step.At, w.Sent), sent, edits)
	return err
}

// waveOps is a wave at one target: its receipt, or the issuer's step, which is the
// same one at all of them.
func (n *Node) waveOps(r store.DocKey, v *command.OrderView, w command.Wave) ([]crdt.Op, error) {
	var have command.ReceiptView
	err := n.read(r, &have)
	switch {
	case err != nil && !isNotFound(err):
		return nil, err
	case w.Step.Kind == "" && isNotFound(err):
		return command.ReceiptOps(v.Order.Brief)
	case w.Step.Kind == "" || isNotFound(err) || w.Step.Kind == command.StepRemind && !have.Open():
		return nil, nil
	}
	op, err := command.StepOp(w.Step)
	return []crdt.Op{op}, err
}
