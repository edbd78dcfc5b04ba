package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
)

// timeSteps are the distances of marks on an axis of time, in seconds.
var timeSteps = []float64{
	0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200,
	86400, 2 * 86400, 3 * 86400, 6 * 86400, 12 * 86400, 30 * 86400, 90 * 86400, 365 * 86400,
}

// timeTicks marks at most n moments, in the largest unit that suits their distance.
func timeTicks(n int) plot.TickerFunc {
	return func(low, high float64) []plot.Tick {
		step := timeSteps[len(timeSteps)-1]
		for _, s := range timeSteps {
			if (high-low)/s <= float64(n) {
				step = s
				break
			}
		}
		var out []plot.Tick
		for i := math.Ceil(low / step); i*step <= high*(1+1e-9); i++ {
			out = append(out, plot.Tick{Value: i * step, Label: timeMark(i*step, step)})
		}
		return out
	}
}

func timeMark(at, step float64) string {
	unit, name := 1.0, "s"
	switch {
	case step >= 86400:
		unit, name = 86400, "d"
	case step >= 3600:
		unit, name = 3600, "h"
	case step >= 60:
		unit, name = 60, "min"
	}
	return strconv.FormatFloat(math.Round(at/unit*100)/100, 'f', -1, 64) + " " + name
}

// countScale draws counts by their logarithm, and zero at the bottom.
type countScale struct{}

// Normalize implements [plot.Normalizer].
func (countScale) Normalize(low, high, x float64) float64 {
	return (math.Log1p(x) - math.Log1p(low)) / (math.Log1p(high) - math.Log1p(low))
}

// countTicks marks zero and the powers of ten.
func countTicks(_, high float64) []plot.Tick {
	out := []plot.Tick{{Value: 0, Label: "0"}}
	for v := 1.0; v <= high; v *= 10 {
		out = append(out, plot.Tick{Value: v, Label: short(v)})
	}
	return out
}

// evenTicks marks up to five round values at least a step apart, each shown as mark
// does.
func evenTicks(mark func(float64) string, least float64) plot.TickerFunc {
	return func(low, high float64) []plot.Tick {
		step := math.Pow(10, math.Floor(math.Log10(max(high-low, 1e-9))))
		for _, f := range []float64{0.1, 0.2, 0.25, 0.5, 1, 2} {
			if (high-low)/(step*f) <= 5 {
				step *= f
				break
			}
		}
		step = max(step, least)
		var out []plot.Tick
		for i := math.Ceil(low / step); i*step <= high*(1+1e-9); i++ {
			out = append(out, plot.Tick{Value: i * step, Label: mark(i * step)})
		}
		return out
	}
}

// short is a count in few digits: 1.5k, 20M.
func short(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= u.size {
			return trim(v/u.size) + u.name
		}
	}
	return trim(v)
}

// size is a number of bytes in few digits.
func size(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e12, " TB"}, {1e9, " GB"}, {1e6, " MB"}, {1e3, " kB"}} {
		if v >= u.size {
			return trim(v/u.size) + u.name
		}
	}
	return trim(v) + " B"
}

func trim(v float64) string {
	digits := 0
	switch {
	case v < 10:
		digits = 2
	case v < 100:
		digits = 1
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// count writes a whole number with its thousands apart.
func count[N int | uint64](n N) string {
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// duration is a time in the units that suit it: 250 ms, 12.5 s, 3 min 20 s, 72 d.
func duration(s float64) string {
	whole := func(s float64, unit float64, name string, rest float64, restName string) string {
		n := math.Floor(s / unit)
		text := fmt.Sprintf("%.0f %s", n, name)
		if r := math.Floor((s - n*unit) / rest); r > 0 {
			text += fmt.Sprintf(" %.0f %s", r, restName)
		}
		return text
	}
	switch {
	case s < 0:
		return "never"
	case s == 0:
		return "0 s"
	case s < 1:
		return fmt.Sprintf("%.0f ms", s*1000)
	case s < 120:
		return trim(s) + " s"
	case s < 3600:
		return whole(s, 60, "min", 1, "s")
	case s < 86400:
		return whole(s, 3600, "h", 60, "min")
	default:
		return whole(s, 86400, "d", 3600, "h")
	}
}
