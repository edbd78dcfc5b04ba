package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// The states of an order at a target.
const (
	StateIssued       = "issued" // the target is not known to hold it
	StateDelivered    = "delivered"
	StateAcknowledged = "acknowledged"
	StateExecuted     = "executed"  // the end
	StateRefused      = "refused"   // the end
	StateCancelled    = "cancelled" // the end, unless it was executed all the same
)

// States lists the states of an order at a target.
func States() []string {
	return []string{StateIssued, StateDelivered, StateAcknowledged, StateExecuted, StateRefused, StateCancelled}
}

// The indexes of receipts besides [KindReceipt].
const (
	// IndexReceiptOrder lists receipts by order, then state, then target.
	IndexReceiptOrder = KindReceipt + ".order"
	// IndexReceiptInbox lists what is not delivered, by target: its work.
	IndexReceiptInbox = KindReceipt + ".inbox"
	// IndexReceiptUnstored lists what is not delivered and skips a tier, and of which
	// no site between has said that it holds it: the work of those.
	IndexReceiptUnstored = KindReceipt + ".unstored"
	// IndexReceiptUndelivered lists what is not delivered, the oldest first.
	IndexReceiptUndelivered = KindReceipt + ".undelivered"
	// IndexReceiptDue lists open receipts with a deadline, by that.
	IndexReceiptDue = KindReceipt + ".due"
	// IndexReceiptTarget lists receipts by target, then time of issue.
	IndexReceiptTarget = KindReceipt + ".target"
	// IndexReceiptState lists receipts by state, then time of issue.
	IndexReceiptState = KindReceipt + ".state"
)

// Times are when an order reached which stage at a target, in Unix milliseconds; 0
// is not yet. Each is of the clock of the site that it happened at.
type Times struct {
	StoredMS       int64 `json:"stored_ms,omitempty"`
	DeliveredMS    int64 `json:"delivered_ms,omitempty"`
	AcknowledgedMS int64 `json:"acknowledged_ms,omitempty"`
	ExecutedMS     int64 `json:"executed_ms,omitempty"`
	RefusedMS      int64 `json:"refused_ms,omitempty"`
	CancelledMS    int64 `json:"cancelled_ms,omitempty"`
	RemindedMS     int64 `json:"reminded_ms,omitempty"` // the last
}

// ReceiptView is what people see of an order at a target.
type ReceiptView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	State  string       `json:"state"`
	Brief  Brief        `json:"brief"`
	Times
	// Late says that it was executed after its deadline; CancelledLate that the
	// issuer took it back and it was executed all the same.
	Late          bool   `json:"late,omitempty"`
	CancelledLate bool   `json:"cancelled_late,omitempty"`
	Reports       int    `json:"reports,omitempty"`
	Steps         []Step `json:"steps"`
	Faults
}

// Faults count what of a document's records is out of the ordinary.
type Faults struct {
	Malformed int `json:"malformed,omitempty"`
	Pending   int `json:"pending,omitempty"`
	Refused   int `json:"refused_records,omitempty"`
}

// Open reports whether the target has still to act.
func (v *ReceiptView) Open() bool {
	return v.State == StateIssued || v.State == StateDelivered || v.State == StateAcknowledged
}

// may reports whether a step of a kind is for a site to make.
func (v *ReceiptView) may(s Step) bool {
	switch s.Kind {
	case StepDelivered, StepAck, StepExecute, StepRefuse, StepReport:
		return s.By == v.Site
	case StepCancel, StepRemind:
		return s.By == v.Brief.Issuer
	case StepStored:
		return s.By != v.Site && s.By != v.Brief.Issuer && s.Tier > v.Brief.IssuerTier
	}
	return false
}

