// Package layers checks the shape of the source tree: the layer table, the sole
// owners of third-party modules, sizes, and the habits that a compiler does not
// know. Its test runs over the whole project; the linter's depguard rules are
// written from the same table.
//
// Layer 5. Functions are pure over an [io/fs.FS].
package layers
