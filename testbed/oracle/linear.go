package oracle

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// OpKind is what a client asked for.
type OpKind string

// The operations on an exclusive resource, and those on a document.
const (
	OpClaim   OpKind = "claim"
	OpRelease OpKind = "release"
	OpHolder  OpKind = "holder" // who holds it

	OpRead   OpKind = "read"
	OpWrite  OpKind = "write"
	OpSwap   OpKind = "swap"   // writes on top of what was read, or is rejected
	OpAppend OpKind = "append" // adds to a set of values
)

// OutcomeKind is what a client was told.
type OutcomeKind uint8

// The outcomes. An operation of unknown outcome may have had its effect, may have it
// at any time later, or never.
const (
	Done     OutcomeKind = 1
	Rejected OutcomeKind = 2
	Unknown  OutcomeKind = 3
)

// Op is one operation of a client of a site and what came of it. Operations that
// had no effect for certain and said nothing are left out. Reads are always Done.
type Op struct {
	Kind OpKind
	// Object is the resource or document.
	Object string
	// Holder is who asked for a claim, or who a read says holds the resource.
	Holder string
	// Force takes the resource away from whoever holds it.
	Force bool
	// Epoch is the one that was granted, is released, or is read.
	Epoch uint64
	// Old is what a swap builds on; Value what it or a write or append writes, or
	// what a read saw: of a set, what [Set] makes of it.
	Old, Value string
	Outcome    OutcomeKind
	// Call and Return count from any one moment. Return plays no part when the
	// outcome is unknown.
	Call, Return time.Duration
}

// claims reports whether an operation is one on an exclusive resource.
func (o Op) claims() bool { return o.Kind == OpClaim || o.Kind == OpRelease || o.Kind == OpHolder }

// Set is the value of a document to which values are appended, in any order.
func Set(values ...string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(values))), "\x00")
}

// linearizableWithin is for how long the check of one object may take.
const linearizableWithin = 30 * time.Second

// Linearizable checks, with Porcupine, that the clients' operations on each object
// of one site fit an order in which each takes effect between its call and its
// return. An object for which that cannot be decided in time is not counted as
// checked; the examples name it.
func Linearizable(history []Op) Verdict {
	v := Verdict{Oracle: "linearizable"}
	history = slices.Clone(history)
	slices.SortStableFunc(history, func(a, b Op) int { return cmp.Or(strings.Compare(a.Object, b.Object), cmp.Compare(a.Call, b.Call)) })
	unit, doc := unitModel.ToModel(), documentModel.ToModel()
	for len(history) > 0 {
		n := slices.IndexFunc(history, func(o Op) bool { return o.Object != history[0].Object })
		if n < 0 {
			n = len(history)
		}
		var ofUnit, ofDoc []porcupine.Operation
		for i, o := range history[:n] {
			if o.claims() {
				ofUnit = append(ofUnit, operation(i, o))
			} else {
				ofDoc = append(ofDoc, operation(i, o))
			}
		}
		v.linear(history[0].Object, unit, ofUnit)
		v.linear(history[0].Object, doc, ofDoc)
		history = history[n:]
	}
	return v
}

// operation makes each operation one of a client of its own, since one of unknown
// outcome may take effect after its client went on.
func operation(client int, o Op) porcupine.Operation {
	end := int64(o.Return)
	if o.Outcome == Unknown {
		end = math.MaxInt64 // it may take effect at any time after
	}
	return porcupine.Operation{ClientId: client, Input: o, Output: o.Outcome, Call: int64(o.Call), Return: end}
}

func (v *Verdict) linear(object string, m porcupine.Model, history []porcupine.Operation) {
	if len(history) == 0 {
		return
	}
	switch porcupine.CheckOperationsTimeout(m, history, linearizableWithin) {
	case porcupine.Ok:
		v.Checked += uint64(len(history))
	case porcupine.Illegal:
		v.Checked += uint64(len(history))
		v.violate("the %d operations on %s fit no order", len(history), object)
	case porcupine.Unknown:
		if len(v.Examples) < examplesMax {
			v.Examples = append(v.Examples, "undecided after "+linearizableWithin.String()+": "+object)
		}
	}
}

// unitState is an exclusive resource. When it is loose, its epoch is above Epoch:
// who was given it was not told.
type unitState struct {
	holder string
	epoch  uint64
	loose  bool
}

// is reports whether the resource can be in an epoch.
func (s unitState) is(epoch uint64) bool {
	return epoch == s.epoch && !s.loose || epoch > s.epoch && s.loose
}

// next reports whether an epoch can be the one after: the next of an incarnation,
// or the first of a later one.
func (s unitState) next(epoch uint64) bool {
	return epoch > s.epoch && (s.loose || epoch == s.epoch+1 && s.epoch != 0 || epoch>>32 > s.epoch>>32 && uint32(epoch) == 1)
}

// unitModel is the sequential model of an exclusive resource.
var unitModel = porcupine.NondeterministicModel{
	Init: func() []any { return []any{unitState{}} },
	Step: func(state, input, output any) []any {
		now, in := state.(unitState), input.(Op)
		switch in.Kind {
		case OpHolder:
			if now.holder == in.Holder && now.is(in.Epoch) {
				return []any{unitState{in.Holder, in.Epoch, false}}
			}
			return nil
		case OpRelease:
			return release(now, in, output.(OutcomeKind))
		default:
			return claim(now, in, output.(OutcomeKind))
		}
	},
}

func release(now unitState, in Op, out OutcomeKind) []any {
	free := unitState{"", in.Epoch, false}
	switch {
	case out == Unknown && now.is(in.Epoch):
		return []any{now, free}
	case out == Unknown, out == Rejected && (now.loose || !now.is(in.Epoch)):
		return []any{now}
	case out == Done && now.is(in.Epoch):
		return []any{free}
	}
	return nil
}

func claim(now unitState, in Op, out OutcomeKind) []any {
	mine, free := now.holder == in.Holder, now.holder == "" || in.Force
	switch {
	case out == Unknown && free:
		return []any{now, unitState{in.Holder, now.epoch, true}}
	case out == Unknown, out == Rejected && !mine && !free:
		return []any{now}
	case out == Done && mine && !in.Force && now.is(in.Epoch):
		return []any{unitState{in.Holder, in.Epoch, false}}
	case out == Done && free && now.next(in.Epoch):
		return []any{unitState{in.Holder, in.Epoch, false}}
	}
	return nil
}

// documentModel is the sequential model of a document.
var documentModel = porcupine.NondeterministicModel{
	Init: func() []any { return []any{""} },
	Step: func(state, input, output any) []any {
		now, in, out := state.(string), input.(Op), output.(OutcomeKind)
		next, ok := in.Value, true
		switch in.Kind {
		case OpRead:
			ok = now == in.Value
			next = now
		case OpSwap:
			ok = now == in.Old
		case OpAppend:
			if now != "" {
				next = Set(append(strings.Split(now, "\x00"), in.Value)...)
			}
		default: // a write
		}
		switch {
		case out == Unknown && ok:
			return []any{now, next}
		case out == Unknown, out == Rejected && (!ok || in.Kind != OpSwap):
			return []any{now}
		case out == Done && ok:
			return []any{next}
		}
		return nil
	},
}