// FoldReceipt derives the view of an order at a target. Each step counts when it is
// its author's to make; the state follows from which steps there are, not from their
// order, so clocks that differ change no state.
func FoldReceipt(s *crdt.Source) (crdt.View, error) {
	v := ReceiptView{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site}
	if err := readHead(s, &v.Brief); err != nil {
		return crdt.View{}, err
	}
	var bad int
	v.Steps, bad = readSteps(s, func(x Step) crdt.HybridTime { return x.At }, func(x Step, author tiers.SiteID) bool {
		return x.By == author && v.may(x)
	})
	v.Faults = Faults{bad, s.Pending, s.Refused}
	v.derive()
	return made(s, v, v.index()...)
}

// derive works out times and state from the steps, of each kind the first.
func (v *ReceiptView) derive() {
	for _, s := range v.Steps {
		first := map[string]*int64{
			StepStored: &v.StoredMS, StepDelivered: &v.DeliveredMS, StepAck: &v.AcknowledgedMS,
			StepExecute: &v.ExecutedMS, StepRefuse: &v.RefusedMS, StepCancel: &v.CancelledMS,
		}[s.Kind]
		// A stamp at 1970 is still a stamp.
		ms := max(s.At.Millis(), 1)
		switch {
		case first != nil && *first == 0:
			*first = ms
		case s.Kind == StepRemind:
			v.RemindedMS = ms
		case s.Kind == StepReport:
			v.Reports++
		}
	}
	// Who carries it out has taken note of it by then, and who answers has it: the
	// target's people may be quicker than the mark that it holds it.
	v.AcknowledgedMS = earliest(v.AcknowledgedMS, v.ExecutedMS)
	v.DeliveredMS = earliest(v.DeliveredMS, v.AcknowledgedMS, v.RefusedMS)
	switch {
	case v.ExecutedMS != 0:
		v.State = StateExecuted
	case v.RefusedMS != 0:
		v.State = StateRefused
	case v.CancelledMS != 0:
		v.State = StateCancelled
	case v.AcknowledgedMS != 0:
		v.State = StateAcknowledged
	case v.DeliveredMS != 0:
		v.State = StateDelivered
	default:
		v.State = StateIssued
	}
	v.Late = v.Brief.DeadlineMS != 0 && v.ExecutedMS > v.Brief.DeadlineMS
	v.CancelledLate = v.ExecutedMS != 0 && v.CancelledMS != 0
}

// earliest is the earliest of some times that are not 0, or 0.
func earliest(times ...int64) (first int64) {
	for _, ms := range times {
		if ms != 0 && (first == 0 || ms < first) {
			first = ms
		}
	}
	return first
}

func (v *ReceiptView) index() []crdt.IndexEntry {
	issued := TimeValue(v.Brief.IssuedAtMS)
	if v.Brief.Order == "" {
		// Steps have come and what they follow has not: there is no work to do yet, and
		// nobody knows since when.
		return []crdt.IndexEntry{{Name: KindReceipt, Value: issued}}
	}
	out := []crdt.IndexEntry{
		{Name: KindReceipt, Value: issued},
		{Name: IndexReceiptOrder, Value: IndexPrefix(v.Brief.Order.Name()) + IndexPrefix(v.State) + string(v.Site)},
		{Name: IndexReceiptState, Value: IndexPrefix(v.State) + issued},
		{Name: IndexReceiptTarget, Value: IndexPrefix(string(v.Site)) + issued},
	}
	if v.DeliveredMS == 0 {
		out = append(out, crdt.IndexEntry{Name: IndexReceiptInbox, Value: IndexPrefix(string(v.Site)) + v.ID.Name()})
		if v.Open() {
			out = append(out, crdt.IndexEntry{Name: IndexReceiptUndelivered, Value: issued})
		}
		if v.StoredMS == 0 && v.Brief.IssuerTier == tiers.TierCity {
			out = append(out, crdt.IndexEntry{Name: IndexReceiptUnstored, Value: v.ID.Name()})
		}
	}
	if v.Brief.DeadlineMS != 0 && v.Open() {
		out = append(out, crdt.IndexEntry{Name: IndexReceiptDue, Value: TimeValue(v.Brief.DeadlineMS)})
	}
	return out
}

