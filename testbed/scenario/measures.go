package scenario

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Measure is something that a run measures and a script expects.
type Measure string

// The measures. A count is of the whole run so far.
const (
	MeasureLost         Measure = "lost"         // acknowledged writes that a site of their audience lacks
	MeasureDuplicated   Measure = "duplicated"   // requests that became more than one event
	MeasureDiverged     Measure = "diverged"     // documents whose views differ
	MeasureViolations   Measure = "violations"   // findings of all oracles
	MeasureReported     Measure = "reported"     // reports handed to sites
	MeasureAcknowledged Measure = "acknowledged" // of these, acknowledged
	MeasureConnected    Measure = "connected"    // links of the tree that are up now
	MeasureEqual        Measure = "equal"        // links proven equal at both ends now
	MeasureOwed         Measure = "owed"         // records that some link is known to owe now
	MeasureIncarnations Measure = "incarnations" // incarnations begun beside each site's first
	MeasureForks        Measure = "forks"        // chains of which records were set aside, at all sites
	MeasureAlarms       Measure = "alarms"       // what operators are shown, at all sites
	MeasureUrgentP50    Measure = "urgent p50"   // an urgent event's acknowledgement, or later heal, to its view at the city
	MeasureUrgentP99    Measure = "urgent p99"
	MeasureUrgentMax    Measure = "urgent max"
	MeasureConverge     Measure = "converge" // the last "until converged"
	MeasureWireRatio    Measure = "wire ratio"
	MeasureLinked       Measure = "linked"
	MeasureUnlinked     Measure = "unlinked"
)

type unit int

const (
	unitCount unit = iota
	unitTime
	unitRatio
	unitNone
)

var measures = []struct {
	name Measure
	unit unit
}{
	{MeasureLost, unitCount}, {MeasureDuplicated, unitCount}, {MeasureDiverged, unitCount}, {MeasureViolations, unitCount},
	{MeasureReported, unitCount}, {MeasureAcknowledged, unitCount}, {MeasureConnected, unitCount}, {MeasureEqual, unitCount},
	{MeasureOwed, unitCount}, {MeasureIncarnations, unitCount}, {MeasureForks, unitCount}, {MeasureAlarms, unitCount},
	{MeasureUrgentP50, unitTime}, {MeasureUrgentP99, unitTime}, {MeasureUrgentMax, unitTime}, {MeasureConverge, unitTime},
	{MeasureWireRatio, unitRatio}, {MeasureLinked, unitNone}, {MeasureUnlinked, unitNone},
}

// Measures lists the names of all measures.
func Measures() []string {
	var out []string
	for _, m := range measures {
		out = append(out, string(m.name))
	}
	return out
}

var operators = []string{"<", "<=", "=", ">=", ">"}

func parseExpect(words []string) (Command, error) {
	i := slices.IndexFunc(measures, func(m struct {
		name Measure
		unit unit
	}) bool {
		name := strings.Fields(string(m.name))
		return len(words) >= len(name) && slices.Equal(words[:len(name)], name)
	})
	if i < 0 {
		return nil, fmt.Errorf("no measure %q: want %s", strings.Join(words[:min(len(words), 2)], " "), strings.Join(Measures(), ", "))
	}
	m := measures[i]
	e := Expect{Measure: m.name, Op: "="}
	words = words[len(strings.Fields(string(m.name))):]
	if m.unit == unitNone {
		a, b, err := pair(words)
		return Expect{Measure: m.name, A: a, B: b}, err
	}
	if len(words) == 2 {
		if !slices.Contains(operators, words[0]) {
			return nil, fmt.Errorf("no operator %q: want %s", words[0], strings.Join(operators, " "))
		}
		e.Op, words = words[0], words[1:]
	}
	if err := want(words, 1); err != nil {
		return nil, err
	}
	var err error
	if e.Value, err = m.unit.parse(words[0]); err != nil {
		return nil, err
	}
	if e.Op == "<" && e.Value == 0 {
		return nil, errors.New("nothing is below 0: want = 0")
	}
	return e, nil
}

func (u unit) parse(s string) (float64, error) {
	switch u {
	case unitTime:
		d, err := parseDuration(s)
		return d.Seconds(), err
	case unitCount:
		n, err := strconv.ParseUint(s, 10, 50)
		if err != nil {
			return 0, fmt.Errorf("%q: want a whole number from 0", s)
		}
		return float64(n), nil
	default:
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !(v >= 0) || math.IsInf(v, 0) {
			return 0, fmt.Errorf("%q: want a number from 0", s)
		}
		return v, nil
	}
}

// String writes what parseExpect reads.
func (e Expect) String() string {
	if e.A != "" {
		return fmt.Sprintf("expect %s %s %s", e.Measure, e.A, e.B)
	}
	return fmt.Sprintf("expect %s %s %s", e.Measure, e.Op, e.Format(e.Value))
}

// Format writes a value of the measure in its unit.
func (e Expect) Format(v float64) string {
	for _, m := range measures {
		if m.name == e.Measure && m.unit == unitTime {
			return formatDuration(time.Duration(v * float64(time.Second)).Round(time.Millisecond))
		}
	}
	return strconv.FormatFloat(v, 'g', 10, 64)
}

// Holds reports whether a value that was measured is as expected.
func (e Expect) Holds(got float64) bool {
	switch e.Op {
	case "<":
		return got < e.Value
	case "<=":
		return got <= e.Value
	case ">=":
		return got >= e.Value
	case ">":
		return got > e.Value
	default:
		return got == e.Value
	}
}
