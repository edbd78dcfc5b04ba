package corpus

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// Parts is a change taken apart, so that a test can damage one thing and put
// it together again with a correct checksum.
type Parts struct {
	Deps           [][]byte
	Actor          []byte
	Seq, StartOp   uint64
	TimeMS         int64
	Message        []byte
	Others         [][]byte
	Columns        []Column
	Tail           []byte // after the columns
	Kind           byte
	Length         uint64 // added to the true length
	DamageChecksum bool
}

// Column is one column of a change.
type Column struct {
	Spec uint64
	Data []byte
}

// ULEB appends an unsigned LEB128 number.
func ULEB(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

// SLEB appends a signed LEB128 number.
func SLEB(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

type cursor struct{ b []byte }

func (c *cursor) uleb() uint64 {
	v, n := binary.Uvarint(c.b)
	c.b = c.b[n:]
	return v
}

func (c *cursor) sleb() (v int64) {
	for shift := 0; ; shift += 7 {
		x := c.b[0]
		c.b = c.b[1:]
		v |= int64(x&0x7f) << shift
		if x&0x80 == 0 {
			if x&0x40 != 0 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
}

func (c *cursor) take(n uint64) []byte {
	out := slices.Clone(c.b[:n])
	c.b = c.b[n:]
	return out
}

// Apart takes a well-formed change apart.
func Apart(raw []byte) Parts {
	p := Parts{Kind: raw[8]}
	c := &cursor{raw[9:]}
	c.uleb()
	for range c.uleb() {
		p.Deps = append(p.Deps, c.take(32))
	}
	p.Actor = c.take(c.uleb())
	p.Seq, p.StartOp, p.TimeMS = c.uleb(), c.uleb(), c.sleb()
	p.Message = c.take(c.uleb())
	for range c.uleb() {
		p.Others = append(p.Others, c.take(c.uleb()))
	}
	p.Columns = make([]Column, c.uleb())
	sizes := make([]uint64, len(p.Columns))
	for i := range p.Columns {
		p.Columns[i].Spec, sizes[i] = c.uleb(), c.uleb()
	}
	for i := range p.Columns {
		p.Columns[i].Data = c.take(sizes[i])
	}
	return p
}

// Together is the inverse of [Apart].
func (p Parts) Together() []byte {
	b := ULEB(nil, uint64(len(p.Deps)))
	for _, d := range p.Deps {
		b = append(b, d...)
	}
	b = append(ULEB(b, uint64(len(p.Actor))), p.Actor...)
	b = SLEB(ULEB(ULEB(b, p.Seq), p.StartOp), p.TimeMS)
	b = append(ULEB(b, uint64(len(p.Message))), p.Message...)
	b = ULEB(b, uint64(len(p.Others)))
	for _, a := range p.Others {
		b = append(ULEB(b, uint64(len(a))), a...)
	}
	b = ULEB(b, uint64(len(p.Columns)))
	for _, c := range p.Columns {
		b = ULEB(ULEB(b, c.Spec), uint64(len(c.Data)))
	}
	for _, c := range p.Columns {
		b = append(b, c.Data...)
	}
	return Chunk(p.Kind, append(b, p.Tail...), p.Length, p.DamageChecksum)
}

// Chunk puts a header with a correct checksum before a body.
func Chunk(kind byte, body []byte, longer uint64, damage bool) []byte {
	inner := append(ULEB([]byte{kind}, uint64(len(body))+longer), body...)
	sum := sha256.Sum256(inner)
	if damage {
		sum[0]++
	}
	return append(append([]byte{0x85, 0x6f, 0x4a, 0x83}, sum[:4]...), inner...)
}

// Column returns the column with a specification, or nil.
func (p *Parts) Column(spec uint64) *Column {
	for i := range p.Columns {
		if p.Columns[i].Spec == spec {
			return &p.Columns[i]
		}
	}
	return nil
}

// Damage changes a few things about a change at random and repairs its
// checksum: bytes of a column, the header's numbers, gaps in sequences, unknown
// actions, run-length bombs, columns and chunks that say they are deflated.
func Damage(r *rand.Rand, raw []byte) []byte {
	p := Apart(raw)
	for range 1 + r.IntN(3) {
		p.damage(r)
	}
	return p.Together()
}

func (p *Parts) damage(r *rand.Rand) {
	switch r.IntN(16) {
	case 0:
		p.Seq = uint64(r.IntN(6))
		return
	case 1:
		p.StartOp = uint64(r.IntN(20))
		return
	case 2:
		p.Others = append(p.Others, bytes.Repeat([]byte{byte(r.IntN(256))}, 16))
		return
	case 3:
		p.Kind = byte(r.IntN(4))
		return
	}
	if len(p.Columns) == 0 {
		return
	}
	c := &p.Columns[r.IntN(len(p.Columns))]
	switch r.IntN(10) {
	case 0:
		c.Spec |= 8 // deflated
	case 1:
		c.Data = append(SLEB(nil, 1<<r.IntN(50)), byte(r.IntN(256))) // a run
	case 2:
		c.Data = append([]byte{0}, ULEB(nil, 1<<r.IntN(50))...) // a run of nulls
	default:
		c.damage(r)
	}
}

// damage changes, inserts or removes a byte.
func (c *Column) damage(r *rand.Rand) {
	switch at := r.IntN(len(c.Data) + 1); {
	case r.IntN(4) == 0:
		c.Data = append(c.Data[:at:at], append([]byte{byte(r.IntN(256))}, c.Data[at:]...)...)
	case at < len(c.Data) && r.IntN(4) == 0:
		c.Data = append(c.Data[:at:at], c.Data[at+1:]...)
	case at < len(c.Data):
		c.Data = bytes.Clone(c.Data)
		c.Data[at] = byte(r.IntN(256))
	}
}
