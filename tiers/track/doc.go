// Package track holds boards (板块), tracks (跑道) and sub-tracks (子跑道): the
// business lines under the boards. The city publishes them; a lower site adopts
// one (承接) by copying it into its own catalog stream, with a receipt, and adds
// local ones (特色跑道) after approval of a [Content]: a change proposal (报请批准).
//
// Layer 2 (a domain package): it imports tiers and crdt; all functions are pure
// and safe for concurrent use. All documents stand in catalog streams. A board or
// track is a map of fields; concurrent values of one field stay visible until
// somebody writes it again. A proposal and the receipt of an adoption are facts:
// an immutable head and a list of immutable entries, so their views are functions
// of the set of records.
//
//	proposal  {"proposal": JSON of [Draft], "actions": [JSON of [Action], …]}
//	adoption  {"adoption": JSON of [Taken], "actions": [JSON of [Taken], …]}
package track
