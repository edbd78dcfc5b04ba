package change

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
)

// ErrUnsupported reports a document that [Tree] does not read: one with text,
// with counters that are incremented, or with an operation that refers to one
// that is not there. The Automerge library has the last word on those.
var ErrUnsupported = errors.New("change: document needs the Automerge library")

// depthMax bounds how deeply objects may nest.
const depthMax = 32

// Tree reads the document that changes make: each was returned by [Decode], all
// that they depend on are among them, and [CheckObjects] passed. The order does
// not matter. It takes the operations by ascending identifier (counter, then
// actor), which makes every rule of Automerge's simple: what an operation
// overwrites is there already, and an insertion is always the latest one, so
// that it stands right behind the element that it names. The error wraps
// [ErrUnsupported].
func Tree(changes []*Change) (crdt.Node, error) {
	t, root := tree{}, &object{}
	ops := 0
	for _, c := range changes {
		ops += int(c.Ops)
	}
	t.slots, t.values = make([]slot, 0, min(ops, roomFor)), make([]crdt.Written, 0, min(ops, roomFor))
	if len(changes) == 1 { // as most documents have
		for i := range int(changes[0].Ops) {
			if err := t.apply(root, changes[0], i); err != nil {
				return crdt.Node{}, err
			}
		}
		return t.node(root, 0)
	}
	for _, r := range order(changes, ops) {
		if err := t.apply(root, r.c, r.row); err != nil {
			return crdt.Node{}, err
		}
	}
	return t.node(root, 0)
}

// opID names an operation.
type opID struct {
	counter uint64
	actor   crdt.Actor
}

func (a opID) compare(b opID) int {
	return cmp.Or(cmp.Compare(a.counter, b.counter), bytes.Compare(a.actor[:], b.actor[:]))
}

// row is one operation of a change.
type row struct {
	c   *Change
	row int
}

// order returns all operations by ascending identifier.
func order(changes []*Change, ops int) []row {
	out := make([]row, 0, ops)
	for _, c := range changes {
		for i := range int(c.Ops) {
			out = append(out, row{c, i})
		}
	}
	slices.SortFunc(out, func(a, b row) int { return a.c.id(a.row).compare(b.c.id(b.row)) })
	return out
}

func (c *Change) id(row int) opID { return opID{c.StartOp + uint64(row), c.Actor} }

// tree is a document under construction.
type tree struct {
	objects map[opID]*object // all but the root
	// slots and values are room for more of them.
	slots  []slot
	values []crdt.Written
}

// roomFor is for how many slots and values room is made at once.
const roomFor = 8

// newSlot returns an empty slot.
func (t *tree) newSlot(key string) *slot {
	if len(t.slots) == cap(t.slots) {
		t.slots = make([]slot, 0, roomFor)
	}
	t.slots = append(t.slots, slot{key: key})
	s := &t.slots[len(t.slots)-1]
	s.writes = s.first[:0]
	return s
}

// object is a map, or a list as a chain of elements behind a head that holds
// none.
type object struct {
	list  bool
	slots []*slot
	byKey map[string]*slot // slots by key, once there are many
	head  element
	last  *element // of a list; nil while it is empty
	byID  map[opID]*element
	// deleted says that an element of a list was.
	deleted bool
}

// slot is one place for a value: all operations that wrote it, by ascending
// identifier.
type slot struct {
	key      string
	writes   []write
	standing int      // how many are not gone
	first    [1]write // room for the only one of most
}

type write struct {
	id    opID
	gone  bool // overwritten or deleted
	timed bool // a counter or a timestamp, whose value looks like an integer's
	child *object
	value crdt.Scalar
}

type element struct {
	*slot
	id   opID // of the operation that inserted it
	next *element
}

// manySlots is from how many keys on a map is searched by hash.
const manySlots = 16

func (t *tree) slot(o *object, key string) *slot {
	if o.byKey != nil {
		if s := o.byKey[key]; s != nil {
			return s
		}
	} else if i := slices.IndexFunc(o.slots, func(s *slot) bool { return s.key == key }); i >= 0 {
		return o.slots[i]
	}
	s := t.newSlot(key)
	o.slots = append(o.slots, s)
	switch {
	case o.byKey != nil:
		o.byKey[key] = s
	case len(o.slots) > manySlots:
		o.byKey = make(map[string]*slot, 2*manySlots)
		for _, s := range o.slots {
			o.byKey[s.key] = s
		}
	}
	return s
}

// apply carries out one operation.
func (t *tree) apply(root *object, c *Change, i int) error {
	tab := c.table
	o := root
	if ctr := at(tab.objCtr, i); !ctr.null {
		if o = t.objects[opID{ctr.v, c.actors[at(tab.objActor, i).v]}]; o == nil {
			return ErrUnsupported
		}
	}
	id, action := c.id(i), at(tab.action, i).v
	s, err := t.place(o, c, i)
	if err != nil {
		return err
	}
	if err := s.overwrite(c, i); err != nil {
		return err
	}
	w := write{id: id}
	switch action {
	case actDelete:
		o.deleted = true
		return nil
	case actSet:
		kind := at(tab.meta, i).v & 15
		w.value, w.timed = scalar(kind, tab.values[i]), kind == valCounter || kind == valTimestamp
	case actMakeMap, actMakeList:
		w.child = &object{list: action == actMakeList}
		if t.objects == nil {
			t.objects = map[opID]*object{}
		}
		t.objects[id] = w.child
	default:
		return ErrUnsupported
	}
	s.add(w)
	return nil
}

