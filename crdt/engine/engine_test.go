package engine_test

import (
	"encoding/hex"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/automerge/automerge-go"
	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
)

var (
	alice = crdt.NewActor(crdt.Author{Site: "500101001", Incarnation: 1}, [8]byte{1})
	bob   = crdt.NewActor(crdt.Author{Site: "500101", Incarnation: 1}, [8]byte{2})
)

func eventOps() []crdt.Op {
	return []crdt.Op{
		{Kind: crdt.OpPut, Key: "report", Value: `{"type":"01001","title":"供水井盖异常"}`},
		{Kind: crdt.OpMakeList, Key: "actions"},
		{Kind: crdt.OpMakeMap, Key: "corrections"},
		{Kind: crdt.OpAppend, In: "actions", Value: `{"kind":"report"}`},
		{Kind: crdt.OpPut, In: "corrections", Key: "title", Value: "井盖"},
		{Kind: crdt.OpPut, Key: "n", Value: int64(-7)},
		{Kind: crdt.OpPut, Key: "f", Value: 1.5},
		{Kind: crdt.OpPut, Key: "b", Value: true},
		{Kind: crdt.OpPut, Key: "raw", Value: []byte{1, 2, 3}},
		{Kind: crdt.OpPut, Key: "none", Value: nil},
	}
}

