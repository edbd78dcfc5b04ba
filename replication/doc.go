// Package replication makes a site's nodes one: a Raft group whose log orders
// every write, over the store as its state machine.
//
// Layer 2: it imports tiers, crdt and replication/store, and is the only
// package that touches hashicorp/raft and raft-boltdb.
//
// # Concurrency
//
// All methods of [Group] are safe for concurrent use. Writes block until they
// are durable on a majority of the nodes and applied here. Concurrent writes
// share log appends and fsyncs.
//
// # Durability
//
// The Raft log in raft.db is the only write-ahead log. The store holds a state
// as of some index and is flushed before Raft forgets entries up to it, so a
// crash at any point replays to exactly the acknowledged state.
//
// # Commands, version 1
//
// A log entry is one [command] in CBOR with integer keys (RFC 8949, core
// deterministic encoding). Apply is deterministic: it reads no clock, no
// randomness and no map order.
package replication
