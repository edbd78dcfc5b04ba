package indicator

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/tiers"
)

// ErrInvalid reports a definition or reading that breaks a rule; the text names the
// field, its value and what is allowed.
var ErrInvalid = errors.New("indicator: invalid")

// KindIndicator is the document kind; also the name of its index.
const KindIndicator = "indicator"

// The kinds of an indicator (GLOSSARY).
const (
	KPI   = "kpi"   // 关键绩效指标, graded against targets
	Vital = "vital" // 体征指标, watched against thresholds
)

// The sides of a threshold or target on which a value is at it.
const (
	AtLeast = ">="
	AtMost  = "<="
)

// Bounds of a definition.
const (
	levelsMax    = 8
	nameBytesMax = 256
	codeBytesMax = 32
	forMax       = 30 * 24 * time.Hour
	daysMax      = 36_500
	// DefaultReadingDays and DefaultMinuteDays are for how long readings and minute
	// rollups are kept when a definition does not say.
	DefaultReadingDays = 31
	DefaultMinuteDays  = 400
	// AlertType is the event type of an alert whose level names none.
	AlertType = "alert"
)

// Zone is the offset of the days that rollups are made of: China's.
const Zone = 8 * time.Hour

// Definition is an indicator.
type Definition struct {
	Code string `json:"code"`
	Name string `json:"name"`
	// Kind is [KPI] or [Vital].
	Kind string `json:"kind"`
	Unit string `json:"unit,omitempty"`
	// Min and Max bound the values, both included; nil is no bound. A number outside
	// is no value.
	Min *float64 `json:"min,omitempty"`
	Max *float64 `json:"max,omitempty"`
	// Missing are the marks that sources write where they have no value.
	Missing []Mark `json:"missing,omitempty"`
	// Grades are of a KPI, the best first.
	Grades []Grade `json:"grades,omitempty"`
	// Levels are of a vital sign, the least severe first.
	Levels []Level `json:"levels,omitempty"`
	// ReadingDays and MinuteDays are for how long readings and minute rollups are
	// kept; hour rollups stay. Zero means the defaults.
	ReadingDays int `json:"reading_days,omitempty"`
	MinuteDays  int `json:"minute_days,omitempty"`
}

// Grade is one step of a KPI's target (目标值): a value at it has the grade.
type Grade struct {
	Name string `json:"name"`
	// Op is [AtLeast] or [AtMost].
	Op     string  `json:"op"`
	Target float64 `json:"target"`
}

// Level is one alarm limit (预警阈值) of a vital sign, and what a crossing raises.
type Level struct {
	Name string `json:"name"`
	// Op is [AtLeast] or [AtMost], Threshold the limit.
	Op        string  `json:"op"`
	Threshold float64 `json:"threshold"`
	// Clear is where a crossing ends: the value must be back at it or on its good
	// side. Nil means as soon as the threshold is left.
	Clear *float64 `json:"clear,omitempty"`
	// ForS is for how many seconds the value must have been at the level.
	ForS int `json:"for_s,omitempty"`
	// Priority of the event, 1 (highest) to 4; 1 and 2 are urgent.
	Priority int `json:"priority"`
	// EventType is the event's type code; empty means [AlertType].
	EventType string `json:"event_type,omitempty"`
}

// at reports whether a value is at a limit.
func at(op string, value, limit float64) bool {
	if op == AtMost {
		return value <= limit
	}
	return value >= limit
}

// cleared reports whether a value ends a crossing.
func (l Level) cleared(value float64) bool {
	if l.Clear == nil {
		return !at(l.Op, value, l.Threshold)
	}
	if l.Op == AtMost {
		return value >= *l.Clear
	}
	return value <= *l.Clear
}

// Validate checks a definition. The error wraps [ErrInvalid].
func (d Definition) Validate() error {
	if err := reading.ValidName(d.Code); err != nil || len(d.Code) > codeBytesMax || strings.Contains(d.Code, "/") {
		return fmt.Errorf("%w: code %.70q: want 1 to %d letters, digits, '-', '_' or '.'", ErrInvalid, d.Code, codeBytesMax)
	}
	if err := checkText("name", d.Name, nameBytesMax, true); err != nil {
		return err
	}
	if err := checkText("unit", d.Unit, 32, false); err != nil {
		return err
	}
	for field, v := range map[string]int{"reading_days": d.ReadingDays, "minute_days": d.MinuteDays} {
		if v < 0 || v > daysMax {
			return fmt.Errorf("%w: %s %d: want 1 to %d, or 0 for the default", ErrInvalid, field, v, daysMax)
		}
	}
	if err := d.checkMissing(); err != nil {
		return err
	}
	switch d.Kind {
	case KPI:
		if len(d.Levels) > 0 {
			return fmt.Errorf("%w: levels: a kpi has grades", ErrInvalid)
		}
		return d.checkGrades()
	case Vital:
		if len(d.Grades) > 0 {
			return fmt.Errorf("%w: grades: a vital sign has levels", ErrInvalid)
		}
		return d.checkLevels()
	default:
		return fmt.Errorf("%w: kind %.32q: want %s or %s", ErrInvalid, d.Kind, KPI, Vital)
	}
}

