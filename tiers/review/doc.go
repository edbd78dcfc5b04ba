// Package review holds the rules of an after-action review: which of a document's
// changes a site had at a time, and when each site learnt of what was done.
//
// Layer 2 (a domain package): it imports tiers and crdt; all functions are pure and
// safe for concurrent use.
//
// # What can be told of whom
//
// Of itself a site can tell exactly: what it wrote has a time, and it notes when what
// others wrote came in. Of another site it can tell what follows from the records:
// who wrote a change that builds on another one had that by then. It may have had it
// long before; only that site itself knows, so what several sites say is merged.
package review
