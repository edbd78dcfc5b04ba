// Package event holds the rules of events: what a report must be, which stream
// it belongs to, and how its state follows from what was done.
//
// Layer 2 (a domain package): it imports tiers and crdt; all functions are pure
// and safe for concurrent use.
//
// # Document, version 1
//
// An event is a set of facts. The first change creates all of it:
//
//	report       string: the immutable report, JSON with fixed field order
//	actions      list of strings: what was done, JSON, append only
//	corrections  map of strings: corrected fields of the report
//
// State is a pure fold of the actions in hybrid-time order; it is never stored
// as truth.
//
// # Duplicates
//
// Two events that are one are merged: an action of kind merge stands in both
// documents, with one time, and each names the other with its time of report. Of the
// two the one that was reported earlier, then the one with the lesser name, is the
// original; nobody chooses, so merges that were made apart never go round in a
// circle. An unmerge with a later time ends the pair. [View.Knots] says what must be
// merged besides, until every duplicate names the earliest of all that are one. The
// merge carries the duplicate's reporters, since a site may hold the original alone.
//
// # Quarantine document, version 1
//
//	held     string: what was received and why it is no event, JSON
//	actions  list of strings: release or discard, JSON; the first by time decides
//
// It stands in the routine stream of the site that received it.
//
// # Blob document, version 1
//
//	data  bytes: a part of an attachment, at most 512 KiB
//
// It stands in the bulk stream of the site where the file was attached, and its name
// is the SHA-256 of the bytes in hexadecimal: it is the same however often it is
// written, and nobody can put other bytes in its place.
package event
