//go:build !cgo

package engine

// The engine is a C library, so nothing here can be built without cgo. The name is
// nowhere defined: that it is undefined is the compiler's only complaint, and the
// message.
const _ = tiermesh_needs_cgo__install_gcc_and_set_CGO_ENABLED_1

// direct stands in for what the files that need C define.
type direct struct{ runner }
