// Package city plays the whole of Chongqing in one process: every site with its
// own Raft log, store and QUIC port. Ten districts are cut off, heal, and then the
// reorganisation of 2025-11-06 comes while some of its townships are isolated. Its
// figures say whether that fits a small machine, its oracles whether anything was
// lost.
//
// Layer 5. One run at a time; [Run] returns when all of it has ended.
package city
