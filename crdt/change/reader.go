package change

import (
	"fmt"
	"math/bits"
)

// reader reads LEB128 numbers and bytes. The first error sticks; after it every
// read returns zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(kind error, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...))
	}
}

func (r *reader) take(n uint64, what string) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.b)) {
		r.fail(ErrMalformed, "%s: %d bytes, %d left", what, n, len(r.b))
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

// uleb reads an unsigned LEB128 in its shortest form.
func (r *reader) uleb(what string) (v uint64) {
	for i := 0; r.err == nil; i++ {
		if i == len(r.b) || i == 10 {
			r.fail(ErrMalformed, "%s: number runs on", what)
			return 0
		}
		c := r.b[i]
		if i == 9 && c > 1 {
			r.fail(ErrMalformed, "%s: number overflows", what)
			return 0
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c&0x80 == 0 {
			if c == 0 && i > 0 {
				r.fail(ErrMalformed, "%s: number is not in its shortest form", what)
				return 0
			}
			r.b = r.b[i+1:]
			return v
		}
	}
	return 0
}

// sleb reads a signed LEB128 in its shortest form.
func (r *reader) sleb(what string) int64 {
	var v int64
	for i := 0; r.err == nil; i++ {
		if i == len(r.b) || i == 10 {
			r.fail(ErrMalformed, "%s: number runs on", what)
			return 0
		}
		c := r.b[i]
		if i == 9 && c != 0 && c != 0x7f {
			r.fail(ErrMalformed, "%s: number overflows", what)
			return 0
		}
		v |= int64(c&0x7f) << (7 * i)
		if c&0x80 == 0 {
			if i < 9 && c&0x40 != 0 {
				v |= -1 << (7 * (i + 1))
			}
			if i+1 != slebLen(v) {
				r.fail(ErrMalformed, "%s: number is not in its shortest form", what)
				return 0
			}
			r.b = r.b[i+1:]
			return v
		}
	}
	return 0
}

// slebLen returns the length of the shortest signed LEB128 of v.
func slebLen(v int64) int {
	if v < 0 {
		v = ^v
	}
	return bits.Len64(uint64(v))/7 + 1
}
