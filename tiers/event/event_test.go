package event_test

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

var (
	township = crdt.Author{Site: "500101001", Incarnation: 1}
	district = crdt.Author{Site: "500101", Incarnation: 1}
	now      = time.UnixMilli(1_700_000_000_000)
)

func report() event.Report {
	return event.Report{Type: "01001", Title: "供水井盖异常", Place: "高笋塘", Priority: 3, ReportedAtMS: now.UnixMilli(), SourceKey: "k1"}
}

func TestReportRules(t *testing.T) {
	p := func(f float64) *float64 { return &f }
	for name, row := range map[string]struct {
		change func(*event.Report)
		want   string // in the error; "" for none
	}{
		"good":             {func(*event.Report) {}, ""},
		"with a point":     {func(r *event.Report) { r.Lat, r.Lon = p(29.5), p(106.5) }, ""},
		"no type":          {func(r *event.Report) { r.Type = "" }, "type is empty"},
		"no title":         {func(r *event.Report) { r.Title = "" }, "title is empty"},
		"long title":       {func(r *event.Report) { r.Title = strings.Repeat("x", 513) }, "513 bytes"},
		"1 MB text":        {func(r *event.Report) { r.Text = strings.Repeat("x", 1<<20) }, "1048576 bytes"},
		"broken UTF-8":     {func(r *event.Report) { r.Text = "\xff" }, "UTF-8"},
		"zero byte":        {func(r *event.Report) { r.Place = "a\x00b" }, "zero byte"},
		"priority 0":       {func(r *event.Report) { r.Priority = 0 }, "priority 0"},
		"priority 5":       {func(r *event.Report) { r.Priority = 5 }, "priority 5"},
		"half a point":     {func(r *event.Report) { r.Lat = p(1) }, "both or neither"},
		"off the globe":    {func(r *event.Report) { r.Lat, r.Lon = p(91), p(0) }, "-90 to 90"},
		"no number":        {func(r *event.Report) { r.Lat, r.Lon = p(math.NaN()), p(0) }, "-90 to 90"},
		"before 1970":      {func(r *event.Report) { r.ReportedAtMS = -1 }, "1970"},
		"the day after":    {func(r *event.Report) { r.ReportedAtMS = now.Add(25 * time.Hour).UnixMilli() }, "one day from now"},
		"long source key":  {func(r *event.Report) { r.SourceKey = strings.Repeat("x", 129) }, "source_key"},
		"clock a bit fast": {func(r *event.Report) { r.ReportedAtMS = now.Add(time.Hour).UnixMilli() }, ""},
	} {
		r := report()
		row.change(&r)
		err := r.Validate(now)
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case row.want != "" && (!errors.Is(err, event.ErrInvalid) || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: %v, want ErrInvalid with %q", name, err, row.want)
		}
	}
}

func TestClassByPriority(t *testing.T) {
	for priority, class := range map[int]tiers.Class{1: tiers.ClassUrgent, 2: tiers.ClassUrgent, 3: tiers.ClassRoutine, 4: tiers.ClassRoutine} {
		if got := event.Class(priority); got != class {
			t.Errorf("priority %d: %s", priority, got)
		}
	}
}

