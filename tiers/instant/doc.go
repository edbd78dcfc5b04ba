// Package instant reads times as people and other systems write them: one reader for
// the columns of files, the flags of commands and the parameters of the API.
//
// Layer 0: it imports the standard library alone; all functions are pure, and a
// [Parser] is safe for concurrent use.
//
// # What is understood without a format
//
//	2026-11-01T01:30:00Z  2026-11-01T01:30:00.5+08:00   RFC 3339; also a space for the T, a comma
//	                                                    before the fraction, an offset +0800 or +08
//	2026-11-01T01:30:00  2026-11-01 01:30  2026-11-01   without an offset: in the zone; a date alone
//	                                                    is the beginning of its day there
//	2026/11/1 1:30  2026.11.01  2026-11-01 1:30 PM      the year first
//	2026年11月1日  2026年11月1日 1时30分  上午1:30       as Chinese writes it
//	20261101  20261101T013000Z  20261101013000          the basic forms of ISO 8601
//	1793467800000                                       milliseconds since 1970
//
// 24:00:00 is the end of its day (ISO 8601), and second 60 the one after 59, at the
// end of a month of UTC only, where leap seconds are (RFC 3339, 5.7). A day that its
// month does not have is refused.
//
// # What is refused, and why
//
// A date with day or month first (02/03/2023, 1/1/20) may be either way round: it
// needs a format, and the error names those that fit. An hour that a zone has twice,
// at the end of summer time, and one that it skips, are refused as such unless an
// offset stands beside them. A number is read as milliseconds only: one that would be
// before March 1973 or after 2200 is in another unit, or no number of that kind, and
// the error says which it probably is. Nothing is guessed.
//
// # Formats
//
// A format is written as strptime takes it (POSIX):
//
//	%Y year  %y year of two digits (69 to 99: 19..)  %m month  %b %B month's English name
//	%d %e day  %H hour  %I hour of twelve with %p AM or PM  %M minute  %S second  %f fraction
//	%z offset or Z  %a %A day of the week (not checked)  %F = %Y-%m-%d  %T = %H:%M:%S
//	%R = %H:%M  %D = %m/%d/%y  %% a percent sign
//
// Leading zeros may be missing; white space stands for any white space. Besides, a
// format may be unix, unix_ms or unix_us: seconds, milliseconds or microseconds since
// 1970, with a fraction if need be.
package instant
