package outage_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/testbed/outage"
	"github.com/tiermesh/tiermesh/tiers"
)

const day = 24 * time.Hour

func sites(n int) (out []tiers.SiteID) {
	for i := range n {
		out = append(out, tiers.SiteID(fmt.Sprintf("s%05d", i)))
	}
	return out
}

func draw(t *testing.T, profile string, n int, seed uint64, of time.Duration) []outage.Outage {
	t.Helper()
	out, err := outage.Draw(profile, sites(n), seed, of)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// quantiles compares how long outages last with the published points.
func quantiles(t *testing.T, out []outage.Outage, points map[float64]float64, tolerance float64) {
	t.Helper()
	hours := make([]float64, len(out))
	for i, o := range out {
		hours[i] = (o.To - o.From).Hours()
	}
	slices.Sort(hours)
	for share, want := range points {
		got := hours[min(int(share*float64(len(hours))), len(hours)-1)]
		if math.Abs(got-want) > tolerance*want {
			t.Errorf("%.0f %% of %d outages last up to %.1f h: want %.1f h", 100*share, len(hours), got, want)
		}
	}
}

// TestPowerQuantiles: drawn power outages last as long as the recorded ones.
func TestPowerQuantiles(t *testing.T) {
	out := draw(t, outage.Power, 2000, 1, 3650*day)
	if len(out) < 200_000 {
		t.Fatalf("%d outages", len(out))
	}
	quantiles(t, out, map[float64]float64{0.5: 2.5, 0.9: 10.8, 0.99: 114}, 0.03)
}

// TestFloodProfile: drawn floods have the recorded durations, peak and course.
func TestFloodProfile(t *testing.T) {
	const n = 20_000
	out := draw(t, outage.Flood, n, 1, outage.Span(outage.Flood))
	quantiles(t, out, map[float64]float64{0.5: 36, 0.75: 96, 0.9: 408, 1: 72 * 24}, 0.06)
	var peak float64
	var when time.Duration
	for at := time.Duration(0); at < 72*day; at += time.Hour {
		if s := down(out, n, at); s > peak {
			peak, when = s, at
		}
	}
	if math.Abs(peak-0.19) > 0.002 {
		t.Errorf("%.1f %% are down at the peak: want 19 %%", 100*peak)
	}
	if when < 4*day || when > 16*day {
		t.Errorf("the peak is after %v", when)
	}
	// It rises to its peak and falls from there.
	last := -1.0
	for _, at := range []time.Duration{day, when / 2, when} {
		if s := down(out, n, at); s <= last {
			t.Errorf("%.3f are down after %v, %.3f before", s, at, last)
		} else {
			last = s
		}
	}
	for _, at := range []time.Duration{when + 10*day, when + 25*day, when + 45*day} {
		if s := down(out, n, at); s >= last {
			t.Errorf("%.3f are down after %v, %.3f before", s, at, last)
		} else {
			last = s
		}
	}
}

// down is the share of n sites that are down at a time.
func down(out []outage.Outage, n int, at time.Duration) float64 {
	count := 0
	for _, o := range out {
		if o.From <= at && at < o.To {
			count++
		}
	}
	return float64(count) / float64(n)
}

// TestDraw: for any profile, number of sites, seed and span, outages are inside
// the span and in order, no site is down twice at a time, the same draw gives the
// same, and played in less time they are still so.
func TestDraw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		profile := rapid.SampledFrom(outage.Profiles()).Draw(t, "profile")
		n := rapid.IntRange(0, 60).Draw(t, "sites")
		seed := rapid.Uint64().Draw(t, "seed")
		of := time.Duration(rapid.Int64Range(0, int64(100*day)).Draw(t, "of"))
		all := sites(n)
		out, err := outage.Draw(profile, all, seed, of)
		if err != nil {
			t.Fatal(err)
		}
		proper(t, out, of)
		slices.Reverse(all)
		if again, _ := outage.Draw(profile, all, seed, of); !slices.Equal(out, again) {
			t.Fatalf("the same draw gives %v and %v", out, again)
		}
		within := time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "within"))
		short := outage.Compress(out, of, within)
		proper(t, short, within)
		if len(short) > len(out) {
			t.Fatalf("%d outages became %d", len(out), len(short))
		}
	})
}

func proper(t *rapid.T, out []outage.Outage, of time.Duration) {
	ends := map[tiers.SiteID]time.Duration{}
	for i, o := range out {
		if o.From < 0 || o.From >= o.To || o.To > of {
			t.Fatalf("%+v in a span of %v", o, of)
		}
		if i > 0 && o.From < out[i-1].From {
			t.Fatalf("%+v after %+v", o, out[i-1])
		}
		if end, before := ends[o.Site]; before && o.From < end {
			t.Fatalf("%+v: the site is down until %v", o, end)
		}
		ends[o.Site] = o.To
	}
}

// TestSitesAreIndependent: another site does not change one's power outages, and
// another seed does.
func TestSitesAreIndependent(t *testing.T) {
	of := func(n int, seed uint64) (out []outage.Outage) {
		for _, o := range draw(t, outage.Power, n, seed, 3650*day) {
			if o.Site == "s00000" {
				out = append(out, o)
			}
		}
		return out
	}
	if a, b := of(1, 7), of(9, 7); len(a) == 0 || !slices.Equal(a, b) {
		t.Errorf("%d outages alone, %d beside others", len(a), len(b))
	}
	if slices.Equal(of(1, 7), of(1, 8)) {
		t.Error("the seed plays no part")
	}
}

func TestFloodOfAnySize(t *testing.T) {
	for n, want := range map[int]int{1: 1, 3: 1, 10: 2, 100: 19, 1073: 204} {
		out := draw(t, outage.Flood, n, 3, outage.Span(outage.Flood))
		peak := 0
		for at := 30 * time.Minute; at < 72*day; at += time.Hour {
			peak = max(peak, int(math.Round(down(out, n, at)*float64(n))))
		}
		if peak != want {
			t.Errorf("%d of %d sites are down at the peak: want %d", peak, n, want)
		}
	}
}

func TestUnknownProfile(t *testing.T) {
	if _, err := outage.Draw("war", sites(1), 1, day); !errors.Is(err, outage.ErrProfile) {
		t.Error(err)
	}
	if out := outage.Compress([]outage.Outage{{Site: "s", To: 1}}, 0, 1); len(out) != 0 {
		t.Errorf("a span of nothing: %v", out)
	}
}
