// Package reading holds the values of series: the body of a record that carries
// a batch of readings, the blocks that the store keeps of them, and rollups.
//
// Layer 1: it imports nothing of ours; all functions are pure and safe for
// concurrent use.
//
// # Batch, version 1
//
// The body of a record of kind readings. Integers are uvarints unless said
// otherwise; a zigzag is a signed integer as encoding/binary writes it.
//
//	count of series, then each, in ascending order of names:
//	  length of the name, name
//	  count of points
//	  time of the first, milliseconds since the Unix epoch
//	  of each further one: its step less the step before it, zigzag (the step
//	  before the second point is 0)
//	  of each point: the bits of its value, XOR those of the value before it,
//	  bytes reversed
//
// Times rise strictly in a series. A regular series takes 1 byte a time, a value
// that repeats 1 byte, a value of few digits 2 to 4.
//
// # Batch, version 2
//
// A batch of gaps: readings without a value. It begins with a 0, which no batch of
// version 1 does; then
//
//	count of series, then each, in ascending order of names:
//	  length of the name, name
//	  count of gaps, and their times as in version 1
//	  of each gap: its text and its reason, each as the place, from 0, of that text
//	  among those of the series so far; where that is how many there are, a new one
//	  follows: its length, and its bytes
//
// Points and gaps are in records of their own, so that a site which only knows
// version 1 takes in every value.
//
// # Block
//
// What a store keeps of one series and one hour: segments in any order, each of
// one record:
//
//	hybrid time of the record, 8 bytes big endian
//	count of points, and the points as in a batch, with times since the hour's
//	start; or 0, and gaps as in a batch of version 2, with times likewise
//
// Of several readings for one time, that of the record with the latest hybrid time
// counts; among equal ones a point before a gap, then that with the greatest bits,
// or the greatest texts. So a block says the same in whatever order its segments
// came, or however often.
//
// # Rollups
//
// count, then for each: start since the hour's start, count, time of the last point
// since the start, and sum, min, max and last as 8 bytes each, big endian. Then, if
// any has gaps, the count of gaps of each.
//
// A rollup is made of points in the order of time: a minute of its points, an hour
// of its minutes, a day of its hours. Sums of floating-point numbers depend on the
// order of adding; that order is fixed, so equal points give equal bytes.
package reading
