package engine

import "errors"

// Sentinels that this package's functions wrap; compare with errors.Is.
var (
	// ErrEngine reports what the Automerge library refused, in its words.
	ErrEngine = errors.New("engine: refused")
	// ErrHeads reports a document whose heads are not those that its changes
	// imply: the library held some of them back.
	ErrHeads = errors.New("engine: unexpected heads")
	// ErrTooLarge reports a document past the engine's limits.
	ErrTooLarge = errors.New("engine: document too large")
	// ErrUnchanged reports operations that leave the document as it is.
	ErrUnchanged = errors.New("engine: nothing to change")
	// ErrPoisoned reports a document that a worker process did not survive, twice.
	ErrPoisoned = errors.New("engine: document kills or blocks the engine")
	// ErrOps reports operations that cannot be carried out.
	ErrOps = errors.New("engine: bad operations")
)
