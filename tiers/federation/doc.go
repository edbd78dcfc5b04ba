// Package federation is the session of one link: it finds the exact difference
// between two sites in one round trip, decides what to send next, verifies what
// arrives, and proves when both ends are equal.
//
// Layer 2: it imports tiers, crdt and transport/wire. [Session] is a pure state
// machine: it performs no I/O, reads no clock and starts no goroutine. Its
// driver (package node) feeds it messages, local progress and ticks, and
// carries out what [Session.Ready] returns. A Session belongs to one goroutine.
//
// # Protocol, version 1
//
//	both    Hello    versions, link digest, digest of each shared stream
//	both    Vectors  of the streams whose digests differ, unless none does
//	both    Batch    what the other end lacks, in lane order, each ending in a
//	                 signed checkpoint; also every later local record
//	both    Ack      after a batch is durable at the receiver
//	both    Proof    the link digest whenever nothing is owed or under way
//	either  Decline  streams that it takes no part in, by its topology
//	either  Resend   asks for a chain from a record on, when it forks
//	either  Bye      why it closes, when to come back, where to go instead
//
// No cursor is kept anywhere: after a cut both ends compare digests and vectors
// again, and what was acknowledged is not sent twice.
//
// # Forks
//
// Equal number and unequal hash mean that the author's site wrote two histories:
// a disk was cloned. Both ends leave the chain out and go on. The author's site
// gives way while it still writes the chain, since what its peer holds has spread
// already; otherwise the lower end does. It asks for the peer's records until the
// driver has found where the two part, on the evidence of a signed checkpoint, and
// sets its own aside.
package federation
