// Package scenario is the testbed's language: what federation to build, what to
// load it with, how to break it, what to wait for and what to expect. The grammar
// is in testbed/DESIGN.md. It reads and checks; package run plays.
//
// Layer 5. Pure.
package scenario
