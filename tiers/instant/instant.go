package instant

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Shanghai is the zone of times without one, unless another is named: UTC+8.
var Shanghai = time.FixedZone("Asia/Shanghai", 8*3600)

// Options say how times are read; the zero value reads the common forms at UTC+8.
type Options struct {
	// Zone is that of times without an offset; nil means [Shanghai].
	Zone *time.Location
	// Format is the one form of all times; empty for the common ones.
	Format string
}

// Parser reads times.
type Parser struct {
	zone   *time.Location
	format string
	layout []token // of format
}

// common reads the common forms at UTC+8.
var common = &Parser{zone: Shanghai}

// New returns a parser. The error wraps [ErrFormat].
func New(o Options) (*Parser, error) {
	p := &Parser{zone: o.Zone, format: o.Format}
	if p.zone == nil {
		p.zone = Shanghai
	}
	if _, number := units[o.Format]; number || o.Format == "" {
		return p, nil
	}
	var err error
	p.layout, err = compile(o.Format)
	return p, err
}

// Zone returns the zone of a name: an IANA one such as America/New_York, UTC, or an
// offset such as -05:00; empty means [Shanghai]. The error wraps [ErrFormat].
func Zone(name string) (*time.Location, error) {
	switch name {
	case "", Shanghai.String():
		return Shanghai, nil
	case "Local":
		return nil, fmt.Errorf("%w: zone %q depends on the machine: name it", ErrFormat, name)
	}
	if s := (scanner{rest: name}); s.offset() && s.rest == "" {
		return s.c.zone, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%w: zone %.40q: want an IANA name such as America/New_York, or an offset such as -05:00", ErrFormat, name)
	}
	return zone, nil
}

// Parse reads one of the common forms, at UTC+8 where there is no offset. The error
// is an [*Error].
func Parse(text string) (time.Time, error) { return common.Parse(text) }

// Milliseconds is [Parse], in milliseconds since 1970.
func Milliseconds(text string) (int64, error) { return common.Milliseconds(text) }

// Milliseconds is [Parser.Parse], in milliseconds since 1970.
func (p *Parser) Milliseconds(text string) (int64, error) {
	t, err := p.Parse(text)
	return t.UnixMilli(), err
}

// The years between which times lie.
const (
	yearMin = 1900
	yearMax = 2200
)

// Parse reads a time. The error is an [*Error].
func (p *Parser) Parse(text string) (time.Time, error) {
	t, err := p.read(strings.TrimSpace(text))
	if err == nil && (t.UTC().Year() < yearMin || t.UTC().Year() >= yearMax) {
		err = refuse(ErrImplausible, text, "is %s: want %d to %d", t.Format(time.RFC3339), yearMin, yearMax-1)
	}
	if err == nil && t.UnixMilli() == 0 {
		err = refuse(ErrImplausible, text, "is the beginning of 1970, where computers begin to count: there is no time in it")
	}
	var e *Error
	if errors.As(err, &e) {
		e.Text = text
		return time.Time{}, e
	}
	return t, err
}

func (p *Parser) read(text string) (time.Time, error) {
	if !utf8.ValidString(text) {
		return time.Time{}, refuse(ErrForm, text, "is not UTF-8")
	}
	if unit, ok := units[p.format]; ok {
		return inUnit(text, unit)
	}
	if p.layout != nil {
		c, err := match(p.layout, text)
		if err != nil {
			return time.Time{}, refuse(ErrForm, text, "is not as the time format %s wants: %v", p.format, err)
		}
		return c.time(p.zone)
	}
	if isNumber(text) {
		return number(text, p.zone)
	}
	s := scanner{rest: text}
	if s.common() {
		return s.c.time(p.zone)
	}
	if fit := fitting(text); fit != nil {
		e := refuse(ErrOrder, text, "day and month may be either way round")
		e.Formats = fit
		return time.Time{}, e
	}
	return time.Time{}, refuse(ErrForm, text, "want one such as 2026-11-25T08:00:00+08:00, 2026-11-25 08:00, 2026-11-25 or milliseconds since 1970")
}
