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
//	both    Hello    versions, link digest, digest of each shared stream; of few
//	                 chains, all vectors
//	both    Vectors  of the streams whose digests differ, unless none does or the
//	                 hello held them
//	both    Batch    what the other end lacks, in lane order, each ending in a
//	                 signed checkpoint; also every later local record
//	both    Ack      after a batch is durable at the receiver
//	both    Proof    the link digest whenever nothing is owed or under way
//	either  Prove    at any time after Hello: do you hold exactly this?
//	either  Proved   a signature, or what differs
//	either  Decline  streams that it takes no part in, by its topology
//	either  Resend   asks for a chain from a record on, when it forks
//	either  Bye      why it closes, when to come back, where to go instead
//
// No cursor is kept anywhere: after a cut both ends compare digests and vectors
// again, and what was acknowledged is not sent twice.
//
// # One way
//
// A former parent is not in the audience of a site that was moved, and may have
// written to its streams what it could not send before. Those it exchanges with who
// is in the audience one way: both ends compare and count its own chains alone, and
// nothing goes back. See [Exchanged].
//
// # Forks
//
// Equal number and unequal hash mean that the author's site wrote two histories:
// a disk was cloned. Both ends leave the chain out and go on. The author's site
// gives way while it still writes the chain, since what its peer holds has spread
// already; otherwise the lower end does. It asks for the peer's records until the
// driver has found where the two part, on the evidence of a signed checkpoint, and
// sets its own aside.
//
// # Bundle, version 1
//
// A file: the line "tiermesh bundle 1", then frames of package wire:
//
//	Signed   its body is a Manifest: who made it for whom and when, under which
//	         topology, and ranges of chains in lane order, each from a chain hash
//	         to a checkpoint; signed by the exporting site's key over
//	         "tiermesh bundle 1" 0x0a 0x00 body
//	Batch    as on a link, in the order of the ranges; nothing follows the last
//
// A request is the line "tiermesh request 1" and one Signed frame whose body is
// Holdings: a site's vectors of what it shares with the site that it asks.
//
// # Certificate, version 1
//
// A JSON object (see [Certificate.MarshalJSON]). Both signatures are over
//
//	"tiermesh certificate v1" 0x00 federation asker peer (length-prefixed)
//	topology version, asked ms, answered ms, number of streams (8 bytes each)
//	nonce (16 bytes) {length-prefixed site, class, digest}…
//
// with streams in lane order and digests as package crdt defines them.
//
// [Import], [ReadBundle], [BundleWriter] and [ReadRequest] read and write what
// their caller opened, and nothing else.
package federation