// Next lists the kinds of steps that people at a site may make now.
func (v *ReceiptView) Next(site tiers.SiteID) []string {
	next := []string{}
	if site == v.Site {
		switch v.State {
		case StateIssued, StateDelivered:
			next = append(next, StepAck, StepExecute, StepRefuse)
		case StateAcknowledged:
			next = append(next, StepExecute, StepRefuse)
		}
		next = append(next, StepReport)
	}
	if site == v.Brief.Issuer && v.Open() {
		next = append(next, StepCancel, StepRemind)
	}
	return next
}

// Check reports whether somebody may make a step as the view shows the order. The
// error wraps [ErrInvalid] or [ErrNow] and says what is allowed.
func (v *ReceiptView) Check(s Step) error {
	if err := s.Validate(); err != nil {
		return err
	}
	next := v.Next(s.By)
	if slices.Contains(next, s.Kind) {
		return nil
	}
	if len(next) == 0 {
		return fmt.Errorf("%w: %s of %s, which is %s: site %s has nothing to do with it now", ErrNow, s.Kind, v.Brief.Order, v.State, s.By)
	}
	return fmt.Errorf("%w: %s of %s, which is %s here; %s may now: %s", ErrNow, s.Kind, v.Brief.Order, v.State, s.By, strings.Join(next, ", "))
}

// IndexOrderUnsent lists the orders that have not gone to all of their targets, by
// issuer: its work.
const IndexOrderUnsent = KindOrder + ".unsent"

// OrderView is what people see of an order as it was issued.
type OrderView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	Order  Order        `json:"order"`
	// CancelledMS is when the issuer took it back, 0 for never.
	CancelledMS int64  `json:"cancelled_ms,omitempty"`
	Waves       []Wave `json:"waves"`
	Steps       []Step `json:"steps"`
	Faults
}

// Wave is something that goes out to all targets of an order: the order itself, or
// a step of its issuer.
type Wave struct {
	// Step is the issuer's; of kind "" for the order itself.
	Step Step `json:"step"`
	// Sent is how many of the targets, in their order, it has gone to.
	Sent int `json:"sent"`
}

// FoldOrder derives the view of an order as it was issued. Only its issuer's steps
// count.
func FoldOrder(s *crdt.Source) (crdt.View, error) {
	v := OrderView{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site}
	if err := readHead(s, &v.Order); err != nil {
		return crdt.View{}, err
	}
	steps, bad := readSteps(s, func(x Step) crdt.HybridTime { return x.At }, func(x Step, author tiers.SiteID) bool {
		return x.By == author && author == s.Stream.Site && (x.Kind == StepSent || x.Kind == StepCancel || x.Kind == StepRemind)
	})
	v.Faults, v.Steps = Faults{bad, s.Pending, s.Refused}, []Step{}
	v.Waves = []Wave{{}}
	sent := map[crdt.HybridTime]int{}
	for _, x := range steps {
		if x.Kind == StepSent {
			sent[x.Of] = max(sent[x.Of], x.Count)
			continue
		}
		v.Steps = append(v.Steps, x)
		if x.Kind == StepCancel && v.CancelledMS == 0 {
			v.CancelledMS = max(x.At.Millis(), 1)
		}
		v.Waves = append(v.Waves, Wave{Step: x})
	}
	for i := range v.Waves {
		v.Waves[i].Sent = min(sent[v.Waves[i].Step.At], len(v.Order.Targets))
	}
	index := []crdt.IndexEntry{{Name: KindOrder, Value: TimeValue(v.Order.IssuedAtMS)}}
	if _, open := v.Unsent(); open {
		index = append(index, crdt.IndexEntry{Name: IndexOrderUnsent, Value: IndexPrefix(string(v.Site)) + v.ID.Name()})
	}
	return made(s, v, index...)
}

// Unsent returns the first wave that has not gone to all targets.
func (v *OrderView) Unsent() (Wave, bool) {
	for _, w := range v.Waves {
		if w.Sent < len(v.Order.Targets) {
			return w, true
		}
	}
	return Wave{}, false
}