// add takes in a write. It is the latest one, as a rule.
func (s *slot) add(w write) {
	s.standing++
	k := len(s.writes)
	for k > 0 && w.id.compare(s.writes[k-1].id) < 0 {
		k--
	}
	s.writes = slices.Insert(s.writes, k, w)
}

// place finds the slot that an operation writes, or makes it.
func (t *tree) place(o *object, c *Change, i int) (*slot, error) {
	tab := c.table
	if key := at(tab.keyStr, i); !key.null {
		if o.list {
			return nil, ErrUnsupported
		}
		return t.slot(o, key.v), nil
	}
	behind := &o.head
	if a := at(tab.keyActor, i); !a.null {
		behind = o.byID[opID{uint64(at(tab.keyCtr, i).v), c.actors[a.v]}]
	}
	switch {
	case !o.list || behind == nil:
		return nil, ErrUnsupported
	case tab.insert == nil || !tab.insert[i]:
		if behind.slot == nil {
			return nil, ErrUnsupported // the head
		}
		return behind.slot, nil
	}
	// Whatever else was inserted there, and behind that, by a later operation stands
	// before it. In ascending order there is none.
	id := c.id(i)
	for behind.next != nil && behind.next.id.compare(id) > 0 {
		behind = behind.next
	}
	e := &element{id: id, slot: t.newSlot(""), next: behind.next}
	if behind.next = e; e.next == nil {
		o.last = e
	}
	if o.byID == nil {
		o.byID = map[opID]*element{}
	}
	o.byID[id] = e
	return e.slot, nil
}

// overwrite marks what an operation replaces or deletes.
func (s *slot) overwrite(c *Change, i int) error {
	from := c.table.predAt[i]
	for j := from; j < from+int(at(c.table.predGroup, i).v); j++ {
		id := opID{uint64(c.table.predCtr[j].v), c.actors[c.table.predActor[j].v]}
		// Both are in ascending order.
		k, found := slices.BinarySearchFunc(s.writes, id, func(w write, id opID) int { return w.id.compare(id) })
		if !found {
			return ErrUnsupported
		}
		if w := &s.writes[k]; !w.gone {
			w.gone, w.value = true, nil
			s.standing--
		}
	}
	return nil
}

// room returns an empty list with room for n values.
func (t *tree) room(n int) []crdt.Written {
	at := len(t.values)
	if cap(t.values)-at < n {
		t.values, at = make([]crdt.Written, 0, max(n, roomFor)), 0
	}
	t.values = t.values[:at+n]
	return t.values[at : at : at+n]
}

// visible returns the values of a slot, the winner first: the highest
// identifier wins on every replica.
func (t *tree) visible(s *slot, depth int) ([]crdt.Written, error) {
	out := t.room(s.standing)
	for _, w := range slices.Backward(s.writes) {
		if len(out) == s.standing {
			break // what is older is gone
		}
		if w.gone {
			continue
		}
		n := crdt.Node{Kind: crdt.NodeScalar, Scalar: w.value}
		if w.child != nil {
			var err error
			if n, err = t.node(w.child, depth+1); err != nil {
				return nil, err
			}
		}
		out = append(out, crdt.Written{Node: n, Actor: w.id.actor, Counter: w.id.counter})
	}
	return out, nil
}

// node returns what an object shows.
func (t *tree) node(o *object, depth int) (crdt.Node, error) {
	if depth > depthMax {
		return crdt.Node{}, ErrUnsupported
	}
	if !o.list {
		n := crdt.Node{Kind: crdt.NodeMap}
		for _, s := range o.slots {
			values, err := t.visible(s, depth)
			if err != nil {
				return crdt.Node{}, err
			}
			if len(values) > 0 {
				if n.Fields == nil {
					n.Fields = make([]crdt.Field, 0, len(o.slots))
				}
				n.Fields = append(n.Fields, crdt.Field{Key: s.key, Values: values})
			}
		}
		slices.SortFunc(n.Fields, func(a, b crdt.Field) int { return strings.Compare(a.Key, b.Key) })
		return n, nil
	}
	n := crdt.Node{Kind: crdt.NodeList}
	for e := o.head.next; e != nil; e = e.next {
		values, err := t.visible(e.slot, depth)
		if err != nil {
			return crdt.Node{}, err
		}
		if len(values) > 0 {
			n.Items = append(n.Items, values[0])
		}
	}
	return n, nil
}

// scalar decodes a value that was checked: its type and its bytes.
func scalar(kind uint64, b []byte) crdt.Scalar {
	switch r := (&reader{b: b}); kind {
	case valFalse, valTrue:
		return kind == valTrue
	case valUint:
		return r.uleb("value")
	case valInt, valCounter, valTimestamp:
		return r.sleb("value")
	case valFloat:
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	case valString:
		return string(b)
	case valBytes:
		return append([]byte{}, b...) // never nil, which is another value in a view
	default:
		return nil
	}
}
