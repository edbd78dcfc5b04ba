package store

import "errors"

// Sentinels that this package's functions wrap; compare with errors.Is.
var (
	// ErrForeign reports a directory that belongs to another site or federation.
	ErrForeign = errors.New("store: directory of another site")
	// ErrLocked reports a directory that another process holds.
	ErrLocked = errors.New("store: directory is held by another process")
	// ErrFormat reports a directory written by an unknown version.
	ErrFormat = errors.New("store: unknown format version")
	// ErrCorrupt reports stored bytes that do not decode.
	ErrCorrupt = errors.New("store: corrupt")
	// ErrClosed reports a use after Close.
	ErrClosed = errors.New("store: closed")
	// ErrNotFound reports a document or record that the store does not hold.
	ErrNotFound = errors.New("store: not found")
	// ErrMoved rejects an append whose base heads are no longer the document's.
	ErrMoved = errors.New("store: document moved on")
	// ErrBadChange rejects an append whose change is malformed or does not fit.
	ErrBadChange = errors.New("store: change does not fit")
	// ErrGap rejects a range that starts beyond the end of its chain.
	ErrGap = errors.New("store: gap in chain")
	// ErrFork rejects a range whose hashes contradict the chain held here.
	ErrFork = errors.New("store: fork of a chain")
	// ErrHeld rejects a claim of a resource that somebody else holds.
	ErrHeld = errors.New("store: resource is held")
	// ErrFenced rejects a release of another epoch than the present one.
	ErrFenced = errors.New("store: claim is of another epoch")
	// ErrBadClaim rejects a claim without a proper resource or holder.
	ErrBadClaim = errors.New("store: bad claim")
)
