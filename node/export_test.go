package node

import (
	"time"

	"github.com/tiermesh/tiermesh/api"
)

// Backend is what the node's API serves.
func (n *Node) Backend() api.Backend { return backend{n} }

// Allowance is how many questions a peer may ask.
type Allowance struct{ a allowance }

// Take asks for one.
func (a *Allowance) Take(now time.Time) bool { return a.a.take(now) }

// Meter measures rates.
type Meter struct{ m rateMeter }

// Tick shows the meter what a link sent and how many records wait.
func (m *Meter) Tick(now time.Time, sent, wait uint64) Rates { return m.m.tick(now, sent, 0, wait, 0) }
