package engine_test

import (
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/automerge/automerge-go"

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
func goAPI(t *testing.T, base [][]byte, actor crdt.Actor, timeMS int64, ops []crdt.Op) []byte {
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

func TestBuildEqualsGoAPI(t *testing.T) {
	e := engine.New()
	first, err := e.Build(nil, alice, 1_700_000_000_000, eventOps())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := e.Read([][]byte{first.Raw})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%+v\n", doc)
	want := goAPI(t, nil, alice, 1_700_000_000_000, eventOps())
	if string(want) != string(first.Raw) {
		t.Fatalf("bytes differ:\n%x\n%x", first.Raw, want)
	}
}
