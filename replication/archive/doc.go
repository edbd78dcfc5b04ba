// Package archive packs a directory of immutable files into one verified
// stream and back: what a follower that is too far behind is sent, and what a
// backup is.
//
// Layer 1 (part of replication): it imports the standard library only. All
// functions are safe for concurrent use on different directories.
//
// # Format, version 1
//
// A USTAR stream: "META", bytes of the caller's; the directory's files in name
// order, without subdirectories; and last "MANIFEST", a JSON list of every
// file's name, size and SHA-256. Owner, mode and time are fixed, so that equal
// directories give equal bytes. A stream without its manifest is not complete.
package archive
