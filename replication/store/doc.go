// Package store is the site's state on Pebble: chains of records, the state
// of each document, views and their indexes. It is the only package that
// touches Pebble.
//
// Layer 1: it imports tiers and crdt's types and codec. It knows nothing of
// Raft but the index of the last entry it holds.
//
// # Concurrency
//
// One goroutine (the FSM) writes through [Store.Begin] and [Tx.Commit]; view
// workers write through [Store.PutViews]; everybody else reads. All methods of
// [Store] are safe for concurrent use, also while it is being closed: Close
// waits for readers, and whoever comes later gets [ErrClosed].
//
// # Durability
//
// Pebble runs without a write-ahead log of its own: the Raft log is it. Each
// commit carries the Raft index it reflects, so after a crash the store is
// exactly the state at [Store.AppliedIndex] and Raft replays the rest. What
// [Store.Flush] returned for is durable.
//
// Nothing is put in by IngestAndExcise: a snapshot that is open reads "not found" over
// the span afterwards, and views and scrubs read from snapshots. Ingest alone is safe.
//
// What is under d and i is also known from a filter in memory, which is made of
// their keys when the store is opened and answers "not there" without Pebble.
//
// # Keyspace, version 3
//
// A stream is its site code, a zero byte and the class byte; an author its site
// code, a zero byte and the incarnation; a chain a stream and an author.
// Integers in keys are big endian.
//
//	m name                      meta: format, federation, site, incarnation, applied, named, counting, recount, siteformat
//	c chain                     head: seq u64, hash, bytes u64
//	r chain seq                 record: chain hash after it, encoding (package crdt)
//	k chain seq                 checkpoint: hash, time, chain bytes, signature
//	d stream doc                document state (see docState)
//	x stream doc 0 order        change of a document that has several: hash, place in a chain, last op
//	q stream doc 0 author seq   refused record: the reason
//	y index                     the documents that a commit touched, until all have their view
//	v stream doc                view: version it was made from, index entries, counts, JSON
//	n name 0 value 0 stream doc index entry
//	b doc 0 stream              index of names: the document's identifier from its end to its beginning
//	i key                       idempotency: the outcome of a command
//	g cube 0 site 0 cell        counter: how many views of the site's streams count there
//	w chain seq                 arrival of a run of records: its last seq, from when, to when
//	e resource                  claim: epoch u64, holder
//	f chain no u32 seq          record set aside in a fork; seq 0: how many stayed and went, proof
//	s site 0 series 0 p hour    readings of an hour (package crdt/reading): segments, merged by Pebble
//	s site 0 series 0 m hour    minute rollups of an hour whose readings were dropped
//	s site 0 series 0 h hour    hour rollup of an hour whose minutes were dropped
//	s site 0 code 0 e           of an indicator: hours u32 before which readings and minutes are dropped, late u64, which numbers are values
package store
