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
	MeasureMoves        Measure = "moves"     // moves on tasks that were acknowledged
	MeasureContested    Measure = "contested" // tasks with a recorded conflict of custody, at the city
)

// The measures of something named: what each of the sites shows that is asked.
const (
	MeasureState      Measure = "state"       // of an event's task, of a request, of a pool, of an order at its targets
	MeasureCustodian  Measure = "custodian"   // of an event's task: a site, or nobody
	MeasureRule       Measure = "rule"        // that dispatched an event
	MeasureOrgan      Measure = "organ"       // that the rule named
	MeasureConflicts  Measure = "conflicts"   // of an event's task: how many are recorded
	MeasureStandDowns Measure = "stand-downs" // of an event's task: sites that lost it and have not said that they called back
	MeasureLimit      Measure = "limit"       // of an event's task: such as 2-hour, or 2-urgent_hour round the clock
	MeasureMode       Measure = "mode"        // of a site, or that an event's task was dispatched under
	MeasureOriginal   Measure = "original"    // of an event: what it hangs at, or itself
	MeasureReporters  Measure = "reporters"   // of an event: how many reported it or a duplicate
	MeasureTasks      Measure = "tasks"       // of an event: how many are open
	MeasureOpen       Measure = "undelivered" // of an order: at how many targets
	MeasureHolder     Measure = "holder"      // of a unit: what it was sent to, a request, a pool, or nobody
)

// Absent is what a site shows that does not hold what is asked for, Nobody what has
// no custodian or holder.
const (
	Absent = "absent"
	Nobody = "nobody"
)

type unit int

const (
	unitCount unit = iota
	unitTime
	unitRatio
	unitNone
	unitWord
)

// measure is a row of the table of measures.
type measure struct {
	name Measure
	unit unit
	of   []named // what it is of; none for the federation
}

var measures = []measure{
	{MeasureLost, unitCount, nil}, {MeasureDuplicated, unitCount, nil}, {MeasureDiverged, unitCount, nil}, {MeasureViolations, unitCount, nil},
	{MeasureReported, unitCount, nil}, {MeasureAcknowledged, unitCount, nil}, {MeasureConnected, unitCount, nil}, {MeasureEqual, unitCount, nil},
	{MeasureOwed, unitCount, nil}, {MeasureIncarnations, unitCount, nil}, {MeasureForks, unitCount, nil}, {MeasureAlarms, unitCount, nil},
	{MeasureUrgentP50, unitTime, nil}, {MeasureUrgentP99, unitTime, nil}, {MeasureUrgentMax, unitTime, nil}, {MeasureConverge, unitTime, nil},
	{MeasureWireRatio, unitRatio, nil}, {MeasureLinked, unitNone, nil}, {MeasureUnlinked, unitNone, nil}, {MeasureMoves, unitCount, nil},
	{MeasureContested, unitCount, nil},
	{MeasureState, unitWord, []named{namedEvent, namedRequest, namedPool, namedOrder}}, {MeasureCustodian, unitWord, []named{namedEvent}},
	{MeasureRule, unitWord, []named{namedEvent}}, {MeasureOrgan, unitWord, []named{namedEvent}},
	{MeasureConflicts, unitCount, []named{namedEvent}}, {MeasureStandDowns, unitCount, []named{namedEvent}},
	{MeasureLimit, unitWord, []named{namedEvent}}, {MeasureMode, unitWord, []named{namedSite, namedEvent}},
	{MeasureOriginal, unitWord, []named{namedEvent}}, {MeasureReporters, unitCount, []named{namedEvent}},
	{MeasureTasks, unitCount, []named{namedEvent}}, {MeasureOpen, unitCount, []named{namedOrder}},
	{MeasureHolder, unitWord, []named{namedUnit}},
}

// OfMachine reports whether a measure depends on how fast and how busy the machine
// is, where time is the machine's: it is of times, or of bytes for a time.
func (m Measure) OfMachine() bool {
	for _, row := range measures {
		if row.name == m {
			return row.unit == unitTime || row.unit == unitRatio
		}
	}
	return false
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
	i := slices.IndexFunc(measures, func(m measure) bool {
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
	if m.of != nil {
		var err error
		if words, err = e.parseOf(words); err != nil {
			return nil, err
		}
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
	if m.unit == unitWord {
		if e.Word = words[0]; e.Op != "=" {
			return nil, fmt.Errorf("%s of a word: want =", e.Op)
		}
		return e, nil
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

// parseOf reads what is looked at, and where.
func (e *Expect) parseOf(words []string) (rest []string, err error) {
	if len(words) < 2 || words[0] != "of" {
		return nil, errors.New("want of and a name")
	}
	e.Of, words = words[1], words[2:]
	for _, f := range []struct {
		keyword string
		sites   *Sites
	}{{"to", &e.To}, {"at", &e.At}} {
		if err == nil && len(words) > 0 && words[0] == f.keyword {
			*f.sites, words, err = parseSites(words[1:])
		}
	}
	return words, err
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
	where := ""
	if e.Of != "" {
		where = " of " + e.Of
		if e.To != (Sites{}) {
			where += " to " + e.To.String()
		}
		where += " at " + e.At.String()
	}
	if e.Word != "" {
		return fmt.Sprintf("expect %s%s = %s", e.Measure, where, e.Word)
	}
	return fmt.Sprintf("expect %s%s %s %s", e.Measure, where, e.Op, e.Format(e.Value))
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

// HoldsText reports whether what a site shows is as expected.
func (e Expect) HoldsText(got string) bool {
	if e.Word != "" {
		return got == e.Word
	}
	v, err := strconv.ParseFloat(got, 64)
	return err == nil && e.Holds(v)
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
