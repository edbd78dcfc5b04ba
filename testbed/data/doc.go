// Package data holds the real data that the testbed runs on, embedded, and the
// reader of service requests. README.md in its folder gives sources and terms.
//
// Layer 5. A [RequestReader] belongs to one goroutine; everything else is safe
// for concurrent use.
package data
