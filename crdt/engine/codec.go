package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/crdt"
)

// checkOps returns an error that wraps [ErrOps] for operations that no change can
// hold.
func checkOps(ops []crdt.Op) error {
	for i, op := range ops {
		if op.Kind < crdt.OpPut || op.Kind > crdt.OpAppend {
			return fmt.Errorf("%w: operation %d has kind %d", ErrOps, i, op.Kind)
		}
		if (op.Kind == crdt.OpMakeMap || op.Kind == crdt.OpMakeList) && op.In != "" {
			return fmt.Errorf("%w: operation %d makes %q inside %q; containers stand under the root", ErrOps, i, op.Key, op.In)
		}
		if op.Kind == crdt.OpAppend && op.In == "" || op.Kind != crdt.OpAppend && op.Key == "" {
			return fmt.Errorf("%w: operation %d names no list or key", ErrOps, i)
		}
		if !hasValue(op) {
			continue
		}
		switch v := op.Value.(type) {
		case nil, bool, int64, float64, []byte:
		case string:
			if !utf8.ValidString(v) {
				return fmt.Errorf("%w: key %q of %q: string is not UTF-8", ErrOps, op.Key, op.In)
			}
		default:
			return fmt.Errorf("%w: key %q of %q: value of type %T; want nil, bool, int64, float64, string or []byte", ErrOps, op.Key, op.In, v)
		}
	}
	return nil
}

func hasValue(op crdt.Op) bool { return op.Kind == crdt.OpPut || op.Kind == crdt.OpAppend }

// encodeOps writes the flat program that the shim runs: per operation its kind,
// container and key (each a 32-bit length and bytes), and for a value its tag
// and bits. Integers are little endian; both ends are one process. The operations
// passed checkOps.
func encodeOps(ops []crdt.Op) []byte {
	var b []byte
	for _, op := range ops {
		b = append(b, byte(op.Kind))
		b = appendString(appendString(b, op.In), op.Key)
		if hasValue(op) {
			b = appendScalar(b, op.Value)
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...)
}

func appendScalar(b []byte, v crdt.Scalar) []byte {
	switch v := v.(type) {
	case bool:
		if v {
			return append(b, 't')
		}
		return append(b, 'f')
	case int64:
		return binary.LittleEndian.AppendUint64(append(b, 'i'), uint64(v))
	case float64:
		return binary.LittleEndian.AppendUint64(append(b, 'd'), math.Float64bits(v))
	case string:
		return appendString(append(b, 's'), v)
	case []byte:
		return appendString(append(b, 'b'), string(v))
	default:
		return append(b, 'n')
	}
}

// walker reads what the shim's walk wrote.
type walker struct {
	b   []byte
	bad bool
}

func (w *walker) take(n int) []byte {
	if w.bad || n < 0 || n > len(w.b) {
		w.bad = true
		return nil
	}
	out := w.b[:n]
	w.b = w.b[n:]
	return out
}

func (w *walker) u32() int {
	if b := w.take(4); b != nil {
		return int(binary.LittleEndian.Uint32(b))
	}
	return 0
}

func (w *walker) u64() uint64 {
	if b := w.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (w *walker) str() string { return string(w.take(w.u32())) }

func decodeWalk(b []byte) (*crdt.Document, error) {
	w := walker{b: b}
	doc := &crdt.Document{}
	for range w.u32() {
		if w.bad {
			break
		}
		var h crdt.Hash
		copy(h[:], w.take(32))
		doc.Heads = append(doc.Heads, h)
	}
	doc.Root = w.node()
	if w.bad || len(w.b) != 0 {
		return nil, fmt.Errorf("%w: the walk does not decode", ErrEngine)
	}
	return doc, nil
}

func (w *walker) node() crdt.Node {
	tag := w.take(1)
	if tag == nil {
		return crdt.Node{}
	}
	n := crdt.Node{Kind: crdt.NodeScalar}
	switch tag[0] {
	case 'n':
	case 't', 'f':
		n.Scalar = tag[0] == 't'
	case 'i':
		n.Scalar = int64(w.u64())
	case 'u':
		n.Scalar = w.u64()
	case 'd':
		n.Scalar = math.Float64frombits(w.u64())
	case 's':
		n.Scalar = w.str()
	case 'b':
		n.Scalar = slices.Clone(w.take(w.u32()))
	case 'T':
		n.Kind, n.Scalar = crdt.NodeText, w.str()
	case 'L':
		n.Kind, n.Items = crdt.NodeList, w.values()
	case 'M':
		n.Kind, n.Fields = crdt.NodeMap, w.fields()
	default:
		w.bad = true
	}
	return n
}

func (w *walker) fields() []crdt.Field {
	var out []crdt.Field
	for range w.u32() {
		if w.bad {
			break
		}
		f := crdt.Field{Key: w.str(), Values: w.values()}
		slices.SortFunc(f.Values, byPrecedence)
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b crdt.Field) int { return strings.Compare(a.Key, b.Key) })
	return out
}

func (w *walker) values() []crdt.Written {
	var out []crdt.Written
	for range w.u32() {
		if w.bad {
			break
		}
		var v crdt.Written
		copy(v.Actor[:], w.take(16))
		v.Counter = w.u64()
		v.Node = w.node()
		out = append(out, v)
	}
	return out
}
