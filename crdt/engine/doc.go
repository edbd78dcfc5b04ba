// Package engine makes changes and reads documents: new documents and nearly every
// reading in Go, by package change, everything else by the Automerge library, of
// which it is the only caller, through a C shim of its own, one crossing a job,
// with every result freed at once.
//
// Layer 1: it imports crdt, crdt/change and (for the library that it carries)
// automerge-go. [Engine] and [Workers] are safe for concurrent use.
//
// The library aborts the process on some malformed changes, so nothing reaches
// it that package change has not checked in full, and what it says is verified:
// the heads after a load must be those that the changes' hashes and
// dependencies imply.
//
// That check is the first line. The second is a process of its own for what the
// library does to documents with changes from elsewhere: [NewIsolated] has the same
// methods and
// lets [Workers] carry the jobs out, each batch within a time and an address
// space. A document that a worker does not survive fails with [ErrPoisoned];
// the others of its batch are done by the next worker.
//
// # Format between node and worker
//
// Frames: a 32-bit little-endian length and CBOR (RFC 8949). To the worker an
// array of jobs [loaded, program, actor, time]; from it, in the same order, an
// array of answers [data, error text].
package engine
