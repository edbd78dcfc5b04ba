package crdt

import "errors"

// Sentinels that this package's functions wrap; compare with errors.Is.
var (
	// ErrMalformed reports bytes that are not a well-formed record, checkpoint
	// or author.
	ErrMalformed = errors.New("crdt: malformed")
	// ErrBadSignature reports a checkpoint that its author's key did not sign.
	ErrBadSignature = errors.New("crdt: bad checkpoint signature")
	// ErrUnavailable reports an engine that cannot work now, whatever the
	// document.
	ErrUnavailable = errors.New("crdt: engine not available")
)
