package node_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// receipt is where an order stands at a township.
func receipt(id tiers.DocID, site tiers.SiteID) store.DocKey {
	return store.DocKey{Stream: tiers.StreamID{Site: site, Class: tiers.ClassCommand}, Doc: command.ReceiptID(id, site)}
}

// TestStepBeforeOrder: chains keep no step with each other, so that the district's word
// that it holds an order may come to the township before the order. The township goes
// on, says that the order has not come, and delivers it when it does.
func TestStepBeforeOrder(t *testing.T) {
	m := newCommanded(t)
	m.wait("links", func() bool { return m.link(district, township).Equal && m.link(city, district).Equal })
	m.Isolate(township)
	m.wait("the link to end", func() bool { return m.link(district, township).State != "connected" })
	id := m.issue(city, api.OrderRequest{To: string(township), Title: "转移群众"})
	m.wait("the district to say that it holds it", func() bool { return m.target(city, id, township).StoredMS != 0 })

	k, end := receipt(id, township), m.Node(township)
	word, err := m.Node(district).Held(crdt.ChainID{Stream: k.Stream, Author: crdt.Author{Site: district, Incarnation: 1}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := end.Group().Ingest(limited(t), word); err != nil {
		t.Fatal(err)
	}
	m.wait("views", func() bool { return end.Group().Store().Counts().Dirty == 0 })
	if err := end.OrdersNow(limited(t)); err != nil {
		t.Errorf("the loop of orders ends, and the node with it: %v", err)
	}
	m.disallowed(township, id, api.OrderStep{Kind: command.StepAck}, api.ErrUnavailable, "waits for records")
	if got := m.listed(township, api.ReceiptQuery{Undelivered: true}); len(got) != 0 {
		t.Errorf("an order that has not come is on its way since 1970: %v", got)
	}
	if _, err := end.Report(limited(t), "goes on", event.Report{Type: "01001", Title: "x", Priority: 3}); err != nil {
		t.Errorf("the township: %v", err)
	}
	m.Heal()
	m.wait("the township to have it", func() bool { return m.target(city, id, township).DeliveredMS != 0 })
	m.wait("sites agree", m.agreed)
	m.holds([]store.DocKey{k})
}

// spoil writes a document at a site without its lists.
func (m *mesh) spoil(at tiers.SiteID, k store.DocKey) func([]crdt.Op, error) {
	return func(ops []crdt.Op, err error) {
		m.t.Helper()
		if err == nil {
			ops = slices.DeleteFunc(ops, func(o crdt.Op) bool { return o.Kind != crdt.OpPut })
			err = m.Node(at).PutOps(limited(m.t), k, ops)
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
}

// TestSpoiltReceipt: orders that their issuer wrote without the list that steps go to,
// more than are marked at once, keep no other order from being delivered, and end no
// loop.
func TestSpoiltReceipt(t *testing.T) {
	m := newCommanded(t)
	var k store.DocKey
	for i := range node.OrderBatch + 1 {
		b := command.Brief{
			Order: tiers.NewDocID(command.KindOrder, fmt.Sprintf("0000%02d", i)), Title: "巡查", Issuer: district, IssuerTier: tiers.TierDistrict,
			To: string(township), IssuedAtMS: 1,
		}
		k = receipt(b.Order, township)
		m.spoil(district, k)(command.ReceiptOps(b))
	}
	m.wait("the township to hold them", func() bool {
		_, err := m.Node(township).Views().View(k)
		return err == nil
	})
	id := m.issue(city, api.OrderRequest{To: string(township), Title: "转移群众"})
	m.wait("the other one to be delivered", func() bool { return m.target(city, id, township).DeliveredMS != 0 })
	if err := m.Node(township).OrdersNow(limited(t)); err != nil {
		t.Errorf("the loop of orders ends, and the node with it: %v", err)
	}
	m.alarmed(township, k.String()+" cannot be written")
}

// alarmed waits for an alarm at a site that holds a text.
func (m *mesh) alarmed(site tiers.SiteID, text string) {
	m.t.Helper()
	m.wait("an alarm: "+text, func() bool {
		return slices.ContainsFunc(m.Node(site).Alarms(), func(a string) bool { return strings.Contains(a, text) })
	})
}

// TestSpoiltEvent: an event that a district put into a township's stream without the
// list that actions go to gets no task, and a task of it cannot tell it the outcome;
// others get theirs, and the township goes on.
func TestSpoiltEvent(t *testing.T) {
	m := newMesh(t)
	m.publishRules()
	m.wait("sites agree", m.agreed)
	k := store.DocKey{Stream: tiers.StreamID{Site: township, Class: tiers.ClassRoutine}, Doc: tiers.NewDocID(event.Kind, "spoilt")}
	m.spoil(district, k)(event.CreateOps(event.Report{Type: "01001", Title: "x", Priority: 3}))
	m.alarmed(township, k.String()+" cannot be dispatched")
	good := m.report(1)[0]
	m.wait("another one to have its task", func() bool {
		_, _, err := m.Node(township).Task(dispatch.TaskID(good.Doc))
		return err == nil
	})

	task := store.DocKey{Stream: tiers.StreamID{Site: township, Class: tiers.ClassCommand}, Doc: tiers.NewDocID(dispatch.KindTask, "ofspoilt")}
	ops, err := dispatch.TaskOps(dispatch.Brief{Event: k.Doc, Stream: k.Stream.String(), Title: "x", Organ: "o", Limit: twoHours, DispatchedAtMS: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Node(township).PutOps(limited(t), task, ops); err != nil {
		t.Fatal(err)
	}
	m.act(township, task.Doc, dispatch.Action{Kind: dispatch.ActionVoid, Reason: dispatch.Reasons(dispatch.ActionVoid)[0]})
	m.alarmed(township, "the outcome of "+task.String()+" cannot be passed on")
	m.report(1)
}

// TestSpoiltRequests: a request for a unit, and a replication, that a district spoilt
// are not answered, and the township goes on.
func TestSpoiltRequests(t *testing.T) {
	m := newMesh(t)
	m.wait("links", func() bool { return m.link(district, township).Equal })
	inbox := tiers.StreamID{Site: township, Class: tiers.ClassCommand}
	m.spoil(district, store.DocKey{Stream: inbox, Doc: tiers.NewDocID(responder.KindRequest, "spoilt")})(responder.RequestOps(responder.Request{
		From: district, Home: township, Skill: "none", For: "task:1", Reason: "x", AskedAtMS: 1,
	}))
	m.alarmed(township, "a request for a unit cannot be answered")
	k := store.DocKey{Stream: inbox, Doc: tiers.NewDocID(catalog.KindReplication, "spoilt")}
	m.spoil(district, k)(catalog.ReplicationOps(catalog.Replication{Code: "a@1", To: township, By: district, At: 1}))
	m.alarmed(township, k.String()+" cannot be decided on")
	m.report(1)
}

// TestUnmatchedEvents: events for which there is no rule, many more than a pass takes
// up, keep no other event from being dispatched, and are dispatched when there is one.
func TestUnmatchedEvents(t *testing.T) {
	m := newMesh(t)
	rule := dispatch.DefaultRules()[0]
	rule.Code, rule.TypePrefix, rule.PriorityMax = "lids", "01001", 0
	m.publishTable(rule)
	m.wait("rules arrive", m.agreed)
	const unmatched = node.DispatchPage + node.DispatchBatch + 1
	for i := range unmatched {
		r := event.Report{Type: "no rule", Title: "x", Priority: 3}
		if _, err := m.Node(township).Report(limited(t), fmt.Sprintf("unmatched %d", i), r); err != nil {
			t.Fatal(err)
		}
	}
	tasked := func(k store.DocKey) func() bool {
		return func() bool {
			_, _, err := m.Node(township).Task(dispatch.TaskID(k.Doc))
			return err == nil
		}
	}
	m.wait("the event of a type that has a rule to have its task", tasked(m.report(1)[0]))
	rule.Code, rule.TypePrefix = "all", ""
	m.publishTable(rule)
	m.wait("the others to have theirs", func() bool {
		hits, err := m.Node(township).Group().Store().Index(store.IndexQuery{Name: event.IndexUndispatched})
		return err == nil && len(hits) == 0
	})
}
