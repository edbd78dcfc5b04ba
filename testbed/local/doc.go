// Package local runs many real sites in one process: each with its own
// directory, certificates, Raft log, store and QUIC port on loopback, and a
// [fault.Gate] under its socket so that the network between them can be cut.
//
// Layer 5. A [Cluster] is safe for concurrent use, except that one site's
// Crash, Start and Close must not overlap.
package local
