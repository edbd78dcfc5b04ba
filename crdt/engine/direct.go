package engine

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"context"
	"fmt"
	"unsafe"

	_ "github.com/automerge/automerge-go" // links the static Automerge library, which the shim calls
)

// direct calls the library in this process.
type direct struct{}

func (direct) run(_ context.Context, j job) ([]byte, error) {
	var out C.tm_out
	if j.Program == nil {
		C.tm_read(ptr(j.Loaded), C.size_t(len(j.Loaded)), &out)
	} else {
		C.tm_build(ptr(j.Loaded), C.size_t(len(j.Loaded)), ptr(j.Actor), C.int64_t(j.TimeMS), ptr(j.Program), C.size_t(len(j.Program)), &out)
	}
	if out.err[0] != 0 {
		return nil, fmt.Errorf("%w: %s", ErrEngine, C.GoString(&out.err[0]))
	}
	defer C.free(unsafe.Pointer(out.data))
	return C.GoBytes(unsafe.Pointer(out.data), C.int(out.len)), nil
}

func ptr(b []byte) *C.uint8_t { return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(b))) }
