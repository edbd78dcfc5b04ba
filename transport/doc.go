// Package transport carries frames between sites over QUIC (RFC 9000) with
// mutual TLS 1.3. It is the only package that touches quic-go.
//
// Layer 2: it imports tiers, transport/wire and transport/identity.
//
// # Format
//
// ALPN "tiermesh/1". Each end opens one unidirectional stream per lane, at its
// first message there; a stream begins with one byte, the lane, and carries
// frames (package wire) from then on. The end of a link is a CONNECTION_CLOSE
// with a [wire.Code] and a reason.
//
// Between the nodes of one site: ALPN "tiermesh-node/1", connections of their
// own. Each two-way stream begins with one byte, its [Kind].
//
// A knock is a datagram beside QUIC, on the same socket: 01 74 4d 4b (whose first two
// bits are 0, as in no packet of QUIC), a kind (1 question, 2 answer), three bytes of
// 0, a nonce of 8, and zeros up to the question's size. Each end answers what comes
// with 16 bytes and the same nonce, some hundred times a second at most. Knocks find
// out which sizes of packets a path carries when a connection does not get on; builds
// without them stay silent, which proves nothing.
//
// # Sizes of packets
//
// Packets start with 1,200 bytes of UDP payload, QUIC's minimum, and grow by quic-go's
// discovery, which probes only while something is sent anyhow. quic-go (0.65) does not
// notice when a path shrinks; [Link.Watch] does.
//
// # Closing
//
// What was written just before a close is lost, and a reason must fit into a packet.
// [Link.Farewell] waits until the peer has read its goodbye.
//
// # Concurrency
//
// All methods of [Endpoint] and [Link] are safe for concurrent use; messages of
// one lane arrive in the order in which Send was called, and lane 0's first one
// before those of all others. Send blocks on its own lane's flow control only. A
// lane whose messages are not taken up is not read any further, and its sender is held
// back by QUIC's flow control.
package transport
