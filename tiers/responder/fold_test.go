package responder_test

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// drawWrites draws entries of every kind by every site, also such as the writer
// may not make.
func drawWrites(t *rapid.T, kinds []string) []write {
	var out []write
	for range rapid.IntRange(0, 8).Draw(t, "entries") {
		e := responder.Entry{
			At: crdt.HybridTime(rapid.IntRange(1, 4).Draw(t, "at")), By: rapid.SampledFrom([]tiers.SiteID{"h", "a", "c", "p"}).Draw(t, "by"),
			Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Unit: "u", UntilMS: rapid.Int64Range(0, 9).Draw(t, "until"),
		}
		op, err := responder.EntryOp(e)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, write{rapid.SampledFrom([]tiers.SiteID{"h", "a", "c", "p"}).Draw(t, "author"), "", op.Value.(string)})
	}
	return append(out, write{"a", "", "not an entry"})
}

// step is how the oracle reads an entry.
type step struct {
	By, Kind string
	UntilMS  int64 `json:"until_ms"`
}

// counted are the kinds of entries of which the oracle says that they count.
func counted(writes []write, ok func(s step, author string) bool) map[string]int64 {
	out := map[string]int64{}
	for _, w := range writes {
		var s step
		if json.Unmarshal([]byte(w.text), &s) == nil && ok(s, string(w.author)) {
			out[s.Kind] = max(out[s.Kind], s.UntilMS)
		}
	}
	return out
}

// TestRequestFold: any order and any number of copies of the same entries give
// the same view, byte for byte, with the state that a naive reading gives; the
// asking site cannot grant, nor the home give back.
func TestRequestFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		writes := drawWrites(t, []string{responder.StepGrant, responder.StepRefuse, responder.StepReturn, responder.StepReleased, responder.StepReclaim, "dance"})
		head := write{"a", "request", `{"from":"a","home":"h","unit":"u","for":"task:x","reason":"x","asked_at_ms":5}`}
		fold := func(ws []write) (v responder.RequestView, text string) {
			made, err := responder.FoldRequest(source(tiers.StreamID{Site: "a", Class: tiers.ClassCommand}, "unitrequest:1", append([]write{head}, ws...)))
			if err == nil {
				err = json.Unmarshal(made.JSON, &v)
			}
			if err != nil {
				t.Fatal(err)
			}
			if open := slices.ContainsFunc(made.Index, func(e crdt.IndexEntry) bool { return e.Name == responder.IndexRequestOpen }); open != v.Open() {
				t.Fatalf("%s is listed as open: %v", v.State, open)
			}
			return v, string(made.JSON)
		}
		v, text := fold(writes)
		if _, other := fold(rapid.Permutation(append(slices.Clone(writes), writes...)).Draw(t, "shuffled")); other != text {
			t.Fatalf("%s\nor %s", text, other)
		}
		is := counted(writes, func(s step, author string) bool {
			if s.Kind == responder.StepReturn {
				return s.By == "a" && author != "h"
			}
			return s.By == "h" && author != "a"
		})
		_, granted := is[responder.StepGrant]
		_, refused := is[responder.StepRefuse]
		_, back := is[responder.StepReturn]
		want := responder.RequestPending
		switch {
		case granted && back:
			want = responder.RequestReturned
		case granted:
			want = responder.RequestGranted
		case refused:
			want = responder.RequestRefused
		}
		if _, ok := is[responder.StepReclaim]; ok {
			want = responder.RequestReclaimed
		}
		if _, ok := is[responder.StepReleased]; ok {
			want = responder.RequestReleased
		}
		if v.State != want {
			t.Fatalf("%s, want %s: %s", v.State, want, text)
		}
	})
}

// TestPoolFold: the same for pools: only the home lends longer and takes back,
// and only the borrower hands back, each in its own writing.
func TestPoolFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		writes := drawWrites(t, []string{responder.StepExtend, responder.StepHandBack, responder.StepTakeBack, "dance"})
		head := write{"h", "pool", `{"home":"h","child":"c","units":[{"unit":"u","epoch":7}],"until_ms":3}`}
		fold := func(ws []write) (v responder.PoolView, text string) {
			made, err := responder.FoldPool(source(tiers.StreamID{Site: "c", Class: tiers.ClassCommand}, "pool:1", append([]write{head}, ws...)))
			if err == nil {
				err = json.Unmarshal(made.JSON, &v)
			}
			if err != nil {
				t.Fatal(err)
			}
			return v, string(made.JSON)
		}
		v, text := fold(writes)
		if _, other := fold(rapid.Permutation(append(slices.Clone(writes), writes...)).Draw(t, "shuffled")); other != text {
			t.Fatalf("%s\nor %s", text, other)
		}
		is := counted(writes, func(s step, author string) bool {
			return s.By == author && (s.Kind == responder.StepHandBack && author == "c" || s.Kind != responder.StepHandBack && author == "h")
		})
		want := responder.PoolLent
		if _, ok := is[responder.StepHandBack]; ok {
			want = responder.PoolReturned
		}
		if _, ok := is[responder.StepTakeBack]; ok {
			want = responder.PoolTaken
		}
		if v.State != want || v.UntilMS != max(3, is[responder.StepExtend]) {
			t.Fatalf("%s until %d, want %s: %s", v.State, v.UntilMS, want, text)
		}
	})
}

