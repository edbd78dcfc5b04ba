// Package corpus takes Automerge changes apart and damages them, with correct
// checksums: what a hostile or broken peer could send.
//
// Layer 5. Its functions have no state; a [rand.Rand] belongs to its caller.
// The format is Automerge's binary change, https://automerge.org/automerge-binary-format-spec/.
package corpus
