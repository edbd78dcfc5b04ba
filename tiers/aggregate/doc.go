// Package aggregate holds the rules by which a site says how complete a number is
// that it shows of many sites: of how many it knows, and as of when.
//
// Layer 2 (a domain package): it imports tiers and crdt; all functions are pure and
// safe for concurrent use.
//
// # As of when a site is known
//
// A site knows what a neighbour holds as of the last time that the link between them
// lacked nothing. What is two hops away is known by what the site in between says: a
// document of kind contact, in its stream of class reading, for each site below it,
// written when that goes out of contact and when it is back, and never in between.
// So a district that rests says nothing, and that says that all its townships are in
// contact, as of the time that the district itself is known.
//
// # Document, version 1
//
//	peer     string: the site that the document is about
//	lost_ms  int: since when there is no contact, in Unix milliseconds; 0 while there is
package aggregate
