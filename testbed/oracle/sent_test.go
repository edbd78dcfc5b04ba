package oracle_test

import (
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// sent makes an order to a unit, 2 ms long.
func sent(at int, to string, home, lent uint64) oracle.Order {
	return oracle.Order{
		Unit: "500000/p1", For: to, By: city, Epoch: responder.Epoch{Home: home, Lent: lent}, Call: time.Duration(at) * ms, Return: time.Duration(at+2) * ms,
	}
}

// until ends an order.
func until(o oracle.Order, at int) oracle.Order {
	o.Until = time.Duration(at) * ms
	return o
}

// leased ends an order with its lease.
func leased(o oracle.Order, at int) oracle.Order {
	o.NotAfter = time.Duration(at) * ms
	return o
}

func forced(o oracle.Order) oracle.Order {
	o.Force = true
	return o
}

// TestSent plants units that are sent to two places, and shows what is none.
func TestSent(t *testing.T) {
	other := sent(3, "b", 2, 0)
	other.Unit = "500000/p2"
	for name, row := range map[string]struct {
		orders []oracle.Order
		bad    uint64
	}{
		"one after the other":              {[]oracle.Order{until(sent(0, "a", 1, 0), 3), sent(4, "b", 2, 0)}, 0},
		"at once":                          {[]oracle.Order{sent(0, "a", 1, 0), sent(3, "b", 2, 0)}, 1},
		"at once, by force":                {[]oracle.Order{sent(0, "a", 1, 0), forced(sent(3, "b", 2, 0))}, 0},
		"at once, two units":               {[]oracle.Order{sent(0, "a", 1, 0), other}, 0},
		"it may have ended before":         {[]oracle.Order{until(sent(0, "a", 1, 0), 4), sent(3, "b", 2, 0)}, 0},
		"it may have begun before":         {[]oracle.Order{sent(0, "a", 1, 0), sent(1, "b", 2, 0)}, 0},
		"ended after":                      {[]oracle.Order{until(sent(0, "a", 1, 0), 9), sent(3, "b", 2, 0)}, 1},
		"the same again":                   {[]oracle.Order{sent(0, "a", 1, 0), sent(3, "a", 1, 0)}, 0},
		"one epoch for two":                {[]oracle.Order{until(sent(0, "a", 1, 0), 3), sent(4, "b", 1, 0)}, 1},
		"one epoch for two, by force":      {[]oracle.Order{sent(0, "a", 1, 0), forced(sent(4, "b", 1, 0))}, 1},
		"a borrower's that is fenced":      {[]oracle.Order{forced(sent(0, "a", 2, 0)), sent(3, "b", 1, 4)}, 0},
		"after a lease":                    {[]oracle.Order{leased(sent(0, "a", 1, 1), 5), sent(6, "b", 2, 0)}, 0},
		"in a lease":                       {[]oracle.Order{leased(sent(0, "a", 1, 1), 9), sent(3, "b", 2, 0)}, 1},
		"a third one, behind a fenced one": {[]oracle.Order{sent(0, "a", 3, 0), sent(3, "b", 2, 0), sent(6, "c", 4, 0)}, 1},
	} {
		v := oracle.Sent(row.orders, nil, nil)
		if v.Violations != row.bad || v.Checked != uint64(len(row.orders)) {
			t.Errorf("%s: %+v, want %d", name, v, row.bad)
		}
		if v := oracle.Sent(row.orders, []tiers.SiteID{city}, nil); !v.Holds() || v.Checked != 0 {
			t.Errorf("%s, of a home that forgot: %+v", name, v)
		}
	}
}

// TestSentInStores plants two tasks, and a task and a request, that have one epoch of
// a unit.
func TestSentInStores(t *testing.T) {
	f := newFederation(t)
	task := func(name, epoch string) {
		ops, err := dispatch.TaskOps(dispatch.Brief{
			Event: "event:1", Stream: in(town, tiers.ClassUrgent).String(), Title: name, Organ: "x", Unit: "500000/p1", UnitEpoch: epoch,
		})
		if err != nil {
			t.Fatal(err)
		}
		f.write(self(town), in(town, tiers.ClassCommand), tiers.NewDocID(dispatch.KindTask, name), ops...)
	}
	task("one", "7.1")
	task("two", "7.2")
	holds(t, "two epochs", oracle.Sent(nil, nil, f.all()))
	told := sent(0, "task:one", 7, 1)
	holds(t, "as clients were told", oracle.Sent([]oracle.Order{told}, nil, f.all()))
	told.For = "elsewhere"
	caught(t, "not as a client was told", 1, oracle.Sent([]oracle.Order{told}, nil, f.all()))
	task("three", "7.2")
	caught(t, "one epoch for two tasks", 1, oracle.Sent(nil, nil, f.all()))

	lent := responder.Pool{Home: city, Child: town, Units: []responder.Lent{{Unit: "p1", Epoch: 8}}, UntilMS: 1, LentAtMS: 1, Reason: "x"}
	ops, err := responder.PoolOps(lent)
	if err != nil {
		t.Fatal(err)
	}
	f.write(self(city), in(town, tiers.ClassCommand), tiers.NewDocID(responder.KindPool, "spare"), ops...)
	caught(t, "and a pool", 1, oracle.Sent(nil, nil, f.all()))
	asked, err := responder.RequestOps(responder.Request{From: town, Home: city, Skill: "pump", For: "task:one", Reason: "x"})
	if err != nil {
		t.Fatal(err)
	}
	grant, err := responder.EntryOp(responder.Entry{At: 1, By: city, Kind: responder.StepGrant, Unit: "p1", Epoch: responder.Epoch{Home: 8}})
	if err != nil {
		t.Fatal(err)
	}
	request := tiers.NewDocID(responder.KindRequest, "help")
	f.write(self(city), in(town, tiers.ClassCommand), request, asked...)
	f.write(self(city), in(town, tiers.ClassCommand), request, grant)
	caught(t, "one epoch for a pool and a request", 2, oracle.Sent(nil, nil, f.all()))
}
