package change

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"sync"

	"github.com/tiermesh/tiermesh/crdt"
)

// First encodes the change that creates a document: the bytes that the Automerge
// library makes of the same operations, without calling it. It returns false
// for operations that are left to the library: those that write a place twice,
// delete, or name a container that they do not make, and more than firstOpsMax.
// Strings must be UTF-8.
func First(actor crdt.Actor, timeMS int64, ops []crdt.Op) (raw []byte, info crdt.ChangeInfo, ok bool) {
	if len(ops) > firstOpsMax {
		return nil, info, false
	}
	e := encoders.Get().(*encoder)
	defer e.release()
	for i, op := range ops {
		if !e.add(uint64(i)+1, op, ops[:i]) {
			return nil, info, false
		}
	}
	body := append(append(e.body, 0, 16), actor[:]...) // no dependencies
	body = append(body, 1, 1)                          // its actor's first change, from operation 1
	body = appendSLEB(body, timeMS)
	body = append(body, 0, 0) // no message, no other actors
	body = e.appendColumns(body)
	e.body = body[:0]
	raw, hash := seal(body)
	return raw, crdt.ChangeInfo{
		Hash: hash, Actor: actor, Seq: 1, StartOp: 1, MaxOp: uint64(len(ops)), TimeMS: timeMS,
	}, true
}

// seal makes a chunk of a change's body.
func seal(body []byte) ([]byte, crdt.Hash) {
	raw := append(make([]byte, 0, len(body)+20), magic...)
	raw = append(raw, 0, 0, 0, 0, chunkChange)
	raw = append(appendULEB(raw, uint64(len(body))), body...)
	sum := sha256.Sum256(raw[8:])
	copy(raw[4:8], sum[:4])
	return raw, sum
}

// encoders keeps encoders for the next change, which needs as much room.
var encoders = sync.Pool{New: func() any { return &encoder{made: make(map[string]container, 4)} }}

// firstOpsMax is up to how many operations each is compared with those before it.
const firstOpsMax = 2048

// container is an object that the change makes.
type container struct {
	id   uint64
	list bool
	last uint64 // a list's last element
}

// encoder collects the columns of a change. In a first one there are no
// predecessors, and every reference is to the change's own actor.
type encoder struct {
	made             map[string]container
	objActor, objCtr rle[uint64]
	keyActor         rle[uint64]
	keyCtr           rle[int64]
	keyAt            int64
	keyStr           rle[string]
	insert           []bool
	action, meta     rle[uint64]
	raw              []byte
	preds            predEncoder

	data, body []byte // the columns' bytes, and the change's
}

// predEncoder collects the columns of what operations overwrite.
type predEncoder struct {
	groups, actor rle[uint64]
	ctr           rle[int64]
	at            int64
}

// release empties the encoder, and keeps it unless it has grown large.
func (e *encoder) release() {
	if max(cap(e.raw), cap(e.data), cap(e.body)) > firstKeptBytes || len(e.insert) > firstKeptOps {
		return
	}
	clear(e.made)
	for _, r := range []*rle[uint64]{&e.objActor, &e.objCtr, &e.keyActor, &e.action, &e.meta, &e.preds.groups, &e.preds.actor} {
		r.groups = r.groups[:0]
	}
	clear(e.keyStr.groups)
	e.keyStr.groups, e.keyCtr.groups, e.keyAt = e.keyStr.groups[:0], e.keyCtr.groups[:0], 0
	e.preds.ctr.groups, e.preds.at = e.preds.ctr.groups[:0], 0
	e.insert, e.raw, e.data, e.body = e.insert[:0], e.raw[:0], e.data[:0], e.body[:0]
	encoders.Put(e)
}

// The size up to which an encoder is kept.
const (
	firstKeptBytes = 64 << 10
	firstKeptOps   = 256
)

// add takes in one operation.
func (e *encoder) add(id uint64, op crdt.Op, earlier []crdt.Op) bool {
	in := e.made[op.In]
	appends := op.Kind == crdt.OpAppend
	if op.In != "" && (in.id == 0 || in.list != appends) || op.Kind == crdt.OpDelete || appends && op.In == "" {
		return false
	}
	for _, o := range earlier {
		if !appends && o.Kind != crdt.OpAppend && o.In == op.In && o.Key == op.Key {
			return false
		}
	}
	e.objActor.add(0, op.In == "")
	e.objCtr.add(in.id, op.In == "")
	e.keyStr.add(op.Key, appends)
	e.keyActor.add(0, in.last == 0)
	if appends {
		e.keyCtr.add(int64(in.last)-e.keyAt, false)
		e.keyAt = int64(in.last)
		in.last = id
		e.made[op.In] = in
	} else {
		e.keyCtr.add(0, true)
	}
	e.insert = append(e.insert, appends)
	e.preds.groups.add(0, false)
	action := uint64(actSet)
	switch op.Kind {
	case crdt.OpMakeMap, crdt.OpMakeList:
		action = actMakeMap
		if op.Kind == crdt.OpMakeList {
			action = actMakeList
		}
		e.made[op.Key] = container{id: id, list: op.Kind == crdt.OpMakeList}
		e.meta.add(0, false)
	default:
		if !e.value(op.Value) {
			return false
		}
	}
	e.action.add(action, false)
	return true
}

