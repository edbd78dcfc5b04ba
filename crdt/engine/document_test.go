package engine_test

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/crdt/engine"
)

// grow adds raw changes to a document, in the order given.
func grow(t *rapid.T, d *change.Document, changes ...[]byte) {
	t.Helper()
	for _, raw := range changes {
		c, err := change.Decode(raw, change.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Add(c); err != nil {
			t.Fatal(err)
		}
	}
}

// sameRead requires that a document shows what the library reads of the changes.
func sameRead(t *rapid.T, library *engine.Engine, d *change.Document, changes [][]byte) {
	t.Helper()
	want, err := library.Read(changes)
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Read()
	if err != nil {
		t.Fatal(err)
	}
	want.Heads, got.Heads = sorted(want.Heads), sorted(got.Heads)
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("the document is\n%+v, want\n%+v", got, want)
	}
}

func editOp() *rapid.Generator[crdt.Op] {
	return rapid.Custom(func(t *rapid.T) crdt.Op {
		value := rapid.SampledFrom([]any{
			"x", "", "供水", int64(1), int64(0), int64(-1 << 62), 2.5, 0.0, math.Copysign(0, -1), true, false, []byte{0}, []byte{}, nil,
		}).Draw(t, "value")
		key := rapid.SampledFrom([]string{"title", "place", "text"}).Draw(t, "key")
		return rapid.SampledFrom([]crdt.Op{
			{Kind: crdt.OpPut, Key: "report", Value: value},
			{Kind: crdt.OpPut, In: "corrections", Key: key, Value: value},
			{Kind: crdt.OpPut, In: "corrections", Key: key, Value: value},
			{Kind: crdt.OpAppend, In: "actions", Value: value},
			{Kind: crdt.OpDelete, In: "corrections", Key: key},
			{Kind: crdt.OpDelete, Key: "report"},
			{Kind: crdt.OpMakeMap, Key: "again"},
			{Kind: crdt.OpMakeList, Key: "actions"},
			{Kind: crdt.OpMakeMap, Key: "corrections"},
			{Kind: crdt.OpPut, In: "again", Key: "k", Value: value},
		}).Draw(t, "op")
	})
}

// TestDocumentEqualsLibrary: documents that several authors edit while they are
// apart, whose changes come in any order that their dependencies allow, show what the
// library reads of all changes from scratch, and make the bytes that it makes.
func TestDocumentEqualsLibrary(t *testing.T) {
	library := engine.Library(engine.New())
	made, noted, left := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		first, err := library.Build(nil, alice, 1, eventOps())
		if err != nil {
			t.Fatal(err)
		}
		actors := []crdt.Actor{alice, bob, carol}
		at := make([]site, len(actors))
		for i := range at {
			at[i].take(t, first.Raw)
		}
		for i := range rapid.IntRange(1, 14).Draw(t, "steps") {
			who := rapid.IntRange(0, len(at)-1).Draw(t, "who")
			s := &at[who]
			if from := rapid.IntRange(0, len(at)).Draw(t, "from"); from < len(at) { // take in what another has, or some of it
				other := at[from].changes
				s.take(t, other[:rapid.IntRange(0, len(other)).Draw(t, "some")]...)
				sameRead(t, library, &s.doc, s.changes)
				continue
			}
			ops := rapid.SliceOfN(editOp(), 1, 3).Draw(t, "ops")
			want, err := library.Build(s.changes, actors[who], int64(i), ops)
			raw, ok := s.doc.Edit(actors[who], int64(i), ops)
			switch {
			case !ok:
				left++
			case errors.Is(err, engine.ErrUnchanged) && raw == nil:
				noted++
			case err != nil || string(raw) != string(want.Raw):
				t.Fatalf("%+v: the bytes differ:\n%x\n%x (%v)", ops, raw, want.Raw, err)
			default:
				made++
			}
			if err == nil {
				s.take(t, want.Raw)
				sameRead(t, library, &s.doc, s.changes)
			}
		}
	})
	if made < left/2 || made == 0 || noted == 0 {
		t.Fatalf("%d changes were made, %d edits changed nothing, %d were left to the library", made, noted, left)
	}
}

// site is a replica of a document.
type site struct {
	doc     change.Document
	changes [][]byte
}

// take takes in what is not there yet.
func (s *site) take(t *rapid.T, changes ...[]byte) {
	for _, raw := range changes {
		known := false
		for _, have := range s.changes {
			known = known || string(have) == string(raw)
		}
		if !known {
			grow(t, &s.doc, raw)
			s.changes = append(s.changes, raw)
		}
	}
}

// TestDocumentListsEqualLibrary: lists into which others insert anywhere, and out of
// which they delete.
func TestDocumentListsEqualLibrary(t *testing.T) {
	library := engine.Library(engine.New())
	rapid.Check(t, func(t *rapid.T) {
		changes := listHistory(t)
		var d change.Document
		grow(t, &d, changes...)
		sameRead(t, library, &d, changes)
		ops := []crdt.Op{{Kind: crdt.OpAppend, In: "l", Value: "end"}, {Kind: crdt.OpAppend, In: "l", Value: "end"}}
		want, err := library.Build(changes, bob, 7, ops)
		if err != nil {
			t.Fatal(err)
		}
		if raw, ok := d.Edit(bob, 7, ops); ok && string(raw) != string(want.Raw) {
			t.Fatalf("the bytes differ:\n%x\n%x", raw, want.Raw)
		}
	})
}

func sorted(hashes []crdt.Hash) []crdt.Hash {
	return slices.SortedFunc(slices.Values(hashes), func(a, b crdt.Hash) int { return bytes.Compare(a[:], b[:]) })
}
