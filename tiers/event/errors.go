package event

import (
	"errors"
	"fmt"
)

var (
	// ErrInvalid reports a report, action or correction that breaks a rule; the
	// text names the field, its value and what is allowed.
	ErrInvalid = errors.New("event: invalid")
	// ErrNotNow reports an action that may not be made as things stand.
	ErrNotNow = errors.New("event: not now")
)

// FieldError is an [ErrInvalid] that says which field it is about: an answer to a
// batch names it beside the text.
type FieldError struct {
	Field string
	text  string
}

// Error implements error.
func (e *FieldError) Error() string { return ErrInvalid.Error() + ": " + e.text }

// Unwrap returns [ErrInvalid].
func (e *FieldError) Unwrap() error { return ErrInvalid }

// invalid returns a [FieldError].
func invalid(field, format string, args ...any) error {
	return &FieldError{Field: field, text: fmt.Sprintf(format, args...)}
}

// notNow returns an [ErrNotNow].
func notNow(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNotNow, fmt.Sprintf(format, args...))
}
