// Package legible shows text that others wrote without letting it act on the screen.
//
// A title, a name or a reason comes from whoever wrote it. Put on a terminal as it
// is, it can clear the screen, ring the bell, reverse the order of what stands beside
// it, hide letters, or begin a new line that looks like the program's own. [Text] makes
// one line of a value, [Writer] guards a whole output as the second line of defence.
//
// Escaped are control characters (C0, DEL, C1), the format characters of Unicode
// (category Cf: bidirectional marks, overrides and isolates, zero-width spaces and
// joiners, tags), line and paragraph separators, characters that show as nothing by
// definition (fillers), and bytes that are no UTF-8. A character up to U+001F shows as
// \x1b (line ends and tabs as \n, \r and \t), a byte that is no UTF-8 as \xff, all
// others as JSON writes them: \u202e, outside the basic plane as two. So JSON that goes
// through a Writer stays the same JSON, since JSON itself holds no character below
// U+0020 but white space.
//
// Kept are U+200D behind a pictograph, which joins emoji to one picture, and one
// variation selector behind a visible character, which picks a form of it. A backslash
// is not doubled: a title that spells an escape out looks like an escaped one, which
// harms nobody.
//
// Layer 0: the standard library only. A Writer may be used from many goroutines.
package legible
