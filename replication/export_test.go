package replication

import "github.com/hashicorp/raft"

// Snapshot flushes the store and lets Raft forget what it reflects.
func (g *Group) Snapshot() error { return g.raft.Snapshot().Error() }

// OpenSnapshots opens a node's snapshots beside it.
func OpenSnapshots(dir string) (raft.SnapshotStore, error) { return newSnapshots(dir) }

// Node returns the node's number.
func (g *Group) Node() uint32 { return g.cfg.Node }
