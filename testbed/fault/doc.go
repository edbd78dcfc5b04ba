// Package fault holds the faults that the testbed plants. [Gate] cuts the
// network between real sites in one process: it sits under their QUIC sockets
// and drops datagrams, as a broken line would.
//
// Layer 5. Safe for concurrent use.
package fault
