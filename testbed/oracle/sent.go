package oracle

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// Order is an order to a unit of which a client was told that it was given.
type Order struct {
	// Unit is HOME/CODE, For what it was sent to.
	Unit, For string
	// By is the site that gave it.
	By    tiers.SiteID
	Epoch responder.Epoch
	// Call and Return bound the moment at which it was given.
	Call, Return time.Duration
	// Until is when its end was asked for, NotAfter the end of its lease; zero for
	// neither.
	Until, NotAfter time.Duration
	// Force says that the unit was taken from whoever had it.
	Force bool
}

// Sent checks that nobody is sent to two places: no epoch of a unit stands for two
// things, neither in what clients were told nor in the tasks, requests and pools of
// the sites; and an order of a higher epoch is given only when the one before has
// ended, or by force. An order of a lower epoch than was seen is no order: the unit's
// terminal refuses it. Left out are the units and orders of the sites that are named,
// which have forgotten what they granted.
func Sent(orders []Order, forgot []tiers.SiteID, sites []Site) Verdict {
	v := Verdict{Oracle: "one place"}
	orders = slices.DeleteFunc(slices.Clone(orders), func(o Order) bool { return ofAny(o.Unit, forgot) || slices.Contains(forgot, o.By) })
	slices.SortStableFunc(orders, func(a, b Order) int { return cmp.Or(cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Return, b.Return)) })
	told := tellings{}
	var last Order
	for _, o := range orders {
		v.Checked++
		v.tell(told, telling{o.Unit, o.Epoch}, o.For, o.By)
		if o.Unit != last.Unit {
			last = o
			continue
		}
		if o.Epoch.Compare(last.Epoch) <= 0 {
			continue // fenced, or the same order again
		}
		if !o.Force && last.stands(o) && o.For != last.For {
			v.violate("%s was sent to %s by %s in epoch %s while %s had sent it to %s in epoch %s", o.Unit, o.For, o.By, o.Epoch, last.By, last.For, last.Epoch)
		}
		last = o
	}
	for _, s := range sites {
		v.written(told, forgot, s)
	}
	return v
}

func ofAny(unit string, homes []tiers.SiteID) bool {
	return slices.ContainsFunc(homes, func(h tiers.SiteID) bool { return len(unit) > len(h) && unit[:len(h)+1] == string(h)+"/" })
}

// stands reports whether an order stood all the time while a later one was given.
func (o Order) stands(later Order) bool {
	return o.Return <= later.Call && (o.Until == 0 || o.Until > later.Return) && (o.NotAfter == 0 || o.NotAfter > later.Return)
}

// telling is one epoch of a unit.
type telling struct {
	unit  string
	epoch responder.Epoch
}

// tellings say what each epoch of a unit stands for, and which site said so.
type tellings map[telling]struct {
	what string
	by   tiers.SiteID
}

func (v *Verdict) tell(all tellings, t telling, what string, by tiers.SiteID) {
	if first, ok := all[t]; !ok {
		all[t] = struct {
			what string
			by   tiers.SiteID
		}{what, by}
	} else if first.what != what {
		v.violate("%s in epoch %s is sent to %s at %s and to %s at %s", t.unit, t.epoch, first.what, first.by, what, by)
	}
}

// written reads what the documents of a site say about units.
func (v *Verdict) written(told tellings, forgot []tiers.SiteID, s Site) {
	err := s.Store.Documents(func(k store.DocKey) error {
		kind := k.Doc.Kind()
		if kind != dispatch.KindTask && kind != responder.KindRequest && kind != responder.KindPool {
			return nil
		}
		view, err := s.View(k)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		says, err := said(kind, view.JSON)
		for _, t := range says {
			if !ofAny(t.unit, forgot) {
				v.Checked++
				v.tell(told, t, string(k.Doc), s.ID)
			}
		}
		return err
	})
	if err != nil {
		v.unread("what it says about units", s.ID, err)
	}
}

// said returns the epochs of units that a task, a request or a pool stands for.
func said(kind string, b []byte) ([]telling, error) {
	switch kind {
	case dispatch.KindTask:
		var t dispatch.TaskView
		if err := json.Unmarshal(b, &t); err != nil || t.Brief.Unit == "" || t.Brief.Parent != "" {
			return nil, err // one that was delegated has the brief of its parent
		}
		epoch, err := responder.ParseEpoch(t.Brief.UnitEpoch)
		return []telling{{t.Brief.Unit, epoch}}, err
	case responder.KindRequest:
		var r responder.RequestView
		if err := json.Unmarshal(b, &r); err != nil || r.Unit == "" {
			return nil, err
		}
		return []telling{{string(r.Request.Home) + "/" + r.Unit, r.Epoch}}, nil
	default:
		var p responder.PoolView
		if err := json.Unmarshal(b, &p); err != nil {
			return nil, err
		}
		var out []telling
		for _, l := range p.Pool.Units {
			out = append(out, telling{string(p.Pool.Home) + "/" + l.Unit, responder.Epoch{Home: l.Epoch}})
		}
		return out, nil
	}
}
