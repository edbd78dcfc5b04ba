package reading_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt/reading"
)

var gapTexts = []string{"", "-9999", "M", "缺测"}

func drawGaps(t *rapid.T, from, to int64) []reading.Gap {
	var out []reading.Gap
	for range rapid.IntRange(1, 9).Draw(t, "gaps") {
		out = append(out, reading.Gap{
			AtMS: rapid.Int64Range(from, to).Draw(t, "at"), Text: rapid.SampledFrom(gapTexts).Draw(t, "text"),
			Reason: rapid.SampledFrom([]string{"no value", "M", "maintenance"}).Draw(t, "reason"),
		})
	}
	return out
}

// TestGapsRoundTrip: gaps come back as they were written, sorted, the last of each
// time; and there is one encoding of them.
func TestGapsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in []reading.Series
		want := map[string]map[int64]reading.Gap{}
		for i := range rapid.IntRange(1, 4).Draw(t, "series") {
			s := reading.Series{Name: fmt.Sprintf("code/%d", i%3), Gaps: drawGaps(t, 0, reading.TimeMaxMS-1)}
			in = append(in, s)
			if want[s.Name] == nil {
				want[s.Name] = map[int64]reading.Gap{}
			}
			for _, g := range s.Gaps {
				want[s.Name][g.AtMS] = g
			}
		}
		b, err := reading.AppendBatch(nil, in)
		if err != nil {
			t.Fatal(err)
		}
		out, err := reading.DecodeBatch(b)
		if err != nil || len(out) != len(want) {
			t.Fatal(out, err)
		}
		for _, s := range out {
			if len(s.Points) > 0 || len(s.Gaps) != len(want[s.Name]) {
				t.Fatal(s)
			}
			for _, g := range s.Gaps {
				if want[s.Name][g.AtMS] != g {
					t.Fatal(s.Name, g)
				}
			}
		}
		if again, err := reading.AppendBatch(nil, out); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x\n%x %v", b, again, err)
		}
	})
}

// TestGoldenGaps holds the bytes of a batch of version 2, of a segment of gaps, and
// of rollups that count gaps, for good.
func TestGoldenGaps(t *testing.T) {
	gaps := []reading.Gap{
		{AtMS: 7 * reading.HourMS, Text: "-9999", Reason: "no value"},
		{AtMS: 7*reading.HourMS + 60_000, Text: "M", Reason: "maintenance"},
		{AtMS: 7*reading.HourMS + 120_000, Text: "-9999", Reason: "no value"},
	}
	batch, err := reading.AppendBatch(nil, []reading.Series{{Name: "rain/1", Gaps: gaps}})
	if err != nil {
		t.Fatal(err)
	}
	rollups := reading.AppendRollups(nil, 7, reading.Minutes([]reading.Point{{AtMS: 7*reading.HourMS + 61_000, Value: 2}}, gaps))
	for name, row := range map[string]struct {
		got  []byte
		want string
	}{
		"batch":   {batch, goldenGapBatch},
		"segment": {reading.AppendGapSegment(nil, 7, 5, gaps), goldenGapSegment},
		"rollups": {rollups, goldenGapRollups},
	} {
		if got := hex.EncodeToString(row.got); got != row.want {
			t.Errorf("%s: %s\nwant %s", name, got, row.want)
		}
	}
	back, err := reading.DecodeRollups(rollups, 7)
	want := []reading.Rollup{
		{StartMS: 7 * reading.HourMS, Missing: 1},
		{StartMS: 7*reading.HourMS + 60_000, Count: 1, Sum: 2, Min: 2, Max: 2, Last: 2, LastMS: 7*reading.HourMS + 61_000, Missing: 1},
		{StartMS: 7*reading.HourMS + 120_000, Missing: 1},
	}
	if err != nil || !slices.Equal(back, want) {
		t.Errorf("%+v, %v", back, err)
	}
	day := reading.Coarser(back, 24*reading.HourMS, 0)
	if len(day) != 1 || day[0].Count != 1 || day[0].Missing != 3 || day[0].Mean() != 2 {
		t.Errorf("%+v", day)
	}
}

const (
	goldenGapBatch   = "0001067261696e2f3103808b820cc0a9070000052d3939393901086e6f2076616c756502014d030b6d61696e74656e616e63650001"
	goldenGapSegment = "0000000000000005000300c0a9070000052d3939393901086e6f2076616c756502014d030b6d61696e74656e616e63650001"
	goldenGapRollups = "030000000000000000000000000000000000000000000000000000000000000000000000e0d40301e807" +
		"4000000000000000400000000000000040000000000000004000000000000000" +
		"c0a90700000000000000000000000000000000000000000000000000000000000000000000010101"
)

