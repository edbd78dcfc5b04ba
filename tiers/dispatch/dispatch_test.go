package dispatch_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

func TestDecide(t *testing.T) {
	for _, row := range []struct {
		subject dispatch.Subject
		want    string
	}{
		{dispatch.Subject{Type: "01001", Category: "市政公用设施", Priority: 1}, "urgent"},
		{dispatch.Subject{Type: "01001", Category: "市政公用设施", Priority: 3}, "utilities"},
		{dispatch.Subject{Type: "x", Category: "交通设施", Priority: 4}, "traffic"},
		{dispatch.Subject{Type: "x", Category: "?", Priority: 4}, "rest"},
	} {
		if d, ok := dispatch.Decide(dispatch.DefaultRules(), row.subject); !ok || d.Rule != row.want {
			t.Errorf("%+v: %+v, %v; want %s", row.subject, d, ok, row.want)
		}
	}
	if _, ok := dispatch.Decide(nil, dispatch.Subject{}); ok {
		t.Error("an empty table decides")
	}
	prefixed := []dispatch.Rule{{Code: "p", TypePrefix: "01"}}
	if _, ok := dispatch.Decide(prefixed, dispatch.Subject{Type: "0101"}); !ok {
		t.Error("the prefix does not match")
	}
	if _, ok := dispatch.Decide(prefixed, dispatch.Subject{Type: "1"}); ok {
		t.Error("the prefix matches everything")
	}
}

// TestDecideIgnoresOrderOfSlice: every site decides alike, however its store
// lists the rules.
func TestDecideIgnoresOrderOfSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := dispatch.DefaultRules()
		for i := range rules {
			rules[i].Order = rapid.IntRange(0, 3).Draw(t, "order")
		}
		subject := dispatch.Subject{
			Type: "x", Category: rapid.SampledFrom([]string{"交通设施", "街面秩序", "?"}).Draw(t, "category"),
			Priority: rapid.IntRange(1, 4).Draw(t, "priority"),
		}
		a, _ := dispatch.Decide(rules, subject)
		b, _ := dispatch.Decide(rapid.Permutation(rules).Draw(t, "shuffled"), subject)
		if a != b {
			t.Fatalf("%+v or %+v", a, b)
		}
	})
}

// read builds a document from operations and reads it back.
func read(t *testing.T, doc tiers.DocID, ops []crdt.Op) *crdt.Source {
	t.Helper()
	e := engine.New()
	b, err := e.Build(nil, crdt.Actor{1}, 1, ops)
	if err != nil {
		t.Fatal(err)
	}
	d, err := e.Read([][]byte{b.Raw})
	if err != nil {
		t.Fatal(err)
	}
	return &crdt.Source{Doc: doc, Document: d, Authors: map[crdt.Actor]crdt.Author{}}
}

func TestRuleRoundTrip(t *testing.T) {
	for _, rule := range dispatch.DefaultRules() {
		ops, err := dispatch.RuleOps(rule)
		if err != nil {
			t.Fatal(err)
		}
		v, err := dispatch.FoldRule(read(t, tiers.NewDocID(dispatch.KindRule, rule.Code), ops))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := dispatch.RuleFromView(v.JSON); err != nil || got != rule {
			t.Errorf("%+v became %+v, %v", rule, got, err)
		}
	}
}

func TestRuleRefusals(t *testing.T) {
	good := dispatch.DefaultRules()[0]
	for name, change := range map[string]func(*dispatch.Rule){
		"no code":      func(r *dispatch.Rule) { r.Code = "" },
		"no organ":     func(r *dispatch.Rule) { r.Organ = "" },
		"priority 5":   func(r *dispatch.Rule) { r.PriorityMax = 5 },
		"no limit":     func(r *dispatch.Rule) { r.Limit.Amount = 0 },
		"unknown unit": func(r *dispatch.Rule) { r.Limit.Unit = "fortnight" },
	} {
		r := good
		change(&r)
		if _, err := dispatch.RuleOps(r); !errors.Is(err, dispatch.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "{}", `{"fields":{"code":"x","order":"a"}}`} {
		if _, err := dispatch.RuleFromView([]byte(text)); !errors.Is(err, dispatch.ErrInvalid) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestTaskID(t *testing.T) {
	a, b := dispatch.TaskID("event:a"), dispatch.TaskID("event:b")
	if a == b || a != dispatch.TaskID("event:a") || a.Validate() != nil || a.Kind() != dispatch.KindTask || len(a.Name()) != 36 || a.Name()[14] != '8' {
		t.Errorf("%s, %s", a, b)
	}
}

func TestTaskFold(t *testing.T) {
	const town = "500101001"
	ops, err := dispatch.TaskOps(dispatch.Brief{Event: "event:1", Title: "x", Organ: "o", DispatchedAtMS: 5, Limit: dispatch.Limit{Amount: 1, Unit: dispatch.UnitUrgentHour}})
	if err != nil {
		t.Fatal(err)
	}
	for i, kind := range []string{dispatch.ActionSign, dispatch.ActionDispose} {
		op, err := dispatch.ActionOp(dispatch.Action{At: crdt.HybridTime(10 - i), By: town, Kind: kind, Who: "w"})
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, op)
	}
	src := read(t, "task:1", ops)
	src.Stream = tiers.StreamID{Site: town, Class: tiers.ClassCommand}
	v, err := dispatch.FoldTask(src)
	if err != nil {
		t.Fatal(err)
	}
	var task dispatch.TaskView
	if err := json.Unmarshal(v.JSON, &task); err != nil {
		t.Fatal(err)
	}
	// The clock went back between the two, and what followed still follows.
	if task.State != dispatch.StateDisposing || len(task.Actions) != 2 || task.Actions[0].Kind != dispatch.ActionSign || task.Custodian != town {
		t.Errorf("%s", v.JSON)
	}
	due := int64(5 + 3600*1000)
	want := []crdt.IndexEntry{
		{Name: dispatch.KindTask, Value: "0000000000000005"}, {Name: dispatch.IndexTaskDue, Value: dispatch.DueValue(due)},
		{Name: dispatch.IndexTaskState, Value: dispatch.IndexPrefix("disposing", false) + dispatch.DueValue(due)},
		{Name: dispatch.IndexTaskOrgan, Value: dispatch.IndexPrefix("o", true) + dispatch.DueValue(due)},
		{Name: dispatch.IndexTaskCustodian, Value: dispatch.IndexPrefix(town, true) + dispatch.DueValue(due)},
	}
	if !slices.Equal(v.Index, want) || task.DueMS != due {
		t.Errorf("index %q, due %d", v.Index, task.DueMS)
	}
	if _, err := dispatch.ActionOp(dispatch.Action{Kind: "sing"}); !errors.Is(err, dispatch.ErrInvalid) {
		t.Errorf("unknown action: %v", err)
	}
	if _, err := dispatch.FoldTask(read(t, "task:1", ops[1:2])); !errors.Is(err, dispatch.ErrInvalid) || !strings.Contains(err.Error(), "task:1") {
		t.Errorf("no brief: %v", err)
	}
}