func (d Definition) checkGrades() error {
	if len(d.Grades) == 0 || len(d.Grades) > levelsMax {
		return fmt.Errorf("%w: %d grades: want 1 to %d", ErrInvalid, len(d.Grades), levelsMax)
	}
	for i, g := range d.Grades {
		if err := checkStep("grade", g.Name, g.Op, d.Grades[0].Op, g.Target); err != nil {
			return err
		}
		if i > 0 && at(g.Op, g.Target, d.Grades[i-1].Target) {
			return fmt.Errorf("%w: grade %s: target %v: want the best grade first", ErrInvalid, g.Name, g.Target)
		}
	}
	return unique("grade", d.Grades, func(g Grade) string { return g.Name })
}

func (d Definition) checkLevels() error {
	if len(d.Levels) == 0 || len(d.Levels) > levelsMax {
		return fmt.Errorf("%w: %d levels: want 1 to %d", ErrInvalid, len(d.Levels), levelsMax)
	}
	for i, l := range d.Levels {
		if err := checkStep("level", l.Name, l.Op, l.Op, l.Threshold); err != nil {
			return err
		}
		switch {
		case l.Clear != nil && (!(math.Abs(*l.Clear) <= reading.ValueMax) || at(l.Op, *l.Clear, l.Threshold)):
			return fmt.Errorf("%w: level %s: clear %v: want a value that is not %s %v", ErrInvalid, l.Name, *l.Clear, l.Op, l.Threshold)
		case l.ForS < 0 || time.Duration(l.ForS)*time.Second > forMax:
			return fmt.Errorf("%w: level %s: for_s %d: want 0 to %d", ErrInvalid, l.Name, l.ForS, int(forMax/time.Second))
		case l.Priority < 1 || l.Priority > 4:
			return fmt.Errorf("%w: level %s: priority %d: want 1 (highest) to 4", ErrInvalid, l.Name, l.Priority)
		case i > 0 && l.Op == d.Levels[i-1].Op && !at(l.Op, l.Threshold, d.Levels[i-1].Threshold):
			return fmt.Errorf("%w: level %s: threshold %v: want the least severe level first", ErrInvalid, l.Name, l.Threshold)
		}
		if err := checkText("event_type", l.EventType, 64, false); err != nil {
			return err
		}
	}
	return unique("level", d.Levels, func(l Level) string { return l.Name })
}

func checkStep(what, name, op, first string, limit float64) error {
	switch {
	case reading.ValidName(name) != nil || len(name) > 16 || strings.Contains(name, "/"):
		return fmt.Errorf("%w: %s %.40q: want a name of 1 to 16 letters, digits, '-', '_' or '.'", ErrInvalid, what, name)
	case op != AtLeast && op != AtMost || op != first:
		return fmt.Errorf("%w: %s %s: op %.8q: want %s or %s, the same for all grades", ErrInvalid, what, name, op, AtLeast, AtMost)
	case !(math.Abs(limit) <= reading.ValueMax):
		return fmt.Errorf("%w: %s %s: limit %v: want a number of magnitude at most %g", ErrInvalid, what, name, limit, float64(reading.ValueMax))
	}
	return nil
}

func unique[T any](what string, in []T, name func(T) string) error {
	seen := map[string]bool{}
	for _, x := range in {
		if seen[name(x)] {
			return fmt.Errorf("%w: %s %s: it is there twice", ErrInvalid, what, name(x))
		}
		seen[name(x)] = true
	}
	return nil
}

func checkText(field, value string, bytesMax int, required bool) error {
	switch {
	case value == "" && required:
		return fmt.Errorf("%w: %s is empty", ErrInvalid, field)
	case len(value) > bytesMax:
		return fmt.Errorf("%w: %s is %d bytes long: want at most %d", ErrInvalid, field, len(value), bytesMax)
	case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
		return fmt.Errorf("%w: %s %.32q: want UTF-8 without zero bytes", ErrInvalid, field, value)
	}
	return nil
}

