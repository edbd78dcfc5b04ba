package engine_test

import (
	"bytes"
	"cmp"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/testbed/corpus"
)

// listOp is one operation on a list, which no engine here makes: an insertion
// behind an element, or a value or deletion in an element's place.
type listOp struct {
	id      opRef
	in      opRef
	element opRef // zero is the head
	insert  bool
	gone    bool // a deletion
	over    []opRef
}

type opRef struct {
	counter uint64
	actor   crdt.Actor
}

func (a opRef) compare(b opRef) int {
	return cmp.Or(cmp.Compare(a.counter, b.counter), bytes.Compare(a.actor[:], b.actor[:]))
}

// encode makes the change that holds the operation alone.
func (o listOp) encode(like []byte, seq uint64, deps [][]byte) []byte {
	p := corpus.Apart(like)
	p.Actor, p.Seq, p.StartOp = o.id.actor[:], seq, o.id.counter
	slices.SortFunc(deps, bytes.Compare)
	p.Deps = deps
	others := map[crdt.Actor]struct{}{}
	for _, r := range append([]opRef{o.in, o.element}, o.over...) {
		if r.counter > 0 && r.actor != o.id.actor {
			others[r.actor] = struct{}{}
		}
	}
	order := append([]crdt.Actor{o.id.actor}, slices.SortedFunc(maps.Keys(others), func(a, b crdt.Actor) int { return bytes.Compare(a[:], b[:]) })...)
	p.Others = nil
	for _, a := range order[1:] {
		p.Others = append(p.Others, a[:])
	}
	one := func(b []byte) []byte { return append(corpus.SLEB(nil, -1), b...) }
	index := func(a crdt.Actor) []byte { return []byte{byte(slices.Index(order, a))} }
	p.Columns = []corpus.Column{{Spec: 0x01, Data: one(index(o.in.actor))}, {Spec: 0x02, Data: one(corpus.ULEB(nil, o.in.counter))}}
	if o.element.counter > 0 {
		p.Columns = append(p.Columns, corpus.Column{Spec: 0x11, Data: one(index(o.element.actor))})
	}
	p.Columns = append(p.Columns, corpus.Column{Spec: 0x13, Data: one(corpus.SLEB(nil, int64(o.element.counter)))})
	insert, action, meta := []byte{1}, byte(1), byte(2) // true
	if o.insert {
		insert = []byte{0, 1}
	}
	if o.gone {
		action, meta = 3, 0
	}
	p.Columns = append(p.Columns, corpus.Column{Spec: 0x34, Data: insert}, corpus.Column{Spec: 0x42, Data: one([]byte{action})},
		corpus.Column{Spec: 0x56, Data: one([]byte{meta})}, corpus.Column{Spec: 0x70, Data: one([]byte{byte(len(o.over))})})
	var actors, counters []byte
	last := uint64(0)
	for _, r := range o.over { // each alone in a run, or in one literal, as they differ
		actors = append(actors, index(r.actor)...)
		counters = corpus.SLEB(counters, int64(r.counter-last))
		last = r.counter
	}
	if n := len(o.over); n > 0 {
		p.Columns = append(p.Columns, corpus.Column{Spec: 0x71, Data: append(corpus.SLEB(nil, -int64(n)), actors...)},
			corpus.Column{Spec: 0x73, Data: append(corpus.SLEB(nil, -int64(n)), counters...)})
	}
	return p.Together()
}

// listHistory draws operations of three actors, who each see part of what the
// others wrote, on one list.
func listHistory(t *rapid.T) [][]byte {
	made, err := engine.New().Build(nil, alice, 1, []crdt.Op{{Kind: crdt.OpMakeList, Key: "l"}})
	if err != nil {
		t.Fatal(err)
	}
	in := opRef{1, alice}
	all, ops := [][]byte{made.Raw}, []listOp{{id: in}}
	infos := []crdt.ChangeInfo{made.Info}
	seqs := map[crdt.Actor]uint64{alice: 1}
	seen := map[crdt.Actor]int{}
	for range rapid.IntRange(1, 16).Draw(t, "changes") {
		actor := rapid.SampledFrom([]crdt.Actor{alice, bob, carol}).Draw(t, "actor")
		seen[actor] = rapid.IntRange(max(1, seen[actor]), len(all)).Draw(t, "seen")
		o := listOp{in: in, id: opRef{2, actor}}
		live := map[opRef][]opRef{} // the writes of each element that is known
		var elements []opRef
		heads := map[crdt.Hash]struct{}{}
		for i, e := range ops {
			if i >= seen[actor] && e.id.actor != actor {
				continue
			}
			o.id.counter = max(o.id.counter, e.id.counter+1)
			for _, d := range infos[i].Deps {
				delete(heads, d)
			}
			heads[infos[i].Hash] = struct{}{}
			if i == 0 {
				continue
			}
			at := e.element
			if e.insert {
				at = e.id
				elements = append(elements, at)
			}
			live[at] = slices.DeleteFunc(live[at], func(r opRef) bool { return slices.Contains(e.over, r) })
			if !e.gone {
				live[at] = append(live[at], e.id)
			}
		}
		kind := rapid.IntRange(0, 3).Draw(t, "kind")
		if len(elements) > 0 && kind > 0 {
			o.element = rapid.SampledFrom(elements).Draw(t, "element")
		}
		o.insert = kind < 2 || len(elements) == 0
		if !o.insert {
			o.over = slices.SortedFunc(slices.Values(live[o.element]), opRef.compare)
			o.gone = kind == 3 && len(o.over) > 0
		}
		var deps [][]byte
		for h := range heads {
			deps = append(deps, h[:])
		}
		seqs[actor]++
		raw := o.encode(made.Raw, seqs[actor], deps)
		c, err := change.Decode(raw, change.DefaultLimits())
		if err != nil {
			if len(o.over) > 1 { // runs of equal values are written otherwise
				seqs[actor]--
				continue
			}
			t.Fatalf("%+v: %v", o, err)
		}
		all, ops, infos = append(all, raw), append(ops, o), append(infos, c.Info())
	}
	return all
}

// TestReadListsEqualsLibrary: lists with insertions anywhere, values and deletions
// in place, all of them concurrent, are read as the library reads them.
func TestReadListsEqualsLibrary(t *testing.T) {
	own, library := engine.New(), engine.Library(engine.New())
	rapid.Check(t, func(t *rapid.T) {
		history := listHistory(t)
		got, err := own.Read(history)
		if err != nil {
			t.Fatal(err)
		}
		want, err := library.Read(history)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Root, want.Root) {
			t.Fatalf("got  %+v\nwant %+v", got.Root, want.Root)
		}
	})
}
