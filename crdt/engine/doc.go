// Package engine is the only caller of the Automerge library: it makes changes
// and reads documents through a C shim of its own, one crossing a job, with
// every result freed at once.
//
// Layer 1: it imports crdt, crdt/change and (for the library that it carries)
// automerge-go. [Engine] holds no state and is safe for concurrent use.
//
// The library aborts the process on some malformed changes, so nothing reaches
// it that package change has not checked in full, and what it says is verified:
// the heads after a load must be those that the changes' hashes and
// dependencies imply.
package engine
