// Package byzantine is a site that keeps to no rule: it has a genuine certificate
// and a genuine key, and says and sends whatever a test wants. Links are those of
// package transport, with the real handshake; what travels on them is forged here
// message by message, or byte by byte.
//
// Layer 5, beside the other levels of the testbed. A [Peer] is safe for concurrent
// use; a [Conn] too, except that one goroutine at a time may read from it.
package byzantine
