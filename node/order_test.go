package node_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// newCommanded is a mesh of a city, a district and two townships whose clocks can be
// set, and whose links soon end in silence; nobody stands in.
func newCommanded(t *testing.T) *skewed {
	t.Helper()
	s := &skewed{ahead: map[tiers.SiteID]*atomic.Int64{}}
	sites := []tiers.Site{
		{ID: city, Tier: tiers.TierCity, Name: "重庆市"}, {ID: district, Tier: tiers.TierDistrict, Name: "万州区", Parent: city},
		{ID: township, Tier: tiers.TierTownship, Name: "高笋塘街道", Parent: district}, {ID: neighbour, Tier: tiers.TierTownship, Name: "太白街道", Parent: district},
	}
	for _, x := range sites {
		s.ahead[x.ID] = &atomic.Int64{}
	}
	dir := t.TempDir()
	c, err := local.Open(limited(t), local.Config{
		Dir: dir, Federation: "cq", RedialMax: 200 * time.Millisecond, LinkIdle: time.Second, StandInAfter: time.Hour, Sites: sites,
		Now: func(id tiers.SiteID) time.Time { return time.Now().Add(time.Duration(s.ahead[id].Load())) },
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	s.mesh = &mesh{Cluster: c, t: t, dir: dir}
	return s
}

// issue gives an order that must be taken.
func (m *mesh) issue(at tiers.SiteID, r api.OrderRequest) tiers.DocID {
	m.t.Helper()
	m.n++
	r.Key = fmt.Sprintf("issue%d", m.n)
	out, err := m.Node(at).Backend().IssueOrder(limited(m.t), r)
	if err != nil {
		m.t.Fatal(err)
	}
	return out.ID
}

// order makes a step of an order at a site that must be allowed.
func (m *mesh) order(at tiers.SiteID, id tiers.DocID, s api.OrderStep) api.OrderStepResult {
	m.t.Helper()
	m.n++
	out, err := m.Node(at).Backend().StepOrder(limited(m.t), api.OrderStepRequest{Key: fmt.Sprintf("step%d", m.n), Order: string(id), Step: s})
	if err != nil {
		m.t.Fatalf("%s of %s at %s: %v", s.Kind, id, at, err)
	}
	return out
}

// disallowed makes a step that must be refused with a text.
func (m *mesh) disallowed(at tiers.SiteID, id tiers.DocID, s api.OrderStep, sentinel error, text string) {
	m.t.Helper()
	m.n++
	_, err := m.Node(at).Backend().StepOrder(limited(m.t), api.OrderStepRequest{Key: fmt.Sprintf("step%d", m.n), Order: string(id), Step: s})
	if !errors.Is(err, sentinel) || !strings.Contains(err.Error(), text) {
		m.t.Errorf("%s of %s at %s: %v, want %q", s.Kind, id, at, err, text)
	}
}

// shown is how far an order is, as a site knows.
func (m *mesh) shown(at tiers.SiteID, id tiers.DocID) api.OrderDetail {
	m.t.Helper()
	d, err := m.Node(at).Backend().Order(limited(m.t), string(id))
	if err != nil {
		m.t.Fatal(err)
	}
	return d
}

// target is an order at one target, as a site knows.
func (m *mesh) target(at tiers.SiteID, id tiers.DocID, site tiers.SiteID) api.TargetRow {
	m.t.Helper()
	d := m.shown(at, id)
	i := slices.IndexFunc(d.Targets, func(r api.TargetRow) bool { return r.Site == site })
	if i < 0 {
		m.t.Fatalf("%s knows no target %s: %+v", at, site, d)
	}
	return d.Targets[i]
}

// listed are the targets of the orders that a query selects at a site, page by page.
func (m *mesh) listed(at tiers.SiteID, q api.ReceiptQuery) (out []tiers.SiteID) {
	m.t.Helper()
	q.Limit = 1
	for {
		page, err := m.Node(at).Backend().ListReceipts(limited(m.t), q)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, r := range page.Items {
			out = append(out, r.Site)
		}
		if q.After = page.Next; q.After == "" {
			return out
		}
	}
}

// TestOrderToOfflineTownship: an order of the city to all townships, one of which is
// cut off, goes to the others at once; of that one it shows for how long it is on its
// way, and by whom; after the heal it is delivered, acknowledged and executed, with
// the times at each hop, and everybody who holds it shows the same.
func TestOrderToOfflineTownship(t *testing.T) {
	m := newCommanded(t)
	m.wait("links", func() bool { return m.link(district, township).Equal && m.link(city, district).Equal })
	m.Isolate(township)
	m.wait("the link to end", func() bool { return m.link(district, township).State != "connected" })
	deadline := time.Now().Add(2 * time.Hour).UnixMilli()
	id := m.issue(city, api.OrderRequest{To: "tier:township", Title: "转移群众", Text: "按预案", Who: "值班长", DeadlineMS: deadline})
	m.wait("the neighbour to have it", func() bool { return m.target(city, id, neighbour).DeliveredMS != 0 })
	m.wait("the district to say that it holds it", func() bool { return m.target(city, id, township).StoredMS != 0 })

	m.ahead[city].Store(int64(time.Hour))
	d := m.shown(city, id)
	if want := (api.OrderCounts{Targets: 2, Sent: 2, Delivered: 1}); d.Counts != want {
		t.Errorf("%+v, want %+v", d.Counts, want)
	}
	lost := m.target(city, id, township)
	if lost.State != command.StateIssued || lost.AgeMS < time.Hour.Milliseconds() || lost.Hop != district || lost.HopContactMS == 0 || lost.Overdue {
		t.Errorf("%+v", lost)
	}
	list := func(q api.ReceiptQuery) []tiers.SiteID { return m.listed(city, q) }
	if got := list(api.ReceiptQuery{Undelivered: true}); !slices.Equal(got, []tiers.SiteID{township}) {
		t.Errorf("undelivered: %v", got)
	}
	if got := list(api.ReceiptQuery{Overdue: true}); len(got) != 0 {
		t.Errorf("overdue: %v", got)
	}
	m.ahead[city].Store(int64(3 * time.Hour))
	if got := list(api.ReceiptQuery{Overdue: true}); len(got) != 2 {
		t.Errorf("overdue: %v", got)
	}
	if got := list(api.ReceiptQuery{State: command.StateDelivered}); !slices.Equal(got, []tiers.SiteID{neighbour}) {
		t.Errorf("delivered: %v", got)
	}
	m.ahead[city].Store(0)

	m.order(neighbour, id, api.OrderStep{Kind: command.StepRefuse, Reason: "no_means", Note: "道路中断"})
	m.disallowed(neighbour, id, api.OrderStep{Kind: command.StepExecute}, api.ErrRejected, "may now: report")
	m.disallowed(district, id, api.OrderStep{Kind: command.StepAck}, api.ErrRejected, "not for site 500101 to do")
	m.disallowed(city, id, api.OrderStep{Kind: command.StepAck}, api.ErrRejected, "not one of its targets")
	m.disallowed(neighbour, id, api.OrderStep{Kind: command.StepRemind}, api.ErrRejected, "not for site")
	m.disallowed(township, id, api.OrderStep{Kind: command.StepAck}, api.ErrNotFound, "holds no order")

	m.Heal()
	m.wait("the township to have it", func() bool { return m.target(city, id, township).DeliveredMS != 0 })
	m.order(township, id, api.OrderStep{Kind: command.StepAck, Who: "张三"})
	m.order(township, id, api.OrderStep{Kind: command.StepReport, Note: "已转移60人"})
	m.order(township, id, api.OrderStep{Kind: command.StepExecute, Who: "张三", Evidence: []string{"attachment:7"}})
	m.wait("the city to learn of it", func() bool { return m.target(city, id, township).State == command.StateExecuted })
	r := m.target(city, id, township)
	if times := []int64{r.Brief.IssuedAtMS, r.StoredMS, r.DeliveredMS, r.AcknowledgedMS, r.ExecutedMS}; !slices.IsSorted(times) || r.Reports != 1 || r.Late || r.AgeMS != 0 {
		t.Errorf("%v %+v", times, r)
	}
	if c := m.shown(city, id).Counts; c.Delivered != 2 || c.Acknowledged != 1 || c.Executed != 1 || c.Refused != 1 {
		t.Errorf("%+v", c)
	}
	k := store.DocKey{Stream: tiers.StreamID{Site: township, Class: tiers.ClassCommand}, Doc: command.ReceiptID(id, township)}
	m.wait("sites agree", m.agreed)
	m.holds([]store.DocKey{k})
	k.Stream.Site, k.Doc = neighbour, command.ReceiptID(id, neighbour)
	if _, err := m.Node(township).Views().View(k); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the township holds its neighbour's: %v", err)
	}
}

// TestOrderTakenBack: an order of a district that is taken back while a township is
// cut off and carries it out all the same shows as such everywhere; where it came in
// time it ends. Asking again reaches those that have not done it.
func TestOrderTakenBack(t *testing.T) {
	m := newCommanded(t)
	id := m.issue(district, api.OrderRequest{To: "area:" + string(district), Title: "封路"})
	m.wait("both to have it", func() bool { return m.shown(district, id).Counts.Delivered == 2 })
	m.wait("the city to hold it", func() bool { return m.link(city, district).Equal && m.link(district, city).Equal })
	m.disallowed(city, id, api.OrderStep{Kind: command.StepCancel}, api.ErrRejected, "site 500101 issued it")
	m.order(district, id, api.OrderStep{Kind: command.StepRemind, Note: "立即"})
	m.wait("the reminder", func() bool { return m.target(township, id, township).RemindedMS != 0 })
	m.Isolate(township)
	m.order(township, id, api.OrderStep{Kind: command.StepExecute})
	m.order(district, id, api.OrderStep{Kind: command.StepCancel, Note: "误发"})
	m.disallowed(district, id, api.OrderStep{Kind: command.StepRemind}, api.ErrRejected, "was cancelled")
	m.wait("the neighbour to hear", func() bool { return m.target(neighbour, id, neighbour).State == command.StateCancelled })
	m.disallowed(neighbour, id, api.OrderStep{Kind: command.StepExecute}, api.ErrRejected, "which is cancelled")
	if r := m.target(district, id, township); r.State != command.StateCancelled {
		t.Errorf("the district does not know better: %+v", r)
	}
	m.Heal()
	for _, site := range []tiers.SiteID{city, district, township} {
		m.wait("all to show it", func() bool {
			r := m.target(site, id, township)
			return r.State == command.StateExecuted && r.CancelledLate
		})
	}
	if d := m.shown(city, id); d.CancelledMS == 0 || d.Counts.Executed != 1 || d.Counts.Cancelled != 1 {
		t.Errorf("%+v", d.Counts)
	}
}

// empty is a township that nobody runs.
func (m *mesh) empty(id tiers.SiteID) tiers.Site {
	m.t.Helper()
	key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	return tiers.Site{ID: id, Tier: tiers.TierTownship, Name: "空", Parent: district, Key: key}
}

// TestOrderWaitsForTopology: a city that has just started, and knows an older topology
// than the one that its order was issued under, passes no target over: it waits.
func TestOrderWaitsForTopology(t *testing.T) {
	m := newCommanded(t)
	doc := m.Node(city).Topology().Doc()
	doc.Version++
	o := command.Order{
		Brief:   command.Brief{Order: command.OrderID(city, "k"), Title: "巡查", Issuer: city, IssuerTier: tiers.TierCity, To: "tier:township", IssuedAtMS: 1},
		Targets: []tiers.SiteID{"500101900", township}, Topology: doc.Version,
	}
	if err := m.Node(city).PutOrder(limited(t), o); err != nil {
		t.Fatal(err)
	}
	m.wait("views", func() bool { return m.Node(city).Group().Store().Counts().Dirty == 0 })
	if err := m.Node(city).OrdersNow(limited(t)); err == nil || !strings.Contains(err.Error(), "older than the order's") {
		t.Errorf("it goes out: %v", err)
	}
	if c := m.shown(city, o.Brief.Order).Counts; c.Sent != 0 {
		t.Errorf("%+v", c)
	}
	doc.Sites = append(slices.Clone(doc.Sites), m.empty("500101900"))
	if _, _, err := m.Node(city).PublishTopology(limited(t), "more", doc, false); err != nil {
		t.Fatal(err)
	}
	m.wait("both to be sent", func() bool { return m.shown(city, o.Brief.Order).Counts.Sent == 2 })
}

// TestOrderGoesOnAfterCrash: an order to a hundred sites goes out to each once, also
// when the city ends in the middle; what the topology has made of its targets since
// is shown.
func TestOrderGoesOnAfterCrash(t *testing.T) {
	m := newCommanded(t)
	doc := m.Topology().Doc()
	doc.Sites = slices.Clone(doc.Sites)
	doc.Version++
	for i := range 100 {
		doc.Sites = append(doc.Sites, m.empty(tiers.SiteID(fmt.Sprintf("5001019%02d", i))))
	}
	publish := func(key string) {
		t.Helper()
		if _, _, err := m.Node(city).PublishTopology(limited(t), key, doc, false); err != nil {
			t.Fatal(err)
		}
	}
	publish("more")
	m.wait("the topology", func() bool { _, ok := m.Node(city).Topology().Site("500101999"); return ok })
	id := m.issue(city, api.OrderRequest{To: "tier:township", Title: "巡查"})
	if err := m.Crash(city); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(limited(t), city); err != nil {
		t.Fatal(err)
	}
	m.wait("all to be sent", func() bool { return m.shown(city, id).Counts.Sent == 102 })
	m.wait("those that are there to have it", func() bool { return m.shown(city, id).Counts.Delivered == 2 })
	m.wait("the district to hold the others", func() bool {
		return !slices.ContainsFunc(m.shown(city, id).Targets, func(r api.TargetRow) bool { return r.StoredMS == 0 && r.DeliveredMS == 0 })
	})
	items, err := m.Node(city).Backend().View(limited(t), command.KindOrder, id.Name())
	if err != nil {
		t.Fatal(err)
	}
	var v command.OrderView
	if err := json.Unmarshal(items[0], &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Waves) != 1 || v.Waves[0].Sent != 102 || v.Order.Topology != m.Node(city).Topology().Version() {
		t.Errorf("%+v", v.Waves)
	}
	doc.Version++
	doc.Sites = slices.Clone(m.Node(city).Topology().Doc().Sites)
	doc.Sites = append(doc.Sites, m.empty("500101888"))
	for i := range doc.Sites {
		switch doc.Sites[i].ID {
		case "500101900":
			doc.Sites[i].Retired = true
		case "500101901":
			doc.Sites[i].Parent = city
		}
	}
	publish("changed")
	m.wait("the changes", func() bool { _, ok := m.Node(city).Topology().Site("500101888"); return ok })
	for site, want := range map[tiers.SiteID]string{"500101900": "retired", "500101888": "added since", "500101901": "", township: ""} {
		if r := m.target(city, id, site); r.Change != want {
			t.Errorf("%s: %q, want %q", site, r.Change, want)
		}
	}
}

// TestOrderRefused: an order that breaks a rule is refused, and nothing is written.
func TestOrderRefused(t *testing.T) {
	m := newCommanded(t)
	m.wait("the city's topology to be written", func() bool { return m.Node(city).Group().Store().Counts().Records > 0 && m.agreed() })
	before := m.Node(city).Group().Store().Counts().Records
	for want, r := range map[string]api.OrderRequest{
		"want a site below": {To: "500999", Title: "x"}, "title is empty": {To: string(district)}, "deadline 9999": {To: string(district), Title: "x", DeadlineMS: 253370764800000},
		"deadline 1970": {To: string(district), Title: "x", DeadlineMS: 1}, "text is 1000000": {To: string(district), Title: "x", Text: strings.Repeat("x", 1_000_000)},
	} {
		r.Key = want
		if _, err := m.Node(city).Backend().IssueOrder(limited(t), r); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := m.Node(township).Backend().IssueOrder(limited(t), api.OrderRequest{Key: "k", To: "tier:township", Title: "x"}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a township has nobody to order: %v", err)
	}
	if after := m.Node(city).Group().Store().Counts().Records; after != before {
		t.Errorf("%d records, then %d", before, after)
	}
}
