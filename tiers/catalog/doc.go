// Package catalog holds the catalogs that flow down from whoever publishes them
// (编目): their schemas, rows and files, their versions, the mandates of organs, the
// grants by which sites share digital resources, and which site runs which
// application.
//
// Layer 2 (a domain package): it imports tiers and crdt; all functions are pure
// and safe for concurrent use. Entries are maps of fields, edited concurrently;
// their conflicts are visible in the view. Versions, grants and replications are
// facts: an immutable head and steps whose effect is a fold.
//
// # Files
//
// CSV (RFC 4180) has a header with the names of fields, in any order, code among
// them; a list is words with spaces between them, a nested value is JSON. JSON is an
// array of objects, or objects one after the other. A byte order mark is let be.
package catalog
