package instant

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// scanner reads a text from its beginning.
type scanner struct {
	rest string
	c    clock
}

// digits reads a number of so many digits.
func (s *scanner) digits(least, most int) (n int, ok bool) {
	i := 0
	for i < len(s.rest) && i < most && s.rest[i] >= '0' && s.rest[i] <= '9' {
		n = n*10 + int(s.rest[i]-'0')
		i++
	}
	if i < least {
		return 0, false
	}
	s.rest = s.rest[i:]
	return n, true
}

// into is digits for a field.
func (s *scanner) into(field *int, least, most int) (ok bool) {
	*field, ok = s.digits(least, most)
	return ok
}

// take takes one of some texts, if the rest begins with it.
func (s *scanner) take(words ...string) bool {
	for _, t := range words {
		if len(s.rest) >= len(t) && strings.EqualFold(s.rest[:len(t)], t) {
			s.rest = s.rest[len(t):]
			return true
		}
	}
	return false
}

func (s *scanner) space() { s.rest = strings.TrimLeftFunc(s.rest, unicode.IsSpace) }

// common reads one of the common forms to its end.
func (s *scanner) common() bool {
	before := *s
	if s.basic() && s.take("T") && s.basicTime() && s.offsetIfAny() && s.rest == "" {
		return true
	}
	*s = before
	if !s.date() {
		return false
	}
	if s.space(); s.rest == "" {
		return true
	}
	s.take("T")
	s.space()
	return s.timeOfDay() && s.offsetIfAny() && s.rest == ""
}

// basic reads a date without separators.
func (s *scanner) basic() bool {
	return s.into(&s.c.year, 4, 4) && s.into(&s.c.month, 2, 2) && s.into(&s.c.day, 2, 2)
}

// basicTime reads a time of day without separators.
func (s *scanner) basicTime() bool {
	s.c.timed = true
	if !s.into(&s.c.hour, 2, 2) {
		return false
	}
	if before := *s; s.into(&s.c.minute, 2, 2) {
		if s.into(&s.c.second, 2, 2) {
			s.fractionIfAny()
		}
	} else {
		*s = before
	}
	return true
}

// date reads a date with its year first.
func (s *scanner) date() bool {
	if !s.into(&s.c.year, 4, 4) {
		return false
	}
	s.space()
	if s.take("年") {
		s.space()
		return s.into(&s.c.month, 1, 2) && s.then("月") && s.into(&s.c.day, 1, 2) && s.then("日", "号", "號")
	}
	for _, between := range []string{"-", "/", "."} {
		if s.take(between) {
			return s.into(&s.c.month, 1, 2) && s.take(between) && s.into(&s.c.day, 1, 2) && !s.digitNext()
		}
	}
	return false
}

func (s *scanner) digitNext() bool { return s.rest != "" && s.rest[0] >= '0' && s.rest[0] <= '9' }

// then is take with white space around it.
func (s *scanner) then(words ...string) bool {
	s.space()
	ok := s.take(words...)
	s.space()
	return ok
}

// halves are what AM and PM are called.
var halves = []struct {
	name string
	half int
}{{"AM", 1}, {"PM", 2}, {"a.m.", 1}, {"p.m.", 2}, {"上午", 1}, {"下午", 2}}

// halfIfAny reads AM or PM.
func (s *scanner) halfIfAny() bool {
	before := s.rest
	s.space()
	for _, h := range halves {
		if s.c.half == 0 && s.take(h.name) {
			s.c.half = h.half
			return true
		}
	}
	s.rest = before
	return false
}

// timeOfDay reads hour and minute, and what may come behind them.
func (s *scanner) timeOfDay() bool {
	s.c.timed = true
	s.halfIfAny()
	s.space()
	if !s.into(&s.c.hour, 1, 2) {
		return false
	}
	if s.then("时", "時", "点") {
		if s.digitNext() && (!s.into(&s.c.minute, 1, 2) || !s.then("分")) {
			return false
		}
		return !s.digitNext() || s.into(&s.c.second, 1, 2) && s.then("秒")
	}
	if !s.take(":", "：") || !s.into(&s.c.minute, 2, 2) {
		return false
	}
	if s.take(":", "：") {
		if !s.into(&s.c.second, 2, 2) {
			return false
		}
		s.fractionIfAny()
	}
	s.halfIfAny()
	return true
}

// fractionIfAny reads a fraction of a second behind a point or a comma.
func (s *scanner) fractionIfAny() {
	before := s.rest
	if s.take(".", ",") && s.digitNext() {
		s.c.nanos = s.fraction()
		return
	}
	s.rest = before
}

// fraction reads the digits of a fraction, in billionths; those behind are dropped.
func (s *scanner) fraction() int {
	n, unit := 0, 100_000_000
	for s.digitNext() {
		n += int(s.rest[0]-'0') * unit
		unit /= 10
		s.rest = s.rest[1:]
	}
	return n
}

// offsetIfAny reads an offset from UTC, if anything is left.
func (s *scanner) offsetIfAny() bool {
	s.space()
	return s.rest == "" || s.offset()
}

// offset reads Z, UTC, GMT, or a difference in hours and minutes from them.
func (s *scanner) offset() bool {
	named := s.take("Z", "UTC", "GMT")
	sign := 1
	switch {
	case s.take("+"):
	case s.take("-", "\u2212"):
		sign = -1
	case named:
		s.c.zone = time.UTC
		return true
	default:
		return false
	}
	hours, ok := s.digits(2, 2)
	if !ok {
		return false
	}
	s.take(":")
	minutes := 0
	if s.digitNext() {
		if minutes, ok = s.digits(2, 2); !ok {
			return false
		}
	}
	if hours > 18 || minutes > 59 {
		return false
	}
	if s.c.zone = time.FixedZone("", sign*(hours*3600+minutes*60)); hours+minutes == 0 {
		s.c.zone = time.UTC
	}
	return true
}

// word takes the letters at the beginning.
func (s *scanner) word() string {
	end := strings.IndexFunc(s.rest, func(r rune) bool { return !unicode.IsLetter(r) })
	if end < 0 {
		end = len(s.rest)
	}
	w := s.rest[:end]
	s.rest = s.rest[end:]
	return w
}

// rune takes one character.
func (s *scanner) rune(r rune) bool {
	c, size := utf8.DecodeRuneInString(s.rest)
	if c != r || size == 0 {
		return false
	}
	s.rest = s.rest[size:]
	return true
}
