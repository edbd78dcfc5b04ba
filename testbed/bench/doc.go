// Package bench measures the mesh. Writes are measured beside a baseline in the
// same run, since machines are shared and noisy: a ratio says more than a rate.
// Links are measured between processes, over a line that counts its bytes.
//
// Layer 5. The baseline of writes is bare hashicorp/raft on raft-boltdb with
// the same bytes and a state machine that does nothing.
//
// # Link benchmarks
//
// [Catchup], [Diff], [Live], [Fanin] and [Urgent] start each site as a process
// that runs [Work] and ends with its input. In front of each parent stands a
// [relay.Relay]. Both ends say when things came about by the machine's clock,
// which processes share; they find out by looking each millisecond, and
// observers when they are woken. Looking costs about 1 % of a core.
package bench
