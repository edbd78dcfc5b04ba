// Package api serves a node to its operators and their programs: JSON over
// HTTP, on a Unix socket or a loopback address. [Client] is the other end.
//
// Layer 3: it imports tiers, the domain packages and crdt; what it needs of a
// node is the interface [Backend], which package node implements.
//
// # Concurrency
//
// Server and Client are safe for concurrent use.
//
// # Errors
//
// An error is {"error": {"code": …, "message": …}} with the codes of [Code];
// HTTP statuses follow from them in one table. Whatever is refused had no
// effect, except under "unknown", where a retry with the same key is safe.
package api
