package change

import "errors"

// Sentinels that this package's functions wrap; compare with errors.Is.
var (
	// ErrMalformed reports bytes that are not one well-formed change.
	ErrMalformed = errors.New("change: malformed")
	// ErrTooLarge reports a change beyond the limits.
	ErrTooLarge = errors.New("change: too large")
	// ErrRefused reports a well-formed chunk that this project does not take:
	// a document, a compressed change, an unknown column or action.
	ErrRefused = errors.New("change: refused")
	// ErrMissingDeps holds a change back: something that it follows is not
	// there yet.
	ErrMissingDeps = errors.New("change: dependencies missing")
	// ErrMisfit reports a change that can never apply to its document.
	ErrMisfit = errors.New("change: does not fit its document")
)