// value takes in an operation's value.
func (e *encoder) value(v crdt.Scalar) bool {
	from, kind := len(e.raw), uint64(valNull)
	switch v := v.(type) {
	case nil:
	case bool:
		if kind = valFalse; v {
			kind = valTrue
		}
	case int64:
		kind, e.raw = valInt, appendSLEB(e.raw, v)
	case float64:
		kind, e.raw = valFloat, binary.LittleEndian.AppendUint64(e.raw, math.Float64bits(v))
	case string:
		kind, e.raw = valString, append(e.raw, v...)
	case []byte:
		kind, e.raw = valBytes, append(e.raw, v...)
	default:
		return false
	}
	e.meta.add(uint64(len(e.raw)-from)<<4|kind, false)
	return true
}

// appendColumns appends the list of columns and their bytes; empty ones are left
// out.
func (e *encoder) appendColumns(b []byte) []byte {
	var columns [12]struct {
		spec uint64
		size int
	}
	n := 0
	column := func(spec uint64, data []byte) {
		if size := len(data) - len(e.data); size > 0 {
			columns[n].spec, columns[n].size = spec, size
			n++
		}
		e.data = data
	}
	column(colObjActor, e.objActor.appendTo(e.data, appendULEB))
	column(colObjCtr, e.objCtr.appendTo(e.data, appendULEB))
	column(colKeyActor, e.keyActor.appendTo(e.data, appendULEB))
	column(colKeyCtr, e.keyCtr.appendTo(e.data, appendSLEB))
	column(colKeyStr, e.keyStr.appendTo(e.data, appendKey))
	column(colInsert, appendBooleans(e.data, e.insert))
	column(colAction, e.action.appendTo(e.data, appendULEB))
	column(colValMeta, e.meta.appendTo(e.data, appendULEB))
	column(colValRaw, append(e.data, e.raw...))
	column(colPredGroup, e.preds.groups.appendTo(e.data, appendULEB))
	column(colPredActor, e.preds.actor.appendTo(e.data, appendULEB))
	column(colPredCtr, e.preds.ctr.appendTo(e.data, appendSLEB))
	b = appendULEB(b, uint64(n))
	for _, c := range columns[:n] {
		b = appendULEB(appendULEB(b, c.spec), uint64(c.size))
	}
	return append(b, e.data...)
}

func appendKey(b []byte, s string) []byte { return append(appendULEB(b, uint64(len(s))), s...) }

// rle collects a column for run-length encoding, the inverse of runs.
type rle[T comparable] struct{ groups []group[T] }

// group is a value, or null, and how often it comes in a row.
type group[T comparable] struct {
	cell cell[T]
	n    int64
}

func (r *rle[T]) add(v T, null bool) {
	c := cell[T]{v: v, null: null}
	if null {
		c.v = *new(T)
	}
	if k := len(r.groups) - 1; k >= 0 && r.groups[k].cell == c {
		r.groups[k].n++
		return
	}
	r.groups = append(r.groups, group[T]{c, 1})
}

// appendTo writes the runs; a column of nulls alone is empty.
func (r *rle[T]) appendTo(b []byte, value func([]byte, T) []byte) []byte {
	if len(r.groups) == 1 && r.groups[0].cell.null {
		return b
	}
	for i := 0; i < len(r.groups); i++ {
		switch g := r.groups[i]; {
		case g.cell.null:
			b = appendULEB(append(b, 0), uint64(g.n))
		case g.n > 1:
			b = value(appendSLEB(b, g.n), g.cell.v)
		default:
			end := i
			for end < len(r.groups) && r.groups[end].n == 1 && !r.groups[end].cell.null {
				end++
			}
			b = appendSLEB(b, -int64(end-i))
			for _, one := range r.groups[i:end] {
				b = value(b, one.cell.v)
			}
			i = end - 1
		}
	}
	return b
}

// appendBooleans writes alternating runs, beginning with false.
func appendBooleans(b []byte, values []bool) []byte {
	run, last := uint64(0), false
	for _, v := range values {
		if v != last {
			b, run, last = appendULEB(b, run), 0, v
		}
		run++
	}
	return appendULEB(b, run)
}

func appendULEB(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

// appendSLEB appends a signed LEB128 (DWARF 5, section 7.6).
func appendSLEB(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
