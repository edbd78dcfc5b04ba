package dispatch

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// KindCalendar is the document kind of calendars and the name of their index.
const KindCalendar = "calendar"

// Calendar says which time counts for limits in working hours and days. It is
// catalog data; a task's brief carries the part that it needs, so that every site
// counts alike whatever it knows of the catalog.
type Calendar struct {
	Code string `json:"code"`
	// OffsetMinutes is the local time's distance to UTC.
	OffsetMinutes int `json:"offset"`
	// Hours are the working hours of a working day, as "09:00-12:00", in order.
	Hours []string `json:"hours"`
	// Weekend are the days of the week that are free, 0 for Sunday to 6.
	Weekend []int `json:"weekend"`
	// Holidays and Workdays are exceptions: days, "2026-10-01", or first and last
	// day, "2026-10-01..2026-10-07". A workday beats a holiday.
	Holidays []string `json:"holidays,omitempty"`
	Workdays []string `json:"workdays,omitempty"`
}

// DefaultCalendar is Monday to Friday, seven hours a day, in China's time,
// without holidays.
func DefaultCalendar() Calendar {
	return Calendar{Code: "default", OffsetMinutes: 8 * 60, Hours: []string{"09:00-12:00", "14:00-18:00"}, Weekend: []int{0, 6}}
}

const (
	dayMS         = 24 * 60 * 60 * 1000
	minuteMS      = 60 * 1000
	calendarDays  = 400 // how far a task's copy of a calendar reaches
	exceptionsMax = 400
)

// Validate checks a calendar. The error wraps [ErrInvalid].
func (c Calendar) Validate() error {
	_, err := c.parse()
	return err
}

// daySpan is a range of days since 1970, both ends included.
type daySpan struct{ first, last int64 }

// parsedCalendar is a calendar as numbers.
type parsedCalendar struct {
	offset             int64   // milliseconds
	hours              []int64 // starts and ends in a day, milliseconds, in turn
	free               [7]bool
	holidays, workdays []daySpan
}

func (c Calendar) parse() (p parsedCalendar, err error) {
	if err := tiers.NewDocID(KindCalendar, c.Code).Validate(); err != nil {
		return p, fmt.Errorf("%w: calendar code %.64q: %w", ErrInvalid, c.Code, err)
	}
	if c.OffsetMinutes < -14*60 || c.OffsetMinutes > 14*60 {
		return p, fmt.Errorf("%w: calendar %s: offset %d minutes: want -840 to 840", ErrInvalid, c.Code, c.OffsetMinutes)
	}
	p.offset = int64(c.OffsetMinutes) * minuteMS
	before := int64(-1)
	for _, h := range c.Hours {
		from, to, _ := strings.Cut(h, "-")
		a, err1 := clock(from)
		b, err2 := clock(to)
		if err1 != nil || err2 != nil || a >= b || a <= before {
			return p, fmt.Errorf("%w: calendar %s: hours %.32q: want HH:MM-HH:MM, in order", ErrInvalid, c.Code, h)
		}
		p.hours, before = append(p.hours, a, b), b
	}
	for _, d := range c.Weekend {
		if d < 0 || d > 6 {
			return p, fmt.Errorf("%w: calendar %s: weekend day %d: want 0 (Sunday) to 6", ErrInvalid, c.Code, d)
		}
		p.free[d] = true
	}
	if len(p.hours) == 0 || p.free == [7]bool{true, true, true, true, true, true, true} {
		return p, fmt.Errorf("%w: calendar %s has no working time: hours and a working day of the week must be given", ErrInvalid, c.Code)
	}
	if len(c.Holidays)+len(c.Workdays) > exceptionsMax {
		return p, fmt.Errorf("%w: calendar %s: %d exceptions: want at most %d", ErrInvalid, c.Code, len(c.Holidays)+len(c.Workdays), exceptionsMax)
	}
	if p.holidays, err = spans(c.Code, c.Holidays); err != nil {
		return p, err
	}
	p.workdays, err = spans(c.Code, c.Workdays)
	return p, err
}

// clock reads HH:MM, up to 24:00, as milliseconds.
func clock(s string) (int64, error) {
	hour, minute, ok := strings.Cut(s, ":")
	h, err1 := strconv.Atoi(hour)
	m, err2 := strconv.Atoi(minute)
	if !ok || len(s) != 5 || err1 != nil || err2 != nil || h < 0 || m < 0 || m > 59 || h*60+m > 24*60 {
		return 0, ErrInvalid
	}
	return int64(h*60+m) * minuteMS, nil
}

