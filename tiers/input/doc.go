// Package input reads files of rows as people send them: CSV with any of the usual
// delimiters, a JSON array or objects one after the other, and JSON lines, in the
// usual encodings.
//
// Layer 2: it imports tiers/strictjson and golang.org/x/text; a [Reader] is for one
// goroutine and reads no more than it needs.
//
// # One row costs no other
//
// Each row comes out with the line where it begins and its bytes as they came: with
// its fields, or with what is wrong with it. Nothing is repaired and nothing is left
// out: the bytes of all rows are the bytes of the file, but for the header, empty
// lines, and what stands between elements of a JSON array.
//
// CSV that is well-formed (RFC 4180) is read as it stands, whatever its quoted fields
// go over, the header's too.
//
// After a row that cannot be read, reading goes on with the next line. A quoted field
// that does not end costs the line where it begins, and no other: it does not end if no
// quote does so within [Options.LinesMax], if what is read so has another number of
// columns than the header, or if it would go over rows and no row begins behind it.
// Such rows are lines that are some by [Options.Good], or that each have all
// columns. An element of a JSON array that is broken goes as far as the next line that
// begins with { and is indented no deeper; on a line with several, as far as the next
// },{.
//
// # Text
//
// The encoding is taken from a byte order mark, or from the zero bytes between the
// letters of UTF-16, and is otherwise UTF-8 unless another is named: nothing is
// guessed. A row that is not in the encoding is a bad row. No replacement character
// (U+FFFD) is ever made, neither for bytes nor for half of a surrogate pair in JSON.
// Where the header is not in the encoding, the whole file is refused.
package input
