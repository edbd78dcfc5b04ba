package oracle_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// ordered is a federation in which the city has given an order.
type ordered struct {
	*federation
	brief command.Brief
}

const evacuate = tiers.DocID("order:evacuate")

// order has the city give an order to sites, without a receipt yet.
func order(t *testing.T, targets ...tiers.SiteID) *ordered {
	t.Helper()
	o := &ordered{newFederation(t), command.Brief{Order: evacuate, Title: "evacuate", Issuer: city, IssuerTier: tiers.TierCity, To: "area:500000", IssuedAtMS: 1}}
	ops, err := command.OrderOps(command.Order{Brief: o.brief, Targets: targets, Topology: 1})
	if err != nil {
		t.Fatal(err)
	}
	o.write(self(city), in(city, tiers.ClassCommand), evacuate, ops...)
	return o
}

func receiptOf(target tiers.SiteID) store.DocKey {
	return store.DocKey{Stream: in(target, tiers.ClassCommand), Doc: command.ReceiptID(evacuate, target)}
}

// receipt has the city make a receipt of a target, under a name.
func (o *ordered) receipt(target tiers.SiteID, doc tiers.DocID) {
	o.t.Helper()
	ops, err := command.ReceiptOps(o.brief)
	if err != nil {
		o.t.Fatal(err)
	}
	o.write(self(city), in(target, tiers.ClassCommand), doc, ops...)
}

// step makes a step on a target's receipt at a site, in a site's name.
func (o *ordered) step(at, by, target tiers.SiteID, kind string) {
	o.t.Helper()
	o.stepAt(at, target, command.Step{At: o.clock + 1<<16, By: by, Kind: kind})
}

func (o *ordered) stepAt(at, target tiers.SiteID, s command.Step) {
	o.t.Helper()
	row, _ := o.topology.Site(s.By)
	s.Tier = row.Tier
	op, err := command.StepOp(s)
	if err != nil {
		o.t.Fatal(err)
	}
	k := receiptOf(target)
	o.write(self(at), k.Stream, k.Doc, op)
}

// delivered has a target's receipt delivered and everybody know.
func (o *ordered) delivered(target tiers.SiteID) {
	o.t.Helper()
	o.receipt(target, receiptOf(target).Doc)
	o.converge()
	o.step(target, target, target, command.StepDelivered)
	o.converge()
}

// judged is a verdict of the present alone.
func (o *ordered) judged(complete bool) oracle.Verdict {
	j := oracle.NewOrders()
	j.Look(0, o.all())
	return j.Verdict(o.topology, time.Hour, o.all(), complete)
}

// TestOrders: an order that goes its way is no violation, at any moment.
func TestOrders(t *testing.T) {
	o := order(t, north, town)
	j := oracle.NewOrders()
	look := func(what string, complete bool) {
		t.Helper()
		holds(t, what, j.Verdict(o.topology, 0, o.all(), complete))
	}
	look("issued", false)
	for _, target := range []tiers.SiteID{north, town} {
		o.receipt(target, receiptOf(target).Doc)
		look("sent", false)
		o.converge()
		look("it is not marked yet", true)
		o.step(target, target, target, command.StepDelivered)
		look("delivered, and nobody knows", false)
		o.converge()
		look("delivered", true)
	}
	o.step(town, town, town, command.StepAck)
	o.step(city, city, town, command.StepRemind)
	o.step(north, north, town, command.StepStored)
	look("acknowledged", false)
	o.converge()
	o.step(city, city, town, command.StepCancel)
	o.step(town, town, town, command.StepExecute)
	look("taken back too late", false)
	o.converge()
	holds(t, "in the end", j.Verdict(o.topology, time.Hour, o.all(), true))
}

// TestOrdersTargets plants receipts of sites that an order does not name, a second
// one, and steps of who is none of its targets.
func TestOrdersTargets(t *testing.T) {
	for name, row := range map[string]struct {
		plant func(o *ordered)
		bad   uint64
	}{
		"as it should be":       {func(*ordered) {}, 0},
		"a site outside has it": {func(o *ordered) { o.receipt(other, receiptOf(other).Doc) }, 1},
		"a second receipt":      {func(o *ordered) { o.receipt(town, "receipt:again.500101001") }, 1},
		"a neighbour acknowledges": {func(o *ordered) {
			k := receiptOf(town)
			o.ship(town, other, k.Stream)
			o.ship(city, other, k.Stream)
			o.step(other, other, town, command.StepAck)
			o.ship(other, town, k.Stream)
		}, 1},
		"the district executes":      {func(o *ordered) { o.step(north, north, town, command.StepExecute) }, 1},
		"the district in its name":   {func(o *ordered) { o.step(north, town, town, command.StepAck) }, 1},
		"the district takes it back": {func(o *ordered) { o.step(north, north, town, command.StepCancel) }, 1},
		"the target stores it":       {func(o *ordered) { o.step(town, town, town, command.StepStored) }, 1},
	} {
		o := order(t, town)
		o.delivered(town)
		holds(t, name+": before", o.judged(false))
		row.plant(o)
		if v := o.judged(false); row.bad == 0 {
			holds(t, name, v)
		} else {
			caught(t, name, row.bad, v)
		}
	}
}

