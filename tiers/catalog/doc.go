// Package catalog holds the catalog entries that flow down from the city: event
// types. Boards are tracks' (package track).
//
// Layer 2 (a domain package): it imports tiers and crdt; all functions are pure
// and safe for concurrent use. Entries are maps of fields, edited concurrently;
// their conflicts are visible in the view.
package catalog
