package instant

import (
	"errors"
	"fmt"
	"strings"
)

// The reasons for which a text is no time; each [Error] wraps one of them.
var (
	// ErrForm reports a text in no form that is understood, or not in the format.
	ErrForm = errors.New("instant: unknown form")
	// ErrOrder reports a date that may have its day or its month first.
	ErrOrder = errors.New("instant: day or month first")
	// ErrNoSuch reports a day, hour, minute or second that there is not.
	ErrNoSuch = errors.New("instant: no such time")
	// ErrTwice reports a local time that its zone has twice.
	ErrTwice = errors.New("instant: twice in its zone")
	// ErrSkipped reports a local time that its zone skips.
	ErrSkipped = errors.New("instant: skipped in its zone")
	// ErrImplausible reports a number that is in another unit, or no time at all.
	ErrImplausible = errors.New("instant: implausible")
	// ErrFormat reports a format or a zone that cannot be used.
	ErrFormat = errors.New("instant: bad format or zone")
)

// Error says of a text why it is no time, and what to do.
type Error struct {
	// Text is what was read.
	Text string
	// Formats are those that would fit; nil for none.
	Formats []string

	kind error
	why  string
}

// Error implements error.
func (e *Error) Error() string {
	text := fmt.Sprintf("time %.48q: %s", e.Text, e.why)
	if len(e.Formats) > 0 {
		text += "; the time format " + strings.Join(e.Formats, " or ") + " would fit"
	}
	return text
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.kind }

func refuse(kind error, text, why string, args ...any) *Error {
	return &Error{Text: text, kind: kind, why: fmt.Sprintf(why, args...)}
}
