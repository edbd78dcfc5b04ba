package store

import (
	"encoding/binary"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// Table prefixes; see the package comment.
const (
	tableMeta       = 'm'
	tableChain      = 'c'
	tableRecord     = 'r'
	tableCheckpoint = 'k'
	tableDoc        = 'd'
	tableChange     = 'x'
	tableRefused    = 'q'
	tableDirty      = 'y'
	tableView       = 'v'
	tableIndex      = 'n'
	tableKey        = 'i'
	tableClaim      = 'e'
	tableAside      = 'f'
	tableSeries     = 's'
	tableTally      = 'g'
	tableArrival    = 'w'
	tableName       = 'b'
)

// DocKey names a document: a document identifier means something only inside
// its stream.
type DocKey struct {
	Stream tiers.StreamID
	Doc    tiers.DocID
}

// String returns stream/doc.
func (k DocKey) String() string { return k.Stream.String() + "/" + string(k.Doc) }

// ref is a record's place: its author's chain (in the document's stream) and
// its sequence number there.
type ref struct {
	author crdt.Author
	seq    uint64
}

func appendStream(b []byte, s tiers.StreamID) []byte {
	b = append(b, s.Site...)
	return append(b, 0, byte(s.Class))
}

func appendAuthor(b []byte, a crdt.Author) []byte {
	b = append(b, a.Site...)
	b = append(b, 0)
	return binary.BigEndian.AppendUint32(b, a.Incarnation)
}

// keyOf begins a key. The room is of a fixed size, so that a key that is only put
// into a batch, which copies it, needs no allocation; nearly all fit.
func keyOf(table byte) []byte { return append(make([]byte, 0, 128), table) }

func keyChain(table byte, c crdt.ChainID) []byte {
	b := keyOf(table)
	return appendAuthor(appendStream(b, c.Stream), c.Author)
}

func keySeq(table byte, c crdt.ChainID, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(keyChain(table, c), seq)
}

func keyDoc(table byte, k DocKey) []byte {
	b := keyOf(table)
	return append(appendStream(b, k.Stream), k.Doc...)
}

func keyChange(k DocKey, order uint64) []byte {
	return binary.BigEndian.AppendUint64(append(keyDoc(tableChange, k), 0), order)
}

func keyRefused(k DocKey, r ref) []byte {
	b := appendAuthor(append(keyDoc(tableRefused, k), 0), r.author)
	return binary.BigEndian.AppendUint64(b, r.seq)
}

func keyClaim(resource string) []byte { return append([]byte{tableClaim}, resource...) }

func keyIndex(e crdt.IndexEntry, k DocKey) []byte {
	b := keyOf(tableIndex)
	b = append(b, e.Name...)
	b = append(b, 0)
	b = append(b, e.Value...)
	b = append(b, 0)
	return append(appendStream(b, k.Stream), k.Doc...)
}

func keyMeta(name string) []byte { return append([]byte{tableMeta}, name...) }

func keyIdempotency(key string) []byte { return append(keyOf(tableKey), key...) }

// prefixEnd returns the first key after every key with the prefix.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// decoder reads the binary values and keys of this package. After the first
// shortage every read returns zero and bad stays set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) u8() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads a length that each of whose elements takes at least one byte, so
// that a damaged value cannot ask for more memory than it has bytes.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte { return d.take(d.uvarint()) }

func (d *decoder) hash() (h crdt.Hash) {
	copy(h[:], d.take(32))
	return h
}

// terminated reads up to a zero byte.
func (d *decoder) terminated() string {
	for i, c := range d.b {
		if c == 0 {
			return string(d.take(uint64(i) + 1)[:i])
		}
	}
	d.bad = true
	return ""
}

func (d *decoder) stream() tiers.StreamID {
	return tiers.StreamID{Site: tiers.SiteID(d.terminated()), Class: tiers.Class(d.u8())}
}

func (d *decoder) author() crdt.Author {
	return crdt.Author{Site: tiers.SiteID(d.terminated()), Incarnation: d.u32()}
}

func (d *decoder) docKey() DocKey {
	s := d.stream()
	return DocKey{Stream: s, Doc: tiers.DocID(d.take(uint64(len(d.b))))}
}

func (d *decoder) ref() ref { return ref{author: d.author(), seq: d.uvarint()} }

func (r ref) appendTo(b []byte) []byte {
	return binary.AppendUvarint(appendAuthor(b, r.author), r.seq)
}

func appendBytes[T []byte | string](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}
