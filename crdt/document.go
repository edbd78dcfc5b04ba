package crdt

// Scalar is a leaf value of a document: nil, bool, int64, float64, string or
// []byte. Other types are refused by the engine.
type Scalar any

// OpKind is what an [Op] does.
type OpKind uint8

// The operations that documents are built from. Containers stand directly
// under the root, one level deep; that is all the document models need.
const (
	// OpPut sets Key of map In to Value.
	OpPut OpKind = 1
	// OpDelete removes Key from map In.
	OpDelete OpKind = 2
	// OpMakeMap creates an empty map under Key of the root.
	OpMakeMap OpKind = 3
	// OpMakeList creates an empty list under Key of the root.
	OpMakeList OpKind = 4
	// OpAppend inserts Value at the end of list In.
	OpAppend OpKind = 5
)

// Op is one edit. In names a container under the root, or "" for the root.
type Op struct {
	Kind  OpKind
	In    string
	Key   string
	Value Scalar
}

// Confirmed returns the operations with each value of the root set anew, also where it
// is the one that is there: a value is deleted and set again in one change, since
// setting alone would write nothing. So who confirms a value is its author, at that
// time, and is in conflict with whoever sets another one without having seen it, as
// with any edit.
func Confirmed(ops []Op) []Op {
	var out []Op
	for _, op := range ops {
		if op.Kind == OpPut && op.In == "" {
			out = append(out, Op{Kind: OpDelete, Key: op.Key})
		}
		out = append(out, op)
	}
	return out
}

// ChangeInfo describes one change that a document consists of.
type ChangeInfo struct {
	Hash  Hash
	Actor Actor
	// Seq is the actor's sequence number inside the document, from 1.
	Seq uint64
	// StartOp and MaxOp are the change's first and last operation counters;
	// MaxOp is StartOp-1 when it has no operation.
	StartOp, MaxOp uint64
	// TimeMS is the commit time that the change states, in Unix milliseconds.
	TimeMS int64
	Deps   []Hash
}

// NodeKind tells what a [Node] holds.
type NodeKind uint8

// The kinds of a node.
const (
	NodeScalar NodeKind = 1
	NodeMap    NodeKind = 2
	NodeList   NodeKind = 3
	NodeText   NodeKind = 4
)

// Node is a value read back from a document.
type Node struct {
	Kind NodeKind
	// Scalar is the value of a NodeScalar (nil, bool, int64, uint64, float64,
	// string or []byte; counters and timestamps come as int64) and the string
	// of a NodeText.
	Scalar any
	// Fields are a map's entries in ascending key order.
	Fields []Field
	// Items are a list's elements in list order.
	Items []Written
}

// Field is one key of a map and every value that is concurrently set there:
// Values[0] is the winner that every replica agrees on, more than one value is
// an unresolved conflict.
type Field struct {
	Key    string
	Values []Written
}

// Written is a value with the operation that wrote it.
type Written struct {
	Node    Node
	Actor   Actor
	Counter uint64
}

// Field returns the values under key, or nil.
func (n Node) Field(key string) []Written {
	for i := range n.Fields {
		if n.Fields[i].Key == key {
			return n.Fields[i].Values
		}
	}
	return nil
}

// String returns the winning string under key, or "" when there is none.
func (n Node) String(key string) string {
	if v := n.Field(key); len(v) > 0 {
		s, _ := v[0].Node.Scalar.(string)
		return s
	}
	return ""
}

// Document is one document as the engine read it: the tree and the changes it
// was built from, in the order they were applied.
type Document struct {
	Root    Node
	Heads   []Hash
	Changes []ChangeInfo
}

// ChangeOf returns the change that holds an operation, so that a value's
// author and time can be shown.
func (d *Document) ChangeOf(w Written) (ChangeInfo, bool) {
	for _, c := range d.Changes {
		if c.Actor == w.Actor && w.Counter >= c.StartOp && w.Counter <= c.MaxOp {
			return c, true
		}
	}
	return ChangeInfo{}, false
}