// TestOrdersMonotone plants steps of a target that do not follow each other.
func TestOrdersMonotone(t *testing.T) {
	for name, row := range map[string]struct {
		kinds []string // made one after the other, behind delivered
		bad   uint64
	}{
		"as it should be":             {[]string{command.StepAck, command.StepReport, command.StepExecute}, 0},
		"refused":                     {[]string{command.StepAck, command.StepRefuse}, 0},
		"executed at once":            {[]string{command.StepExecute}, 0},
		"acknowledged after":          {[]string{command.StepExecute, command.StepAck}, 1},
		"acknowledged after a refuse": {[]string{command.StepRefuse, command.StepAck}, 1},
		"delivered twice":             {[]string{command.StepDelivered}, 1},
		"acknowledged twice":          {[]string{command.StepAck, command.StepAck}, 1},
		"executed twice":              {[]string{command.StepExecute, command.StepExecute}, 1},
		"executed and refused":        {[]string{command.StepExecute, command.StepRefuse}, 1},
	} {
		o := order(t, town)
		o.delivered(town)
		for _, kind := range row.kinds {
			o.step(town, town, town, kind)
		}
		v := o.judged(false)
		if row.bad == 0 {
			holds(t, name, v)
		} else {
			caught(t, name, row.bad, v)
		}
		if row.bad > 0 { // a site that does not know what it did does it again
			j := oracle.NewOrders()
			j.Away(town)
			j.Back(town)
			holds(t, name+", after an old disk", j.Verdict(o.topology, 0, o.all(), false))
		}
	}
	o := order(t, town)
	o.receipt(town, receiptOf(town).Doc)
	o.converge()
	o.step(town, town, town, command.StepAck)
	o.step(town, town, town, command.StepDelivered)
	caught(t, "delivered after it was acknowledged", 1, o.judged(false))
}

// TestOrdersView plants views that say something else than the steps.
func TestOrdersView(t *testing.T) {
	o := order(t, town)
	o.delivered(town)
	o.step(town, town, town, command.StepAck)
	o.step(town, town, town, command.StepExecute)
	for name, row := range map[string]struct{ from, to string }{
		"another state":            {`"state":"executed"`, `"state":"acknowledged"`},
		"a step that is hidden":    {`"kind":"ack"`, `"kind":"nod"`},
		"a step that is not there": {`"steps":[`, `"steps":[{"at":1,"by":"500101","kind":"ack"},`},
		"acknowledged later":       {`"acknowledged_ms":4`, `"acknowledged_ms":9`},
		"delivered at no time":     {`"delivered_ms":`, `"never_ms":`},
		"another order":            {`"title":"evacuate"`, `"title":"stay"`},
	} {
		sites := with(o.all(), town, func(s *oracle.Site) {
			view := s.View
			s.View = func(k store.DocKey) (crdt.View, error) {
				v, err := view(k)
				if k.Doc.Kind() == command.KindReceipt && !bytes.Contains(v.JSON, []byte(row.from)) {
					t.Fatalf("no %s in %s", row.from, v.JSON)
				}
				v.JSON = bytes.Replace(v.JSON, []byte(row.from), []byte(row.to), 1)
				return v, err
			}
		})
		caught(t, name, 1, oracle.NewOrders().Verdict(o.topology, 0, sites, false))
	}
	blind := with(o.all(), town, func(s *oracle.Site) {
		s.View = func(store.DocKey) (crdt.View, error) { return crdt.View{}, errDisk }
	})
	caught(t, "it cannot be read", 1, oracle.NewOrders().Verdict(o.topology, 0, blind, false))
}

