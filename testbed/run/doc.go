// Package run plays scenarios on a [World], which is one of the testbed's levels:
// testbed/sim, testbed/local or testbed/netns. It keeps a ledger of everything
// that was acknowledged, samples the sites, runs the oracles and gathers what a
// report shows.
//
// Layer 5. One [Run] a world.
package run
