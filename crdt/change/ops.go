package change

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// The columns of a change's operations: (id << 4) | type.
const (
	colObjActor  = 0x01
	colObjCtr    = 0x02
	colKeyActor  = 0x11
	colKeyCtr    = 0x13
	colKeyStr    = 0x15
	colInsert    = 0x34
	colAction    = 0x42
	colValMeta   = 0x56
	colValRaw    = 0x57
	colPredGroup = 0x70
	colPredActor = 0x71
	colPredCtr   = 0x73
)

// The actions of an operation.
const (
	actMakeMap  = 0
	actSet      = 1
	actMakeList = 2
	actDelete   = 3
	actMakeText = 4
	actInc      = 5
)

// The types of a value.
const (
	valNull      = 0
	valFalse     = 1
	valTrue      = 2
	valUint      = 3
	valInt       = 4
	valFloat     = 5
	valString    = 6
	valBytes     = 7
	valCounter   = 8
	valTimestamp = 9
)

// table is the operations, column by column; an absent column is nil.
type table struct {
	n                int
	objActor, objCtr []cell[uint64]
	keyActor         []cell[uint64]
	keyCtr           []cell[int64]
	keyStr           []cell[string]
	insert           []bool
	action, meta     []cell[uint64]
	raw              reader
	predGroup        []cell[uint64]
	predActor        []cell[uint64]
	predCtr          []cell[int64]

	// values are the operations' values, which raw runs out into; predAt is where
	// the predecessors of each begin.
	values [][]byte
	predAt []int
}

// column is one column's bytes.
type column struct {
	spec   uint64
	reader reader
}

// find returns a column's reader, nil where it is absent.
func find(body []column, spec uint64) *reader {
	for i := range body {
		if body[i].spec == spec {
			return &body[i].reader
		}
	}
	return nil
}

// columnsMax bounds the columns of a change; twelve are known.
const columnsMax = 16

// numberColumns are the columns of plain numbers besides the action's.
const numberColumns = 5

// columns reads the column list, decodes each column and checks the rows.
func (d *decoder) columns() {
	n := d.uleb("columns")
	if n > columnsMax {
		d.fail(ErrRefused, "%d columns", n)
		return
	}
	type head struct{ spec, size uint64 }
	var heads [columnsMax]head
	list := heads[:0]
	for range n {
		c := head{d.uleb("column"), d.uleb("column length")}
		if k := len(list); k > 0 && list[k-1].spec >= c.spec {
			d.fail(ErrMalformed, "columns are not ascending")
		}
		list = append(list, c)
	}
	var columns [columnsMax]column
	body := columns[:len(list)]
	for i, c := range list {
		if c.size == 0 && d.err == nil {
			d.fail(ErrMalformed, "column %#x is empty", c.spec)
		}
		body[i] = column{c.spec, reader{b: d.take(c.size, "column")}}
	}
	if d.err == nil && len(d.b) > 0 {
		d.fail(ErrRefused, "%d bytes after the columns", len(d.b))
	}
	if d.err != nil {
		return
	}
	if len(body) == 0 {
		return // a change without operations: a merge
	}
	t := d.table(body)
	for i := range body {
		if err := body[i].reader.err; err != nil {
			d.fail(err, "column %#x", body[i].spec)
		}
	}
	if d.err == nil {
		d.c.Ops, d.c.table, d.c.actors = uint64(t.n), t, d.actors
		d.rows(t)
	}
}

