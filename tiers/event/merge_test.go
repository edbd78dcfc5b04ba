package event_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// foldOf folds a report and actions, given in any order.
func foldOf(t interface{ Fatal(...any) }, id tiers.DocID, r event.Report, actions []event.Action) *event.View {
	v, _ := foldBytes(t, id, r, actions)
	return &v
}

func foldBytes(t interface{ Fatal(...any) }, id tiers.DocID, r event.Report, actions []event.Action) (event.View, crdt.View) {
	text := func(v any) crdt.Written {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return crdt.Written{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: string(b)}}
	}
	var items []crdt.Written
	for _, a := range actions {
		w := text(a)
		w.Counter = uint64(a.At)
		copy(w.Actor[:], a.By)
		items = append(items, w)
	}
	stream, id, full, err := id.Split()
	if err != nil {
		t.Fatal(err)
	}
	if !full {
		stream = tiers.StreamID{Site: "500101001", Class: tiers.ClassRoutine}
	}
	v, out, err := event.FoldView(&crdt.Source{
		Doc: id, Stream: stream,
		Document: &crdt.Document{Root: crdt.Node{Kind: crdt.NodeMap, Fields: []crdt.Field{
			{Key: "actions", Values: []crdt.Written{{Node: crdt.Node{Kind: crdt.NodeList, Items: items}}}},
			{Key: "report", Values: []crdt.Written{text(r)}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return v, out
}

// world is events and what was written into each; two replicas write apart.
type world struct {
	t       *rapid.T
	reports []event.Report
	// actions are by event and replica: what each replica has written, or got.
	actions [][2]map[crdt.HybridTime]event.Action
	clock   crdt.HybridTime
	// namesakes says that each two events have one name, at two sites.
	namesakes bool
}

// idOf is an event's full name.
func (w *world) idOf(i int) tiers.DocID {
	if w.namesakes {
		return tiers.DocID(fmt.Sprintf("500101%03d/routine/event:%02d", i, i/2))
	}
	return tiers.DocID(fmt.Sprintf("500101001/routine/event:%02d", i))
}

// index is the event of a full name.
func (w *world) index(id tiers.DocID) int {
	for i := range w.reports {
		if w.idOf(i) == id {
			return i
		}
	}
	w.t.Fatalf("there is no %s", id)
	return -1
}

// into is the original of an event, by its full name; empty for none.
func into(v *event.View) tiers.DocID {
	if o, merged := v.Original(); merged {
		return o.Name()
	}
	return ""
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, namesakes: rapid.Bool().Draw(t, "namesakes")}
	for i := range rapid.IntRange(2, 7).Draw(t, "events") {
		r := report()
		// Few times, so that names decide, too.
		r.ReportedAtMS += rapid.Int64Range(0, 3).Draw(t, "reported")
		r.Title = fmt.Sprint(i)
		w.reports = append(w.reports, r)
		w.actions = append(w.actions, [2]map[crdt.HybridTime]event.Action{{}, {}})
	}
	return w
}

func (w *world) view(replica, i int) *event.View {
	var all []event.Action
	for _, a := range w.actions[i][replica] {
		all = append(all, a)
	}
	return foldOf(w.t, w.idOf(i), w.reports[i], all)
}

func (w *world) write(replica int, kind string, i, j int) {
	w.clock++
	for _, p := range [][2]int{{i, j}, {j, i}} {
		o := w.view(replica, p[1]).Self()
		a := event.Action{At: w.clock, By: []tiers.SiteID{"500101001", "500101"}[replica], Kind: kind}
		a.Other = &o
		w.actions[p[0]][replica][w.clock] = a
	}
}

func (w *world) exchange() {
	for i := range w.actions {
		for at, a := range w.actions[i][0] {
			w.actions[i][1][at] = a
		}
		for at, a := range w.actions[i][1] {
			w.actions[i][0][at] = a
		}
	}
}

// untie does what a node does with knots, until there are none.
func (w *world) untie(replica int) {
	for round := 0; ; round++ {
		if round > 100 {
			w.t.Fatal("knots without end")
		}
		found := false
		for i := range w.reports {
			knots := w.view(replica, i).Knots()
			if len(knots) == 0 {
				continue
			}
			found = true
			first := w.index(knots[0].Original.Name())
			// As builds wrote it that knew no full names.
			old := !w.namesakes && rapid.Bool().Draw(w.t, "old")
			var done []tiers.DocID
			for _, k := range knots {
				j := w.index(k.Duplicate.Name())
				if _, ever := w.view(replica, j).MergedWith(w.idOf(first)); !ever {
					w.write(replica, event.KindMerge, first, j)
				}
				if done = append(done, k.Duplicate.Name()); old {
					done[len(done)-1] = k.Duplicate.Event
				}
			}
			w.clock++
			a := event.Action{At: w.clock, By: "500101", Kind: event.KindSettle}
			a.Other, a.Others = &event.Other{Event: knots[0].Original.Event, Stream: knots[0].Original.Stream}, done
			if old {
				a.Other.Stream = ""
			}
			w.actions[i][replica][w.clock] = a
		}
		if !found {
			return
		}
	}
}

// TestMergesAgainstUnionFind: whatever two replicas merge while they are apart, in
// which direction ever, after they met each duplicate names the earliest report of
// all that are one, as union-find finds it, and that one lists all who reported.
func TestMergesAgainstUnionFind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		parent := make([]int, len(w.reports))
		for i := range parent {
			parent[i] = i
		}
		find := func(i int) int {
			for parent[i] != i {
				i = parent[i]
			}
			return i
		}
		earlier := func(i, j int) bool {
			return cmp.Or(cmp.Compare(w.reports[i].ReportedAtMS, w.reports[j].ReportedAtMS), cmp.Compare(w.idOf(i).Local(), w.idOf(j).Local()), cmp.Compare(w.idOf(i), w.idOf(j))) < 0
		}
		for range rapid.IntRange(1, 10).Draw(t, "merges") {
			i := rapid.IntRange(0, len(w.reports)-1).Draw(t, "a")
			j := rapid.IntRange(0, len(w.reports)-1).Draw(t, "b")
			replica := rapid.IntRange(0, 1).Draw(t, "replica")
			if i == j {
				continue
			}
			w.write(replica, event.KindMerge, i, j)
			a, b := find(i), find(j)
			if a != b && earlier(b, a) {
				a, b = b, a
			}
			parent[b] = a
			if rapid.IntRange(0, 3).Draw(t, "meet") == 0 {
				w.exchange()
			}
			if rapid.IntRange(0, 3).Draw(t, "untie") == 0 {
				w.untie(replica)
			}
		}
		w.exchange()
		w.untie(1)
		w.exchange()
		for i := range w.reports {
			v, root := w.view(0, i), find(i)
			if want := w.idOf(root); root == i && (v.Into != "" || v.State == event.StateMerged) || root != i && (into(v) != want || v.State != event.StateMerged) {
				t.Fatalf("%s hangs at %q, want %s", v.ID, v.Into, want)
			}
			if root != i {
				continue
			}
			var want, got []tiers.DocID
			for j := range w.reports {
				if find(j) == i {
					want = append(want, w.idOf(j))
				}
			}
			for _, r := range v.Reporters {
				got = append(got, tiers.FullName(tiers.StreamID{Site: r.Site, Class: tiers.ClassRoutine}, r.Event))
			}
			slices.Sort(got)
			if len(want) > 1 && !slices.Equal(got, want) {
				t.Fatalf("%s was reported by %v, want %v", v.ID, got, want)
			}
		}
	})
}

// TestUnmerge: events that were taken apart stay so, also where a third one was
// merged with both, and nothing goes round in a circle.
func TestUnmerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		last := map[[2]int]string{}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			i := rapid.IntRange(0, len(w.reports)-1).Draw(t, "a")
			j := rapid.IntRange(0, len(w.reports)-1).Draw(t, "b")
			if i == j {
				continue
			}
			kind := rapid.SampledFrom([]string{event.KindMerge, event.KindUnmerge}).Draw(t, "kind")
			w.write(rapid.IntRange(0, 1).Draw(t, "replica"), kind, i, j)
			last[[2]int{min(i, j), max(i, j)}] = kind
		}
		w.exchange()
		w.untie(0)
		w.exchange()
		for p, kind := range last {
			for _, q := range [][2]int{p, {p[1], p[0]}} {
				if now, _ := w.view(1, q[0]).MergedWith(w.idOf(q[1])); now != (kind == event.KindMerge) {
					t.Fatalf("%v: merged %v after %s", q, now, kind)
				}
			}
		}
		for i := range w.reports {
			v := w.view(0, i)
			for steps := 0; v.Into != ""; steps++ {
				next := w.view(0, w.index(into(v)))
				if event.Earlier(next.Self(), v.Self()) >= 0 || steps > len(w.reports) {
					t.Fatalf("%s hangs at %s, which is not earlier", v.ID, next.ID)
				}
				v = next
			}
		}
	})
}

