package event_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// TestEndingNeeds: an event without tasks ends as a task does: with evidence, and
// with a verifier who did not handle it; one with tasks ends with them.
func TestEndingNeeds(t *testing.T) {
	step := func(kind, who, note string, evidence ...string) event.Action {
		a := event.Action{Kind: kind, Note: note}
		a.Who, a.Evidence = who, evidence
		return a
	}
	merged := event.Action{Kind: event.KindMerge}
	merged.Other = &event.Other{Event: "event:00"}
	scored := step(event.KindEvaluate, "王五", "")
	scored.Score = 5
	fed := step(event.KindFeedback, "张三", "", "photo")
	for name, row := range map[string]struct {
		before []event.Action
		a      event.Action
		want   string // "" for none
		kind   error
	}{
		"accept":                  {nil, step(event.KindAccept, "", ""), "", nil},
		"accept again":            {[]event.Action{{Kind: event.KindAccept}}, step(event.KindAccept, "", ""), "not for an event that is accepted, but reported", event.ErrNotNow},
		"feedback":                {nil, fed, "", nil},
		"feedback of nobody":      {nil, step(event.KindFeedback, "", ""), "who is empty", event.ErrInvalid},
		"verify before feedback":  {nil, step(event.KindVerify, "李四", "", "photo"), "feedback comes first", event.ErrNotNow},
		"verify":                  {[]event.Action{fed}, step(event.KindVerify, "李四", ""), "", nil},
		"verify by the handler":   {[]event.Action{fed}, step(event.KindVerify, "张三", ""), "has handled it", event.ErrNotNow},
		"verify without evidence": {[]event.Action{step(event.KindFeedback, "张三", "")}, step(event.KindVerify, "李四", ""), "no evidence", event.ErrNotNow},
		"verify by a note":        {[]event.Action{step(event.KindFeedback, "张三", "已更换井盖")}, step(event.KindVerify, "李四", ""), "", nil},
		"verify with open tasks":  {[]event.Action{fed, {Kind: event.KindDispatch, Task: "task:1"}}, step(event.KindVerify, "李四", ""), "task:1", event.ErrNotNow},
		"verify, tasks are void": {[]event.Action{fed, {Kind: event.KindDispatch, Task: "task:1"}, {Kind: event.KindTask, Task: "task:1", Outcome: "void"}},
			step(event.KindVerify, "李四", ""), "", nil},
		"close before verify":     {[]event.Action{fed}, step(event.KindClose, "李四", ""), "but verified", event.ErrNotNow},
		"close":                   {[]event.Action{fed, step(event.KindVerify, "李四", "")}, step(event.KindClose, "李四", ""), "", nil},
		"close by the handler":    {[]event.Action{fed, step(event.KindVerify, "李四", "")}, step(event.KindClose, "张三", ""), "has handled it", event.ErrNotNow},
		"evaluate":                {[]event.Action{{Kind: event.KindClose}}, scored, "", nil},
		"evaluate what is open":   {nil, scored, "but closed", event.ErrNotNow},
		"a score of 6":            {[]event.Action{{Kind: event.KindClose}}, func() event.Action { a := scored; a.Score = 6; return a }(), "score 6: want 1 (bad) to 5", event.ErrInvalid},
		"void":                    {nil, step(event.KindVoid, "", "误报"), "", nil},
		"void without a reason":   {nil, step(event.KindVoid, "", ""), "note is empty", event.ErrInvalid},
		"void with open tasks":    {[]event.Action{{Kind: event.KindDispatch, Task: "task:1"}}, step(event.KindVoid, "", "误报"), "tasks are open", event.ErrNotNow},
		"reopen":                  {[]event.Action{{Kind: event.KindVoid}}, step(event.KindReopen, "", "又报"), "", nil},
		"a handler may after it":  {[]event.Action{fed, {Kind: event.KindReopen}, step(event.KindFeedback, "李四", "x")}, step(event.KindVerify, "张三", ""), "", nil},
		"a duplicate":             {[]event.Action{merged}, fed, "merged into event:00", event.ErrNotNow},
		"the node's own":          {nil, step(event.KindDispatch, "", ""), "want one of accept", event.ErrInvalid},
		"with another's fields":   {nil, event.Action{Kind: event.KindAccept, Task: "task:1"}, "yours to set", event.ErrInvalid},
		"1 MB of note":            {nil, step(event.KindAccept, "", strings.Repeat("x", 1<<20)), "note is 1048576 bytes", event.ErrInvalid},
		"too much evidence":       {nil, step(event.KindFeedback, "张三", "", slices.Repeat([]string{"x"}, 33)...), "33 references", event.ErrInvalid},
		"evidence of a mile":      {nil, step(event.KindFeedback, "张三", "", strings.Repeat("x", 513)), "513 bytes", event.ErrInvalid},
		"a name that is no UTF-8": {nil, step(event.KindFeedback, "\xff", ""), "UTF-8", event.ErrInvalid},
	} {
		for i := range row.before {
			row.before[i].At, row.before[i].By = crdt.HybridTime(i+1), "500101"
		}
		v := foldOf(t, "event:01", report(), row.before)
		err := v.Check(row.a)
		if row.want == "" && err != nil || row.want != "" && (!errors.Is(err, row.kind) || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
}

func TestAttachmentRules(t *testing.T) {
	sha := strings.Repeat("ab", 32)
	good := event.Attachment{ID: event.AttachmentID(sha), Name: "现场.jpg", Type: "image/jpeg", Bytes: event.PartBytes + 1, SHA256: sha, Parts: []string{sha, sha}}
	for name, row := range map[string]struct {
		change func(*event.Attachment)
		want   string
	}{
		"good":              {func(*event.Attachment) {}, ""},
		"elsewhere":         {func(a *event.Attachment) { a.URL, a.Parts = "https://example.org/a", nil }, ""},
		"no name":           {func(a *event.Attachment) { a.Name = "" }, "name is empty"},
		"a folder":          {func(a *event.Attachment) { a.Name = "../a" }, "without a folder"},
		"no type":           {func(a *event.Attachment) { a.Type = "" }, "media type"},
		"no hash":           {func(a *event.Attachment) { a.SHA256 = "x"; a.ID = "attachment:x" }, "64 digits"},
		"upper case":        {func(a *event.Attachment) { a.SHA256 = strings.ToUpper(sha); a.ID = event.AttachmentID(a.SHA256) }, "lower case"},
		"another id":        {func(a *event.Attachment) { a.ID = "attachment:1" }, "want attachment:abab"},
		"nothing":           {func(a *event.Attachment) { a.Bytes = 0 }, "bytes 0"},
		"65 MiB":            {func(a *event.Attachment) { a.Bytes = event.AttachmentBytesMax + 1 }, "want 1 to 67108864"},
		"a part less":       {func(a *event.Attachment) { a.Parts = a.Parts[:1] }, "1 for 524289 bytes: want 2"},
		"a part without":    {func(a *event.Attachment) { a.Parts = []string{sha, "x"} }, "number 2"},
		"a file of the car": {func(a *event.Attachment) { a.URL, a.Parts = "file:///etc/passwd", nil }, "http or https"},
		"both":              {func(a *event.Attachment) { a.URL = "https://example.org/a" }, "no parts here"},
	} {
		a := good
		row.change(&a)
		if err := a.Valid(); row.want == "" && err != nil || row.want != "" && (!errors.Is(err, event.ErrInvalid) || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
	if good.PartSize(0) != event.PartBytes || good.PartSize(1) != 1 {
		t.Errorf("%d, %d", good.PartSize(0), good.PartSize(1))
	}
}

func TestFoldBlob(t *testing.T) {
	data := []byte{0, 1, 255}
	src := func(id tiers.DocID, v any) *crdt.Source {
		return &crdt.Source{Doc: id, Document: &crdt.Document{Root: crdt.Node{Kind: crdt.NodeMap, Fields: []crdt.Field{
			{Key: "data", Values: []crdt.Written{{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: v}}}},
		}}}}
	}
	if v, err := event.FoldBlob(src(event.BlobID(data), data)); err != nil || !strings.Contains(string(v.JSON), `"bytes":3`) || len(v.Index) != 1 {
		t.Errorf("%s, %v", v.JSON, err)
	}
	for _, bad := range []any{[]byte{1}, "x", nil} {
		if _, err := event.FoldBlob(src(event.BlobID(data), bad)); !errors.Is(err, event.ErrInvalid) {
			t.Errorf("%v under another's name: %v", bad, err)
		}
	}
	for _, n := range []int{0, event.PartBytes + 1} {
		if _, err := event.BlobOps(make([]byte, n)); !errors.Is(err, event.ErrInvalid) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestNearFindsAll: what is as near as 200 m stands under one of the prefixes, all
// over the globe.
func TestNearFindsAll(t *testing.T) {
	n := event.DefaultNearness()
	rapid.Check(t, func(t *rapid.T) {
		lat := rapid.Float64Range(-89.9, 89.9).Draw(t, "lat")
		lon := rapid.Float64Range(-180, 180).Draw(t, "lon")
		random := rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed"))) // evenly, where rapid prefers what is simple
		turn, metres := random.Float64()*2*math.Pi, random.Float64()*260
		lat2 := lat + metres*math.Cos(turn)/111195
		lon2 := lon + metres*math.Sin(turn)/(111195*math.Cos(lat*math.Pi/180))
		lon2 = math.Mod(lon2+540, 360) - 180
		a, b := report(), report()
		a.Lat, a.Lon, b.Lat, b.Lon = &lat, &lon, &lat2, &lon2
		like, ok := event.Alike(a, b, n)
		d := event.Distance(lat, lon, lat2, lon2)
		if ok != (math.Round(d*10)/10 <= 200) || like.DistanceM == nil {
			t.Fatalf("%v m: alike %v", d, ok)
		}
		if ok && !slices.Contains(event.NearAll(a), event.Near(b)) {
			t.Fatalf("%v m away, and not under %v, but %s", d, event.NearAll(a), event.Near(b))
		}
	})
}

// TestNoDistanceIsNotNear: a report whose point is no number is like none, and its
// likeness can be written as JSON.
func TestNoDistanceIsNotNear(t *testing.T) {
	at := func(lat float64) event.Report {
		lon := 106.5
		return event.Report{Type: "01001", Lat: &lat, Lon: &lon, Place: "高笋塘", Grid: "g1"}
	}
	l, ok := event.Alike(at(29.5), at(math.NaN()), event.DefaultNearness())
	if ok || l.DistanceM != nil {
		t.Errorf("%+v, %v", l, ok)
	}
	if _, err := json.Marshal(l); err != nil {
		t.Error(err)
	}
	if l, ok := event.Alike(at(29.5), at(29.5), event.DefaultNearness()); !ok || *l.DistanceM != 0 {
		t.Errorf("%+v, %v", l, ok)
	}
}

func TestAlike(t *testing.T) {
	p := func(f float64) *float64 { return &f }
	for name, row := range map[string]struct {
		change func(*event.Report)
		want   bool
		sure   bool
	}{
		"the same":           {func(*event.Report) {}, true, true},
		"another key":        {func(r *event.Report) { r.SourceKey = "k2" }, true, false},
		"another channel":    {func(r *event.Report) { r.Channel = "app" }, true, false},
		"his words again":    {func(r *event.Report) { r.SourceKey, r.Reporter, r.Text = "k2", "张三", "井盖坏了" }, true, true},
		"another type":       {func(r *event.Report) { r.Type = "01002" }, false, true},
		"three hours later":  {func(r *event.Report) { r.ReportedAtMS += 3 * 3600 * 1000 }, false, true},
		"another spelling":   {func(r *event.Report) { r.Place = " 高笋 塘. " }, true, true},
		"another place":      {func(r *event.Report) { r.Place = "王牌路" }, false, true},
		"a point, the other": {func(r *event.Report) { r.Lat, r.Lon = p(30), p(106) }, false, true},
		"no place at all":    {func(r *event.Report) { r.Place = "" }, false, true},
	} {
		a, b := report(), report()
		a.Reporter, a.Text = "张三", "井盖坏了"
		row.change(&b)
		like, ok := event.Alike(a, b, event.DefaultNearness())
		if ok != row.want || like.Certain() != row.sure {
			t.Errorf("%s: alike %v, certain %v", name, ok, like.Certain())
		}
	}
	long := report()
	long.Place = strings.Repeat("高", 170)
	if near := event.Near(long); len(near) > 400 || len(event.NearAll(long)) != 1 || near == event.Near(report()) {
		t.Errorf("%d bytes", len(near))
	}
}

// TestQuarantineFold: the first action by time decides, in any order of arrival.
func TestQuarantineFold(t *testing.T) {
	held, err := event.Hold([]byte(`{"id":"x","channel":"app","reporter":"张三","type":"9"}`), "type", "no catalog has it", 7)
	if err != nil || held.Channel != "app" || held.Reporter != "张三" || held.ID != "x" {
		t.Fatalf("%+v, %v", held, err)
	}
	text := func(v any) crdt.Written {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return crdt.Written{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: string(b)}}
	}
	fold := func(items []crdt.Written) (event.QuarantineView, string) {
		out, err := event.FoldQuarantine(&crdt.Source{Doc: "quarantine:1", Document: &crdt.Document{Root: crdt.Node{Kind: crdt.NodeMap, Fields: []crdt.Field{
			{Key: "actions", Values: []crdt.Written{{Node: crdt.Node{Kind: crdt.NodeList, Items: items}}}}, {Key: "held", Values: []crdt.Written{text(held)}},
		}}}})
		if err != nil {
			t.Fatal(err)
		}
		var v event.QuarantineView
		if err := json.Unmarshal(out.JSON, &v); err != nil {
			t.Fatal(err)
		}
		return v, string(out.JSON) + fmt.Sprint(out.Index)
	}
	if v, _ := fold(nil); v.State != event.QuarantineHeld || v.Held.Raw != held.Raw {
		t.Errorf("%+v", v)
	}
	rapid.Check(t, func(rt *rapid.T) {
		var items []crdt.Written
		first, state := crdt.HybridTime(math.MaxInt64), event.QuarantineHeld
		for i := range rapid.IntRange(0, 4).Draw(rt, "actions") {
			at := crdt.HybridTime(rapid.IntRange(1, 3).Draw(rt, "at")*10 + i)
			kind := rapid.SampledFrom([]string{event.QuarantineRelease, event.QuarantineDiscard}).Draw(rt, "kind")
			items = append(items, text(event.QuarantineAction{At: at, By: "s", Kind: kind}))
			if at < first {
				first, state = at, map[string]string{"release": "released", "discard": "discarded"}[kind]
			}
		}
		v, want := fold(items)
		rand.New(rand.NewSource(rapid.Int64().Draw(rt, "seed"))).Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
		if _, got := fold(items); got != want || v.State != state {
			rt.Fatalf("%s, want %s\n%s\n%s", v.State, state, want, got)
		}
	})
	if _, err := event.Hold(make([]byte, event.RawBytesMax+1), "", "", 0); !errors.Is(err, event.ErrInvalid) {
		t.Errorf("too large: %v", err)
	}
}

func TestReleased(t *testing.T) {
	h, err := event.Hold([]byte(`{"id":"a","type":"9","title":"井盖","priority":"high","colour":"red"}`), "", "x", 7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Released(nil); !errors.Is(err, event.ErrInvalid) {
		t.Errorf("as it was: %v", err)
	}
	r, err := h.Released(map[string]string{"type": "01001", "priority": "2", "colour": "", "lat": "29.5", "lon": "106.5"})
	if err != nil || r.Type != "01001" || r.Priority != 2 || r.Title != "井盖" || *r.Lat != 29.5 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []map[string]string{{"lat": "x"}, {"priority": "high"}} {
		if _, err := h.Released(bad); !errors.Is(err, event.ErrInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	binary, err := event.Hold([]byte{0xff, 0}, "", "x", 7)
	if err != nil || binary.Raw != "" || len(binary.Bytes) != 2 {
		t.Fatalf("%+v, %v", binary, err)
	}
	if r, err := binary.Released(map[string]string{"type": "01001", "title": "x"}); err != nil || r.Title != "x" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestParseBatch(t *testing.T) {
	for name, row := range map[string]struct {
		body  string
		items int
		bad   []int
		field string
	}{
		"an array":         {`[{"type":"a"},{"type":"b"}]`, 2, nil, ""},
		"lines":            {"{\"type\":\"a\"}\n\n  {\"type\":\"b\"}\r\n", 2, nil, ""},
		"a bad line":       {"{\"type\":\"a\"}\n{\"type\n", 2, []int{1}, "report"},
		"a wrong kind":     {`[{"priority":"high"}]`, 1, []int{0}, "priority"},
		"an unknown field": {`[{"colour":"red"}]`, 1, []int{0}, "colour"},
		"a bad id":         {`[{"id":"7"}]`, 1, []int{0}, "id"},
		"two on a line":    {`{}{}`, 1, []int{0}, "report"},
		"no object":        {`[7]`, 1, []int{0}, "report"},
	} {
		items, err := event.ParseBatch([]byte(row.body), false)
		if err != nil || len(items) != row.items {
			t.Errorf("%s: %d items, %v", name, len(items), err)
			continue
		}
		for i, it := range items {
			if bad := slices.Contains(row.bad, i); bad != (it.Err != nil) || bad && event.FieldOf(it.Err) != row.field {
				t.Errorf("%s: %d: %v, field %q", name, i, it.Err, event.FieldOf(it.Err))
			}
		}
	}
}

// FuzzParseBatch: no bytes end the decoder, and each report that it finds is within
// them.
func FuzzParseBatch(f *testing.F) {
	f.Add([]byte(`[{"type":"a","id":"0190f1c2-0000-7000-8000-000000000001"},7]`))
	f.Add([]byte("{\"lat\":1e400}\n\xff\n"))
	f.Add([]byte(`[{"quarantine":{"bytes":"/w==","reason":"x"}},{"extra":{"a":1},"reported_at":"2026-11-01"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		items, err := event.ParseBatch(b, len(b)%2 == 0)
		if err != nil && !errors.Is(err, event.ErrInvalid) {
			t.Fatal(err)
		}
		size := 0
		for _, it := range items {
			size += len(it.Raw)
			if it.Err != nil && !errors.Is(it.Err, event.ErrInvalid) {
				t.Fatal(it.Err)
			}
			h, err := event.Hold(it.Raw, event.FieldOf(it.Err), "x", 1)
			if err == nil {
				_, _ = h.Released(map[string]string{"type": "x"})
			}
		}
		if size > len(b) {
			t.Fatalf("%d bytes of %d", size, len(b))
		}
	})
}
