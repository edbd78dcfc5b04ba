// Package outage draws outages from what is known of real ones, so that a
// scenario can cut sites off as a bad week or a flood would.
//
// Layer 5. Everything is pure and deterministic: the same profile, sites, seed and
// length give the same outages.
//
// # Profiles
//
// "power" is a national record of power and network outages: they last 2.5 h at
// the median, 10.8 h at the 90th percentile and 114 h at the 99th. Each site fails
// on its own. How often a site fails is not in that record: it is up for 30 days in
// the mean, exponentially, which is this package's own assumption.
//
// "flood" is Porto Alegre in May 2024: over 72 days, 19 % of the sites were down at
// the peak; an outage lasted 36 h at the median, 96 h at the 75th percentile, 408 h
// at the 90th, and 72 days at most. When outages began is not in that record: they
// begin ever more often for six days, and ever less for 18 more, which is this
// package's own assumption. So is the shortest outage of both, which no record
// counts.
//
// Between the published points the logarithm of the duration is linear in the
// share of outages that are shorter. That of power goes on beyond its last point
// with the same slope, which ends at 148 h.
package outage
