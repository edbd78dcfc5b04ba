// Package command holds the rules of orders, of the switch to emergency mode, and of
// silence: what an order is and how far it is at each target, in which mode a site
// is, and which sites have not been heard of for too long.
//
// Layer 2 (a domain package): it imports tiers and crdt; all functions are pure and
// safe for concurrent use.
//
// # Documents, version 1
//
// Each has a "head" (JSON that never changes) and a list of "steps" (JSON, append
// only), but for a limit, which is a map of string fields.
//
//	order:<uuid>                 the issuer's command stream; head: the order with its
//	                             targets; steps: cancel, remind, and how far each went out
//	receipt:<uuid>.<target>      the target's command stream, one for each target; head:
//	                             the brief; steps: stored, delivered, ack, execute,
//	                             refuse, report, cancel, remind
//	mode:<area>                  the switching site's control stream; steps: switches
//	silence:<uuid>               the urgent stream of who noticed; head: the alert;
//	                             steps: raised, cleared
//	silencelimit:<site>          the control stream of who set it; also tier.<tier>
//
// # Orders
//
//	issued ── the target commits it ──► delivered ── ack ──► acknowledged ── execute ──► executed
//	issued, delivered, acknowledged ── refuse ──► refused;   ── cancel, by the issuer ──► cancelled
//
// The state follows from the set of steps alone: an execution counts before a refusal,
// that before a cancel. A cancel that did not reach the target in time is shown as
// such.
//
// # Mode
//
// A site is in emergency as long as it or a site above it holds one for an area that
// it is in; the most severe level counts. Only who declared an emergency lifts it.
package command
