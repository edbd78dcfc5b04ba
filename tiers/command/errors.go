package command

import "errors"

// Sentinels that this package's functions wrap; compare with errors.Is.
var (
	// ErrInvalid reports an order, step, switch or limit that breaks a rule; the text
	// names the field, its value and what is allowed.
	ErrInvalid = errors.New("command: invalid")
	// ErrNow reports a step that may not be made as things stand; the text says why
	// and what may be.
	ErrNow = errors.New("command: not allowed now")
)