// TestHandlingIsOrderFree: the whole view, and the index, depend on the set of
// actions, not on their order, and are what they are again after a round through
// JSON.
func TestHandlingIsOrderFree(t *testing.T) {
	kinds := []string{
		event.KindAccept, event.KindDispatch, event.KindTask, event.KindFeedback, event.KindVerify, event.KindClose, event.KindReopen, event.KindVoid,
		event.KindEvaluate, event.KindMerge, event.KindUnmerge, event.KindSettle, event.KindHandOver, event.KindRaise, event.KindAttach, "sing",
	}
	rapid.Check(t, func(t *rapid.T) {
		var actions []event.Action
		for i := range rapid.IntRange(0, 12).Draw(t, "actions") {
			a := event.Action{
				At: crdt.HybridTime(rapid.Uint64Range(1, 6).Draw(t, "at"))<<16 + crdt.HybridTime(i), By: rapid.SampledFrom([]tiers.SiteID{"500101", "500000"}).Draw(t, "by"),
				Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Task: rapid.SampledFrom([]tiers.DocID{"task:1", "task:2"}).Draw(t, "task"),
				Outcome: rapid.SampledFrom([]string{"open", "closed", "void"}).Draw(t, "outcome"),
			}
			a.Who = rapid.SampledFrom([]string{"张三", "李四"}).Draw(t, "who")
			a.Score, a.Priority = rapid.IntRange(1, 5).Draw(t, "score"), rapid.IntRange(1, 4).Draw(t, "priority")
			a.Other = &event.Other{
				Event:        rapid.SampledFrom([]tiers.DocID{"event:00", "event:02", "event:03"}).Draw(t, "other"),
				ReportedAtMS: now.UnixMilli(), Reporters: []event.Reporter{{Event: "event:09"}},
			}
			a.Others = []tiers.DocID{"event:02"}
			sha := strings.Repeat("a", 64)
			a.Attachment = &event.Attachment{ID: event.AttachmentID(sha), Name: "a.jpg", Type: "image/jpeg", Bytes: 5, SHA256: sha, Parts: []string{sha}}
			actions = append(actions, a)
		}
		v, want := foldBytes(t, "event:01", report(), actions)
		shuffled := slices.Clone(actions)
		rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed"))).Shuffle(len(shuffled), func(i, j int) {
			shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
		})
		_, got := foldBytes(t, "event:01", report(), shuffled)
		if string(got.JSON) != string(want.JSON) || !slices.Equal(got.Index, want.Index) {
			t.Fatalf("order matters:\n%s\n%s", want.JSON, got.JSON)
		}
		var again event.View
		if err := json.Unmarshal(want.JSON, &again); err != nil {
			t.Fatal(err)
		}
		again.Derive()
		if b, err := json.Marshal(again); err != nil || string(b) != string(want.JSON) {
			t.Fatalf("read back:\n%s\n%s", want.JSON, b)
		}
		if !slices.Equal(again.OpenTasks(), v.OpenTasks()) || fmt.Sprint(again.Knots()) != fmt.Sprint(v.Knots()) {
			t.Fatalf("read back: %v %v, want %v %v", again.OpenTasks(), again.Knots(), v.OpenTasks(), v.Knots())
		}
		// A naive oracle of what is derived.
		slices.SortFunc(actions, func(a, b event.Action) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.By, b.By)) })
		score, priority := 0, 3
		for _, a := range actions {
			if a.Kind == event.KindEvaluate {
				score = a.Score
			}
			if a.Kind == event.KindRaise {
				priority = min(priority, a.Priority)
			}
		}
		if v.Score != score || v.Report.Priority != priority {
			t.Fatalf("score %d, priority %d, want %d, %d", v.Score, v.Report.Priority, score, priority)
		}
	})
}