func TestCorrections(t *testing.T) {
	if _, err := event.CorrectOp("title", "x"); err != nil {
		t.Error(err)
	}
	for _, bad := range [][2]string{{"priority", "1"}, {"title", ""}, {"title", "\xff"}} {
		if _, err := event.CorrectOp(bad[0], bad[1]); !errors.Is(err, event.ErrInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestState(t *testing.T) {
	for _, row := range []struct{ kinds, want string }{
		{"", event.StateReported},
		{"accept", event.StateAccepted},
		{"accept register dispatch", event.StateDispatched},
		{"dispatch feedback", event.StateDispatched},
		{"dispatch verify close", event.StateClosed},
		{"dispatch close dispatch", event.StateClosed},
		{"close reopen dispatch", event.StateDispatched},
		{"void accept", event.StateVoid},
		{"void reopen", event.StateAccepted},
		{"sing", event.StateReported},
	} {
		var actions []event.Action
		for kind := range strings.FieldsSeq(row.kinds) {
			actions = append(actions, event.Action{Kind: kind})
		}
		if got := event.State(actions); got != row.want {
			t.Errorf("%q: %s, want %s", row.kinds, got, row.want)
		}
	}
}

// history builds an event's changes: the report at the township, then each
// action by one of two sites that see a prefix of the whole.
func history(t *rapid.T) ([][]byte, []event.Action) {
	e := engine.New()
	actors := map[crdt.Author]crdt.Actor{township: crdt.NewActor(township, [8]byte{1}), district: crdt.NewActor(district, [8]byte{2})}
	ops, err := event.CreateOps(report())
	if err != nil {
		t.Fatal(err)
	}
	first, err := e.Build(nil, actors[township], now.UnixMilli(), ops)
	if err != nil {
		t.Fatal(err)
	}
	byAuthor := map[crdt.Author][][]byte{township: {first.Raw}, district: {first.Raw}}
	all := [][]byte{first.Raw}
	var actions []event.Action
	for i := range rapid.IntRange(0, 6).Draw(t, "actions") {
		by := rapid.SampledFrom([]crdt.Author{township, district}).Draw(t, "by")
		a := event.Action{
			At: crdt.HybridTime(rapid.Uint64Range(1, 5).Draw(t, "at"))<<16 + crdt.HybridTime(i), By: by.Site,
			Kind: rapid.SampledFrom([]string{"accept", "dispatch", "close", "reopen"}).Draw(t, "kind"),
		}
		op, err := event.ActionOp(a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := e.Build(byAuthor[by], actors[by], int64(i), []crdt.Op{op})
		if err != nil {
			t.Fatal(err)
		}
		byAuthor[by] = append(byAuthor[by], b.Raw)
		all = append(all, b.Raw)
		actions = append(actions, a)
	}
	return all, actions
}

// TestFoldIsOrderFree: the view depends on the set of changes, and its actions
// stand in hybrid-time order, as sorting them naively gives.
func TestFoldIsOrderFree(t *testing.T) {
	e := engine.New()
	rapid.Check(t, func(t *rapid.T) {
		all, actions := history(t)
		fold := func(changes [][]byte) string {
			doc, err := e.Read(changes)
			if err != nil {
				t.Fatal(err)
			}
			src := &crdt.Source{
				Stream: tiers.StreamID{Site: "500101001", Class: tiers.ClassRoutine}, Doc: "event:1", Document: doc,
				Authors: map[crdt.Actor]crdt.Author{crdt.NewActor(township, [8]byte{1}): township, crdt.NewActor(district, [8]byte{2}): district},
			}
			v, err := event.Fold(src)
			if err != nil {
				t.Fatal(err)
			}
			return string(v.JSON)
		}
		want := fold(all)
		// Any order that keeps each author's own is causal here.
		shuffled := slices.Clone(all[1:])
		slices.SortStableFunc(shuffled, func(a, b []byte) int { return authorOf(a) - authorOf(b) })
		if got := fold(append([][]byte{all[0]}, shuffled...)); got != want {
			t.Fatalf("order matters:\n%s\n%s", want, got)
		}
		var v event.View
		if err := json.Unmarshal([]byte(want), &v); err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(actions, func(a, b event.Action) int { return int(a.At) - int(b.At) })
		if !slices.EqualFunc(v.Actions, actions, func(a, b event.Action) bool { return reflect.DeepEqual(a, b) }) && len(actions) > 0 {
			t.Fatalf("actions %v, want %v", v.Actions, actions)
		}
		if v.State != event.State(actions) || v.Report.Title != "供水井盖异常" {
			t.Fatalf("view %s", want)
		}
	})
}

func authorOf(raw []byte) int {
	mark := district.Mark()
	if strings.Contains(string(raw[:60]), string(mark[:])) {
		return 1
	}
	return 0
}

func TestFoldShowsWhatIsWrong(t *testing.T) {
	text := func(s string) []crdt.Written {
		return []crdt.Written{{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: s}}}
	}
	src := func(fields ...crdt.Field) *crdt.Source {
		return &crdt.Source{Doc: "event:1", Document: &crdt.Document{Root: crdt.Node{Kind: crdt.NodeMap, Fields: fields}}}
	}
	if _, err := event.Fold(src()); !errors.Is(err, event.ErrInvalid) {
		t.Errorf("no report: %v", err)
	}
	if _, err := event.Fold(src(crdt.Field{Key: "report", Values: text("{")})); !errors.Is(err, event.ErrInvalid) {
		t.Errorf("broken report: %v", err)
	}
	waiting := src()
	waiting.Pending = 2
	if v, err := event.Fold(waiting); err != nil || !strings.Contains(string(v.JSON), `"pending":2`) {
		t.Errorf("held back: %s, %v", v.JSON, err)
	}
	items := crdt.Node{Kind: crdt.NodeList, Items: append(text("{"), text(`{"kind":"close","at":1}`)...)}
	v, err := event.Fold(src(crdt.Field{Key: "actions", Values: []crdt.Written{{Node: items}}}, crdt.Field{Key: "report", Values: text(`{"type":"x"}`)}))
	if err != nil || !strings.Contains(string(v.JSON), `"malformed":1`) || !strings.Contains(string(v.JSON), `"state":"closed"`) {
		t.Errorf("a malformed action: %s, %v", v.JSON, err)
	}
}

// TestUndispatchedIndex: the dispatcher's work list holds an event until it is
// dispatched.
func TestUndispatchedIndex(t *testing.T) {
	for kind, listed := range map[string]bool{"": true, "accept": false, "dispatch": false, "void": false} {
		var items []crdt.Written
		if kind != "" {
			items = append(items, crdt.Written{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: `{"kind":"` + kind + `","at":1}`}})
		}
		v, err := event.Fold(&crdt.Source{Doc: "event:1", Document: &crdt.Document{Root: crdt.Node{Kind: crdt.NodeMap, Fields: []crdt.Field{
			{Key: "actions", Values: []crdt.Written{{Node: crdt.Node{Kind: crdt.NodeList, Items: items}}}},
			{Key: "report", Values: []crdt.Written{{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: `{"type":"x","title":"y"}`}}}},
		}}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(v.Index, func(e crdt.IndexEntry) bool { return e.Name == event.IndexUndispatched }); got != listed {
			t.Errorf("after %q: listed %v", kind, got)
		}
	}
}

// TestStateFromTasks: an event that was dispatched is closed when all its tasks are
// done and one of them was closed, and goes on when one of them is reopened.
func TestStateFromTasks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tasks := []tiers.DocID{"task:1", "task:2", "task:3"}[:rapid.IntRange(1, 3).Draw(t, "tasks")]
		var actions []event.Action
		outcome := map[tiers.DocID]string{}
		for _, id := range tasks {
			actions = append(actions, event.Action{Kind: event.KindDispatch, Task: id})
			outcome[id] = "open"
		}
		for range rapid.IntRange(0, 8).Draw(t, "changes") {
			id := rapid.SampledFrom(tasks).Draw(t, "task")
			outcome[id] = rapid.SampledFrom([]string{"open", "closed", "void"}).Draw(t, "outcome")
			actions = append(actions, event.Action{Kind: event.KindTask, Task: id, Outcome: outcome[id]})
		}
		closed, open := 0, 0
		for _, o := range outcome {
			if o == "closed" {
				closed++
			}
			if o == "open" {
				open++
			}
		}
		got := event.State(actions)
		// An event that is closed stays so while its tasks only become void.
		if got != event.StateClosed && closed > 0 && open == 0 || got == event.StateClosed && open > 0 {
			t.Fatalf("%s after %v", got, outcome)
		}
	})
}
