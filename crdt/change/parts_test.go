package change_test

import (
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
)

var (
	alice = crdt.NewActor(crdt.Author{Site: "500101001", Incarnation: 1}, [8]byte{1})
	bob   = crdt.NewActor(crdt.Author{Site: "500101", Incarnation: 1}, [8]byte{2})
	carol = crdt.NewActor(crdt.Author{Site: "500000", Incarnation: 1}, [8]byte{3})
)

// build makes an honest change.
func build(t testing.TB, base [][]byte, actor crdt.Actor, ops ...crdt.Op) []byte {
	t.Helper()
	b, err := engine.New().Build(base, actor, 1_700_000_000_000, ops)
	if err != nil {
		t.Fatal(err)
	}
	return b.Raw
}

// eventChange is an honest first change with every kind of operation and value.
func eventChange(t testing.TB) []byte {
	return build(t, nil, alice,
		crdt.Op{Kind: crdt.OpPut, Key: "report", Value: `{"title":"供水井盖异常"}`},
		crdt.Op{Kind: crdt.OpMakeList, Key: "actions"},
		crdt.Op{Kind: crdt.OpMakeMap, Key: "corrections"},
		crdt.Op{Kind: crdt.OpAppend, In: "actions", Value: `{"kind":"dispatch"}`},
		crdt.Op{Kind: crdt.OpAppend, In: "actions", Value: `{"kind":"close"}`},
		crdt.Op{Kind: crdt.OpPut, In: "corrections", Key: "title", Value: "x"},
		crdt.Op{Kind: crdt.OpPut, Key: "n", Value: int64(-7)},
		crdt.Op{Kind: crdt.OpPut, Key: "f", Value: 1.5},
		crdt.Op{Kind: crdt.OpPut, Key: "b", Value: true},
		crdt.Op{Kind: crdt.OpPut, Key: "raw", Value: []byte{1, 2, 3}},
		crdt.Op{Kind: crdt.OpPut, Key: "none", Value: nil},
		crdt.Op{Kind: crdt.OpDelete, Key: "n"},
	)
}
