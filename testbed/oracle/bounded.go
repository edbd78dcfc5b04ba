package oracle

import "time"

// Level is how much there was of something at one moment.
type Level struct {
	At time.Duration
	// What is measured, such as "rss_mb" or "queue_bytes": the key of its bound.
	What string
	// Where it is, such as a site or a link; empty for the whole.
	Where string
	Value float64
}

// Bounded checks that nothing that was measured is ever above its bound. What has
// no bound breaks the rule, too.
func Bounded(levels []Level, bounds map[string]float64) Verdict {
	v := Verdict{Oracle: "bounded"}
	for _, l := range levels {
		v.Checked++
		bound, known := bounds[l.What]
		switch {
		case !known:
			v.violate("%s has no bound", l.name())
		case !(l.Value <= bound): // also what is no number
			v.violate("%s was %g after %s: at most %g may be", l.name(), l.Value, l.At.Round(time.Millisecond), bound)
		}
	}
	return v
}

func (l Level) name() string {
	if l.Where == "" {
		return l.What
	}
	return l.What + " of " + l.Where
}
