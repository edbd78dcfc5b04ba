package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
)

var carol = crdt.NewActor(crdt.Author{Site: "500000", Incarnation: 1}, [8]byte{3})

// anyScalar draws every kind of value, and some twice, so that runs form.
func anyScalar() *rapid.Generator[crdt.Scalar] {
	return rapid.OneOf(
		rapid.SampledFrom([]crdt.Scalar{"x", "供水", "", int64(0), int64(-1), int64(1 << 62), 2.5, true, false, []byte{0, 0xff}, []byte{}, nil}),
		rapid.Map(rapid.Int64(), func(v int64) crdt.Scalar { return v }),
		rapid.Map(rapid.StringN(0, 200, -1), func(v string) crdt.Scalar { return v }),
	)
}

// creation draws the operations of a first change; some draw what is left to
// the library, or what it refuses.
func creation() *rapid.Generator[[]crdt.Op] {
	return rapid.Custom(func(t *rapid.T) []crdt.Op {
		keys := []string{"a", "b", "list", "map", "other list", "供水"}
		var ops []crdt.Op
		for range rapid.IntRange(1, 14).Draw(t, "n") {
			key := rapid.SampledFrom(keys).Draw(t, "key")
			value := anyScalar().Draw(t, "value")
			ops = append(ops, rapid.SampledFrom([]crdt.Op{
				{Kind: crdt.OpPut, Key: key, Value: value}, {Kind: crdt.OpPut, Key: key + "'", Value: value},
				{Kind: crdt.OpPut, Key: fmt.Sprint(len(ops)), Value: value},
				{Kind: crdt.OpMakeList, Key: "list"}, {Kind: crdt.OpMakeMap, Key: "map"}, {Kind: crdt.OpMakeList, Key: "other list"},
				{Kind: crdt.OpAppend, In: "list", Value: value}, {Kind: crdt.OpAppend, In: "list", Value: value},
				{Kind: crdt.OpAppend, In: "other list", Value: value}, {Kind: crdt.OpPut, In: "map", Key: key, Value: value},
			}).Draw(t, "op"))
		}
		return ops
	})
}

// TestFirstEqualsLibrary: a document that is created without the library has
// the bytes that the library gives it, and says the same of them.
func TestFirstEqualsLibrary(t *testing.T) {
	own, library := engine.New(), engine.Library(engine.New())
	rapid.Check(t, func(t *rapid.T) {
		ops, at := creation().Draw(t, "ops"), rapid.Int64Range(-1<<40, 1<<60).Draw(t, "at")
		got, gotErr := own.Build(nil, alice, at, ops)
		want, wantErr := library.Build(nil, alice, at, ops)
		if (gotErr == nil) != (wantErr == nil) || !bytes.Equal(got.Raw, want.Raw) || !reflect.DeepEqual(got.Info, want.Info) {
			t.Fatalf("%v\n got %x %+v %v\nwant %x %+v %v", ops, got.Raw, got.Info, gotErr, want.Raw, want.Info, wantErr)
		}
	})
}

// branching draws a history of three actors who each see part of what the
// others wrote: sets, deletions and appends of all of them concur.
func branching(t *rapid.T) [][]byte {
	e := engine.New()
	first, err := e.Build(nil, alice, 1, []crdt.Op{
		{Kind: crdt.OpMakeList, Key: "l"}, {Kind: crdt.OpMakeMap, Key: "m"}, {Kind: crdt.OpPut, Key: "a", Value: "0"}, {Kind: crdt.OpAppend, In: "l", Value: "first"},
	})
	if err != nil {
		t.Fatal(err)
	}
	all := [][]byte{first.Raw}
	actors := []crdt.Actor{alice, bob, carol}
	seen := map[crdt.Actor]int{alice: 1, bob: 1, carol: 1} // a prefix of all, plus their own
	own := map[crdt.Actor][]int{alice: {0}}
	for i := range rapid.IntRange(1, 14).Draw(t, "changes") {
		actor := rapid.SampledFrom(actors).Draw(t, "actor")
		seen[actor] = rapid.IntRange(seen[actor], len(all)).Draw(t, "seen")
		base := append([][]byte(nil), all[:seen[actor]]...)
		for _, n := range own[actor] {
			if n >= seen[actor] {
				base = append(base, all[n])
			}
		}
		var ops []crdt.Op
		for range rapid.IntRange(1, 5).Draw(t, "ops") {
			key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
			value := anyScalar().Draw(t, "value")
			ops = append(ops, rapid.SampledFrom([]crdt.Op{
				{Kind: crdt.OpPut, Key: key, Value: value}, {Kind: crdt.OpAppend, In: "l", Value: value}, {Kind: crdt.OpAppend, In: "l", Value: value},
				{Kind: crdt.OpPut, In: "m", Key: key, Value: value}, {Kind: crdt.OpDelete, Key: key}, {Kind: crdt.OpDelete, In: "m", Key: key},
				{Kind: crdt.OpMakeMap, Key: key}, {Kind: crdt.OpMakeList, Key: "d"},
			}).Draw(t, "op"))
		}
		b, err := e.Build(base, actor, int64(i), ops)
		if errors.Is(err, engine.ErrEngine) || errors.Is(err, engine.ErrUnchanged) {
			continue // deleted what was not there, or put what was
		}
		if err != nil {
			t.Fatal(err)
		}
		own[actor] = append(own[actor], len(all))
		all = append(all, b.Raw)
	}
	return all
}

// TestReadEqualsLibrary: documents are read without the library as with it, the
// operations behind every value included.
func TestReadEqualsLibrary(t *testing.T) {
	own, library := engine.New(), engine.Library(engine.New())
	rapid.Check(t, func(t *rapid.T) {
		history := branching(t)
		got, err := own.Read(history)
		if err != nil {
			t.Fatal(err)
		}
		want, err := library.Read(history)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Root, want.Root) || len(got.Heads) != len(want.Heads) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

// TestReadWide: many keys, many elements and many writes of one place take
// neither quadratic time nor another path to the same result.
func TestReadWide(t *testing.T) {
	own, library := engine.New(), engine.Library(engine.New())
	ops := []crdt.Op{{Kind: crdt.OpMakeList, Key: "l"}}
	for i := range 500 {
		ops = append(ops, crdt.Op{Kind: crdt.OpPut, Key: fmt.Sprint("k", i), Value: int64(i)}, crdt.Op{Kind: crdt.OpAppend, In: "l", Value: int64(i)})
	}
	first, err := own.Build(nil, alice, 1, ops)
	if err != nil {
		t.Fatal(err)
	}
	history := [][]byte{first.Raw}
	for i := range 100 {
		b, err := own.Build(history, bob, int64(i), []crdt.Op{{Kind: crdt.OpPut, Key: "k7", Value: int64(-i)}})
		if err != nil {
			t.Fatal(err)
		}
		history = append(history, b.Raw)
	}
	got, err := own.Read(history)
	if err != nil {
		t.Fatal(err)
	}
	want, err := library.Read(history)
	if err != nil || !reflect.DeepEqual(got.Root, want.Root) {
		t.Errorf("%v: trees differ", err)
	}
}

// BenchmarkReadEvent reads an event with one change, without the library and
// with it.
func BenchmarkReadEvent(b *testing.B) {
	first, err := engine.New().Build(nil, alice, 1, eventOps()[:3])
	if err != nil {
		b.Fatal(err)
	}
	for _, row := range []struct {
		name string
		e    *engine.Engine
	}{{"own", engine.New()}, {"baseline=library", engine.Library(engine.New())}} {
		b.Run(row.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := row.e.Read([][]byte{first.Raw}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