// goAPI makes the same change through automerge-go, the reference.
func goAPI(t interface {
	Helper()
	Fatal(args ...any)
}, base [][]byte, actor crdt.Actor, timeMS int64, ops []crdt.Op) []byte {
	t.Helper()
	doc := automerge.New()
	for _, raw := range base {
		if err := doc.LoadIncremental(raw); err != nil {
			t.Fatal(err)
		}
	}
	if err := doc.SetActorID(hex.EncodeToString(actor[:])); err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		var err error
		path := []any{op.Key}
		if op.In != "" {
			path = []any{op.In, op.Key}
		}
		switch op.Kind {
		case crdt.OpPut:
			err = doc.Path(path...).Set(op.Value)
		case crdt.OpMakeMap:
			err = doc.Path(path...).Set(automerge.NewMap())
		case crdt.OpMakeList:
			err = doc.Path(path...).Set(automerge.NewList())
		case crdt.OpAppend:
			err = doc.Path(op.In).List().Append(op.Value)
		case crdt.OpDelete:
			err = doc.Path(path...).Delete()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	at := time.UnixMilli(timeMS)
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

// TestBuildEqualsGoAPI is the differential test of the shim: random edits by
// several actors give the bytes that automerge-go gives.
func TestBuildEqualsGoAPI(t *testing.T) {
	e := engine.Library(engine.New())
	rapid.Check(t, func(t *rapid.T) {
		first, err := e.Build(nil, alice, 1_700_000_000_000, eventOps())
		if err != nil {
			t.Fatal(err)
		}
		if want := goAPI(t, nil, alice, 1_700_000_000_000, eventOps()); string(want) != string(first.Raw) {
			t.Fatalf("bytes differ:\n%x\n%x", first.Raw, want)
		}
		base := [][]byte{first.Raw}
		for i := range rapid.IntRange(1, 5).Draw(t, "changes") {
			actor := rapid.SampledFrom([]crdt.Actor{alice, bob}).Draw(t, "actor")
			ops := rapid.SliceOfN(randomOp(), 1, 4).Draw(t, "ops")
			built, err := e.Build(base, actor, int64(i), ops)
			if errors.Is(err, engine.ErrUnchanged) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := goAPI(t, base, actor, int64(i), ops); string(want) != string(built.Raw) {
				t.Fatalf("bytes differ:\n%x\n%x", built.Raw, want)
			}
			base = append(base, built.Raw)
		}
		sameAsGoAPI(t, e, base)
	})
}

func randomOp() *rapid.Generator[crdt.Op] {
	return rapid.Custom(func(t *rapid.T) crdt.Op {
		value := rapid.SampledFrom([]any{"x", "供水", int64(1), int64(-1 << 62), 2.5, true, false, []byte{0}, nil}).Draw(t, "value")
		return rapid.SampledFrom([]crdt.Op{
			{Kind: crdt.OpPut, Key: "report", Value: value},
			{Kind: crdt.OpPut, In: "corrections", Key: "k", Value: value},
			{Kind: crdt.OpAppend, In: "actions", Value: value},
			{Kind: crdt.OpMakeMap, Key: "again"},
		}).Draw(t, "op")
	})
}

// sameAsGoAPI compares the root's winners with what automerge-go reads.
func sameAsGoAPI(t *rapid.T, e *engine.Engine, changes [][]byte) {
	got, err := e.Read(changes)
	if err != nil {
		t.Fatal(err)
	}
	doc := automerge.New()
	for _, raw := range changes {
		if err := doc.LoadIncremental(raw); err != nil {
			t.Fatal(err)
		}
	}
	if len(got.Heads) != len(doc.Heads()) || len(got.Changes) != len(changes) {
		t.Fatalf("%d heads and %d changes, want %d and %d", len(got.Heads), len(got.Changes), len(doc.Heads()), len(changes))
	}
	keys, err := doc.RootMap().Keys()
	if err != nil || len(keys) != len(got.Root.Fields) {
		t.Fatalf("%d keys, want %v (%v)", len(got.Root.Fields), keys, err)
	}
	for _, f := range got.Root.Fields {
		want, err := doc.Path(f.Key).Get()
		if err != nil {
			t.Fatal(err)
		}
		switch n := f.Values[0].Node; n.Kind {
		case crdt.NodeScalar:
			if w := want.Interface(); !equal(n.Scalar, w) {
				t.Fatalf("%s is %v, want %v", f.Key, n.Scalar, w)
			}
		case crdt.NodeList:
			if len(n.Items) != want.List().Len() {
				t.Fatalf("%s has %d items, want %d", f.Key, len(n.Items), want.List().Len())
			}
		default:
			if want.Kind() != automerge.KindMap {
				t.Fatalf("%s is a map, want %v", f.Key, want.Kind())
			}
		}
	}
}

func equal(a, b any) bool {
	x, ok := a.([]byte)
	y, ok2 := b.([]byte)
	if ok && ok2 {
		return string(x) == string(y)
	}
	return a == b
}

// TestConflictShowsAll: every concurrent value of a key is read, the same
// winner first whatever the order of the changes, with who wrote it.
func TestConflictShowsAll(t *testing.T) {
	e := engine.New()
	build := func(base [][]byte, actor crdt.Actor, value string) []byte {
		b, err := e.Build(base, actor, 1, []crdt.Op{{Kind: crdt.OpPut, Key: "target", Value: value}})
		if err != nil {
			t.Fatal(err)
		}
		return b.Raw
	}
	first := build(nil, alice, "0")
	mine, theirs := build([][]byte{first}, alice, "a"), build([][]byte{first}, bob, "b")
	for _, order := range [][][]byte{{first, mine, theirs}, {first, theirs, mine}} {
		doc, err := e.Read(order)
		if err != nil {
			t.Fatal(err)
		}
		values := doc.Root.Field("target")
		if len(values) != 2 || len(doc.Heads) != 2 {
			t.Fatalf("%d values, %d heads", len(values), len(doc.Heads))
		}
		winner, loser := "a", "b"
		if bob.String() > alice.String() {
			winner, loser = "b", "a"
		}
		if doc.Root.String("target") != winner || values[1].Node.Scalar != loser {
			t.Errorf("values %v", values)
		}
		for _, v := range values {
			c, ok := doc.ChangeOf(v)
			if !ok || c.Actor != v.Actor || c.TimeMS != 1 {
				t.Errorf("change of %v: %+v, %v", v, c, ok)
			}
		}
	}
	resolved, err := e.Build([][]byte{first, mine, theirs}, alice, 2, []crdt.Op{{Kind: crdt.OpPut, Key: "target", Value: "c"}})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := e.Read([][]byte{first, mine, theirs, resolved.Raw})
	if err != nil || len(doc.Root.Field("target")) != 1 {
		t.Errorf("a later write does not resolve the conflict: %v, %v", doc, err)
	}
}

// TestSecondChangeByActorAfterAnother: Automerge names the actor's own previous
// change among the dependencies although a head covers it.
func TestSecondChangeByActorAfterAnother(t *testing.T) {
	e := engine.New()
	var base [][]byte
	for i, actor := range []crdt.Actor{alice, bob, alice, bob} {
		b, err := e.Build(base, actor, 1, []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: int64(i)}})
		if err != nil {
			t.Fatalf("change %d: %v", i, err)
		}
		base = append(base, b.Raw)
	}
	if doc, err := e.Read(base); err != nil || len(doc.Heads) != 1 {
		t.Errorf("%v, %v", doc, err)
	}
}

// TestUnchanged: putting what is there already makes no change, and above all
// not the actor's previous one again.
func TestUnchanged(t *testing.T) {
	e := engine.New()
	ops := []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: "v"}}
	first, err := e.Build(nil, alice, 1, ops)
	if err != nil {
		t.Fatal(err)
	}
	for _, actor := range []crdt.Actor{alice, bob} {
		if b, err := e.Build([][]byte{first.Raw}, actor, 2, ops); !errors.Is(err, engine.ErrUnchanged) {
			t.Errorf("%v, %v", b, err)
		}
	}
}

