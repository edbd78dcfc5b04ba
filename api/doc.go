// Package api serves a node to its operators and their programs: JSON over
// HTTP, on a Unix socket or a loopback address. [Client] is the other end.
//
// Layer 3: it imports tiers, the domain packages and crdt; what it needs of a
// node is the interface [Backend], which package node implements.
//
// # Reads and writes at a site of several nodes
//
// Any node takes any request. A write is passed on to the node that leads; so
// is a read with ?read=leader or ?read=linearizable. A read may miss:
//
//   - stale (the default): what this node has not applied yet, for as long as
//     it is cut off from the others. It is answered with every link cut.
//   - leader: what another leader acknowledged while this one has not yet
//     noticed that it was replaced, at most half an election's time-out.
//   - linearizable: nothing that was acknowledged before the request.
//
// Lists and views are made after a write is acknowledged; what is not yet
// listed is shown when it is asked for by name.
//
// # Feeds
//
// What takes in reports all day keeps one connection: a WebSocket (RFC 6455) at
// /v1/events:feed, each message of which is a report as the body of POST /v1/events
// is, with a number that its answer has, too. [Client.Feed] is the other end.
//
// # Concurrency
//
// Server, Client and Feed are safe for concurrent use.
//
// # Errors
//
// An error is {"error": {"code": …, "message": …}} with the codes of [Code];
// HTTP statuses follow from them in one table. Whatever is refused had no
// effect, except under "unknown", where a retry with the same key is safe.
package api
