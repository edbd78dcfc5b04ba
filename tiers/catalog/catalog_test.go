package catalog_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/tiers/catalog"
)

func TestEventTypeRoundTrip(t *testing.T) {
	want := catalog.EventType{Code: "01001", Category: "市政公用设施", Name: "供水井盖"}
	ops, err := catalog.EventTypeOps(want)
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New()
	b, err := e.Build(nil, crdt.Actor{1}, 1, ops)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := e.Read([][]byte{b.Raw})
	if err != nil {
		t.Fatal(err)
	}
	v, err := catalog.Fold(&crdt.Source{Doc: "type:01001", Document: doc})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := catalog.EventTypeFromView(v.JSON); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if len(v.Index) != 1 || v.Index[0] != (crdt.IndexEntry{Name: "type", Value: "01001"}) {
		t.Errorf("index %v", v.Index)
	}
}

func TestRefusals(t *testing.T) {
	for _, x := range []catalog.EventType{{}, {Code: "1", Name: "n"}, {Code: "1", Category: "c"}, {Code: "1", Category: "c", Name: strings.Repeat("x", 513)}} {
		if _, err := catalog.EventTypeOps(x); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%+v: %v", x, err)
		}
	}
	if _, err := catalog.EventTypeFromView([]byte("[")); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("no JSON: %v", err)
	}
}
