// Package crdt holds the contracts of the mesh's replicated data: authors and
// their Automerge actors, hybrid time, records and the hash chains they form,
// vectors and digests that compare chains, signed checkpoints, and the plain
// values that go into and come out of the Automerge engine.
//
// Layer 1: it imports tiers only. It performs no I/O and reads no clock (the
// hybrid clock's is injected). Except for [Clock], which is safe for
// concurrent use, everything here is a value.
//
// Subpackages: crdt/change decodes and checks Automerge changes in pure Go;
// crdt/engine is the only caller of the Automerge library.
//
// # What merges
//
// Maps and lists that two sites create under one key hide each other in Automerge, and
// so do counters: one of them wins, and what the other counted is lost. So a document's
// containers are made in its first change, by its origin, or a site has a key of its
// own; there is no operation that makes a counter, and whoever adds one keeps to that.
// ([Source.Facts] reads concurrent lists of one key as one all the same.)
//
// Setting a key to the value that it has writes nothing: no author, no time, and no
// conflict with what another site writes at the same time. Who confirms a value writes
// a fact instead.
//
// # Record, version 1
//
//	kind      1 byte    1 = Automerge change; other kinds are stored and forwarded
//	time      8 bytes   hybrid time, big endian
//	doc       uvarint length, bytes
//	body      the rest: the change
//
// # Chain, version 1
//
// All records of one author (site, incarnation) in one stream form a chain:
//
//	h(0) = SHA-256("tiermesh chain v1" 0x00 stream author)
//	h(n) = SHA-256(h(n-1) SHA-256(record n))
//
// where stream is the length-prefixed site code and the class byte, and author
// the length-prefixed site code and the incarnation, 4 bytes big endian. The
// hash of each record, not the record itself, is chained, so that a pruned
// prefix can still be verified.
//
// # Digest, version 1
//
//	digest(stream) = SHA-256("tiermesh stream v1" 0x00 stream {author seq h}…)
//	digest(link)   = SHA-256("tiermesh link v1" 0x00 {stream digest(stream)}…)
//
// with authors and streams in ascending byte order of their encoding, and
// streams without any chain left out.
package crdt
