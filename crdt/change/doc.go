// Package change decodes and checks Automerge changes in pure Go, before anything
// reaches the Automerge library, which aborts the process on some of the changes
// that this package refuses. It also reads the document that changes make ([Tree])
// and encodes the change that creates one ([First]), as the library would.
//
// Layer 1 (part of crdt): it imports crdt only. All functions are pure and safe
// for concurrent use.
//
// # Format
//
// A change is one chunk of the Automerge binary format (automerge.org,
// "Binary Document Format"), version 0.5:
//
//	magic 85 6f 4a 83, checksum 4, type 1, length uleb, then
//	dependencies: count, 32-byte hashes ascending
//	actor, seq, start op, time (sleb, here milliseconds), message
//	other actors: count, ids ascending
//	columns: count, {specification, length} ascending; their bytes; nothing more
//
// [Decode] accepts exactly one uncompressed change with nothing around it,
// every column of which decodes to the same number of rows, and whose rows hold
// together. Stricter than the format: actor ids are 16 bytes, marks, tables and
// unknown columns, actions and value types are refused, since this project
// never writes them.
package change
