// Package responder holds the rules of who may send a unit, and when: the
// registry, fencing epochs, requests between sites, and pools that a site lends
// to one below it.
//
// Layer 2 (a domain package): it imports tiers and crdt; all functions are pure
// and safe for concurrent use. The time is an argument.
//
// # Who may send a unit
//
// A unit has one home site, whose Raft group grants it to one holder at a time,
// each time in a higher [Epoch]. A terminal obeys no order of an epoch below the
// highest that it obeyed ([Terminal]). Everything else is built on that:
//
//   - a request is a document in the command class; the home site claims the
//     unit for it, and answers with the epoch, or refuses with a reason;
//   - a pool is units that their home claimed for a site below it. Under that
//     claim the borrower's own Raft grants them, in epochs of its own which stand
//     behind the home's. It does so until an hour before the lease's end by its
//     clock; the home takes back from an hour after it by its own. As long as no
//     clock is wrong by more than [ClockError], at no moment may both. When one
//     is, the home's next epoch is higher, and terminals refuse the borrower's.
//
// # Documents, version 1
//
// A unit ("responder:<code>", the home's reading stream) is a map of string
// fields and a list "log" of what was taken by force. Its place
// ("position:<code>", the same stream) is a map of string fields. A
// request ("unitrequest:<uuid>", the asking site's command stream, or the home's
// when the asking site stands above it) is an immutable "request" and a list
// "entries". A pool ("pool:<uuid>", the borrower's command stream) is an
// immutable "pool" and a list "entries". State follows from which entries there
// are, never from their order.
package responder
