package bench

import "github.com/tiermesh/tiermesh/tiers/event"

// Document is event i of a seed.
func Document(seed uint64, i int) event.Report { return documents{seed}.report(i) }

// Children returns the live children of this process.
func Children() []int { return children() }
