package responder_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// grants is a site's table of claims, as its Raft applies them: what package
// replication/store does, in the simplest way.
type grants map[string]struct {
	holder string
	epoch  uint64
}

func (g grants) claim(resource, holder string, force bool) (uint64, bool) {
	now := g[resource]
	switch {
	case now.holder == holder && !force:
		return now.epoch, true
	case now.holder != "" && !force:
		return 0, false
	}
	now.holder, now.epoch = holder, now.epoch+1
	g[resource] = now
	return now.epoch, true
}

func (g grants) release(resource string, epoch uint64) {
	if now := g[resource]; now.epoch == epoch {
		now.holder = ""
		g[resource] = now
	}
}

// site is one site of the simulated world.
type site struct {
	id    tiers.SiteID
	skew  time.Duration
	taken grants
	// docs are the writes that the site holds of each document.
	docs map[tiers.DocID][]write
	// keys are the outcomes of claims with an idempotency key.
	keys map[string]uint64
}

// write is one author's change: a head, or an entry.
type write struct {
	author tiers.SiteID
	key    string // the root's key; empty for an entry
	text   string
}

func (s *site) put(doc tiers.DocID, ws ...write) {
	for _, w := range ws {
		if !slices.Contains(s.docs[doc], w) {
			s.docs[doc] = append(s.docs[doc], w)
		}
	}
}

// source shows writes to a fold as a document, in the order given.
func source(stream tiers.StreamID, doc tiers.DocID, writes []write) *crdt.Source {
	s := &crdt.Source{Stream: stream, Doc: doc, Document: &crdt.Document{Root: crdt.Node{Kind: crdt.NodeMap}}, Authors: map[crdt.Actor]crdt.Author{}}
	items := crdt.Node{Kind: crdt.NodeList}
	for i, w := range writes {
		a := crdt.Actor{1}
		copy(a[1:], w.author)
		s.Authors[a] = crdt.Author{Site: w.author, Incarnation: 1}
		v := crdt.Written{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: w.text}, Actor: a, Counter: uint64(i)}
		if w.key == "" {
			items.Items = append(items.Items, v)
			continue
		}
		s.Document.Root.Fields = append(s.Document.Root.Fields, crdt.Field{Key: w.key, Values: []crdt.Written{v}})
	}
	s.Document.Root.Fields = append(s.Document.Root.Fields, crdt.Field{Key: "entries", Values: []crdt.Written{{Node: items}}})
	return s
}

// world is three sites, their links, one unit of the first, and its terminal.
// The home h stands above the borrower c and above a, which asks.
type world struct {
	t        *rapid.T
	h, c, a  *site
	cut      map[tiers.SiteID]bool
	now      time.Time
	n        int
	honest   bool // no clock is wrong by more than an hour
	terminal responder.Terminal
	orders   []responder.Order // given to the unit by whoever had the right
	pools    []tiers.DocID
	requests []tiers.DocID
	granted  map[responder.Epoch]string
	force    map[tiers.DocID]bool // pools that were taken back by force
}

func newWorld(t *rapid.T, honest bool) *world {
	w := &world{t: t, cut: map[tiers.SiteID]bool{}, now: time.UnixMilli(1_760_000_000_000), honest: honest, granted: map[responder.Epoch]string{}, force: map[tiers.DocID]bool{}}
	skew := time.Hour
	if !honest {
		skew = 100 * time.Hour
	}
	for i, p := range []**site{&w.h, &w.c, &w.a} {
		*p = &site{
			id: tiers.SiteID([]string{"h", "c", "a"}[i]), taken: grants{}, docs: map[tiers.DocID][]write{}, keys: map[string]uint64{},
			skew: rapid.SampledFrom([]time.Duration{-skew, -skew / 3, 0, skew}).Draw(t, "skew"),
		}
	}
	return w
}

func (w *world) clock(s *site) time.Time { return w.now.Add(s.skew) }

// fresh is a name that was not used before.
func (w *world) fresh(kind string) string { w.n++; return fmt.Sprintf("%s:%d", kind, w.n) }

func (w *world) entry(s *site, doc tiers.DocID, e responder.Entry) {
	e.By, e.At = s.id, crdt.NewHybridTime(w.clock(s))+crdt.HybridTime(w.n)
	w.n++
	op, err := responder.EntryOp(e)
	if err != nil {
		w.t.Fatal(err)
	}
	s.put(doc, write{s.id, "", op.Value.(string)})
}

