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
// # Concurrency
//
// All methods of [Endpoint] and [Link] are safe for concurrent use; messages of
// one lane arrive in the order in which Send was called, and lane 0's first one
// before those of all others. Send blocks on its own lane's flow control only. A lane whose messages are not taken up is not read
// any further, and its sender is held back by QUIC's flow control.
package transport