// table decodes the columns, in ascending order so that of several faults the
// same one is reported everywhere. The action column says how many rows there
// are.
func (d *decoder) table(body []column) *table {
	t := d.t
	action := find(body, colAction)
	if action == nil {
		d.fail(ErrMalformed, "no action column")
		return t
	}
	t.action = d.numbers(action, "action", d.lim.OpsMax)
	t.n = len(t.action)
	d.cells = make([]cell[uint64], numberColumns*min(t.n, rowsRoom))
	preds := 0
	if r := find(body, colPredGroup); r != nil {
		t.predGroup = d.numbers(r, "pred", t.n)
		for _, g := range t.predGroup {
			if g.v > uint64(d.lim.OpsMax-preds) {
				d.fail(ErrTooLarge, "predecessors")
				return t
			}
			preds += int(g.v)
		}
	}
	for i := range body {
		spec, r := body[i].spec, &body[i].reader
		rows, want := t.n, t.n
		switch spec {
		case colAction:
		case colPredGroup:
			rows = len(t.predGroup)
		case colObjActor:
			t.objActor = d.numbers(r, "object actor", t.n)
			rows = len(t.objActor)
		case colObjCtr:
			t.objCtr = d.numbers(r, "object counter", t.n)
			rows = len(t.objCtr)
		case colKeyActor:
			t.keyActor = d.numbers(r, "key actor", t.n)
			rows = len(t.keyActor)
		case colKeyCtr:
			t.keyCtr = d.deltas(r, "key counter", t.n)
			rows = len(t.keyCtr)
		case colKeyStr:
			t.keyStr = d.strings(r, "key", t.n)
			rows = len(t.keyStr)
		case colInsert:
			t.insert = d.booleans(r, "insert", t.n)
			rows = len(t.insert)
		case colValMeta:
			t.meta = d.numbers(r, "value", t.n)
			rows = len(t.meta)
		case colValRaw:
			t.raw = *r
		case colPredActor:
			t.predActor = d.numbers(r, "pred actor", preds)
			rows, want = len(t.predActor), preds
		case colPredCtr:
			t.predCtr = d.deltas(r, "pred counter", preds)
			rows, want = len(t.predCtr), preds
		default:
			d.fail(ErrRefused, "column %#x", spec)
		}
		if rows != want && r.err == nil {
			d.fail(ErrMalformed, "column %#x has %d rows of %d", spec, rows, want)
		}
	}
	if preds > 0 && (t.predActor == nil || t.predCtr == nil) {
		d.fail(ErrMalformed, "predecessors without columns")
	}
	return t
}

// at returns row i of a column, null where the column is absent.
func at[T any](c []cell[T], i int) cell[T] {
	if c == nil {
		return cell[T]{null: true}
	}
	return c[i]
}

// rows checks that each operation holds together and refers only to operations
// that can exist: with a lower counter, by a known actor.
func (d *decoder) rows(t *table) {
	made := map[uint64]bool{} // this change's own objects: whether each is a list
	pred := 0
	t.values, t.predAt = make([][]byte, 0, t.n), make([]int, 0, t.n)
	for i := 0; i < t.n && d.err == nil; i++ {
		ctr := d.c.StartOp + uint64(i)
		action := at(t.action, i)
		if action.null || action.v > actInc {
			d.fail(ErrRefused, "operation %d: action %d", i, action.v)
			return
		}
		insert := t.insert != nil && t.insert[i]
		d.object(t, i, ctr, made)
		d.key(t, i, ctr, insert)
		d.value(t, i, action.v)
		k := int(at(t.predGroup, i).v)
		if t.predGroup != nil && t.predGroup[i].null {
			d.fail(ErrMalformed, "operation %d: null predecessors", i)
		}
		t.predAt = append(t.predAt, pred)
		d.preds(t, i, pred, k, ctr)
		pred += k
		switch action.v {
		case actMakeMap, actMakeList, actMakeText:
			made[ctr] = action.v != actMakeMap
			d.c.Made = append(d.c.Made, Object{d.c.Actor, ctr, made[ctr]})
		case actDelete, actInc:
			if insert || k == 0 {
				d.fail(ErrMalformed, "operation %d: action %d without a predecessor", i, action.v)
			}
		}
		if insert && k > 0 {
			d.fail(ErrMalformed, "operation %d: insertion with predecessors", i)
		}
	}
	if d.err == nil && len(t.raw.b) > 0 {
		d.fail(ErrMalformed, "%d bytes of values are left over", len(t.raw.b))
	}
}