// TestOrdersKept plants sites that forget what they have seen.
func TestOrdersKept(t *testing.T) {
	o := order(t, town)
	o.delivered(town)
	before := o.all()
	old := newFederation(t) // where nothing happened
	younger := order(t, town)
	younger.delivered(town) // the same, as far as that goes
	o.step(town, town, town, command.StepAck)
	o.converge()
	for name, row := range map[string]struct {
		at   tiers.SiteID
		site *site
		bad  uint64
	}{
		"as it is":               {north, o.sites[north], 0},
		"a receipt is gone":      {north, old.sites[north], 1},
		"the order is gone":      {city, old.sites[city], 2},           // and the receipt
		"a step is lost":         {north, younger.sites[north], 1 + 2}, // it is not acknowledged any more, at no time
		"a step is lost at home": {town, younger.sites[town], 1 + 2},
	} {
		for again, applied := range map[string]uint64{"now": 1 << 40, "while it catches up": 1} {
			j := oracle.NewOrders()
			j.Look(0, o.all())
			sites := with(before, row.at, func(s *oracle.Site) {
				s.Store, s.View = lying{Store: row.site.Store, applied: applied}, row.site.view.View
			})
			j.Look(0, sites)
			v := j.Verdict(o.topology, 0, sites, false) // it is counted once
			if row.bad == 0 || again != "now" {
				holds(t, name+" "+again, v)
			} else {
				caught(t, name, row.bad, v)
			}
			j = oracle.NewOrders()
			j.Look(0, o.all())
			j.Away(row.at)
			j.Look(0, sites)
			j.Back(row.at)
			holds(t, name+", from an old disk", j.Verdict(o.topology, 0, sites, false))
		}
	}
}

// TestOrdersWhole plants what is not as it has to be after the heal.
func TestOrdersWhole(t *testing.T) {
	for name, row := range map[string]struct {
		plant func(o *ordered)
		bad   uint64
		made  bool // by an issuer who forgot: then it is none
	}{
		"as it should be": {func(o *ordered) {
			o.delivered(town)
			o.delivered(north)
		}, 0, false},
		"one was never made": {func(o *ordered) { o.delivered(town) }, 1, true},
		"one was never delivered": {func(o *ordered) {
			o.delivered(town)
			o.receipt(north, receiptOf(north).Doc)
			o.converge()
		}, 1, true},
		"one is not at its target, and at nobody between": {func(o *ordered) {
			o.delivered(north)
			o.receipt(town, receiptOf(town).Doc)
		}, 1 + 1, false}, // nor delivered
		"the issuer does not know": {func(o *ordered) {
			o.delivered(north)
			o.delivered(town)
			o.step(town, town, town, command.StepAck)
		}, 1, false},
		"taken back, and not at one of two": {func(o *ordered) {
			o.delivered(north)
			o.delivered(town)
			cancel := command.Step{At: o.clock + 1<<16, By: city, Tier: tiers.TierCity, Kind: command.StepCancel}
			op, err := command.StepOp(cancel)
			if err != nil {
				o.t.Fatal(err)
			}
			o.write(self(city), in(city, tiers.ClassCommand), evacuate, op)
			o.stepAt(city, town, cancel)
			o.converge()
		}, 1, true},
	} {
		o := order(t, north, town)
		row.plant(o)
		holds(t, name+": while links are cut", o.judged(false))
		if v := o.judged(true); row.bad == 0 {
			holds(t, name, v)
		} else {
			caught(t, name, row.bad, v)
		}
		j := oracle.NewOrders()
		j.Away(city)
		j.Back(city)
		j.Look(0, o.all())
		if v := j.Verdict(o.topology, time.Hour, o.all(), true); row.bad == 1 && row.made {
			holds(t, name+", after an old disk of the issuer", v)
		}
	}
	o := order(t, town)
	o.delivered(town)
	sites := slices.DeleteFunc(o.all(), func(s oracle.Site) bool { return s.ID == city })
	caught(t, "an order that nobody issued", 1, oracle.NewOrders().Verdict(o.topology, time.Hour, sites, true))
}

// TestOrdersHead plants an order that says different things at two sites.
func TestOrdersHead(t *testing.T) {
	o := order(t, town)
	o.delivered(town)
	o.brief.Title = "stay"
	o.receipt(north, receiptOf(north).Doc) // which it does not name either
	caught(t, "another text for another target", 2, o.judged(false))

	more := order(t, north, town)
	j := oracle.NewOrders()
	j.Look(0, more.all())
	fewer := order(t, town)
	j.Away(city) // what was said first is not forgotten
	j.Back(city)
	caught(t, "other targets later", 1, j.Verdict(fewer.topology, 0, with(more.all(), city, func(s *oracle.Site) {
		s.Store, s.View = lying{Store: fewer.sites[city].Store, applied: 1 << 40}, fewer.sites[city].view.View
	}), false))
}
