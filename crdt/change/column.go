package change

import "unicode/utf8"

// cell is one value of a column; null when nothing was set.
type cell[T any] struct {
	v    T
	null bool
}

// rowsRoom is for how many rows room is made before any is read; more follows as
// they come.
const rowsRoom = 16

// runs decodes run-length encoding: n > 0 repeats the next value n times, n < 0
// lists -n values, 0 stands before a number of nulls. It yields at most rowsMax
// cells, whatever lengths are claimed, and fails on an encoding that a correct
// writer never makes. It appends to out.
func runs[T comparable](out []cell[T], r *reader, rowsMax int, what string, read func() T) []cell[T] {
	const (
		none = iota
		null
		run
		literal
	)
	last, lastKind := *new(T), none
	room := func(n uint64) bool {
		if n > uint64(rowsMax-len(out)) {
			r.fail(ErrTooLarge, "column %s has more than %d rows", what, rowsMax)
			return false
		}
		return true
	}
	for len(r.b) > 0 && r.err == nil {
		switch n := r.sleb(what); {
		case r.err != nil:
		case n == 0:
			k := r.uleb(what)
			if k == 0 || lastKind == null {
				r.fail(ErrMalformed, "column %s: run of nulls", what)
			}
			if !room(k) || r.err != nil {
				return nil
			}
			for range k {
				out = append(out, cell[T]{null: true})
			}
			lastKind = null
		case n > 0:
			v := read()
			if n == 1 || (lastKind == run || lastKind == literal) && v == last {
				r.fail(ErrMalformed, "column %s: run", what)
			}
			if !room(uint64(n)) || r.err != nil {
				return nil
			}
			for range n {
				out = append(out, cell[T]{v: v})
			}
			last, lastKind = v, run
		default:
			if lastKind == literal {
				r.fail(ErrMalformed, "column %s: literal after literal", what)
			}
			// Each value takes at least one byte, so the input bounds the loop.
			if k := uint64(-n); k > uint64(len(r.b)) || !room(k) || r.err != nil {
				r.fail(ErrMalformed, "column %s: literal of %d values", what, -n)
				return nil
			}
			for i := range -n {
				v := read()
				if (i > 0 || lastKind == run) && v == last {
					r.fail(ErrMalformed, "column %s: literal repeats a value", what)
					return nil
				}
				out = append(out, cell[T]{v: v})
				last = v
			}
			lastKind = literal
		}
	}
	return out
}

func (d *decoder) numbers(r *reader, what string, rowsMax int) []cell[uint64] {
	n := min(rowsMax, rowsRoom)
	if n > len(d.cells) {
		d.cells = make([]cell[uint64], n)
	}
	out := d.cells[:0:n]
	d.cells = d.cells[n:]
	return runs(out, r, rowsMax, what, func() uint64 { return r.uleb(what) })
}

// deltas decodes a run-length encoding of differences.
func (d *decoder) deltas(r *reader, what string, rowsMax int) []cell[int64] {
	out := runs(make([]cell[int64], 0, min(rowsMax, rowsRoom)), r, rowsMax, what, func() int64 { return r.sleb(what) })
	var at int64
	for i := range out {
		if out[i].null {
			continue
		}
		next := at + out[i].v
		if (out[i].v > 0) != (next > at) && out[i].v != 0 || next < 0 {
			r.fail(ErrMalformed, "column %s: negative or overflowing counter", what)
			return nil
		}
		at = next
		out[i].v = at
	}
	return out
}

func (d *decoder) strings(r *reader, what string, rowsMax int) []cell[string] {
	return runs(make([]cell[string], 0, min(rowsMax, rowsRoom)), r, rowsMax, what, func() string {
		b := r.take(r.uleb(what), what)
		if !utf8.Valid(b) {
			r.fail(ErrMalformed, "column %s is not UTF-8", what)
		}
		return string(b)
	})
}

// booleans decodes alternating runs, beginning with false.
func (d *decoder) booleans(r *reader, what string, rowsMax int) []bool {
	out := make([]bool, 0, min(rowsMax, rowsRoom))
	for v := false; len(r.b) > 0 && r.err == nil; v = !v {
		n := r.uleb(what)
		if n == 0 && (v || len(out) > 0) || n > uint64(rowsMax-len(out)) {
			r.fail(ErrMalformed, "column %s: run of %d", what, n)
			return nil
		}
		for range n {
			out = append(out, v)
		}
	}
	return out
}
