// Package dispatch holds the rules of dispatching: the rule table that picks
// organ and time limit for an event, and the tasks that come of it.
//
// Layer 2 (a domain package): it imports tiers and crdt; all functions are pure
// and safe for concurrent use.
//
// # Documents, version 1
//
// A rule ("rule:<code>") is a map of string fields in a catalog stream. A task
// ("task:<uuid>") is a set of facts, as an event is: an immutable brief with
// all that the organ needs, and an append-only list of actions. A task's
// identifier follows from its event's, so that an event has one whoever
// dispatches it, and however often. An action's JSON is [Action]; a task is read by
// [FoldTask], which derives state, custodian, due time and conflicts from the
// actions and from which of them saw which.
//
// A calendar ("calendar:<code>") and a response plan ("plan:<code>") are maps of
// string fields in a catalog stream; lists in a calendar are parted by spaces, and a
// plan's steps are JSON.
package dispatch
