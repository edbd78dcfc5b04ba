package node

import (
	"time"

	"github.com/tiermesh/tiermesh/api"
)

// Backend is what the node's API serves.
func (n *Node) Backend() api.Backend { return backend{n} }

// Meter measures rates.
type Meter struct{ m rateMeter }

// Tick shows the meter what a link sent and how many records wait.
func (m *Meter) Tick(now time.Time, sent, wait uint64) Rates { return m.m.tick(now, sent, 0, wait, 0) }
