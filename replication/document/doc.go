// Package document keeps documents in memory as their changes left them, so that an
// edit or a view costs what is new and not what a document's history holds.
//
// Layer 2 (part of replication): it imports tiers, crdt and the store. Changes are
// the truth: what is kept is made of them, is checked against the heads that the
// store states each time it is used, is bounded in bytes, is dropped at will, least
// recently used first, and is made again. It goes when another database takes the
// place of the store's, or when records of the document were set aside. Nothing of
// it is written.
//
// A document that the Go code does not read (see [change.ErrUnsupported]), or that is
// past the limits of the engine, is not kept: the caller reads its whole history.
//
// # Concurrency
//
// All methods are safe for concurrent use. Each document has a lock of its own, which
// is held while its new changes are read from the store.
package document
