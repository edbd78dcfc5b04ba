package reading

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of a gap's texts, in bytes. A reason is never empty.
const (
	GapTextMax   = 64
	GapReasonMax = 64
)

// Gap is a reading without a value: the source wrote something for that time which
// is no measured number.
type Gap struct {
	AtMS int64 `json:"at_ms"`
	// Text is what the source wrote, Reason why it is no value.
	Text   string `json:"text"`
	Reason string `json:"reason"`
}

// Valid checks a gap. The error wraps [ErrInvalid].
func (g Gap) Valid() error {
	if err := (Point{AtMS: g.AtMS}).Valid(); err != nil {
		return err
	}
	for _, x := range []struct {
		name, s string
		most    int
	}{{"text", g.Text, GapTextMax}, {"reason", g.Reason, GapReasonMax}} {
		if len(x.s) > x.most || !utf8.ValidString(x.s) || strings.ContainsRune(x.s, 0) {
			return fmt.Errorf("%w: %s %.70q of a missing value: want UTF-8 of at most %d bytes", ErrInvalid, x.name, x.s, x.most)
		}
	}
	if g.Reason == "" {
		return fmt.Errorf("%w: a missing value without a reason", ErrInvalid)
	}
	return nil
}

func compareGaps(a, b Gap) int {
	return cmp.Or(cmp.Compare(a.AtMS, b.AtMS), strings.Compare(a.Text, b.Text), strings.Compare(a.Reason, b.Reason))
}

// appendTimes appends a count of times and the times since base.
func appendTimes[T any](b []byte, in []T, at func(T) int64, base int64) []byte {
	b = binary.AppendUvarint(b, uint64(len(in)))
	step, last := int64(0), int64(0)
	for i, x := range in {
		ms := at(x)
		if i == 0 {
			b = binary.AppendUvarint(b, uint64(ms-base))
		} else {
			b = binary.AppendVarint(b, ms-last-step)
			step = ms - last
		}
		last = ms
	}
	return b
}

func gapAt(g Gap) int64 { return g.AtMS }

// appendGaps appends gaps with times since base.
func appendGaps(b []byte, gaps []Gap, base int64) []byte {
	b = appendTimes(b, gaps, gapAt, base)
	places := map[string]uint64{}
	for _, g := range gaps {
		for _, s := range []string{g.Text, g.Reason} {
			place, ok := places[s]
			if !ok {
				place = uint64(len(places))
				places[s] = place
			}
			b = binary.AppendUvarint(b, place)
			if !ok {
				b = binary.AppendUvarint(b, uint64(len(s)))
				b = append(b, s...)
			}
		}
	}
	return b
}

// gaps reads the gaps that follow, at most so many.
func (d *decoder) gaps(base int64, most int) []Gap {
	n := d.count(3) // time, text, reason
	if n > most {
		d.bad = true
	}
	if d.bad {
		return nil
	}
	out := make([]Gap, n)
	at, step := base, int64(0)
	for i := range out {
		if i == 0 {
			at += int64(d.uvarint())
		} else {
			step += d.varint()
			at += step
		}
		out[i].AtMS = at
	}
	var texts []string
	seen := map[string]bool{}
	for i := range out {
		for _, into := range []*string{&out[i].Text, &out[i].Reason} {
			place := d.uvarint()
			if place == uint64(len(texts)) {
				s := string(d.take(d.uvarint()))
				d.bad = d.bad || seen[s] // one encoding for each text
				seen[s] = true
				texts = append(texts, s)
			}
			if d.bad || place >= uint64(len(texts)) {
				d.bad = true
				return nil
			}
			*into = texts[place]
		}
	}
	return out
}

// checkGaps checks that times rise and texts are in bounds.
func checkGaps(gaps []Gap) error {
	for i, g := range gaps {
		if err := g.Valid(); err != nil {
			return err
		}
		if i > 0 && g.AtMS <= gaps[i-1].AtMS {
			return fmt.Errorf("%w: batch: times out of order", ErrInvalid)
		}
	}
	return nil
}

// AppendGapSegment appends what one record says of the gaps of one hour to a block.
// They are within the hour, in ascending order of time.
func AppendGapSegment(b []byte, hour uint32, stamp uint64, gaps []Gap) []byte {
	b = binary.BigEndian.AppendUint64(b, stamp)
	return appendGaps(append(b, 0), gaps, int64(hour)*HourMS)
}

// Range says which numbers are values. The zero Range takes all.
type Range struct {
	// Min and Max bound the values, both included; nil is no bound.
	Min *float64 `json:"min,omitempty"`
	Max *float64 `json:"max,omitempty"`
	// Not are numbers that stand for no value.
	Not []float64 `json:"not,omitempty"`
}

// Why says why a number is no value, "" of one that is.
func (r Range) Why(v float64) string {
	switch {
	case len(r.Not) > 0 && slices.Contains(r.Not, v):
		return "mark of a missing value"
	case r.Min != nil && v < *r.Min:
		return fmt.Sprintf("out of range: below %v", *r.Min)
	case r.Max != nil && v > *r.Max:
		return fmt.Sprintf("out of range: above %v", *r.Max)
	}
	return ""
}

// Holds reports whether a number is a value.
func (r Range) Holds(v float64) bool {
	return (r.Min == nil || v >= *r.Min) && (r.Max == nil || v <= *r.Max) && (len(r.Not) == 0 || !slices.Contains(r.Not, v))
}

// Part divides readings into values and gaps: numbers that are no values join the
// gaps. Both stay in the order of time. It may use the memory of points.
func (r Range) Part(points []Point, gaps []Gap) ([]Point, []Gap) {
	if !slices.ContainsFunc(points, func(p Point) bool { return !r.Holds(p.Value) }) {
		return points, gaps
	}
	values, all := points[:0], slices.Clone(gaps)
	for _, p := range points {
		if r.Holds(p.Value) {
			values = append(values, p)
		} else {
			all = append(all, Gap{AtMS: p.AtMS, Text: Text(p.Value), Reason: r.Why(p.Value)})
		}
	}
	slices.SortStableFunc(all, compareGaps)
	return values, all
}
