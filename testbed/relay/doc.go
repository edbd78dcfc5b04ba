// Package relay is a line between two sites in user space: it forwards UDP
// datagrams with a delay each way, a rate with a bounded queue in front of it,
// cuts that drop everything, and counters. It needs no privilege and no
// traffic control in the kernel.
//
// Layer 5. [Relay] is safe for concurrent use.
//
// # The line
//
// A direction is a queue of Shape.QueueBytes, a transmitter of Shape.BytesPerS
// (a token bucket of a few datagrams) and a delay. A datagram that finds the
// queue full is dropped, as a router's would be. Order is kept.
//
// # Counters
//
// Bytes are UDP payload: no IP or UDP headers. A datagram counts when it
// enters a line that is not cut, also when the queue then drops it, since the
// sender spent it. Bytes of QUIC's long-header packets (RFC 9000 section 17.2:
// Initial and Handshake, which carry TLS) are counted apart.
package relay
