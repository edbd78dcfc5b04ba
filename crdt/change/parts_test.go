package change_test

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
)

var (
	alice = crdt.NewActor(crdt.Author{Site: "500101001", Incarnation: 1}, [8]byte{1})
	bob   = crdt.NewActor(crdt.Author{Site: "500101", Incarnation: 1}, [8]byte{2})
	carol = crdt.NewActor(crdt.Author{Site: "500000", Incarnation: 1}, [8]byte{3})
)

// parts is a change taken apart, so that a test can damage one thing and put
// it together again with a correct checksum.
type parts struct {
	deps           [][]byte
	actor          []byte
	seq, startOp   uint64
	timeMS         int64
	message        []byte
	others         [][]byte
	columns        []column
	tail           []byte // after the columns
	kind           byte
	length         uint64 // added to the true length
	damageChecksum bool
}

type column struct {
	spec uint64
	data []byte
}

func uleb(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func sleb(b []byte, v int64) []byte {
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

// apart takes a well-formed change apart.
func apart(raw []byte) parts {
	p := parts{kind: raw[8]}
	c := &cursor{raw[9:]}
	c.uleb()
	for range c.uleb() {
		p.deps = append(p.deps, c.take(32))
	}
	p.actor = c.take(c.uleb())
	p.seq, p.startOp, p.timeMS = c.uleb(), c.uleb(), c.sleb()
	p.message = c.take(c.uleb())
	for range c.uleb() {
		p.others = append(p.others, c.take(c.uleb()))
	}
	p.columns = make([]column, c.uleb())
	sizes := make([]uint64, len(p.columns))
	for i := range p.columns {
		p.columns[i].spec, sizes[i] = c.uleb(), c.uleb()
	}
	for i := range p.columns {
		p.columns[i].data = c.take(sizes[i])
	}
	return p
}

// together is the inverse of apart.
func (p parts) together() []byte {
	b := uleb(nil, uint64(len(p.deps)))
	for _, d := range p.deps {
		b = append(b, d...)
	}
	b = append(uleb(b, uint64(len(p.actor))), p.actor...)
	b = sleb(uleb(uleb(b, p.seq), p.startOp), p.timeMS)
	b = append(uleb(b, uint64(len(p.message))), p.message...)
	b = uleb(b, uint64(len(p.others)))
	for _, a := range p.others {
		b = append(uleb(b, uint64(len(a))), a...)
	}
	b = uleb(b, uint64(len(p.columns)))
	for _, c := range p.columns {
		b = uleb(uleb(b, c.spec), uint64(len(c.data)))
	}
	for _, c := range p.columns {
		b = append(b, c.data...)
	}
	return chunk(p.kind, append(b, p.tail...), p.length, p.damageChecksum)
}

// chunk puts a header with a correct checksum before a body.
func chunk(kind byte, body []byte, longer uint64, damage bool) []byte {
	inner := append(uleb([]byte{kind}, uint64(len(body))+longer), body...)
	sum := sha256.Sum256(inner)
	if damage {
		sum[0]++
	}
	return append(append([]byte{0x85, 0x6f, 0x4a, 0x83}, sum[:4]...), inner...)
}

func (p *parts) column(spec uint64) *column {
	for i := range p.columns {
		if p.columns[i].spec == spec {
			return &p.columns[i]
		}
	}
	return nil
}

// build makes an honest change.
func build(t testing.TB, base [][]byte, actor crdt.Actor, ops ...crdt.Op) []byte {
	t.Helper()
	b, err := engine.New().Build(base, actor, 1_700_000_000_000, ops)
	if err != nil {
		t.Fatal(err)
	}
	return b.Raw
}

// eventChange is an honest first change with every kind of operation and value.
func eventChange(t testing.TB) []byte {
	return build(t, nil, alice,
		crdt.Op{Kind: crdt.OpPut, Key: "report", Value: `{"title":"供水井盖异常"}`},
		crdt.Op{Kind: crdt.OpMakeList, Key: "actions"},
		crdt.Op{Kind: crdt.OpMakeMap, Key: "corrections"},
		crdt.Op{Kind: crdt.OpAppend, In: "actions", Value: `{"kind":"dispatch"}`},
		crdt.Op{Kind: crdt.OpAppend, In: "actions", Value: `{"kind":"close"}`},
		crdt.Op{Kind: crdt.OpPut, In: "corrections", Key: "title", Value: "x"},
		crdt.Op{Kind: crdt.OpPut, Key: "n", Value: int64(-7)},
		crdt.Op{Kind: crdt.OpPut, Key: "f", Value: 1.5},
		crdt.Op{Kind: crdt.OpPut, Key: "b", Value: true},
		crdt.Op{Kind: crdt.OpPut, Key: "raw", Value: []byte{1, 2, 3}},
		crdt.Op{Kind: crdt.OpPut, Key: "none", Value: nil},
		crdt.Op{Kind: crdt.OpDelete, Key: "n"},
	)
}