// read builds a document by the engine and reads it back.
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
	return &crdt.Source{
		Stream: tiers.StreamID{Site: "h", Class: tiers.ClassReading}, Doc: doc, Document: d,
		Authors: map[crdt.Actor]crdt.Author{{1}: {Site: "h", Incarnation: 1}},
	}
}

// TestUnitRoundTrip: a unit, its log and its place come back as written.
func TestUnitRoundTrip(t *testing.T) {
	u := responder.Unit{Code: "f1", Name: "消防一队", Kind: "team", Skills: []string{"fire", "rescue"}, Organ: "消防", Status: responder.Available}
	ops, err := responder.CreateOps(u)
	if err != nil {
		t.Fatal(err)
	}
	off, err := responder.StatusOp(responder.OffDuty)
	if err != nil {
		t.Fatal(err)
	}
	forced := responder.Forced{At: 5, By: "h", From: "task:a", Lost: responder.Epoch{Home: 1}, To: "task:b", Epoch: responder.Epoch{Home: 2}, Reason: "x"}
	log, err := responder.ForcedOp(forced)
	if err != nil {
		t.Fatal(err)
	}
	made, err := responder.Fold(read(t, "responder:f1", append(ops, off, log)))
	if err != nil {
		t.Fatal(err)
	}
	var v responder.UnitView
	if err := json.Unmarshal(made.JSON, &v); err != nil {
		t.Fatal(err)
	}
	u.Status = responder.OffDuty
	if v.Code != u.Code || v.Name != u.Name || !slices.Equal(v.Skills, u.Skills) || v.Status != u.Status || len(v.Log) != 1 || v.Log[0] != forced {
		t.Errorf("%s", made.JSON)
	}
	ops, err = responder.PositionOps(responder.Position{Lat: 30.8125, Lon: -108.5, AtMS: 7})
	if err != nil {
		t.Fatal(err)
	}
	made, err = responder.FoldPosition(read(t, "position:f1", ops))
	var p responder.PositionView
	if err = errors.Join(err, json.Unmarshal(made.JSON, &p)); err != nil || p.Lat != 30.8125 || p.Lon != -108.5 || p.AtMS != 7 {
		t.Errorf("%s, %v", made.JSON, err)
	}
}

// TestRefusals: bad input is refused by field.
func TestRefusals(t *testing.T) {
	good := responder.Unit{Code: "f1", Name: "x", Kind: "team", Organ: "o", Status: responder.Available}
	lat, bad := 1.0, math.NaN()
	ask := responder.Request{From: "a", Home: "h", Unit: "u", For: "task:x", Reason: "x"}
	unit := func(change func(*responder.Unit)) error { u := good; change(&u); return u.Validate() }
	asked := func(change func(*responder.Request)) error { r := ask; change(&r); return r.Validate() }
	now := time.UnixMilli(1_760_000_000_000)
	for name, row := range map[string]struct {
		err  error
		want string
	}{
		"no code":       {unit(func(u *responder.Unit) { u.Code = "" }), "unit"},
		"code":          {unit(func(u *responder.Unit) { u.Code = "a/b" }), "a/b"},
		"kind":          {unit(func(u *responder.Unit) { u.Kind = "dragon" }), "dragon"},
		"status":        {unit(func(u *responder.Unit) { u.Status = "" }), "want one of"},
		"1 MB":          {unit(func(u *responder.Unit) { u.Name = strings.Repeat("x", 1<<20) }), "1048576 bytes"},
		"comma":         {unit(func(u *responder.Unit) { u.Skills = []string{"a,b"} }), "comma"},
		"many":          {unit(func(u *responder.Unit) { u.Skills = make([]string, 17) }), "17 skills"},
		"zero byte":     {unit(func(u *responder.Unit) { u.Organ = "a\x00" }), "organ"},
		"itself":        {asked(func(r *responder.Request) { r.Home = "a" }), "itself"},
		"nothing":       {asked(func(r *responder.Request) { r.Unit = "" }), "want one of both"},
		"both":          {asked(func(r *responder.Request) { r.Skill = "fire" }), "want one of both"},
		"half a point":  {asked(func(r *responder.Request) { r.Lat = &lat }), "both or neither"},
		"no number":     {asked(func(r *responder.Request) { r.Lat, r.Lon = &lat, &bad }), "NaN"},
		"no reason":     {asked(func(r *responder.Request) { r.Reason = "" }), "reason is empty"},
		"holder":        {asked(func(r *responder.Request) { r.For = "pool:x" }), "pool:"},
		"9999":          {responder.CheckLease(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), now), "9999"},
		"1969":          {responder.CheckLease(-1, now), "1969"},
		"short":         {responder.CheckLease(now.Add(2*time.Hour).UnixMilli(), now), "until"},
		"a place":       {func() error { _, err := responder.PositionOps(responder.Position{Lat: 91}); return err }(), "91"},
		"an epoch":      {func() error { _, err := responder.ParseEpoch("01"); return err }(), "01"},
		"no units":      {responder.CheckUnits(nil), "0 units"},
		"201 units":     {responder.CheckUnits(make([]string, 201)), "201"},
		"the same unit": {responder.CheckUnits([]string{"a", "a"}), "twice"},
	} {
		if !errors.Is(row.err, responder.ErrInvalid) || !strings.Contains(row.err.Error(), row.want) {
			t.Errorf("%s: %.200v", name, row.err)
		}
	}
	if err := errors.Join(good.Validate(), ask.Validate(), responder.CheckLease(now.Add(4*time.Hour).UnixMilli(), now)); err != nil {
		t.Error(err)
	}
}
