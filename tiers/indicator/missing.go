package indicator

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/crdt/reading"
)

// Bounds of a definition's marks.
const (
	marksMax     = 32
	markBytesMax = 32
	// NoValue is the reason of a mark that gives none.
	NoValue = "no value"
)

// Mark is something that a source writes where it has no value.
type Mark struct {
	// Mark is the text, without space around it; it may be empty. One that is a number
	// stands for every way to write that number.
	Mark string `json:"mark"`
	// Reason is what it means; empty means [NoValue].
	Reason string `json:"reason,omitempty"`
}

// number reads a decimal number; one that is too large is infinite.
func number(text string) (float64, bool) {
	if strings.ContainsFunc(text, func(r rune) bool { return !strings.ContainsRune("0123456789+-.eE", r) }) { // Inf, NaN, 0x10p0, 1_000
		return 0, false
	}
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil || errors.Is(err, strconv.ErrRange)
}

// Range says which numbers are values of the indicator.
func (d Definition) Range() reading.Range {
	r := reading.Range{Min: d.Min, Max: d.Max}
	for _, m := range d.Missing {
		if v, ok := number(m.Mark); ok {
			r.Not = append(r.Not, v)
		}
	}
	return r
}

// checkMissing checks the range and the marks.
func (d Definition) checkMissing() error {
	for field, v := range map[string]*float64{"min": d.Min, "max": d.Max} {
		if v != nil && !(math.Abs(*v) <= reading.ValueMax) {
			return fmt.Errorf("%w: %s %v: want a number of magnitude at most %g", ErrInvalid, field, *v, float64(reading.ValueMax))
		}
	}
	if d.Min != nil && d.Max != nil && *d.Min >= *d.Max {
		return fmt.Errorf("%w: min %v, max %v: want the first below the second", ErrInvalid, *d.Min, *d.Max)
	}
	r := d.Range()
	for _, l := range d.Levels {
		if !r.Holds(l.Threshold) {
			return fmt.Errorf("%w: level %s: threshold %v is no value of the indicator (%s): nothing would ever reach it",
				ErrInvalid, l.Name, l.Threshold, r.Why(l.Threshold))
		}
	}
	if len(d.Missing) > marksMax {
		return fmt.Errorf("%w: %d missing-value marks: want at most %d", ErrInvalid, len(d.Missing), marksMax)
	}
	for _, m := range d.Missing {
		if err := checkText("mark", m.Mark, markBytesMax, false); err != nil {
			return err
		}
		if strings.TrimSpace(m.Mark) != m.Mark {
			return fmt.Errorf("%w: mark %q: want no space around it", ErrInvalid, m.Mark)
		}
		if err := checkText("reason of a mark", m.Reason, reading.GapReasonMax, false); err != nil {
			return err
		}
	}
	return unique("mark", d.Missing, func(m Mark) string { return m.Mark })
}

// Judge tells values from missing ones. It is made once and used for many readings.
type Judge struct {
	def     Definition
	values  reading.Range
	byText  map[string]string // reasons
	numbers map[float64]string
}

// Judge returns a judge of readings by the definition.
func (d Definition) Judge() *Judge {
	j := &Judge{def: d, values: d.Range(), byText: map[string]string{}, numbers: map[float64]string{}}
	for _, m := range d.Missing {
		reason := m.Reason
		if reason == "" {
			reason = NoValue
		}
		j.byText[m.Mark] = reason
		if v, ok := number(m.Mark); ok {
			j.numbers[v] = reason
		}
	}
	return j
}

// Number judges a number: why it is no value, "" of one that is.
func (j *Judge) Number(v float64) string {
	if reason, ok := j.numbers[v]; ok {
		return reason
	}
	return j.values.Why(v)
}

// Text judges what a source wrote: a value, or why there is none. What is neither a
// number nor a mark of the indicator is refused. The error wraps [ErrInvalid].
func (j *Judge) Text(text string) (value float64, missing string, err error) {
	text = strings.TrimSpace(text)
	if reason, ok := j.byText[text]; ok {
		return 0, reason, nil
	}
	v, ok := number(text)
	switch missing := j.Number(v); {
	case !ok:
		return 0, "", fmt.Errorf("%w: value %.40q: want a number, or a mark of %s for missing values (indicator define --missing %.40q)",
			ErrInvalid, text, j.def.Code, text)
	case missing != "":
		return 0, missing, nil
	}
	return v, "", nil
}

// Watched reports whether the indicator has levels.
func (j *Judge) Watched() bool { return len(j.def.Levels) > 0 }

// Reading judges a reading at the present time: its value as a number, or as its
// source wrote it where text is not nil. It returns the reading with its value, or,
// with the reading's time, the gap that is kept in its place. The error wraps
// [ErrInvalid].
func (j *Judge) Reading(p reading.Point, text *string, now time.Time) (reading.Point, *reading.Gap, error) {
	var missing string
	written := reading.Text(p.Value)
	if text == nil {
		missing = j.Number(p.Value)
	} else {
		var err error
		written = strings.TrimSpace(*text)
		if p.Value, missing, err = j.Text(written); err != nil {
			return p, nil, err
		}
	}
	if missing == "" {
		return p, nil, j.def.CheckReading(p, now)
	}
	p.Value = 0
	gap := &reading.Gap{AtMS: p.AtMS, Text: written, Reason: missing}
	if err := j.def.CheckReading(p, now); err != nil {
		return p, nil, err
	}
	if err := gap.Valid(); err != nil {
		return p, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return p, gap, nil
}
