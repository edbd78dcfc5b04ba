package wire

import "errors"

// Sentinels that this package's functions wrap; compare with errors.Is.
var (
	// ErrMalformed reports bytes that are not a well-formed frame.
	ErrMalformed = errors.New("wire: malformed frame")
	// ErrTooLarge reports a frame, or what it unfolds to, beyond the limits.
	ErrTooLarge = errors.New("wire: frame too large")
)
