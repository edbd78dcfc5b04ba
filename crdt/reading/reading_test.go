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

func drawPoints(t *rapid.T) []reading.Point {
	var out []reading.Point
	for range rapid.IntRange(1, 40).Draw(t, "n") {
		out = append(out, reading.Point{
			AtMS:  rapid.Int64Range(0, reading.TimeMaxMS-1).Draw(t, "at"),
			Value: rapid.Float64Range(-reading.ValueMax, reading.ValueMax).Draw(t, "value"),
		})
	}
	return out
}

// TestBatchRoundTrip: what is read is what was written, sorted, the last of each
// time; and there is one encoding of it.
func TestBatchRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in []reading.Series
		want := map[string]map[int64]float64{}
		for i := range rapid.IntRange(1, 4).Draw(t, "series") {
			s := reading.Series{Name: fmt.Sprintf("code/%d", i%3), Points: drawPoints(t)}
			in = append(in, s)
			if want[s.Name] == nil {
				want[s.Name] = map[int64]float64{}
			}
			for _, p := range s.Points {
				want[s.Name][p.AtMS] = p.Value
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
			if len(s.Points) != len(want[s.Name]) || !slices.IsSortedFunc(s.Points, func(a, b reading.Point) int { return int(a.AtMS - b.AtMS) }) {
				t.Fatal(s)
			}
			for _, p := range s.Points {
				if math.Float64bits(want[s.Name][p.AtMS]) != math.Float64bits(p.Value) {
					t.Fatal(s.Name, p)
				}
			}
		}
		if again, err := reading.AppendBatch(nil, out); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x\n%x %v", b, again, err)
		}
	})
}

// TestGoldenBatch holds the bytes of version 1 for good.
func TestGoldenBatch(t *testing.T) {
	b, err := reading.AppendBatch(nil, []reading.Series{
		{Name: "rain", Points: []reading.Point{{AtMS: 1_700_000_060_000, Value: 2}, {AtMS: 1_700_000_000_000, Value: 2}, {AtMS: 1_700_000_119_999, Value: -0.5}}},
		{Name: "level/a", Points: []reading.Point{{AtMS: 0, Value: 0.1}}},
	})
	const want = "02076c6576656c2f610100bff2e6cc99b3e6cc9a01047261696e0380d095ffbc31c0a907014000ffc103"
	if got := hex.EncodeToString(b); err != nil || got != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
}

