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
package event
