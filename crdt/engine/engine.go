package engine

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"cmp"
	"fmt"
	"slices"
	"unsafe"

	_ "github.com/automerge/automerge-go" // links the static Automerge library, which the shim calls

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
)

// Engine makes and reads Automerge documents. It is safe for concurrent use.
type Engine struct{ limits change.Limits }

// New returns an engine with the default limits.
func New() *Engine { return &Engine{limits: change.DefaultLimits()} }

// Built is a new change.
type Built struct {
	Raw  []byte
	Info crdt.ChangeInfo
}

// Build makes one change by actor on top of base (raw changes in causal order;
// nil for a new document), with the given commit time. Equal input gives equal
// bytes. The change depends on the heads of base and, when that is not one of
// them, on its actor's previous change. The error wraps [ErrUnchanged],
// [ErrOps], [ErrEngine], [ErrHeads] or what [change.Decode] returns.
func (e *Engine) Build(base [][]byte, actor crdt.Actor, timeMS int64, ops []crdt.Op) (Built, error) {
	if len(ops) == 0 {
		return Built{}, fmt.Errorf("%w: none", ErrOps)
	}
	program, err := encodeOps(ops)
	if err != nil {
		return Built{}, err
	}
	infos, err := e.decode(base)
	if err != nil {
		return Built{}, err
	}
	loaded := slices.Concat(base...)
	var out C.tm_out
	C.tm_build(ptr(loaded), C.size_t(len(loaded)), ptr(actor[:]), C.int64_t(timeMS), ptr(program), C.size_t(len(program)), &out)
	raw, err := take(&out)
	if err != nil {
		return Built{}, err
	}
	if len(raw) == 0 {
		return Built{}, ErrUnchanged
	}
	c, err := change.Decode(raw, e.limits)
	if err != nil {
		return Built{}, fmt.Errorf("built change: %w", err)
	}
	if missing := without(heads(infos), c.Deps); len(missing) > 0 {
		return Built{}, fmt.Errorf("%w: the new change does not follow %v", ErrHeads, missing)
	}
	return Built{Raw: raw, Info: c.Info()}, nil
}

// Read applies changes, given in causal order, and walks the document. The
// result's changes stand in the order given. The error wraps [ErrEngine],
// [ErrHeads] or what [change.Decode] returns.
func (e *Engine) Read(changes [][]byte) (*crdt.Document, error) {
	infos, err := e.decode(changes)
	if err != nil {
		return nil, err
	}
	loaded := slices.Concat(changes...)
	var out C.tm_out
	C.tm_read(ptr(loaded), C.size_t(len(loaded)), &out)
	walked, err := take(&out)
	if err != nil {
		return nil, err
	}
	doc, err := decodeWalk(walked)
	if err != nil {
		return nil, err
	}
	if want := heads(infos); !sameHeads(doc.Heads, want) {
		return nil, fmt.Errorf("%w: %v, want %v", ErrHeads, doc.Heads, want)
	}
	doc.Changes = infos
	return doc, nil
}

func (e *Engine) decode(changes [][]byte) ([]crdt.ChangeInfo, error) {
	infos := make([]crdt.ChangeInfo, len(changes))
	for i, raw := range changes {
		c, err := change.Decode(raw, e.limits)
		if err != nil {
			return nil, fmt.Errorf("change %d: %w", i, err)
		}
		infos[i] = c.Info()
	}
	return infos, nil
}

// heads returns the changes on which no other one depends.
func heads(infos []crdt.ChangeInfo) []crdt.Hash {
	inner := map[crdt.Hash]struct{}{}
	for _, c := range infos {
		for _, d := range c.Deps {
			inner[d] = struct{}{}
		}
	}
	var out []crdt.Hash
	for _, c := range infos {
		if _, ok := inner[c.Hash]; !ok {
			out = append(out, c.Hash)
		}
	}
	return out
}

// without returns what of a is not in b.
func without(a, b []crdt.Hash) []crdt.Hash {
	return slices.DeleteFunc(a, func(h crdt.Hash) bool { return slices.Contains(b, h) })
}

func sameHeads(a, b []crdt.Hash) bool {
	order := func(x, y crdt.Hash) int { return slices.Compare(x[:], y[:]) }
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, order)
	slices.SortFunc(b, order)
	return slices.Equal(a, b)
}

func ptr(b []byte) *C.uint8_t { return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(b))) }

// take copies the shim's answer and frees it.
func take(out *C.tm_out) ([]byte, error) {
	if out.err[0] != 0 {
		return nil, fmt.Errorf("%w: %s", ErrEngine, C.GoString(&out.err[0]))
	}
	defer C.free(unsafe.Pointer(out.data))
	return C.GoBytes(unsafe.Pointer(out.data), C.int(out.len)), nil
}

// byPrecedence orders concurrent values as every replica does: the higher
// operation counter first, then the higher actor id.
func byPrecedence(a, b crdt.Written) int {
	return cmp.Or(cmp.Compare(b.Counter, a.Counter), slices.Compare(b.Actor[:], a.Actor[:]))
}
