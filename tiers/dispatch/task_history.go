package dispatch

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
)

// history is a task's actions in one order that every site agrees on: what saw
// another comes after it, and of the rest the earlier by hybrid time comes first.
type history struct {
	steps []written
	// before holds for each step the set of steps that it saw.
	before []bits
	// What each step was when it was made: see judgeAll.
	valid   []bool
	why     []string
	release []bool
	root    []int
	// Malformed counts entries that are not an action of their author.
	malformed int
}

// written is an action with the operation that appended it.
type written struct {
	Action
	actor   crdt.Actor
	counter uint64
	change  int // in the document's changes; -1 when it is not known
}

// bits is a set of small numbers.
type bits []uint64

func newBits(n int) bits { return make(bits, (n+63)/64) }

func (b bits) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bits) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

func (b bits) or(o bits) {
	for i := range o {
		b[i] |= o[i]
	}
}

// whole reports whether the set is all of 0 to n-1.
func (b bits) whole(n int) bool {
	for i := range n {
		if !b.has(i) {
			return false
		}
	}
	return true
}

// readHistory reads the actions of a document, in order.
func readHistory(s *crdt.Source) *history {
	h := &history{}
	lists := s.Document.Root.Field(keyActions)
	if len(lists) == 0 || len(lists[0].Node.Items) == 0 {
		return h
	}
	for _, it := range lists[0].Node.Items {
		w := written{actor: it.Actor, counter: it.Counter}
		text, ok := it.Node.Scalar.(string)
		author, known := s.Authors[it.Actor]
		if !ok || json.Unmarshal([]byte(text), &w.Action) != nil || moves[w.Kind].from == nil || known && author.Site != w.By {
			h.malformed++
			continue
		}
		w.change = slices.IndexFunc(s.Document.Changes, func(c crdt.ChangeInfo) bool {
			return c.Actor == w.actor && w.counter >= c.StartOp && w.counter <= c.MaxOp
		})
		h.steps = append(h.steps, w)
	}
	h.order(ancestors(s.Document.Changes))
	return h
}

// ancestors returns for each change the set of changes that it saw, itself too.
func ancestors(changes []crdt.ChangeInfo) []bits {
	at := make(map[crdt.Hash]int, len(changes))
	out := make([]bits, len(changes))
	for i, c := range changes { // in the order of their dependencies
		out[i] = newBits(len(changes))
		out[i].set(i)
		for _, d := range c.Deps {
			if j, known := at[d]; known {
				out[i].or(out[j])
			}
		}
		at[c.Hash] = i
	}
	return out
}

func compareWritten(a, b written) int {
	return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.By, b.By), slices.Compare(a.actor[:], b.actor[:]), cmp.Compare(a.counter, b.counter))
}

// order puts the steps in order and notes which saw which.
func (h *history) order(saw []bits) {
	slices.SortFunc(h.steps, compareWritten)
	sees := func(a, b written) bool {
		if a.change < 0 || b.change < 0 || a.change == b.change {
			return a.change == b.change && a.actor == b.actor && a.counter > b.counter
		}
		return saw[a.change].has(b.change)
	}
	// The earliest of those that have seen only what is placed already comes next;
	// clocks that follow what they see leave the steps as they are sorted.
	n := len(h.steps)
	for i := range n {
		for j := i; j < n; j++ {
			if !slices.ContainsFunc(h.steps[i:], func(w written) bool { return sees(h.steps[j], w) }) {
				next := h.steps[j]
				copy(h.steps[i+1:j+1], h.steps[i:j])
				h.steps[i] = next
				break
			}
		}
	}
	h.before = make([]bits, n)
	for i := range n {
		h.before[i] = newBits(n)
		for j := range i {
			if sees(h.steps[i], h.steps[j]) {
				h.before[i].set(j)
			}
		}
	}
}