func TestBuildRefusals(t *testing.T) {
	e := engine.New()
	for name, row := range map[string]struct {
		ops  []crdt.Op
		want error
	}{
		"nothing":            {nil, engine.ErrOps},
		"unknown kind":       {[]crdt.Op{{Kind: 9, Key: "k"}}, engine.ErrOps},
		"nested container":   {[]crdt.Op{{Kind: crdt.OpMakeMap, In: "a", Key: "b"}}, engine.ErrOps},
		"no key":             {[]crdt.Op{{Kind: crdt.OpPut, Value: "x"}}, engine.ErrOps},
		"no list":            {[]crdt.Op{{Kind: crdt.OpAppend, Value: "x"}}, engine.ErrOps},
		"not UTF-8":          {[]crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: "\xff"}}, engine.ErrOps},
		"type without place": {[]crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: 1}}, engine.ErrOps},
		"list is not there":  {[]crdt.Op{{Kind: crdt.OpAppend, In: "l", Value: "x"}}, engine.ErrEngine},
		"map is a list":      {[]crdt.Op{{Kind: crdt.OpMakeList, Key: "l"}, {Kind: crdt.OpPut, In: "l", Key: "k", Value: "x"}}, engine.ErrEngine},
	} {
		if _, err := e.Build(nil, alice, 1, row.ops); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
}

// TestReadRefusesGaps: a change whose dependencies are missing is never read as
// if it were not there.
func TestReadRefusesGaps(t *testing.T) {
	e := engine.New()
	first, err := e.Build(nil, alice, 1, []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: "1"}})
	if err != nil {
		t.Fatal(err)
	}
	second, err := e.Build([][]byte{first.Raw}, alice, 2, []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: "2"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Read([][]byte{second.Raw}); !errors.Is(err, engine.ErrHeads) && !errors.Is(err, engine.ErrEngine) {
		t.Errorf("%v, want ErrHeads or ErrEngine", err)
	}
}

// TestDocumentLimits: a document past the limits is neither read nor edited,
// and says which limits these are; at them it is.
func TestDocumentLimits(t *testing.T) {
	var base [][]byte
	size := 0
	for i := range 4 {
		b, err := engine.New().Build(base, alice, 1, []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: int64(i)}})
		if err != nil {
			t.Fatal(err)
		}
		base = append(base, b.Raw)
		size += len(b.Raw)
	}
	for name, row := range map[string]struct {
		limits engine.Limits
		want   error
	}{
		"at both": {engine.Limits{BytesMax: size, OpsMax: 4}, nil},
		"bytes":   {engine.Limits{BytesMax: size - 1, OpsMax: 4}, engine.ErrTooLarge},
		"ops":     {engine.Limits{BytesMax: size, OpsMax: 3}, engine.ErrTooLarge},
	} {
		e := engine.NewLimited(row.limits)
		if _, err := e.Read(base); !errors.Is(err, row.want) {
			t.Errorf("%s: read: %v, want %v", name, err, row.want)
		}
		if _, err := e.Build(base, alice, 1, []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: "x"}}); !errors.Is(err, row.want) {
			t.Errorf("%s: build: %v, want %v", name, err, row.want)
		}
	}
}

func residentBytes(t *testing.T) int {
	t.Helper()
	runtime.GC()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("no /proc: resident size cannot be read")
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// TestMemoryStaysFlat: what the library allocates is freed at once, not when
// the collector comes round.
func TestMemoryStaysFlat(t *testing.T) {
	e := engine.Library(engine.New())
	round := func() {
		for range 2000 {
			first, err := e.Build(nil, alice, 1, eventOps())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.Read([][]byte{first.Raw}); err != nil {
				t.Fatal(err)
			}
		}
	}
	round()
	before := residentBytes(t)
	for range 10 {
		round()
	}
	if grown := residentBytes(t) - before; grown > 16<<20 {
		t.Errorf("20,000 documents left %d bytes behind", grown)
	}
}

// BenchmarkBuild makes one event: without the library, through the shim, and
// through automerge-go.
func BenchmarkBuild(b *testing.B) {
	for _, row := range []struct {
		name string
		e    *engine.Engine
	}{{"own", engine.New()}, {"baseline=shim", engine.Library(engine.New())}} {
		b.Run(row.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := row.e.Build(nil, alice, 1, eventOps()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("baseline=automerge-go", func(b *testing.B) {
		for b.Loop() {
			goAPI(b, nil, alice, 1, eventOps())
		}
	})
}
