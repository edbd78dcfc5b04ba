package indicator_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/tiers/indicator"
)

// marked is a vital sign with a range and marks.
func marked() indicator.Definition {
	low, high := -30.0, 50.0
	return indicator.Definition{
		Code: "temp", Name: "气温", Kind: indicator.Vital, Min: &low, Max: &high,
		Missing: []indicator.Mark{{Mark: "-9999"}, {Mark: "0.0", Reason: "sensor reset"}, {Mark: "M", Reason: "maintenance"}, {Mark: ""}, {Mark: "---"}},
		Levels:  []indicator.Level{{Name: "hot", Op: indicator.AtLeast, Threshold: 40, Priority: 1}, {Name: "cold", Op: indicator.AtMost, Threshold: -20, Priority: 1}},
	}
}

// TestJudge: a value is a number in the range that is no mark; a mark or a number
// outside becomes a gap with what was written and why; the rest is refused.
func TestJudge(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	j := marked().Judge()
	for text, want := range map[string]struct {
		value  float64
		reason string
		refuse string
	}{
		"21.50":                       {21.5, "", ""},
		" 3 ":                         {3, "", ""},
		"+3e1":                        {30, "", ""},
		"-30":                         {-30, "", ""},
		"-9999":                       {0, indicator.NoValue, ""},
		"-9999.00":                    {0, indicator.NoValue, ""},
		"-9.999e3":                    {0, indicator.NoValue, ""},
		"0":                           {0, "sensor reset", ""},
		"-0":                          {0, "sensor reset", ""},
		"M":                           {0, "maintenance", ""},
		"":                            {0, indicator.NoValue, ""},
		"  ":                          {0, indicator.NoValue, ""},
		"---":                         {0, indicator.NoValue, ""},
		"50.001":                      {0, "out of range: above 50", ""},
		"9999":                        {0, "out of range: above 50", ""},
		"1e400":                       {0, "out of range: above 50", ""},
		"-1e400":                      {0, "out of range: below -30", ""},
		"m":                           {0, "", `value "m"`},
		"NA":                          {0, "", `--missing "NA"`},
		"NaN":                         {0, "", `value "NaN"`},
		"Inf":                         {0, "", `value "Inf"`},
		"0x10":                        {0, "", `value "0x10"`},
		"1_0":                         {0, "", `value "1_0"`},
		"3,5":                         {0, "", `value "3,5"`},
		"12 m":                        {0, "", `value "12 m"`},
		"\xc4\xe3 \n":                 {0, "", "want a number"},
		"1" + strings.Repeat("0", 70): {0, "", "at most 64 bytes"},
	} {
		p, gap, err := j.Reading(reading.Point{AtMS: now.UnixMilli(), Value: 7}, &text, now)
		switch {
		case want.refuse != "":
			if !errors.Is(err, indicator.ErrInvalid) || !strings.Contains(err.Error(), want.refuse) || gap != nil {
				t.Errorf("%q: %v, %v, %v", text, p, gap, err)
			}
		case want.reason != "":
			if err != nil || gap == nil || *gap != (reading.Gap{AtMS: now.UnixMilli(), Text: strings.TrimSpace(text), Reason: want.reason}) {
				t.Errorf("%q: %v, %v, %v", text, p, gap, err)
			}
		case err != nil || gap != nil || p.Value != want.value:
			t.Errorf("%q: %v, %v, %v", text, p, gap, err)
		}
	}
	for value, want := range map[float64]string{1: "", 0: "sensor reset", -9999: indicator.NoValue, 51: "out of range: above 50"} {
		_, gap, err := j.Reading(reading.Point{AtMS: now.UnixMilli(), Value: value}, nil, now)
		if err != nil || (gap == nil) != (want == "") || gap != nil && (gap.Reason != want || gap.Text != reading.Text(value)) {
			t.Errorf("%v: %v, %v", value, gap, err)
		}
	}
	if _, _, err := j.Reading(reading.Point{AtMS: now.Add(2 * time.Hour).UnixMilli(), Value: -9999}, nil, now); !errors.Is(err, indicator.ErrInvalid) {
		t.Error("a mark of the future", err)
	}
	// Without range and marks a number is a number.
	plain := vital().Judge()
	for _, text := range []string{"-9999", "9999", "0"} {
		if v, reason, err := plain.Text(text); err != nil || reason != "" || reading.Text(v) != text {
			t.Error(text, v, reason, err)
		}
	}
	if _, _, err := plain.Text(""); !errors.Is(err, indicator.ErrInvalid) {
		t.Error("an empty value", err)
	}
}

// TestMissingRaisesNothing: numbers that are no values, as they were stored before
// the definition said so, are as if they were not there.
func TestMissingRaisesNothing(t *testing.T) {
	const minute = 60_000
	good := []reading.Point{{AtMS: 0, Value: 20}, {AtMS: 3 * minute, Value: 41}, {AtMS: 5 * minute, Value: 42}, {AtMS: 9 * minute, Value: 30}}
	all := slices.Clone(good)
	for i, v := range []float64{9999, -9999, 50.1, 0} {
		all = append(all, reading.Point{AtMS: int64(2*i+1)*minute + 1, Value: v})
	}
	slices.SortFunc(all, func(a, b reading.Point) int { return int(a.AtMS - b.AtMS) })
	d := marked()
	want, got := indicator.Crossings(d.Watches(), good), indicator.Crossings(d.Watches(), all)
	if len(want) != 1 || len(got) != 1 || *got[0] != *want[0] {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestMissingDefinition: range and marks come back from the document, and what could
// never be right is refused.
func TestMissingDefinition(t *testing.T) {
	bad := func(f func(*indicator.Definition)) indicator.Definition {
		d := marked()
		f(&d)
		return d
	}
	v := func(x float64) *float64 { return &x }
	for want, d := range map[string]indicator.Definition{
		"max 1e+19":              bad(func(d *indicator.Definition) { d.Max = v(1e19) }),
		"min 50, max 50":         bad(func(d *indicator.Definition) { d.Min = v(50) }),
		"threshold 40 is no val": bad(func(d *indicator.Definition) { d.Max = v(39) }),
		"threshold -20 is no va": bad(func(d *indicator.Definition) { d.Missing = []indicator.Mark{{Mark: "-20.0"}} }),
		"33 missing-value marks": bad(func(d *indicator.Definition) { d.Missing = make([]indicator.Mark, 33) }),
		"it is there twice":      bad(func(d *indicator.Definition) { d.Missing = []indicator.Mark{{Mark: "x"}, {Mark: "x"}} }),
		"no space around it":     bad(func(d *indicator.Definition) { d.Missing = []indicator.Mark{{Mark: " x"}} }),
		"mark is 33 bytes":       bad(func(d *indicator.Definition) { d.Missing = []indicator.Mark{{Mark: strings.Repeat("x", 33)}} }),
		"reason of a mark is 65": bad(func(d *indicator.Definition) {
			d.Missing = []indicator.Mark{{Mark: "x", Reason: strings.Repeat("x", 65)}}
		}),
	} {
		if err := d.Validate(); !errors.Is(err, indicator.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
