// Package tiers is the vocabulary of the mesh: sites and tiers, the topology
// that relates them, record classes, streams, and the audience that follows
// from both.
//
// Layer 0: it imports the standard library only, and every other package may
// import it. Nothing in it performs I/O or reads a clock. All types are values
// or immutable after construction, so they may be shared between goroutines.
//
// # Streams and audiences
//
// A document lives for life in one [StreamID], the pair of a site and a
// [Class]. Who stores a stream is a function of the topology alone
// ([Topology.InAudience]); who may write to it likewise ([Topology.MayWrite]).
// No routing table exists beside these two functions.
package tiers
