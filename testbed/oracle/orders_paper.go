package oracle

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// paper is an order or a receipt as a site holds it.
type paper struct {
	order command.Order // of a receipt, only its brief
	steps []stepBy      // each once, in the order of their texts
	shown command.ReceiptView
	// pending says that records are held back, so that the view may lack them.
	pending          bool
	version, applied uint64
}

// stepBy is a step and the site whose change holds it.
type stepBy struct {
	command.Step
	author tiers.SiteID
	text   string
}

// texts is all steps, for comparison.
func (p paper) texts() string {
	var b strings.Builder
	for _, s := range p.steps {
		b.WriteString(s.text + "\n")
	}
	return b.String()
}

// readPaper reads a document and the view of exactly what was read; was is returned
// when nothing changed. What does not hold still is not there for now.
func (o *Orders) readPaper(site Site, k store.DocKey, was paper) (p paper, there bool, err error) {
	for range showsAttempts {
		applied := site.Store.AppliedIndex()
		h, err := site.Store.Changes(k)
		if errors.Is(err, store.ErrNotFound) {
			return p, false, nil
		}
		if err != nil {
			return p, false, err
		}
		if mark := h.Version ^ h.Database<<40; was.version == mark {
			was.applied = max(was.applied, applied)
			return was, true, nil
		}
		view, err := site.View(k)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return p, false, err
		}
		after, again := site.Store.Changes(k)
		if again != nil || after.Version != h.Version || after.Database != h.Database {
			continue
		}
		p, err = o.parse(k, h, view.JSON)
		p.version, p.applied, p.pending = h.Version^h.Database<<40, applied, h.Pending+h.Refused > 0
		return p, err == nil, err
	}
	return was, was.version != 0, nil
}

// parse reads a document's head and steps by itself, and what the view says.
func (o *Orders) parse(k store.DocKey, h *store.Changes, view []byte) (p paper, err error) {
	doc, err := o.engine.Read(h.Raw)
	if err != nil {
		return p, err
	}
	authors := map[crdt.Hash]tiers.SiteID{}
	for i, c := range doc.Changes {
		authors[c.Hash] = h.Authors[i].Site
	}
	for _, w := range doc.Root.Field("head") {
		text, _ := w.Node.Scalar.(string)
		if err := json.Unmarshal([]byte(text), &p.order); err != nil {
			return p, fmt.Errorf("head of %s: %w", k, err)
		}
	}
	for _, list := range doc.Root.Field("steps") {
		for _, it := range list.Node.Items {
			text, _ := it.Node.Scalar.(string)
			s := stepBy{text: text}
			if c, known := doc.ChangeOf(it); known {
				s.author = authors[c.Hash]
			}
			if err := json.Unmarshal([]byte(text), &s.Step); err != nil {
				return p, fmt.Errorf("a step of %s: %w", k, err)
			}
			p.steps = append(p.steps, s)
		}
	}
	slices.SortFunc(p.steps, func(a, b stepBy) int { return strings.Compare(a.text, b.text) })
	p.steps = slices.CompactFunc(p.steps, func(a, b stepBy) bool { return a.text == b.text && a.author == b.author })
	if k.Doc.Kind() == command.KindReceipt && view != nil {
		err = json.Unmarshal(view, &p.shown)
	}
	return p, err
}

// paper judges one document at one site, by itself and by the orders that are known.
func (o *Orders) paper(at tiers.SiteID, k store.DocKey, p paper) {
	if p.order.Order == "" { // its head is held back
		return
	}
	b := p.order.Brief
	if first, known := o.briefs[b.Order]; !known {
		o.briefs[b.Order] = b
	} else if first != b {
		o.once("%s says at %s that its order is %+v, and elsewhere %+v", k, at, b, first)
	}
	for _, s := range p.steps {
		if s.author != s.By {
			o.once("%s: %s wrote %s in the name of %s", k, s.author, s.Kind, s.By)
		}
	}
	if k.Doc.Kind() == command.KindOrder {
		o.order(at, k, p)
	} else {
		o.receipt(at, k, p)
	}
}

// order judges an order as it was issued.
func (o *Orders) order(at tiers.SiteID, k store.DocKey, p paper) {
	if first, known := o.issued[k.Doc]; !known {
		o.issued[k.Doc] = p.order
	} else if !reflect.DeepEqual(first, p.order) {
		o.once("%s is for %v at %s and for %v elsewhere", k, p.order.Targets, at, first.Targets)
	}
	if k.Stream.Site != p.order.Issuer {
		o.once("%s is in the stream of %s, and %s issued it", k, k.Stream.Site, p.order.Issuer)
	}
	for _, s := range p.steps {
		if s.By != p.order.Issuer {
			o.once("%s: %s of %s, which is for %s to make", k, s.Kind, s.By, p.order.Issuer)
		}
	}
}