// object checks the object that an operation edits; none means the root.
func (d *decoder) object(t *table, i int, ctr uint64, made map[uint64]bool) {
	a, c := at(t.objActor, i), at(t.objCtr, i)
	if a.null && c.null {
		return
	}
	if a.null || c.null || a.v >= uint64(len(d.actors)) || c.v == 0 || c.v >= ctr {
		d.fail(ErrMalformed, "operation %d: object", i)
		return
	}
	list := at(t.keyStr, i).null // elements are of lists, keys of maps
	if a.v != 0 || c.v < d.c.StartOp {
		d.use(Object{d.actors[a.v], c.v, list})
		return
	}
	if is, ok := made[c.v]; !ok || is != list {
		d.fail(ErrMalformed, "operation %d: object %d is none, or of another kind", i, c.v)
	}
}

// use notes an object of another change.
func (d *decoder) use(o Object) {
	if d.used == nil {
		if slices.Contains(d.c.Uses, o) {
			return
		}
		if len(d.c.Uses) == fewUses {
			d.used = make(map[Object]struct{}, 4*fewUses)
			for _, u := range d.c.Uses {
				d.used[u] = struct{}{}
			}
		}
	}
	if d.used != nil {
		if _, known := d.used[o]; known {
			return
		}
		d.used[o] = struct{}{}
	}
	d.c.Uses = append(d.c.Uses, o)
}

// fewUses is up to how many objects are searched one by one.
const fewUses = 16

// key checks what an operation addresses inside its object: a map key, or an
// element of a list, where counter 0 without an actor is the head.
func (d *decoder) key(t *table, i int, ctr uint64, insert bool) {
	s, a, c := at(t.keyStr, i), at(t.keyActor, i), at(t.keyCtr, i)
	if !s.null {
		if insert || !a.null || !c.null {
			d.fail(ErrMalformed, "operation %d: two keys", i)
		}
		return
	}
	switch {
	case c.null, !a.null && (a.v >= uint64(len(d.actors)) || c.v == 0), a.null && (c.v != 0 || !insert), uint64(c.v) >= ctr:
		d.fail(ErrMalformed, "operation %d: element", i)
	case at(t.objCtr, i).null:
		d.fail(ErrMalformed, "operation %d: the root has no elements", i)
	}
}

// value checks an operation's value: its type, its length and its bytes.
func (d *decoder) value(t *table, i int, action uint64) {
	m := at(t.meta, i)
	if t.meta != nil && m.null {
		d.fail(ErrMalformed, "operation %d: null value type", i)
		return
	}
	kind, size := m.v&15, m.v>>4
	b := t.raw.take(size, "value")
	t.values = append(t.values, b)
	if t.raw.err != nil {
		d.fail(ErrMalformed, "operation %d: %v", i, t.raw.err)
		return
	}
	n := &reader{b: b}
	good := true
	switch kind {
	case valNull, valFalse, valTrue:
		good = size == 0
	case valUint:
		n.uleb("value")
	case valInt, valCounter, valTimestamp:
		n.sleb("value")
	case valFloat:
		good = size == 8
		n.take(8, "value")
	case valString:
		good = utf8.Valid(b)
		n.b = nil
	case valBytes:
		n.b = nil
	default:
		good = false
	}
	switch {
	case !good || n.err != nil || len(n.b) > 0:
		d.fail(ErrMalformed, "operation %d: value of type %d", i, kind)
	case action == actInc && kind != valUint && kind != valInt:
		d.fail(ErrMalformed, "operation %d: increment by type %d", i, kind)
	case action != actSet && action != actInc && m.v != 0:
		d.fail(ErrMalformed, "operation %d: action %d with a value", i, action)
	}
}

// preds checks the operations that this one overwrites: known actors, lower
// counters, in ascending order.
func (d *decoder) preds(t *table, i, from, k int, ctr uint64) {
	for j := from; j < from+k && d.err == nil; j++ {
		a, c := t.predActor[j], t.predCtr[j]
		if a.null || c.null || a.v >= uint64(len(d.actors)) || c.v <= 0 || uint64(c.v) >= ctr {
			d.fail(ErrMalformed, "operation %d: predecessor", i)
			return
		}
		if j == from {
			continue
		}
		pa, pc := t.predActor[j-1], t.predCtr[j-1]
		if pc.v > c.v || pc.v == c.v && bytes.Compare(d.actors[pa.v][:], d.actors[a.v][:]) >= 0 {
			d.fail(ErrMalformed, "operation %d: predecessors are not ascending", i)
		}
	}
}