// WithDefaults fills in what a definition leaves out.
func (d Definition) WithDefaults() Definition {
	if d.ReadingDays == 0 {
		d.ReadingDays = DefaultReadingDays
	}
	if d.MinuteDays == 0 {
		d.MinuteDays = max(DefaultMinuteDays, d.ReadingDays)
	}
	return d
}

// bound writes a bound, "" for none.
func bound(v *float64) string {
	if v == nil {
		return ""
	}
	return reading.Text(*v)
}

// Doc returns the identifier of a definition's document.
func Doc(code string) tiers.DocID { return tiers.NewDocID(KindIndicator, code) }

// Ops returns the operations that write a definition. The error wraps [ErrInvalid].
func Ops(d Definition) ([]crdt.Op, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	steps := func(v any, n int) string {
		if n == 0 {
			return ""
		}
		b, _ := json.Marshal(v) // numbers were checked; nothing else can fail
		return string(b)
	}
	d = d.WithDefaults()
	ops := crdt.FieldOps([2]string{"code", d.Code}, [2]string{"name", d.Name}, [2]string{"kind", d.Kind},
		[2]string{"reading_days", strconv.Itoa(d.ReadingDays)}, [2]string{"minute_days", strconv.Itoa(d.MinuteDays)})
	for _, f := range [][2]string{ // written when empty, too: an edit may empty them
		{"unit", d.Unit}, {"grades", steps(d.Grades, len(d.Grades))}, {"levels", steps(d.Levels, len(d.Levels))},
		{"min", bound(d.Min)}, {"max", bound(d.Max)}, {"missing", steps(d.Missing, len(d.Missing))},
	} {
		ops = append(ops, crdt.Op{Kind: crdt.OpPut, Key: f[0], Value: f[1]})
	}
	return ops, nil
}

// Fold derives a definition's view.
func Fold(s *crdt.Source) (crdt.View, error) { return s.FieldView() }

// FromView reads a definition back from its view. The error wraps [ErrInvalid].
func FromView(b []byte) (Definition, error) {
	var v struct {
		Fields map[string]string `json:"fields"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return Definition{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	f := v.Fields
	d := Definition{Code: f["code"], Name: f["name"], Kind: f["kind"], Unit: f["unit"]}
	var err1, err2 error
	d.ReadingDays, err1 = strconv.Atoi(f["reading_days"])
	d.MinuteDays, err2 = strconv.Atoi(f["minute_days"])
	err := errors.Join(err1, err2)
	for field, into := range map[string]any{
		"grades": &d.Grades, "levels": &d.Levels, "min": &d.Min, "max": &d.Max, "missing": &d.Missing,
	} {
		if f[field] != "" {
			err = errors.Join(err, json.Unmarshal([]byte(f[field]), into))
		}
	}
	if err != nil {
		return Definition{}, fmt.Errorf("%w: indicator %s: %w", ErrInvalid, f["code"], err)
	}
	return d, d.Validate()
}

// Grade returns the name of a KPI value's grade: the best whose target it meets, or
// "" for none.
func (d Definition) Grade(value float64) string {
	i := slices.IndexFunc(d.Grades, func(g Grade) bool { return at(g.Op, value, g.Target) })
	if i < 0 {
		return ""
	}
	return d.Grades[i].Name
}

// CheckReading checks one reading at the present time against its definition. The
// error wraps [ErrInvalid].
func (d Definition) CheckReading(p reading.Point, now time.Time) error {
	if err := p.Valid(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	oldest := now.Add(-time.Duration(d.WithDefaults().ReadingDays) * 24 * time.Hour)
	if newest := now.Add(aheadMax); p.AtMS < oldest.UnixMilli() || p.AtMS > newest.UnixMilli() {
		return fmt.Errorf("%w: at_ms %d (%s): want %s (%s keeps readings for %d days) to %s", ErrInvalid, p.AtMS,
			time.UnixMilli(p.AtMS).UTC().Format(time.RFC3339), oldest.UTC().Format(time.RFC3339), d.Code,
			d.WithDefaults().ReadingDays, newest.UTC().Format(time.RFC3339))
	}
	return nil
}

// aheadMax is how far a sensor's clock may be ahead.
const aheadMax = time.Hour

// Limits returns the hours before which readings and minute rollups may be dropped,
// at a site of which everything is held that it wrote until a time. A day is added:
// definitions reach sites at different times.
func (d Definition) Limits(until time.Time) (readings, minutes uint32) {
	d = d.WithDefaults()
	before := func(days int) uint32 {
		return reading.Hour(max(until.Add(-time.Duration(days+1)*24*time.Hour).UnixMilli(), 0))
	}
	readings = before(d.ReadingDays)
	return readings, min(readings, before(d.MinuteDays))
}
