// Package sim is the testbed's world in virtual time: real nodes in one process
// inside a [testing/synctest] bubble, so that hours pass in seconds. It implements
// [run.World]; a seed and a script replay the faults, while the scheduling of
// goroutines stays free.
//
// Layer 5. What is simulated, and how far:
//
//   - Time: that of the bubble, from 2026-01-01 on. Each site's clock is moved by
//     itself. Work of the processor and of the disk takes no time.
//   - Network: datagrams between addresses that nothing else has. A line from site
//     to site delays, loses, cuts, and sends no faster than its rate, of which a
//     bounded queue waits. Nodes of one site reach each other whatever happens to
//     the site's lines.
//   - Disk: files in a real directory, since Raft's log, snapshots and repairs use
//     the operating system. The store's own files go through a layer that remembers
//     what was not flushed, and at a crash takes it away again: blocks of a file,
//     names in a directory. Renames and removals of whole directories count as
//     durable, and so does all that does not go through the layer; Raft's log
//     flushes each of its transactions. Faults of the disk are those of the store's
//     files.
//   - A crash: from one instant on, no datagram goes in or out, nothing reaches the
//     store's files any more, and no call that is under way is answered.
//   - A pause: no datagram in or out, and no answer. The node's goroutines go on, as
//     goroutines cannot be stopped, so its clock does not jump when it goes on.
package sim
