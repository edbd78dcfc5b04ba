// Package node assembles one node of a site: the Raft group over its store,
// the materialiser, the links to other sites, the dispatcher and the API.
//
// Layer 4: it imports everything below and is imported by cmd and testbed.
//
// # Lifecycle
//
// [Open] acquires everything a node needs (directory, certificates, ports) and
// fails with one clear error; [Node.Run] runs its loops until the context ends
// or one of them fails; [Node.Close] ends them in the order api, links, engine
// workers, raft (which hands over through the endpoint), store, endpoint, and
// waits for each. Close is idempotent.
//
// # Concurrency
//
// All methods of [Node] are safe for concurrent use after Open.
package node
