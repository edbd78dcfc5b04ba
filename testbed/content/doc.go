// Package content is what the testbed's federations have in them: the city's
// catalog, and reports made from real service requests.
//
// Layer 5. Pure.
package content