func spans(code string, days []string) (out []daySpan, err error) {
	for _, d := range days {
		from, to, ranged := strings.Cut(d, "..")
		if !ranged {
			to = from
		}
		a, err1 := time.Parse(time.DateOnly, from)
		b, err2 := time.Parse(time.DateOnly, to)
		if err1 != nil || err2 != nil || b.Before(a) || a.Year() < 1970 || b.Year() > 2200 || b.Sub(a) > 366*24*time.Hour {
			return nil, fmt.Errorf("%w: calendar %s: day %.32q: want 2026-10-01 or 2026-10-01..2026-10-07, 1970 to 2200, at most a year", ErrInvalid, code, d)
		}
		out = append(out, daySpan{a.UnixMilli() / dayMS, b.UnixMilli() / dayMS})
	}
	return out, nil
}

// Around returns the calendar with only the exceptions that a limit from a time
// on can meet: what a task's brief carries.
func (c Calendar) Around(startMS int64) *Calendar {
	first, last := startMS/dayMS-1, startMS/dayMS+calendarDays
	near := func(days []string) (out []string) {
		for _, d := range days {
			s, err := spans(c.Code, []string{d})
			if err == nil && s[0].last >= first && s[0].first <= last {
				out = append(out, d)
			}
		}
		return out
	}
	c.Holidays, c.Workdays = near(c.Holidays), near(c.Workdays)
	return &c
}

// works reports whether a day since 1970 is a working day.
func (p parsedCalendar) works(day int64) bool {
	in := func(all []daySpan) bool {
		return slices.ContainsFunc(all, func(s daySpan) bool { return s.first <= day && day <= s.last })
	}
	if in(p.workdays) {
		return true
	}
	return !p.free[((day+4)%7+7)%7] && !in(p.holidays) // 1970-01-01 was a Thursday
}

// dayLength is the working time of a working day.
func (p parsedCalendar) dayLength() (ms int64) {
	for i := 0; i < len(p.hours); i += 2 {
		ms += p.hours[i+1] - p.hours[i]
	}
	return ms
}

// daysMax bounds how far a limit may reach: over the longest limit and all the
// exceptions that a calendar may have.
const daysMax = 366 * 1000

// walk calls f with the working spans from a time on, in Unix milliseconds, until
// it returns false.
func (p parsedCalendar) walk(fromMS int64, f func(from, to int64) bool) {
	day := floorDiv(fromMS+p.offset, dayMS)
	for end := day + daysMax; day < end; day++ {
		if !p.works(day) {
			continue
		}
		for i := 0; i < len(p.hours); i += 2 {
			from, to := day*dayMS+p.hours[i]-p.offset, day*dayMS+p.hours[i+1]-p.offset
			if to > fromMS && !f(max(from, fromMS), to) {
				return
			}
		}
	}
}

func floorDiv(a, b int64) int64 {
	if a < 0 {
		return -((-a + b - 1) / b)
	}
	return a / b
}

// calendarKeys are the fields of a calendar's document, each the JSON of a part.
var calendarKeys = []string{"code", "offset", "hours", "weekend", "holidays", "workdays"}

// CalendarOps returns the operations that write a calendar. The error wraps
// [ErrInvalid].
func CalendarOps(c Calendar) ([]crdt.Op, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	values := []string{
		c.Code, strconv.Itoa(c.OffsetMinutes), strings.Join(c.Hours, " "), joinInts(c.Weekend),
		strings.Join(c.Holidays, " "), strings.Join(c.Workdays, " "),
	}
	ops := make([]crdt.Op, len(values))
	for i, v := range values {
		ops[i] = crdt.Op{Kind: crdt.OpPut, Key: calendarKeys[i], Value: v}
	}
	return ops, nil
}

func joinInts(all []int) string {
	var words []string
	for _, n := range all {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, " ")
}

// FoldCalendar derives a calendar's view.
func FoldCalendar(s *crdt.Source) (crdt.View, error) { return s.FieldView() }

// CalendarFromView reads a calendar back from its view. The error wraps
// [ErrInvalid].
func CalendarFromView(b []byte) (Calendar, error) {
	var v struct {
		Fields map[string]string `json:"fields"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return Calendar{}, fmt.Errorf("%w: calendar: %w", ErrInvalid, err)
	}
	f := v.Fields
	offset, err := strconv.Atoi(f["offset"])
	if err != nil {
		return Calendar{}, fmt.Errorf("%w: calendar %s: offset: %w", ErrInvalid, f["code"], err)
	}
	c := Calendar{
		Code: f["code"], OffsetMinutes: offset, Hours: strings.Fields(f["hours"]),
		Holidays: strings.Fields(f["holidays"]), Workdays: strings.Fields(f["workdays"]),
	}
	for _, word := range strings.Fields(f["weekend"]) {
		day, err := strconv.Atoi(word)
		if err != nil {
			return Calendar{}, fmt.Errorf("%w: calendar %s: weekend: %w", ErrInvalid, f["code"], err)
		}
		c.Weekend = append(c.Weekend, day)
	}
	return c, c.Validate()
}
