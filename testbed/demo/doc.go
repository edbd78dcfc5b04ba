// Package demo plays the main job end to end on real input: a small federation
// takes in real service requests, is cut, goes on by file, stand-in and under other
// parents, heals, and proves that nothing was lost, sent twice or hidden.
//
// What the run's directory holds besides the sites: run.json (how often it was
// used), the bundle that was carried, and certificates/ with one file a link and
// the topology that they are checked by.
//
// Layer 5. One [Run] at a time.
package demo
