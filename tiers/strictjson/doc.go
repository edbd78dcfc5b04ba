// Package strictjson finds what encoding/json alters without a word: bytes that are
// no UTF-8 and escapes of half a surrogate pair, for which it puts U+FFFD, and names
// that come twice in one object, of which it takes the last. Whoever checks a text
// first loses nothing of it.
//
// Layer 0: it imports the standard library alone; all functions are pure and safe for
// concurrent use.
package strictjson
