package engine

import "context"

// job is one crossing into the library. Everything in it was checked before.
type job struct {
	_ struct{} `cbor:",toarray"`
	// Loaded are the document's changes, concatenated.
	Loaded []byte
	// Program is what to build; nil reads.
	Program []byte
	Actor   []byte // 16 bytes, to build
	TimeMS  int64
}

// runner carries jobs out. Its error wraps [ErrEngine] for what the library
// refused, [ErrPoisoned] for a job that it cannot survive, and
// [crdt.ErrUnavailable] when the job is not to blame.
type runner interface {
	run(ctx context.Context, j job) ([]byte, error)
}
