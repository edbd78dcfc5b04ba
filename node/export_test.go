package node

import (
	"context"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// Allowance is how many questions a peer may ask.
type Allowance struct{ a allowance }

// Take asks for one.
func (a *Allowance) Take(now time.Time) bool { return a.a.take(now) }

// Meter measures rates.
type Meter struct{ m rateMeter }

// Tick shows the meter what a link sent and how many records wait.
func (m *Meter) Tick(now time.Time, sent, wait uint64) Rates { return m.m.tick(now, sent, 0, wait, 0) }

// Admission shows [admission] to this package's tests.
type Admission struct{ *admission }

// NewAdmission returns one with so many places, and so many that wait.
func NewAdmission(slots, queue int) Admission { return Admission{newAdmission(slots, queue)} }

// Enter waits for a place for a link of a peer.
func (a Admission) Enter(ctx context.Context, peer tiers.SiteID) (leave func(), retry time.Duration) {
	return a.enter(ctx, peer)
}

// Taken returns how many places are taken and how many wait.
func (a Admission) Taken() (slots, queue int) { return len(a.slots), len(a.queue) }

// ComeBack is comeBack.
var ComeBack = comeBack

// DispatchBatch is dispatchBatch, and so on.
const (
	DispatchBatch = dispatchBatch
	DispatchPage  = dispatchPage
	OrderBatch    = orderBatch
)

// ComparingFor is comparingFor.
const ComparingFor = comparingFor

// Alarms shows [alarms] to this package's tests.
type Alarms struct{ *alarms }

// Listed is every finding, Ack acknowledges some.
func (a Alarms) Listed() []api.Alarm { return a.listed().Alarms }

// Ack acknowledges findings.
func (a Alarms) Ack(q api.AlarmAck) error { return a.acknowledge(q) }

// NewAlarms returns an empty list.
func NewAlarms() Alarms { return Alarms{newAlarms(time.Now)} }

// RaiseOf notes a finding about a peer's conduct.
func (a Alarms) RaiseOf(peer tiers.SiteID, text string) { a.raiseOf(peer, text) }

// Raise notes a finding.
func (a Alarms) Raise(kind, subject, text string) { a.raise(alarmKind(kind), subject, text) }

// All returns the list.
func (a Alarms) All() []string { return a.all() }

// Create writes a new document, past the checks.
func (n *Node) Create(ctx context.Context, k store.DocKey, ops []crdt.Op) error {
	_, err := n.docs.write(ctx, "", Edit{Key: k, Create: true, Ops: ops})
	return err
}

// HeldBefore counts what is held as builds held it that had no work list, by type.
func (n *Node) HeldBefore() (map[string]int, error) {
	w := waiting{n: n}
	err := w.recall()
	out := map[string]int{}
	for code, keys := range w.before {
		out[code] = len(keys)
	}
	return out, err
}

// Ticks returns how often the sessions of a node's live links were ticked.
func (n *Node) Ticks() (sum uint64) {
	for _, d := range n.links.drivers() {
		sum += d.beat.count.Load()
	}
	return sum
}

// FannedOut is what a rule's decision makes of an event.
func (n *Node) FannedOut(to tiers.SiteID, task tiers.DocID, b dispatch.Brief) ([]dispatch.Planned, error) {
	return n.fannedOut(to, task, dispatch.SubjectMode{}, b)
}

// Thin drops what is older than its limits now.
func (n *Node) Thin(ctx context.Context) (int, error) { return n.thin(ctx) }

// ListenNow does at once what the look at who is silent does every few seconds.
func (n *Node) ListenNow(ctx context.Context) error { return n.silencePass(ctx) }

// PutOrder writes an order as it is, as its issuer did under another topology.
func (n *Node) PutOrder(ctx context.Context, o command.Order) error {
	ops, err := command.OrderOps(o)
	if err == nil {
		_, err = n.docs.write(ctx, "", Edit{Key: docKey(o.Issuer, tiers.ClassCommand, o.Order), Create: true, Ops: ops})
	}
	return err
}

// OrdersNow does at once what the loop of orders does.
func (n *Node) OrdersNow(ctx context.Context) error { _, err := n.ordersPass(ctx); return err }

// PutOps writes a document past all checks, as a peer of bad conduct may.
func (n *Node) PutOps(ctx context.Context, k store.DocKey, ops []crdt.Op) error {
	_, err := n.docs.write(ctx, "", Edit{Key: k, Ops: ops})
	return err
}

// Held is what this node holds of a chain from a record on, as it goes to a peer.
func (n *Node) Held(c crdt.ChainID, first uint64) (store.Range, error) {
	r, _, err := n.readRange(c, first, 1<<62, 1<<30)
	return store.Range{Chain: r.Chain, First: r.First, Records: r.Records, Checkpoint: r.Checkpoint}, err
}

// Reviewed is reviewed, Subset subset.
var (
	Reviewed = reviewed
	Subset   = subset
)

// CompareNodes has the nodes of the site compare what they hold, and returns what they
// found.
func (n *Node) CompareNodes(ctx context.Context) ([]string, error) {
	c, err := n.compareNodes(ctx)
	return c.findings(), err
}

// DecodedForDocuments returns how many changes were decoded to keep documents.
func (n *Node) DecodedForDocuments() uint64 { return n.docs.kept.Decoded() }

// Reread looks at credentials and topology file, as a node does now and then.
func (n *Node) Reread(ctx context.Context) { n.reread(ctx) }
