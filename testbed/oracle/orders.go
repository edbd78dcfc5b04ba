package oracle

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// Orders judges orders from look to look. Make one with [NewOrders]; it is safe for
// concurrent use.
//
// At every look, whether links are cut or not: a receipt is that of a target which
// its order names, under the one name that it can have, so none gets two; who
// delivers, acknowledges, refuses and executes is the target, who takes back is the
// issuer; delivered comes before acknowledged and that before executed, in hybrid
// time, each once; a view says what follows from the steps that the site holds; and
// what a site has once held of an order or a receipt it holds still. After the heal:
// every target has its receipt, all who are to hold it hold the same, the target has
// taken delivery, and what the issuer took back is taken back everywhere.
type Orders struct {
	mu     sync.Mutex // guards the fields below
	engine *engine.Engine
	found  Verdict
	// held is what was last seen of each document at each site.
	held map[tiers.SiteID]map[store.DocKey]paper
	// looked is the entry that each site had applied at the last look: while it is the
	// same, so is all that the site holds.
	looked map[tiers.SiteID]uint64
	// issued are the orders as they were first seen, briefs what their targets know.
	issued map[tiers.DocID]command.Order
	briefs map[tiers.DocID]command.Brief
	// since is when each receipt was first seen at its target, and each order at its
	// issuer, cancelled when it was first seen there to be taken back: the moment from
	// which something is to be done.
	since     map[store.DocKey]time.Duration
	cancelled map[tiers.DocID]time.Duration
	// forgot are the sites whose old disk was put back, away those of which one is
	// just being.
	forgot, away map[tiers.SiteID]bool
	// said are violations that were counted, so that each counts once.
	said map[string]bool
	// within is [DeliverWithin], or what was set.
	within time.Duration
}

// DeliverWithin is how long a target may take to mark what it holds, and an issuer to
// send what it issued: both look when something changed, and otherwise once a minute.
const DeliverWithin = 90 * time.Second

// NewOrders makes a judge that has seen nothing.
func NewOrders() *Orders {
	return &Orders{
		engine: engine.New(), found: Verdict{Oracle: "orders"}, held: map[tiers.SiteID]map[store.DocKey]paper{}, looked: map[tiers.SiteID]uint64{},
		issued: map[tiers.DocID]command.Order{}, briefs: map[tiers.DocID]command.Brief{}, since: map[store.DocKey]time.Duration{}, cancelled: map[tiers.DocID]time.Duration{},
		within: DeliverWithin, forgot: map[tiers.SiteID]bool{}, away: map[tiers.SiteID]bool{}, said: map[string]bool{},
	}
}

// Within sets another time than [DeliverWithin], and returns the judge: a slow machine
// takes longer.
func (o *Orders) Within(d time.Duration) *Orders {
	o.within = d
	return o
}

// Away says that a site's old disk is put back: it is not looked at before [Orders.Back],
// what it held is not held against it, nor that it does once more what it does not know
// to have done.
func (o *Orders) Away(id tiers.SiteID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forgot[id], o.away[id] = true, true
	delete(o.held, id)
	delete(o.looked, id)
}

// Back says that an old disk is in its place.
func (o *Orders) Back(id tiers.SiteID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.away, id)
}

// Look judges what the sites that can be read hold at a moment of the run. One that
// ends meanwhile is looked at another time.
func (o *Orders) Look(at time.Duration, sites []Site) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range sites {
		if applied, before := o.looked[s.ID]; !before || s.Store.AppliedIndex() != applied {
			_ = o.look(at, s) // it may be going down
		}
	}
}

// Verdict is what all looks found and, when complete, what is not as it has to be
// after the heal.
func (o *Orders) Verdict(t *tiers.Topology, at time.Duration, sites []Site, complete bool) Verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	var unread Verdict
	for _, s := range sites {
		if err := o.look(at, s); err != nil {
			unread.unread("an order", s.ID, err)
		}
	}
	v := o.found
	v.Violations += unread.Violations
	v.Examples = slices.Concat(v.Examples, unread.Examples)
	v.Examples = v.Examples[:min(len(v.Examples), examplesMax)]
	if complete {
		for _, id := range slices.Sorted(maps.Keys(o.briefs)) {
			o.whole(&v, t, at, id, sites)
		}
	}
	return v
}

// once counts a violation that is still there at the next look one time.
func (o *Orders) once(format string, args ...any) {
	var v Verdict
	v.violate(format, args...)
	if text := v.Examples[0]; !o.said[text] {
		o.said[text] = true
		o.found.violate("%s", text)
	}
}

// look judges one site, as far as it can be read.
func (o *Orders) look(at time.Duration, s Site) error {
	if o.away[s.ID] {
		return nil
	}
	before := o.held[s.ID]
	applied := s.Store.AppliedIndex()
	now := map[store.DocKey]paper{}
	err := s.Store.Documents(func(k store.DocKey) error {
		if kind := k.Doc.Kind(); kind != command.KindOrder && kind != command.KindReceipt {
			return nil
		}
		p, there, err := o.readPaper(s, k, before[k])
		if err != nil || !there {
			return err
		}
		if _, was := before[k]; !was || before[k].version != p.version {
			o.found.Checked++
			o.paper(s.ID, k, p)
		}
		if _, known := o.since[k]; !known && k.Stream.Site == s.ID {
			o.since[k] = at
		}
		if _, known := o.cancelled[k.Doc]; !known && slices.ContainsFunc(p.steps, cancels) {
			o.cancelled[k.Doc] = at
		}
		now[k] = p
		return nil
	})
	if err != nil {
		return err
	}
	for k, was := range before {
		is, there := now[k]
		switch {
		case applied < was.applied: // it has not come to where it was before its crash
			now[k] = was
		case !there:
			o.once("%s is gone at %s", k, s.ID)
		default:
			o.kept(s.ID, k, was, is)
		}
	}
	o.held[s.ID], o.looked[s.ID] = now, applied
	return nil
}

