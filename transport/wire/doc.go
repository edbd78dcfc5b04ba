// Package wire holds the frames that sites exchange, version 1.
//
// Layer 1: it imports tiers only. [Append] and [Decode] are safe for
// concurrent use; a [Reader] belongs to one goroutine.
//
// # Frame
//
//	length   4 bytes big endian: what follows, at most 4 MiB
//	type     1 byte
//	flags    1 byte; bit 0: the payload is one zstd frame
//	payload  a CBOR map with integer keys (RFC 8949, core deterministic)
//
// Types 9 and 12 are the first frames of the files that package federation
// describes; the others travel on links.
//
// Unknown keys are ignored and unknown types returned as [Unknown], so that a
// later version can add both. Unknown flags are refused. Decoding is bounded in
// memory whatever the input claims: lengths, nesting, elements, and the size
// that a zstd payload unfolds to.
package wire
