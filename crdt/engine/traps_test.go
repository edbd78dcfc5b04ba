package engine_test

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/automerge/automerge-go"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
)

// counted makes a change of the library in which an actor creates a counter, or
// adds to the one that is there.
func counted(t *testing.T, base [][]byte, actor crdt.Actor, n int64) []byte {
	t.Helper()
	doc := automerge.New()
	for _, raw := range base {
		if err := doc.LoadIncremental(raw); err != nil {
			t.Fatal(err)
		}
	}
	err := doc.SetActorID(hex.EncodeToString(actor[:]))
	if err == nil {
		if v, _ := doc.Path("n").Get(); v.IsVoid() {
			err = doc.Path("n").Set(automerge.NewCounter(n))
		} else {
			err = doc.Path("n").Counter().Inc(n)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1)
	hash, err := doc.Commit("", automerge.CommitOptions{Time: &at})
	if err != nil {
		t.Fatal(err)
	}
	c, err := doc.Change(hash)
	if err != nil {
		t.Fatal(err)
	}
	return c.Save()
}

// TestCountersOfTwoSides holds what crdt/doc.go says of counters: one that the origin
// created adds up; of two that were created on two sides of a cut one wins, and the
// other's part is lost. No operation of ours makes one.
func TestCountersOfTwoSides(t *testing.T) {
	total := func(changes ...[]byte) int64 {
		doc := automerge.New()
		for _, raw := range changes {
			if err := doc.LoadIncremental(raw); err != nil {
				t.Fatal(err)
			}
		}
		n, err := doc.Path("n").Counter().Get()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	first := counted(t, nil, alice, 1)
	if n := total(first, counted(t, [][]byte{first}, alice, 2), counted(t, [][]byte{first}, bob, 4)); n != 7 {
		t.Errorf("created once: %d, want 7", n)
	}
	if n := total(counted(t, nil, alice, 3), counted(t, nil, bob, 4)); n != 3 && n != 4 {
		t.Errorf("created twice: %d, want one of them", n)
	}
}

// TestReadTakesAnyOrderOfSides: changes are given as bytes, each behind its
// dependencies; what is read, and the heads, are the same whichever side comes first,
// also where the library would save other bytes.
func TestReadTakesAnyOrderOfSides(t *testing.T) {
	e := engine.New()
	build := func(base [][]byte, actor crdt.Actor, key, value string) []byte {
		t.Helper()
		b, err := e.Build(base, actor, 1, []crdt.Op{{Kind: crdt.OpPut, Key: key, Value: value}})
		if err != nil {
			t.Fatal(err)
		}
		return b.Raw
	}
	first := build(nil, alice, "a", "0")
	mine := build([][]byte{first}, alice, "b", "1")
	theirs := build([][]byte{first}, bob, "c", "2")
	last := build([][]byte{first, mine, theirs}, bob, "d", "3")
	var heads crdt.Hash
	for i, order := range [][][]byte{{first, mine, theirs, last}, {first, theirs, mine, last}} {
		doc, err := e.Read(order)
		if err != nil || len(doc.Heads) != 1 || doc.Root.String("a")+doc.Root.String("b")+doc.Root.String("c")+doc.Root.String("d") != "0123" {
			t.Fatal(doc, err)
		}
		if i > 0 && doc.Heads[0] != heads {
			t.Error("the heads depend on the order")
		}
		heads = doc.Heads[0]
	}
	for _, order := range [][][]byte{{mine, first}, {first, last, mine, theirs}, {first, mine, last}} {
		if doc, err := e.Read(order); err == nil {
			t.Errorf("a change before what it depends on is taken in: %v", doc.Heads)
		}
	}
}

// TestConfirm: a value that is deleted and set again in one change is a write like
// any other, also where it is the one that was there: it has an author and a time,
// and is in conflict with what another side sets at the same time. Without that the
// other side's value wins, and nobody sees that it was seen otherwise.
func TestConfirm(t *testing.T) {
	e := engine.New()
	build := func(base [][]byte, actor crdt.Actor, ops ...crdt.Op) []byte {
		t.Helper()
		b, err := e.Build(base, actor, 7, ops)
		if err != nil {
			t.Fatal(err)
		}
		return b.Raw
	}
	put := func(v string) crdt.Op { return crdt.Op{Kind: crdt.OpPut, Key: "state", Value: v} }
	first := build(nil, alice, put("closed"))
	confirmed := build([][]byte{first}, alice, crdt.Op{Kind: crdt.OpDelete, Key: "state"}, put("closed"))
	reopened := build([][]byte{first}, bob, put("active"))
	for _, order := range [][][]byte{{first, confirmed, reopened}, {first, reopened, confirmed}} {
		doc, err := e.Read(order)
		if err != nil {
			t.Fatal(err)
		}
		values := doc.Root.Field("state")
		if len(values) != 2 || values[0].Node.Scalar == values[1].Node.Scalar {
			t.Errorf("%v", values)
		}
	}
	alone, err := e.Read([][]byte{first, confirmed})
	if err != nil || len(alone.Root.Field("state")) != 1 || alone.Root.String("state") != "closed" {
		t.Errorf("%v, %v", alone, err)
	}
	if _, err := e.Build([][]byte{first}, bob, 7, []crdt.Op{{Kind: crdt.OpDelete, Key: "nothing"}, put("x")}); err != nil {
		t.Error("a key that is not there:", err)
	}
}
