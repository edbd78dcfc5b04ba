// Package oracle judges a federation by its sites' stores and by what was seen
// from outside, never by the sites' own counters. Each oracle is a function of
// what it reads, and each can fail: a test plants its defect.
//
// Layer 5. Reads only; safe for concurrent use.
package oracle