// kept checks that nothing was taken back of what a site held of a document.
func (o *Orders) kept(at tiers.SiteID, k store.DocKey, was, is paper) {
	for _, w := range was.steps {
		if !slices.ContainsFunc(is.steps, func(x stepBy) bool { return x.text == w.text }) {
			o.once("%s: %s of %s is lost at %s", k, w.Kind, w.By, at)
		}
	}
	if slices.Index(states, is.shown.State) < slices.Index(states, was.shown.State) {
		o.once("%s was %s at %s and is %s", k, was.shown.State, at, is.shown.State)
	}
	for _, m := range []struct {
		what    string
		was, is int64
	}{
		{"delivered", was.shown.DeliveredMS, is.shown.DeliveredMS}, {"acknowledged", was.shown.AcknowledgedMS, is.shown.AcknowledgedMS},
		{"executed", was.shown.ExecutedMS, is.shown.ExecutedMS}, {"refused", was.shown.RefusedMS, is.shown.RefusedMS},
	} {
		if m.was != 0 && (m.is == 0 || m.is != m.was && !o.forgot[k.Stream.Site]) {
			o.once("%s was %s at %d ms and is at %d ms, as %s shows it", k, m.what, m.was, m.is, at)
		}
	}
}

// states are those of an order at a target, each of which a later one may follow.
var states = []string{
	"", command.StateIssued, command.StateDelivered, command.StateAcknowledged, command.StateCancelled, command.StateRefused, command.StateExecuted,
}

// whole judges one order after the heal. Of a target that is not below the issuer any
// more, or of whom an old disk was put back at one of both, nothing is demanded but
// that all show the same.
func (o *Orders) whole(v *Verdict, t *tiers.Topology, at time.Duration, id tiers.DocID, sites []Site) {
	order, known := o.issued[id]
	if !known {
		if !o.forgot[o.briefs[id].Issuer] {
			v.violate("%s has receipts, and its issuer %s holds no such order", id, o.briefs[id].Issuer)
		}
		return
	}
	own := store.DocKey{Stream: tiers.StreamID{Site: order.Issuer, Class: tiers.ClassCommand}, Doc: id}
	for _, target := range order.Targets {
		v.Checked++
		row, there := t.Site(target)
		k := store.DocKey{Stream: tiers.StreamID{Site: target, Class: tiers.ClassCommand}, Doc: tiers.NewDocID(command.KindReceipt, id.Name()+"."+string(target))}
		first, seen := o.alike(v, t, k, sites)
		due := there && !row.Retired && t.IsAncestor(order.Issuer, target) && !o.forgot[order.Issuer] && !o.forgot[target]
		if due && o.held[order.Issuer] != nil {
			o.arrived(v, k, own, first, seen, at-o.within)
		}
	}
}

// alike checks that all who are to hold a receipt hold the same one.
func (o *Orders) alike(v *Verdict, t *tiers.Topology, k store.DocKey, sites []Site) (first paper, seen bool) {
	var firstAt tiers.SiteID
	lacks := tiers.SiteID("")
	for _, s := range sites {
		if !t.InAudience(k.Stream, s.ID) {
			continue
		}
		p, held := o.held[s.ID][k]
		switch {
		case !held:
			lacks = s.ID
		case !seen:
			first, firstAt, seen = p, s.ID, true
		case p.texts() != first.texts():
			v.violate("%s: %s and %s have seen different steps", k, firstAt, s.ID)
		case p.shown.State != first.shown.State || p.shown.Times != first.shown.Times:
			v.violate("%s: %s shows %s, and %s %s", k, firstAt, first.shown.State, s.ID, p.shown.State)
		}
	}
	if seen && lacks != "" {
		v.violate("%s is held by %s, and not by %s", k, firstAt, lacks)
	}
	return first, seen
}

// arrived checks that an order has reached a target, and its cancel, too, if that was
// to be done some time ago.
func (o *Orders) arrived(v *Verdict, k, own store.DocKey, p paper, seen bool, ago time.Duration) {
	taken, cancelled := o.cancelled[own.Doc]
	switch {
	case !seen && o.since[own] <= ago:
		v.violate("%s was never made: its order names %s", k, k.Stream.Site)
	case seen && p.shown.DeliveredMS == 0 && o.since[k] <= ago:
		v.violate("%s is at %s and not delivered", k, k.Stream.Site)
	case seen && cancelled && p.shown.CancelledMS == 0 && taken <= ago:
		v.violate("%s: it was taken back, and is not at %s", k, k.Stream.Site)
	}
}

func cancels(s stepBy) bool { return s.Kind == command.StepCancel }
