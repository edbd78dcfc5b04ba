package report

import (
	"io"
	"strings"

	"gonum.org/v1/plot"
)

// Duration is how a time is shown.
func Duration(s float64) string { return duration(s) }

// TimeMarks are the marks of an axis of time.
func TimeMarks(span float64, n int) string { return labels(timeTicks(n)(0, span)) }

// CountMarks are the marks of an axis of counts.
func CountMarks(high float64) string { return labels(evenTicks(short, 1)(0, high)) }

func labels(ticks []plot.Tick) string {
	var out []string
	for _, t := range ticks {
		out = append(out, t.Label)
	}
	return strings.Join(out, " ")
}

// Lanes are the lanes of a run in their order.
func Lanes(d *Data) []string { return d.lanes() }

// Thin leaves about n of many values.
func Thin(in []float64, n int) (out []float64) {
	points := make([]point, len(in))
	for i, y := range in {
		points[i] = point{float64(i), y}
	}
	for _, p := range thin(points, n) {
		out = append(out, p.y)
	}
	return out
}

// NewLive is a [Progress] on what is taken for a terminal.
func NewLive(w io.Writer) *Progress { return &Progress{w: w, pen: w, live: true} }
