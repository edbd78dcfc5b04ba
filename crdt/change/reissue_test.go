package change_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/crdt/engine"
)

// TestReissue: a document that is written over by another actor reads the same.
func TestReissue(t *testing.T) {
	lim := change.DefaultLimits()
	old := crdt.NewActor(crdt.Author{Site: "a", Incarnation: 1}, [8]byte{1})
	second := crdt.NewActor(crdt.Author{Site: "a", Incarnation: 1}, [8]byte{2})
	next := crdt.Author{Site: "a", Incarnation: 2}
	actors := map[crdt.Actor]crdt.Actor{old: crdt.NewActor(next, [8]byte{1}), second: crdt.NewActor(next, [8]byte{2})}
	e := engine.New()
	var history [][]byte
	build := func(a crdt.Actor, ops ...crdt.Op) {
		b, err := e.Build(history, a, int64(len(history)), ops)
		if err != nil {
			t.Fatal(err)
		}
		history = append(history, b.Raw)
	}
	build(old, crdt.Op{Kind: crdt.OpPut, Key: "k", Value: "1"}, crdt.Op{Kind: crdt.OpMakeList, Key: "actions"})
	build(old, crdt.Op{Kind: crdt.OpAppend, In: "actions", Value: "first"})
	build(second, crdt.Op{Kind: crdt.OpAppend, In: "actions", Value: "second"})
	hashes := map[crdt.Hash]crdt.Hash{}
	var again [][]byte
	for _, raw := range history {
		out, err := change.Reissue(raw, lim, actors, hashes)
		if err != nil {
			t.Fatal(err)
		}
		was, err := change.Decode(raw, lim)
		if err != nil {
			t.Fatal(err)
		}
		is, err := change.Decode(out, lim)
		if err != nil || !next.Owns(is.Actor) || is.Seq != was.Seq || len(out) != len(raw) {
			t.Fatalf("%+v, %v", is, err)
		}
		hashes[was.Hash] = is.Hash
		again = append(again, out)
	}
	one, err := e.Read(history)
	if err != nil {
		t.Fatal(err)
	}
	two, err := e.Read(again)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := values(one.Root), values(two.Root); !reflect.DeepEqual(a, b) || len(a) != 3 {
		t.Errorf("%v became %v", a, b)
	}
	if _, err := change.Reissue(history[1], lim, actors, nil); !errors.Is(err, change.ErrRefused) {
		t.Errorf("a change that follows one that stays: %v", err)
	}
	if _, err := change.Reissue(history[1][:9], lim, actors, nil); !errors.Is(err, change.ErrMalformed) {
		t.Errorf("no change: %v", err)
	}
}

// values lists a document's scalars in order.
func values(n crdt.Node) (out []any) {
	if n.Kind == crdt.NodeScalar {
		return []any{n.Scalar}
	}
	for _, f := range n.Fields {
		out = append(out, values(f.Values[0].Node)...)
	}
	for _, i := range n.Items {
		out = append(out, values(i.Node)...)
	}
	return out
}
