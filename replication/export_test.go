package replication

// Snapshot flushes the store and lets Raft forget what it reflects.
func (g *Group) Snapshot() error { return g.raft.Snapshot().Error() }
