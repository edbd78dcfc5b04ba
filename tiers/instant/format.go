package instant

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// token is a directive of a format, or a character that stands for itself.
type token struct {
	directive byte // 0 for none
	literal   rune
}

// directives says how each one reads.
var directives = map[byte]func(*scanner) bool{
	'Y': func(s *scanner) bool { return s.into(&s.c.year, 4, 4) },
	'y': func(s *scanner) bool {
		ok := s.into(&s.c.year, 2, 2)
		if s.c.year += 2000; s.c.year >= 2069 {
			s.c.year -= 100
		}
		return ok
	},
	'm': func(s *scanner) bool { return s.into(&s.c.month, 1, 2) },
	'b': month, 'B': month,
	'd': day, 'e': day,
	'H': hour, 'I': hour,
	'M': func(s *scanner) bool { return s.into(&s.c.minute, 1, 2) },
	'S': func(s *scanner) bool { return s.into(&s.c.second, 1, 2) },
	'f': func(s *scanner) bool {
		ok := s.digitNext()
		s.c.nanos = s.fraction()
		return ok
	},
	'p': func(s *scanner) bool { return s.halfIfAny() },
	'z': (*scanner).offset,
	'a': func(s *scanner) bool { return s.word() != "" }, 'A': func(s *scanner) bool { return s.word() != "" },
}

// short are directives that stand for several.
var short = strings.NewReplacer("%F", "%Y-%m-%d", "%T", "%H:%M:%S", "%R", "%H:%M", "%D", "%m/%d/%y")

func day(s *scanner) bool {
	s.space()
	return s.into(&s.c.day, 1, 2)
}

func hour(s *scanner) bool {
	s.space()
	s.c.timed = true
	return s.into(&s.c.hour, 1, 2)
}

func month(s *scanner) bool {
	w := s.word()
	for m := time.January; m <= time.December; m++ {
		if name := m.String(); strings.EqualFold(w, name) || strings.EqualFold(w, name[:3]) {
			s.c.month = int(m)
			return true
		}
	}
	return false
}

// compile reads a format. The error wraps [ErrFormat].
func compile(format string) ([]token, error) {
	const example = `want directives such as "%m/%d/%Y %I:%M:%S %p", or unix, unix_ms or unix_us`
	var out []token
	seen := ""
	for rest := short.Replace(format); rest != ""; {
		if after, ok := strings.CutPrefix(rest, "%"); ok {
			if after == "" || after[0] != '%' && directives[after[0]] == nil {
				return nil, fmt.Errorf("%w: %.60q: %%%.1s is no directive: %s", ErrFormat, format, after, example)
			}
			if after[0] == '%' {
				out = append(out, token{literal: '%'})
			} else {
				seen += after[:1]
				out = append(out, token{directive: after[0]})
			}
			rest = after[1:]
			continue
		}
		r, size := utf8.DecodeRuneInString(rest)
		out, rest = append(out, token{literal: r}), rest[size:]
	}
	switch {
	case !strings.ContainsAny(seen, "Yy") || !strings.ContainsAny(seen, "mbB") || !strings.ContainsAny(seen, "de"):
		return nil, fmt.Errorf("%w: %.60q lacks a year, a month or a day: %s", ErrFormat, format, example)
	case strings.Contains(seen, "I") != strings.Contains(seen, "p"):
		return nil, fmt.Errorf("%w: %.60q: %%I and %%p belong together", ErrFormat, format)
	case strings.Contains(seen, "M") && !strings.ContainsAny(seen, "HI") || strings.Contains(seen, "S") && !strings.Contains(seen, "M"):
		return nil, fmt.Errorf("%w: %.60q has minutes or seconds without what they are of", ErrFormat, format)
	}
	return out, nil
}

// match reads a text as a format says.
func match(layout []token, text string) (clock, error) {
	s := scanner{rest: text}
	for _, t := range layout {
		rest := s.rest
		switch {
		case t.directive != 0:
			if !directives[t.directive](&s) {
				return s.c, fmt.Errorf("no %%%c at %.20q", t.directive, rest)
			}
		case unicode.IsSpace(t.literal):
			s.space()
		case !s.rune(t.literal):
			return s.c, fmt.Errorf("no %q at %.20q", t.literal, rest)
		}
	}
	if s.rest != "" {
		return s.c, fmt.Errorf("%.20q is left", s.rest)
	}
	if s.c.month == 0 {
		return s.c, errors.New("there is no month")
	}
	return s.c, nil
}

// fitting returns the formats with day or month first that fit a text.
func fitting(text string) (out []string) {
	for _, between := range []string{"/", "-", "."} {
		for _, year := range []string{"%Y", "%y"} {
			for _, order := range []string{"%m" + between + "%d" + between, "%d" + between + "%m" + between} {
				for _, behind := range []string{"", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p"} {
					format := order + year + behind
					layout, err := compile(format)
					if err != nil {
						continue
					}
					if c, err := match(layout, text); err == nil && c.check() == nil {
						out = append(out, format)
					}
				}
			}
		}
	}
	return out
}