// TestBatchRefusals: nothing but what AppendBatch writes is taken in.
func TestBatchRefusals(t *testing.T) {
	one := func(p ...reading.Point) []reading.Series { return []reading.Series{{Name: "a", Points: p}} }
	many := make([]reading.Point, reading.PointsMax+1)
	for i := range many {
		many[i].AtMS = int64(i)
	}
	for name, in := range map[string][]reading.Series{
		"nothing":       nil,
		"no points":     one(),
		"too many":      one(many...),
		"before 1970":   one(reading.Point{AtMS: -1}),
		"the year 9999": one(reading.Point{AtMS: reading.TimeMaxMS}),
		"no number":     one(reading.Point{Value: math.NaN()}),
		"infinite":      one(reading.Point{Value: math.Inf(1)}),
		"too large":     one(reading.Point{Value: 1.1e18}),
		"no name":       {{Name: "", Points: many[:1]}},
		"long name":     {{Name: strings.Repeat("x", 65), Points: many[:1]}},
		"bad name":      {{Name: "a/b/c", Points: many[:1]}},
		"zero byte":     {{Name: "a\x00", Points: many[:1]}},
	} {
		if _, err := reading.AppendBatch(nil, in); !errors.Is(err, reading.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good, err := reading.AppendBatch(nil, one(many[:3]...))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "cut": good[:len(good)-1], "more": append(slices.Clone(good), 0), "large": make([]byte, reading.BytesMax+1),
		"no series": {0}, "zero step": {1, 1, 'a', 2, 0, 0, 0, 0}, "long number": {1, 0x81, 0, 'a', 1, 0, 0},
		"no points": {1, 1, 'a', 0}, "twice": {2, 1, 'a', 1, 0, 0, 1, 'a', 1, 0, 0},
		"count": {1, 1, 'a', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0},
	} {
		if out, err := reading.DecodeBatch(b); !errors.Is(err, reading.ErrInvalid) {
			t.Errorf("%s: %v, %v", name, out, err)
		}
	}
}

// FuzzBatch: damaged bytes are refused or have one encoding, and nothing breaks.
func FuzzBatch(f *testing.F) {
	good, err := reading.AppendBatch(nil, []reading.Series{{Name: "a/b", Points: []reading.Point{{AtMS: 5, Value: 1}, {AtMS: 9, Value: 2}}}, {Name: "c", Points: []reading.Point{{AtMS: 1 << 40, Value: 0.1}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:7])
	gaps, err := reading.AppendBatch(nil, []reading.Series{{Name: "a", Gaps: []reading.Gap{{AtMS: 5, Text: "M", Reason: "m"}, {AtMS: 9, Text: "m", Reason: "M"}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(gaps)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = reading.Points(b, 3)
		_, _ = reading.DecodeRollups(b, 3)
		out, err := reading.DecodeBatch(b)
		if err != nil {
			return
		}
		if again, err := reading.AppendBatch(nil, out); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is also %x, %v", b, again, err)
		}
	})
}

// TestBlockAnyOrder: a block says the same in whatever order its segments stand and
// however often; of one time the latest writer's value counts.
func TestBlockAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type segment struct {
			stamp  uint64
			points []reading.Point
		}
		var all []segment
		want := map[int64]segment{}
		for range rapid.IntRange(1, 8).Draw(t, "segments") {
			s := segment{stamp: rapid.Uint64Range(1, 4).Draw(t, "stamp")}
			at := int64(7 * reading.HourMS)
			for range rapid.IntRange(1, 5).Draw(t, "points") {
				at += rapid.Int64Range(1, 3).Draw(t, "step")
				p := reading.Point{AtMS: at, Value: rapid.SampledFrom([]float64{-1, 0, 2}).Draw(t, "value")}
				s.points = append(s.points, p)
				old, ok := want[at]
				if !ok || s.stamp > old.stamp || s.stamp == old.stamp && math.Float64bits(p.Value) > math.Float64bits(old.points[0].Value) {
					want[at] = segment{s.stamp, []reading.Point{p}}
				}
			}
			all = append(all, s)
		}
		twice := append(slices.Clone(all), all[rapid.IntRange(0, len(all)-1).Draw(t, "again")])
		var block []byte
		for _, s := range rapid.Permutation(twice).Draw(t, "order") {
			block = reading.AppendSegment(block, 7, s.stamp, s.points)
		}
		got, err := reading.Points(block, 7)
		if err != nil || len(got) != len(want) {
			t.Fatal(got, want, err)
		}
		for i, p := range got {
			if w := want[p.AtMS].points[0]; p != w || i > 0 && got[i-1].AtMS >= p.AtMS {
				t.Fatal(got, want)
			}
		}
		enc := reading.AppendRollups(nil, 7, reading.Minutes(got, nil))
		if back, err := reading.DecodeRollups(enc, 7); err != nil || !slices.Equal(back, reading.Minutes(got, nil)) {
			t.Fatal(back, err)
		}
	})
}

// TestCoarser: stretches begin where the offset says, also before 1970.
func TestCoarser(t *testing.T) {
	in := []reading.Rollup{{StartMS: 0, Count: 1, Sum: 1, Min: 1, Max: 1, Last: 1}, {StartMS: 16 * reading.HourMS, Count: 2, Sum: 5, Min: 2, Max: 3, Last: 3, LastMS: 9}}
	got := reading.Coarser(in, 24*reading.HourMS, -8*reading.HourMS)
	if len(got) != 2 || got[0].StartMS != -8*reading.HourMS || got[1].StartMS != 16*reading.HourMS || got[1].Mean() != 2.5 {
		t.Errorf("%+v", got)
	}
	if one := reading.Coarser(in, 24*reading.HourMS, 0); len(one) != 1 || one[0].Count != 3 || one[0].Last != 3 || one[0].Max != 3 || one[0].Min != 1 {
		t.Errorf("%+v", one)
	}
}
