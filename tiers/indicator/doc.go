// Package indicator holds the rules of indicators: what an indicator's definition
// must be, how a KPI's value is graded, and when a vital sign crosses a threshold.
//
// Layer 2 (a domain package): it imports tiers, crdt and crdt/reading; all functions
// are pure and safe for concurrent use.
//
// # Document, version 1
//
// A definition ("indicator:<code>") is a map of string fields in a catalog stream:
//
//	code, name, kind, unit         kind is kpi or vital
//	grades                         of a KPI: JSON, the best grade first
//	levels                         of a vital sign: JSON, the least severe level first
//	reading_days, minute_days      for how long readings and minute rollups are kept
//
// It flows down. When several sites define one code, the highest tier's holds: a
// lower site cannot loosen a threshold.
//
// # Series
//
// A series is CODE or CODE/INSTANCE, at a site: its readings stand in that site's
// stream of class reading. Hours and days are rolled up at the site's own clock
// offset, [Zone].
//
// # Crossings
//
// Each level is watched by itself, over the points of a series in the order of time:
//
//	below ── value reaches it ──► pending ── it has been there for the level's duration ──► crossed
//	  ▲                              │ value is not at it, or readings were missing           │
//	  ├──────────────────────────────┘                                                        │
//	  └───────────────────────── value is at clear, or on its good side ◄────────────────────┘
//
// One crossing is one alert, which is an event. Its identifier follows from site,
// series, level and the time at which the crossing began, so that whoever finds it
// again, after a crash or in a replay, makes no second one. When several levels are
// crossed at the same reading, the most severe one alone raises an alert.
package indicator