func (w *world) pool(s *site, doc tiers.DocID) (v responder.PoolView, ok bool) {
	if len(s.docs[doc]) == 0 {
		return v, false
	}
	made, err := responder.FoldPool(source(tiers.StreamID{Site: "c", Class: tiers.ClassCommand}, doc, s.docs[doc]))
	if err == nil {
		err = json.Unmarshal(made.JSON, &v)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return v, true
}

func (w *world) request(s *site, doc tiers.DocID) (v responder.RequestView, ok bool) {
	if len(s.docs[doc]) == 0 {
		return v, false
	}
	made, err := responder.FoldRequest(source(tiers.StreamID{Site: "a", Class: tiers.ClassCommand}, doc, s.docs[doc]))
	if err == nil {
		err = json.Unmarshal(made.JSON, &v)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return v, true
}

// order gives the unit an order; each epoch is of one holder for ever.
func (w *world) order(o responder.Order) {
	if was, ok := w.granted[o.Epoch]; ok && was != o.For {
		w.t.Fatalf("epoch %s was granted to %s and to %s", o.Epoch, was, o.For)
	}
	w.granted[o.Epoch] = o.For
	w.orders = append(w.orders, o)
}

// unit is the one that everybody wants.
const unit = "u"

// steps are what can happen; each stands for one action of a site, of the
// network or of the terminal.
func (w *world) steps() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"time": func(t *rapid.T) {
			w.now = w.now.Add(rapid.SampledFrom([]time.Duration{time.Minute, 20 * time.Minute, time.Hour, 4 * time.Hour}).Draw(t, "passes"))
		},
		"cut":  func(t *rapid.T) { w.cut[rapid.SampledFrom([]tiers.SiteID{"c", "a"}).Draw(t, "link")] = true },
		"heal": func(t *rapid.T) { delete(w.cut, rapid.SampledFrom([]tiers.SiteID{"c", "a"}).Draw(t, "link")) },
		"sync": func(t *rapid.T) { w.sync(t) },
		"claim at home": func(*rapid.T) {
			holder := w.fresh("task")
			if e, ok := w.h.taken.claim(unit, holder, false); ok {
				w.order(responder.Order{Epoch: responder.Epoch{Home: e}, For: holder})
			}
		},
		"release at home": func(*rapid.T) {
			if now := w.h.taken[unit]; len(now.holder) > 4 && now.holder[:5] == "task:" {
				w.h.taken.release(unit, now.epoch)
			}
		},
		"force at home": func(*rapid.T) {
			if now := w.h.taken[unit]; now.holder != "" && now.holder[:5] != "pool:" {
				holder := w.fresh("task")
				e, _ := w.h.taken.claim(unit, holder, true)
				w.order(responder.Order{Epoch: responder.Epoch{Home: e}, For: holder})
			}
		},
		"lend":         w.lend,
		"extend":       w.extend,
		"take back":    func(t *rapid.T) { w.takeBack(t, false) },
		"force back":   func(t *rapid.T) { w.takeBack(t, true) },
		"assign lent":  w.assign,
		"release lent": w.releaseLent,
		"hand back":    w.handBack,
		"ask": func(*rapid.T) {
			doc := tiers.DocID(w.fresh(responder.KindRequest))
			ops, err := responder.RequestOps(responder.Request{From: "a", Home: "h", Unit: unit, For: w.fresh("task"), Reason: "x"})
			if err != nil {
				w.t.Fatal(err)
			}
			w.a.put(doc, write{"a", "request", ops[0].Value.(string)})
			w.requests = append(w.requests, doc)
		},
		"answer": w.answer,
		"use":    w.use,
		"give": func(t *rapid.T) {
			if len(w.requests) > 0 {
				doc := rapid.SampledFrom(w.requests).Draw(t, "request")
				if v, ok := w.request(w.a, doc); ok && (v.State == responder.RequestPending || v.State == responder.RequestGranted) {
					w.entry(w.a, doc, responder.Entry{Kind: responder.StepReturn})
				}
			}
		},
		"terminal": func(t *rapid.T) {
			if len(w.orders) > 0 { // in any order, again and again, however old
				_ = w.terminal.Obey(rapid.SampledFrom(w.orders).Draw(t, "order"), w.now)
			}
		},
		"restart": func(t *rapid.T) {
			// What is between two writes is forgotten: the steps here write one by one.
			s := rapid.SampledFrom([]*site{w.h, w.c, w.a}).Draw(t, "site")
			for _, d := range slices.Sorted(maps.Keys(s.docs)) {
				s.docs[d] = rapid.Permutation(s.docs[d]).Draw(t, "order on disk")
			}
		},
	}
}

