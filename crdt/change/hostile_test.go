package change_test

import (
	"errors"
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/testbed/corpus"
)

// TestManyObjects: a change that edits as many objects of others as it may have
// operations is read in time that grows with their number: one by one, they took
// the state machine four seconds.
func TestManyObjects(t *testing.T) {
	const n = 100_000
	p := corpus.Apart(build(t, nil, alice, crdt.Op{Kind: crdt.OpPut, Key: "k", Value: "v"}))
	p.StartOp = n + 1
	run := func(value ...byte) []byte { return append(corpus.SLEB(nil, n), value...) }
	objects := corpus.SLEB(nil, -n)
	for i := range uint64(n) {
		objects = corpus.ULEB(objects, i+1)
	}
	p.Columns = []corpus.Column{
		{Spec: 0x01, Data: run(0)}, {Spec: 0x02, Data: objects}, {Spec: 0x15, Data: run(1, 'k')},
		{Spec: 0x34, Data: corpus.ULEB(nil, n)}, {Spec: 0x42, Data: run(1)}, {Spec: 0x56, Data: run(0)}, {Spec: 0x70, Data: run(0)},
	}
	c, err := change.Decode(p.Together(), change.DefaultLimits())
	if err != nil || len(c.Uses) != n {
		t.Fatalf("%v", err)
	}
}

// TestManyActors: changes that are each of another actor do not make the check of
// objects take memory with the square of their number.
func TestManyActors(t *testing.T) {
	const n = 20_000
	changes := make([]*change.Change, n)
	for i := range changes {
		changes[i] = &change.Change{
			Hash: crdt.Hash{byte(i), byte(i >> 8), byte(i >> 16)}, Actor: crdt.Actor{byte(i), byte(i >> 8), byte(i >> 16)}, Seq: 1, StartOp: 1,
		}
	}
	if err := change.CheckObjects(changes); err != nil {
		t.Errorf("nothing is edited: %v", err)
	}
	changes[n-1].Uses = []change.Object{{Actor: changes[0].Actor, Counter: 1}}
	if err := change.CheckObjects(changes); !errors.Is(err, change.ErrTooLarge) {
		t.Errorf("%v", err)
	}
}
