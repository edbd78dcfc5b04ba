// Package track holds tracks (跑道): the business lines under the boards. The
// city publishes them; a district adopts one by copying it into its own catalog
// stream, where it and the city may both edit it from then on.
//
// Layer 2 (a domain package): it imports tiers and crdt; all functions are pure
// and safe for concurrent use. A track is a map of fields; concurrent values of
// one field stay visible until somebody writes it again.
package track