// run takes many steps at random: schedules must be long to meet a lease's end.
func (w *world) run(t *rapid.T) {
	steps := w.steps()
	names := slices.Sorted(maps.Keys(steps))
	// What a lease needs happens more often than what ends it early.
	for range 3 {
		names = append(names, "time", "sync", "lend", "heal", "assign lent", "take back", "release at home")
	}
	for range 300 {
		steps[rapid.SampledFrom(names).Draw(t, "step")](t)
		w.check()
	}
}

func (w *world) lend(t *rapid.T) {
	doc := tiers.DocID(w.fresh(responder.KindPool))
	until := w.clock(w.h).Add(rapid.SampledFrom([]time.Duration{responder.LeaseMin, 5 * time.Hour, 12 * time.Hour}).Draw(t, "lease")).UnixMilli()
	if responder.CheckLease(until, w.clock(w.h)) != nil {
		return
	}
	e, ok := w.h.taken.claim(unit, string(doc), false)
	if !ok || rapid.IntRange(0, 9).Draw(t, "ends here") == 0 {
		return // or the site ended before it wrote the document
	}
	ops, err := responder.PoolOps(responder.Pool{Home: "h", Child: "c", Units: []responder.Lent{{Unit: unit, Epoch: e}}, UntilMS: until, Reason: "x"})
	if err != nil {
		t.Fatal(err)
	}
	w.h.put(doc, write{"h", "pool", ops[0].Value.(string)})
	w.pools = append(w.pools, doc)
}

func (w *world) drawPool(t *rapid.T, s *site) (responder.PoolView, bool) {
	if len(w.pools) == 0 {
		return responder.PoolView{}, false
	}
	return w.pool(s, rapid.SampledFrom(w.pools).Draw(t, "pool"))
}

func (w *world) extend(t *rapid.T) {
	v, ok := w.drawPool(t, w.h)
	// What a taking back that ended half-way has granted anew is lent no longer.
	if !ok || v.State != responder.PoolLent || w.h.taken[unit].epoch != v.Pool.Units[0].Epoch {
		return
	}
	until := max(v.UntilMS, w.clock(w.h).UnixMilli()) + rapid.Int64Range(1, time.Hour.Milliseconds()*20).Draw(t, "longer")
	if responder.CheckLease(until, w.clock(w.h)) == nil {
		w.entry(w.h, v.ID, responder.Entry{Kind: responder.StepExtend, UntilMS: until})
	}
}

func (w *world) takeBack(t *rapid.T, force bool) {
	v, ok := w.drawPool(t, w.h)
	if !ok || v.State == responder.PoolTaken || !force && v.MayTakeBack(w.clock(w.h)) != nil {
		return
	}
	w.force[v.ID] = w.force[v.ID] || v.MayTakeBack(w.clock(w.h)) != nil
	key := "takeback:" + string(v.ID)
	if _, done := w.h.keys[key]; !done {
		w.h.keys[key], _ = w.h.taken.claim(unit, "returned:"+string(v.ID), true)
	}
	w.h.taken.release(unit, w.h.keys[key])
	if rapid.IntRange(0, 9).Draw(t, "ends here") != 0 {
		w.entry(w.h, v.ID, responder.Entry{Kind: responder.StepTakeBack, Reason: "x"})
	}
}

func (w *world) assign(t *rapid.T) {
	v, ok := w.drawPool(t, w.c)
	if !ok || v.MayAssign(w.clock(w.c)) != nil {
		return
	}
	l, holder := v.Pool.Units[0], w.fresh("task")
	res := responder.LentResource(v.ID, l.Unit)
	e, ok := w.c.taken.claim(res, holder, rapid.Bool().Draw(t, "force"))
	// Raft may take its time; the site looks again.
	w.now = w.now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, time.Hour}).Draw(t, "raft takes"))
	switch {
	case !ok:
	case v.MayAssign(w.clock(w.c)) != nil:
		w.c.taken.release(res, e)
	default:
		w.order(responder.Order{Epoch: responder.Epoch{Home: l.Epoch, Lent: e}, For: holder, NotAfterMS: v.AssignUntilMS})
	}
}

func (w *world) releaseLent(t *rapid.T) {
	if v, ok := w.drawPool(t, w.c); ok {
		res := responder.LentResource(v.ID, unit)
		if now := w.c.taken[res]; now.holder != "" && now.holder != "returned:"+string(v.ID) {
			w.c.taken.release(res, now.epoch)
		}
	}
}

func (w *world) handBack(t *rapid.T) {
	v, ok := w.drawPool(t, w.c)
	if !ok || v.State != responder.PoolLent {
		return
	}
	if _, ok := w.c.taken.claim(responder.LentResource(v.ID, unit), "returned:"+string(v.ID), false); ok && rapid.IntRange(0, 9).Draw(t, "ends here") != 0 {
		w.entry(w.c, v.ID, responder.Entry{Kind: responder.StepHandBack})
	}
}

