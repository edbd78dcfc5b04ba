package instant

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// The formats that are numbers.
const (
	Unix      = "unix"
	UnixMilli = "unix_ms"
	UnixMicro = "unix_us"
)

// unit is a way to count from 1970.
type unit struct {
	name string
	of   time.Duration
}

var units = map[string]unit{
	Unix: {"seconds", time.Second}, UnixMilli: {"milliseconds", time.Millisecond}, UnixMicro: {"microseconds", time.Microsecond},
}

// plausibleSince is the first second that a number may stand for, in March 1973: a
// number before it is one of another unit that was taken for this one.
const plausibleSince = 100_000_000

// plausibleUntil is the beginning of the year 2200, in seconds since 1970.
const plausibleUntil = 7_258_118_400

func isNumber(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// number reads digits alone: a date of the basic form, or milliseconds.
func number(text string, zone *time.Location) (time.Time, error) {
	date, dated := basicDate(text)
	switch {
	case dated && (len(text) == 8 || len(text) == 14):
		return date.time(zone)
	case dated && len(text) == 12:
		e := refuse(ErrImplausible, text, "is a date and time, or milliseconds")
		e.Formats = []string{"%Y%m%d%H%M", UnixMilli}
		return time.Time{}, e
	}
	return inUnit(text, units[UnixMilli])
}

// basicDate reads yyyymmdd, with hhmm or hhmmss behind it, of a year that people live
// in.
func basicDate(text string) (clock, bool) {
	s := scanner{rest: text}
	ok := s.basic() && (s.rest == "" || s.basicTime()) && s.rest == ""
	return s.c, ok && s.c.year >= yearMin && s.c.year < yearMax && s.c.check() == nil
}

// inUnit reads a number of seconds or parts of them.
func inUnit(text string, u unit) (time.Time, error) {
	whole, fraction, broken := strings.Cut(text, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || broken && !isNumber(fraction) || strings.HasPrefix(whole, "+") {
		return time.Time{}, refuse(ErrForm, text, "want %s since 1970", u.name)
	}
	if err := plausible(n, u); err != nil {
		return time.Time{}, err
	}
	s := scanner{rest: fraction}
	nanos := time.Duration(s.fraction()) * u.of / time.Second
	perSecond := int64(time.Second / u.of)
	return time.Unix(n/perSecond, n%perSecond*int64(u.of)).Add(nanos).UTC(), nil
}

// Plausible reports whether a number is a time in milliseconds since 1970. If not,
// the error, an [*Error], says what was read and what it probably is.
func Plausible(ms int64) error { return plausible(ms, units[UnixMilli]) }

func plausible(n int64, u unit) error {
	text := strconv.FormatInt(n, 10)
	perSecond := int64(time.Second / u.of)
	if s := n / perSecond; s >= plausibleSince && s < plausibleUntil {
		return nil
	}
	read := "a time beyond all calendars"
	if abs := max(n, -n); abs >= 0 && abs/perSecond < math.MaxInt32*100 {
		read = time.Unix(n/perSecond, 0).UTC().Format(time.RFC3339)
	}
	return refuse(ErrImplausible, text, "as %s since 1970 it is %s: %s", u.name, read, probably(text, n))
}

// probably says what a number is that is no time in the unit that it was read in.
func probably(text string, n int64) string {
	if n == 0 {
		return "probably there was none"
	}
	if date, ok := basicDate(text); ok {
		return "probably the date " + time.Date(date.year, time.Month(date.month), date.day, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
	}
	for _, name := range []string{Unix, UnixMilli, UnixMicro} {
		per := int64(time.Second / units[name].of)
		if s := n / per; s >= plausibleSince && s < plausibleUntil {
			return "probably " + units[name].name + ": " + time.Unix(s, 0).UTC().Format(time.RFC3339) + " (time format " + name + ")"
		}
	}
	if s := n / 1e9; s >= plausibleSince && s < plausibleUntil {
		return "probably nanoseconds: " + time.Unix(s, 0).UTC().Format(time.RFC3339)
	}
	if n >= 20_000 && n < 80_000 {
		return "probably a spreadsheet's number of a day: " + time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC).AddDate(0, 0, int(n)).Format(time.DateOnly)
	}
	return "want a time between 1973 and 2200"
}