// makers says whose a kind of step at a target is: true for the target, false for the
// issuer. Sites between make another.
var makers = map[string]bool{
	command.StepDelivered: true, command.StepAck: true, command.StepExecute: true, command.StepRefuse: true, command.StepReport: true,
	command.StepCancel: false, command.StepRemind: false,
}

// receipt judges an order at a target.
func (o *Orders) receipt(at tiers.SiteID, k store.DocKey, p paper) {
	target, b := k.Stream.Site, p.order.Brief
	if k.Doc.Name() != b.Order.Name()+"."+string(target) {
		o.once("%s is a second receipt of %s for %s", k, b.Order, target)
	}
	if issued, known := o.issued[b.Order]; known && !slices.Contains(issued.Targets, target) {
		o.once("%s: %s does not name %s", k, b.Order, target)
	}
	var good []stepBy
	for _, s := range p.steps {
		ofTarget, known := makers[s.Kind]
		switch {
		case known && ofTarget && s.By != target:
			o.once("%s: %s of %s, which is no target of it", k, s.Kind, s.By)
		case known && !ofTarget && s.By != b.Issuer:
			o.once("%s: %s of %s, who did not issue it", k, s.Kind, s.By)
		case !known && (s.Kind != command.StepStored || s.By == target || s.By == b.Issuer):
			o.once("%s: %s of %s: no such step is its to make", k, s.Kind, s.By)
		case s.author == s.By:
			good = append(good, s)
		}
	}
	if !o.forgot[target] {
		o.monotone(k, good)
	}
	if !p.pending {
		o.says(at, k, p, good)
	}
}

// monotone judges when the steps of a target were made.
func (o *Orders) monotone(k store.DocKey, steps []stepBy) {
	var last stepBy
	ends := 0
	for _, kind := range []string{command.StepDelivered, command.StepAck, command.StepExecute, command.StepRefuse} {
		of := slices.DeleteFunc(slices.Clone(steps), func(s stepBy) bool { return s.Kind != kind })
		if len(of) > 1 {
			o.once("%s: %s %d times", k, kind, len(of))
		}
		if len(of) == 0 {
			continue
		}
		if kind == command.StepExecute || kind == command.StepRefuse {
			ends++
		}
		first := slices.MinFunc(of, func(a, b stepBy) int { return cmp.Compare(a.At, b.At) })
		if ends > 1 {
			o.once("%s was executed and refused", k)
		} else if last.Kind != "" && first.At <= last.At {
			o.once("%s: %s at %d, not after %s at %d", k, kind, first.At, last.Kind, last.At)
		}
		last = first
	}
}

// says compares a view with what follows from the steps that count.
func (o *Orders) says(at tiers.SiteID, k store.DocKey, p paper, good []stepBy) {
	first := map[string]int64{}
	for _, s := range good {
		first[s.Kind] = earliest(first[s.Kind], max(s.At.Millis(), 1))
	}
	state := command.StateIssued
	for _, x := range []struct{ kind, state string }{
		{command.StepDelivered, command.StateDelivered}, {command.StepAck, command.StateAcknowledged}, {command.StepCancel, command.StateCancelled},
		{command.StepRefuse, command.StateRefused}, {command.StepExecute, command.StateExecuted},
	} {
		if first[x.kind] != 0 {
			state = x.state
		}
	}
	want := command.Times{
		StoredMS: first[command.StepStored], ExecutedMS: first[command.StepExecute], RefusedMS: first[command.StepRefuse],
		CancelledMS: first[command.StepCancel], RemindedMS: p.shown.RemindedMS, // the last, which says nothing of the stage
	}
	want.AcknowledgedMS = earliest(first[command.StepAck], want.ExecutedMS)
	want.DeliveredMS = earliest(first[command.StepDelivered], want.AcknowledgedMS, want.RefusedMS)
	v := p.shown
	if v.State != state || v.Times != want || v.Site != k.Stream.Site || v.Brief != p.order.Brief {
		o.once("%s shows %s of %s with %+v, and what it holds says %s with %+v", at, v.State, k, v.Times, state, want)
	}
	shows := func(s stepBy) bool {
		return slices.ContainsFunc(v.Steps, func(x command.Step) bool { return x.By == s.By && x.At == s.At && x.Kind == s.Kind })
	}
	for _, s := range good {
		if !shows(s) {
			o.once("%s hides %s of %s at %d in %s", at, s.Kind, s.By, s.At, k)
		}
	}
	if len(v.Steps) > len(good) {
		o.once("%s shows %d steps of %s, of which %d are good", at, len(v.Steps), k, len(good))
	}
}

// earliest is the earliest of some times that are not zero.
func earliest(times ...int64) (first int64) {
	for _, ms := range times {
		if ms != 0 && (first == 0 || ms < first) {
			first = ms
		}
	}
	return first
}