func (w *world) answer(t *rapid.T) {
	if len(w.requests) == 0 {
		return
	}
	doc := rapid.SampledFrom(w.requests).Draw(t, "request")
	v, ok := w.request(w.h, doc)
	if !ok {
		return
	}
	ends := rapid.IntRange(0, 9).Draw(t, "ends here") == 0
	switch v.Due() {
	case responder.AnswerNothing:
	case responder.AnswerDecide:
		e, ok := w.h.taken.claim(unit, string(doc), false)
		switch {
		case ends:
		case ok:
			w.entry(w.h, doc, responder.Entry{Kind: responder.StepGrant, Unit: unit, Epoch: responder.Epoch{Home: e}})
		default:
			w.entry(w.h, doc, responder.Entry{Kind: responder.StepRefuse, Reason: "held"})
		}
	case responder.AnswerRefuse:
		if now := w.h.taken[unit]; now.holder == string(doc) {
			w.h.taken.release(unit, now.epoch)
		}
		w.entry(w.h, doc, responder.Entry{Kind: responder.StepRefuse, Reason: "taken back"})
	case responder.AnswerFree:
		w.h.taken.release(unit, v.Epoch.Home)
		if !ends {
			w.entry(w.h, doc, responder.Entry{Kind: responder.StepReleased})
		}
	}
}

// use sends a granted unit, at the site that asked.
func (w *world) use(t *rapid.T) {
	if len(w.requests) == 0 {
		return
	}
	doc := rapid.SampledFrom(w.requests).Draw(t, "request")
	if v, ok := w.request(w.a, doc); ok && v.State == responder.RequestGranted {
		w.order(responder.Order{Epoch: v.Epoch, For: string(doc)})
	}
}

// sync lets documents cross one link that is not cut, in any order, both ways.
func (w *world) sync(t *rapid.T) {
	for _, s := range []*site{w.c, w.a} {
		if w.cut[s.id] {
			continue
		}
		docs := w.pools
		if s == w.a {
			docs = w.requests
		}
		for _, d := range docs {
			down, up := slices.Clone(w.h.docs[d]), slices.Clone(s.docs[d])
			s.put(d, rapid.Permutation(append(down, down...)).Draw(t, "down")...)
			w.h.put(d, rapid.Permutation(up).Draw(t, "up")...)
		}
	}
}

// check is what must hold at every moment: of the claims that a terminal which
// knows the highest grant would obey, at most one is left; as long as no clock
// is wrong by more than an hour, at no moment do home and borrower both have the
// right to send the unit; and the terminal never went back.
func (w *world) check() {
	standing := map[responder.Epoch]string{}
	now := w.h.taken[unit]
	if now.holder != "" && now.holder[:5] == "task:" || len(now.holder) > 12 && now.holder[:12] == "unitrequest:" {
		standing[responder.Epoch{Home: now.epoch}] = now.holder
	}
	for _, doc := range w.pools {
		v, ok := w.pool(w.c, doc)
		if !ok || v.MayAssign(w.clock(w.c)) != nil {
			continue
		}
		lent := w.c.taken[responder.LentResource(doc, unit)]
		fenced := v.Pool.Units[0].Epoch < now.epoch
		if lent.holder == "" || lent.holder == "returned:"+string(doc) {
			continue
		}
		if fenced && w.honest && !w.force[doc] {
			w.t.Fatalf("%s may still send the unit, and the home took it back without force", doc)
		}
		if !fenced {
			standing[responder.Epoch{Home: v.Pool.Units[0].Epoch, Lent: lent.epoch}] = lent.holder
		}
	}
	if len(standing) > 1 {
		w.t.Fatalf("two claims that nothing fences: %v", standing)
	}
	var t responder.Terminal
	for _, o := range w.orders {
		before := t.Obeyed.Epoch
		if err := t.Obey(o, time.UnixMilli(0)); err == nil && o.Epoch.Compare(before) < 0 {
			w.t.Fatalf("a terminal obeyed %s after %s", o.Epoch, before)
		} else if err != nil && !errors.Is(err, responder.ErrFenced) {
			w.t.Fatal(err)
		}
	}
}

// TestNeverTwoPlaces: random schedules of three sites, with cuts, clocks that are
// wrong by up to an hour, and ends between any two writes.
func TestNeverTwoPlaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { newWorld(t, true).run(t) })
}

// TestNeverTwoPlacesWhateverTheClock: the same with clocks that are wrong by
// days: then the home may take back while the borrower still sends, but its
// grant fences, and of what nothing fences there is one.
func TestNeverTwoPlacesWhateverTheClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { newWorld(t, false).run(t) })
}