// TestGapRefusals: nothing but what AppendBatch writes is taken in.
func TestGapRefusals(t *testing.T) {
	gap := reading.Gap{AtMS: 1, Text: "M", Reason: "m"}
	with := func(f func(g *reading.Gap)) []reading.Series {
		g := gap
		f(&g)
		return []reading.Series{{Name: "a", Gaps: []reading.Gap{g}}}
	}
	for name, in := range map[string][]reading.Series{
		"before 1970": with(func(g *reading.Gap) { g.AtMS = -1 }),
		"long text":   with(func(g *reading.Gap) { g.Text = strings.Repeat("x", reading.GapTextMax+1) }),
		"long reason": with(func(g *reading.Gap) { g.Reason = strings.Repeat("x", reading.GapReasonMax+1) }),
		"no reason":   with(func(g *reading.Gap) { g.Reason = "" }),
		"no UTF-8":    with(func(g *reading.Gap) { g.Text = "\xff" }),
		"zero byte":   with(func(g *reading.Gap) { g.Text = "\x00" }),
		"both":        {{Name: "a", Gaps: []reading.Gap{gap}}, {Name: "b", Points: []reading.Point{{AtMS: 1}}}},
		"both of one": {{Name: "a", Gaps: []reading.Gap{gap}, Points: []reading.Point{{AtMS: 1}}}},
	} {
		if _, err := reading.AppendBatch(nil, in); !errors.Is(err, reading.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{
		"no series": {0, 0}, "no gaps": {0, 1, 1, 'a', 0}, "place": {0, 1, 1, 'a', 1, 1, 1, 1, 'M', 1, 1, 'm'},
		"twice": {0, 1, 1, 'a', 1, 1, 0, 1, 'M', 1, 1, 'M'}, "cut": {0, 1, 1, 'a', 1, 1, 0, 1, 'M', 1, 9, 'm'},
	} {
		if out, err := reading.DecodeBatch(b); !errors.Is(err, reading.ErrInvalid) {
			t.Errorf("%s: %v, %v", name, out, err)
		}
	}
	if out, err := reading.DecodeBatch([]byte{0, 1, 1, 'a', 1, 1, 0, 1, 'M', 1, 1, 'm'}); err != nil || out[0].Gaps[0] != gap {
		t.Errorf("%v, %v", out, err)
	}
}

// TestGapsAnyOrder: of points and gaps for one time the latest writer's counts, a
// point among equals, in whatever order segments stand and however often.
func TestGapsAnyOrder(t *testing.T) {
	type said struct {
		stamp uint64
		value float64
		gap   *reading.Gap
	}
	better := func(a, b said) bool { // a counts and not b
		switch {
		case a.stamp != b.stamp:
			return a.stamp > b.stamp
		case (a.gap == nil) != (b.gap == nil):
			return a.gap == nil
		case a.gap == nil:
			return math.Float64bits(a.value) > math.Float64bits(b.value)
		}
		return a.gap.Text+"\x00"+a.gap.Reason > b.gap.Text+"\x00"+b.gap.Reason
	}
	rapid.Check(t, func(t *rapid.T) {
		want := map[int64]said{}
		var segments [][]byte
		for range rapid.IntRange(1, 8).Draw(t, "segments") {
			stamp := rapid.Uint64Range(1, 4).Draw(t, "stamp")
			at, gaps := int64(7*reading.HourMS), rapid.Bool().Draw(t, "of gaps")
			var p []reading.Point
			var g []reading.Gap
			for range rapid.IntRange(1, 5).Draw(t, "n") {
				at += rapid.Int64Range(1, 3).Draw(t, "step")
				x := said{stamp: stamp, value: rapid.SampledFrom([]float64{-1, 0, 2}).Draw(t, "value")}
				if gaps {
					x.gap = &reading.Gap{AtMS: at, Text: rapid.SampledFrom(gapTexts).Draw(t, "text"), Reason: "r"}
					g = append(g, *x.gap)
				} else {
					p = append(p, reading.Point{AtMS: at, Value: x.value})
				}
				if old, ok := want[at]; !ok || better(x, old) {
					want[at] = x
				}
			}
			if gaps {
				segments = append(segments, reading.AppendGapSegment(nil, 7, stamp, g))
			} else {
				segments = append(segments, reading.AppendSegment(nil, 7, stamp, p))
			}
		}
		twice := append(slices.Clone(segments), segments[rapid.IntRange(0, len(segments)-1).Draw(t, "again")])
		block := bytes.Join(rapid.Permutation(twice).Draw(t, "order"), nil)
		points, gaps, err := reading.Both(block, 7)
		if err != nil || len(points)+len(gaps) != len(want) {
			t.Fatal(points, gaps, want, err)
		}
		for _, p := range points {
			if w := want[p.AtMS]; w.gap != nil || w.value != p.Value {
				t.Fatal(p, w)
			}
		}
		for _, g := range gaps {
			if w := want[g.AtMS]; w.gap == nil || *w.gap != g {
				t.Fatal(g, w)
			}
		}
		seen := 0
		if err := reading.Segments(block, 7, func(enc []byte) { seen += len(enc) }); err != nil || seen != len(block) {
			t.Fatal(seen, err)
		}
		rollups := reading.Minutes(points, gaps)
		if back, err := reading.DecodeRollups(reading.AppendRollups(nil, 7, rollups), 7); err != nil || !slices.Equal(back, rollups) {
			t.Fatal(back, err)
		}
	})
}

// TestRange: numbers outside the bounds, and those that are marks, are no values;
// the rest is untouched.
func TestRange(t *testing.T) {
	low, high := 0.0, 50.0
	r := reading.Range{Min: &low, Max: &high, Not: []float64{9.5}}
	points := []reading.Point{{AtMS: 1, Value: 0}, {AtMS: 2, Value: -0.1}, {AtMS: 4, Value: 50}, {AtMS: 5, Value: 50.1}, {AtMS: 6, Value: 9.5}}
	values, gaps := r.Part(slices.Clone(points), []reading.Gap{{AtMS: 3, Text: "M", Reason: "maintenance"}})
	if want := []reading.Point{points[0], points[2]}; !slices.Equal(values, want) {
		t.Error(values)
	}
	want := []reading.Gap{
		{2, "-0.1", "out of range: below 0"}, {3, "M", "maintenance"}, {5, "50.1", "out of range: above 50"}, {6, "9.5", "mark of a missing value"},
	}
	if !slices.Equal(gaps, want) {
		t.Errorf("%+v", gaps)
	}
	if all, none := (reading.Range{}).Part(points, nil); !slices.Equal(all, points) || none != nil {
		t.Error(all, none)
	}
}
