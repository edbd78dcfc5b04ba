// Package demo plays the main job end to end on real input: a small federation
// takes in real service requests, is cut, goes on, heals, and proves that
// nothing was lost, sent twice or hidden.
//
// Layer 5. One [Run] at a time.
package demo
