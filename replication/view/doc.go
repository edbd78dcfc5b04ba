// Package view materialises documents: it reads a dirty document's changes
// through the engine, folds them with its kind's rules, and stores
// the resulting view and index entries.
//
// Layer 2 (part of replication): it imports tiers, crdt and the store. It runs
// beside the replication path, never in it: whatever a document does to the
// engine or to a fold, records keep flowing. A document that cannot be
// materialised gets a view that says so, and is listed under the index
// [IndexQuarantine].
//
// # Concurrency
//
// [Materialiser.Run] works with a bounded pool; all other methods are safe for
// concurrent use. A document is folded from one consistent history; when it
// moves on meanwhile it stays dirty and is folded again.
package view
