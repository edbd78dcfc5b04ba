package event_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// TestCounts: an event counts in its state and urgency, and while it is open in its
// type; one whose report has not come counts nowhere, and a type that no catalog can
// have makes no cell of its own.
func TestCounts(t *testing.T) {
	text := func(s string) crdt.Written {
		return crdt.Written{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: s}}
	}
	for name, row := range map[string]struct{ report, action, state, cell string }{
		"open":         {`{"type":"01001","title":"x","priority":3}`, "", "reported/routine", "01001"},
		"urgent":       {`{"type":"01001","title":"x","priority":2}`, "dispatch", "dispatched/urgent", "01001"},
		"closed":       {`{"type":"01001","title":"x","priority":3}`, "close", "closed/routine", ""},
		"void":         {`{"type":"01001","title":"x","priority":1}`, "void", "void/urgent", ""},
		"no type":      {`{"title":"x","priority":4}`, "", "reported/routine", "?"},
		"a zero byte":  {`{"type":"a\u0000b","title":"x","priority":4}`, "", "reported/routine", "?"},
		"a long type":  {`{"type":"` + strings.Repeat("x", 65) + `","title":"x","priority":4}`, "", "reported/routine", "?"},
		"nothing came": {"", "", "", ""},
	} {
		fields := []crdt.Field{}
		if row.action != "" {
			items := []crdt.Written{text(`{"kind":"` + row.action + `","at":1}`)}
			fields = append(fields, crdt.Field{Key: "actions", Values: []crdt.Written{{Node: crdt.Node{Kind: crdt.NodeList, Items: items}}}})
		}
		src := &crdt.Source{Doc: "event:1", Pending: 1, IndexOnly: true}
		if row.report != "" {
			fields = append(fields, crdt.Field{Key: "report", Values: []crdt.Written{text(row.report)}})
		}
		src.Document = &crdt.Document{Root: crdt.Node{Kind: crdt.NodeMap, Fields: fields}}
		v, err := event.Fold(src)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var want []crdt.Count
		if row.state != "" {
			want = append(want, crdt.Count{Cube: event.CubeState, Cell: row.state})
		}
		if row.cell != "" {
			want = append(want, crdt.Count{Cube: event.CubeType, Cell: row.cell})
		}
		if !slices.Equal(v.Counts, want) {
			t.Errorf("%s: %v, want %v", name, v.Counts, want)
		}
	}
	if state, urgent := event.SplitStateCell(event.StateCell("closed", true)); state != "closed" || !urgent {
		t.Error(state, urgent)
	}
}
