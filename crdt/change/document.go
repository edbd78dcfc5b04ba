package change

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
)

// Document is a document that changes are added to as they come: it costs what the
// new ones hold, not what all do. It shows what [Tree] shows of the same changes,
// and makes the change that the Automerge library makes of an edit. It is rebuilt
// from changes whenever it is missing, and is never the truth. After an error it
// must be let go of. The zero Document is empty. It belongs to one goroutine; what
// it returns is the caller's, and does not change.
type Document struct {
	tree    tree
	root    object
	objects objects
	infos   []crdt.ChangeInfo
	heads   []crdt.Hash
	actors  map[crdt.Actor]crdt.ChangeInfo // the last change of each
	maxOp   uint64
	ops     uint64
	size    int
}

// Add takes in the next change; what it follows was added before. The error wraps
// [ErrUnsupported], [ErrMissingDeps], [ErrMisfit] or what [CheckObjects] returns.
func (d *Document) Add(c *Change) error {
	if _, twice := d.objects.past.clocks[c.Hash]; twice {
		return fmt.Errorf("%w: change %s comes twice", ErrMisfit, c.Hash)
	}
	for _, h := range c.Deps {
		if _, ok := d.objects.past.clocks[h]; !ok {
			return fmt.Errorf("%w: %s", ErrMissingDeps, h)
		}
	}
	if (len(d.infos)+1)*(len(d.actors)+1) > clocksMax {
		return fmt.Errorf("%w: %d changes of %d actors", ErrTooLarge, len(d.infos)+1, len(d.actors)+1)
	}
	if err := d.objects.add(c); err != nil {
		return err
	}
	for i := range int(c.Ops) {
		if err := d.tree.apply(&d.root, c, i); err != nil {
			return err
		}
	}
	info := c.Info()
	info.Deps = slices.Clone(c.Deps)
	d.infos = append(d.infos, info)
	d.heads = slices.DeleteFunc(d.heads, func(h crdt.Hash) bool { return slices.Contains(c.Deps, h) })
	d.heads = append(d.heads, c.Hash)
	if d.actors == nil {
		d.actors = map[crdt.Actor]crdt.ChangeInfo{}
	}
	d.actors[c.Actor] = info
	d.maxOp, d.ops = max(d.maxOp, info.MaxOp), d.ops+c.Ops
	d.size += changeBytes + len(c.Deps)*len(crdt.Hash{}) + 8*len(d.actors) + int(c.Ops)*opBytes
	if c.table != nil {
		for _, v := range c.table.values {
			d.size += len(v)
		}
	}
	return nil
}

// About what a [Document] keeps of a change, and of an operation, in bytes.
const (
	changeBytes = 384
	opBytes     = 320
)

// Size is about what the document takes in memory, in bytes, at most: values that
// were overwritten are counted, though they are let go of.
func (d *Document) Size() int { return d.size }

// Ops is how many operations its changes hold.
func (d *Document) Ops() uint64 { return d.ops }

// Len is how many changes were added.
func (d *Document) Len() int { return len(d.infos) }

// Heads returns the changes on which no other one depends.
func (d *Document) Heads() []crdt.Hash { return slices.Clone(d.heads) }

// Read returns the document. The error wraps [ErrUnsupported].
func (d *Document) Read() (*crdt.Document, error) {
	t := tree{} // of its own, so that nothing is written to that an earlier reader has
	root, err := t.node(&d.root, 0)
	if err != nil {
		return nil, err
	}
	n := len(d.infos)
	return &crdt.Document{Root: root, Heads: d.Heads(), Changes: d.infos[:n:n]}, nil
}

// Edit encodes the change that an actor makes of operations on the document: the
// bytes that the Automerge library makes of the same. raw is nil, with ok, when they
// change nothing. It returns false for operations that are left to the library: what
// [First] leaves to it, on a place that the same change made or wrote, in a list out
// of which something was deleted, over a counter, or that name no container.
// Strings must be UTF-8; the caller checks the result with [Decode].
func (d *Document) Edit(actor crdt.Actor, timeMS int64, ops []crdt.Op) (raw []byte, ok bool) {
	if len(ops) == 0 || len(ops) > firstOpsMax || len(d.infos) == 0 {
		return nil, false
	}
	p := editing{d: d, actor: actor, others: map[crdt.Actor]uint64{}, last: map[*object]opID{}}
	for i, op := range ops {
		if !p.add(op, ops[:i]) {
			return nil, false
		}
	}
	if len(p.steps) == 0 {
		return nil, true
	}
	return p.encode(timeMS), true
}

// step is an operation with the places that it refers to.
type step struct {
	op      crdt.Op
	in      opID // zero for the root
	element opID // that it is inserted behind; zero for a list's head
	preds   []opID
}

// editing is a change under construction.
type editing struct {
	d      *Document
	actor  crdt.Actor
	steps  []step
	others map[crdt.Actor]uint64 // actors that are referred to, and their places
	last   map[*object]opID      // the last elements of lists that grew
}

// next is the identifier of the next operation.
func (p *editing) next() opID { return opID{p.d.maxOp + 1 + uint64(len(p.steps)), p.actor} }

// add takes in an operation; earlier are those before it.
func (p *editing) add(op crdt.Op, earlier []crdt.Op) bool {
	appends := op.Kind == crdt.OpAppend
	if (appends || op.Kind == crdt.OpPut) && !isScalar(op.Value) {
		return false
	}
	for _, o := range earlier {
		wrote := o.Kind != crdt.OpAppend && o.Key != ""
		if wrote && (o.In == "" && o.Key == op.In || !appends && o.In == op.In && o.Key == op.Key) {
			return false
		}
	}
	s := step{op: op}
	o := &p.d.root
	if op.In != "" {
		w, found := p.d.root.find(op.In).winner()
		if !found || w.child == nil {
			return false
		}
		s.in, o = w.id, w.child
	}
	switch {
	case o.list != appends, appends && op.In == "":
		return false
	case appends:
		return p.insert(o, s)
	case op.Key == "":
		return false
	case op.Kind == crdt.OpMakeMap, op.Kind == crdt.OpMakeList:
		if op.In != "" {
			return false
		}
	case op.Kind != crdt.OpPut && op.Kind != crdt.OpDelete:
		return false
	}
	at := o.find(op.Key)
	for _, w := range at.live() {
		if w.timed {
			return false
		}
		s.preds = append(s.preds, w.id)
	}
	if op.Kind == crdt.OpDelete && len(s.preds) == 0 || op.Kind == crdt.OpPut && at.holds(op.Value) {
		return true // nothing to do
	}
	p.take(s)
	return true
}

// isScalar reports whether a value is one that documents hold.
func isScalar(v crdt.Scalar) bool {
	switch v.(type) {
	case nil, bool, int64, float64, string, []byte:
		return true
	}
	return false
}

// insert takes in an operation that appends to a list.
func (p *editing) insert(o *object, s step) bool {
	if o.deleted {
		return false // what stands last cannot be seen
	}
	last, grew := p.last[o]
	if !grew && o.last != nil {
		last = o.last.id
	}
	s.element = last
	p.last[o] = p.next()
	p.take(s)
	return true
}

// take adds a step, and notes the actors that it refers to.
func (p *editing) take(s step) {
	for _, id := range append([]opID{s.in, s.element}, s.preds...) {
		if id.counter > 0 && id.actor != p.actor {
			p.others[id.actor] = 0
		}
	}
	p.steps = append(p.steps, s)
}

// encode encodes the change.
func (p *editing) encode(timeMS int64) []byte {
	others := make([]crdt.Actor, 0, len(p.others))
	for a := range p.others {
		others = append(others, a)
	}
	slices.SortFunc(others, func(a, b crdt.Actor) int { return bytes.Compare(a[:], b[:]) })
	for i, a := range others {
		p.others[a] = uint64(i) + 1 // behind its own
	}
	e := encoders.Get().(*encoder)
	defer e.release()
	for _, s := range p.steps {
		e.edit(s, p.others)
	}
	deps := p.d.Heads()
	previous := p.d.actors[p.actor]
	if previous.Seq > 0 && !slices.Contains(deps, previous.Hash) {
		deps = append(deps, previous.Hash)
	}
	slices.SortFunc(deps, func(a, b crdt.Hash) int { return bytes.Compare(a[:], b[:]) })
	body := appendULEB(e.body, uint64(len(deps)))
	for _, h := range deps {
		body = append(body, h[:]...)
	}
	body = append(append(body, 16), p.actor[:]...)
	body = appendULEB(appendULEB(body, previous.Seq+1), p.d.maxOp+1)
	body = append(appendSLEB(body, timeMS), 0) // no message
	body = appendULEB(body, uint64(len(others)))
	for _, a := range others {
		body = append(append(body, 16), a[:]...)
	}
	body = e.appendColumns(body)
	e.body = body[:0]
	raw, _ := seal(body)
	return raw
}

// edit takes in a step; places are those of other actors.
func (e *encoder) edit(s step, places map[crdt.Actor]uint64) {
	appends := s.op.Kind == crdt.OpAppend
	e.objActor.add(places[s.in.actor], s.in.counter == 0)
	e.objCtr.add(s.in.counter, s.in.counter == 0)
	e.keyStr.add(s.op.Key, appends)
	e.keyActor.add(places[s.element.actor], s.element.counter == 0)
	e.keyCtr.add(int64(s.element.counter)-e.keyAt, !appends)
	if appends {
		e.keyAt = int64(s.element.counter)
	}
	e.insert = append(e.insert, appends)
	e.preds.groups.add(uint64(len(s.preds)), false)
	for _, p := range s.preds {
		e.preds.actor.add(places[p.actor], false)
		e.preds.ctr.add(int64(p.counter)-e.preds.at, false)
		e.preds.at = int64(p.counter)
	}
	action, known := actions[s.op.Kind]
	if !known {
		e.action.add(actSet, false)
		e.value(s.op.Value) // a scalar
		return
	}
	e.action.add(action, false)
	e.meta.add(0, false)
}

// actions are the actions of operations that have no value.
var actions = map[crdt.OpKind]uint64{crdt.OpMakeMap: actMakeMap, crdt.OpMakeList: actMakeList, crdt.OpDelete: actDelete}

// find returns a map's slot, or nil.
func (o *object) find(key string) *slot {
	if o.byKey != nil {
		return o.byKey[key]
	}
	for _, s := range o.slots {
		if s.key == key {
			return s
		}
	}
	return nil
}

// live returns the writes that stand, by ascending identifier.
func (s *slot) live() []write {
	if s == nil || s.standing == 0 {
		return nil
	}
	out := make([]write, 0, s.standing)
	for _, w := range slices.Backward(s.writes) {
		if !w.gone {
			if out = append(out, w); len(out) == s.standing {
				break
			}
		}
	}
	slices.Reverse(out)
	return out
}

// winner returns the write that is shown.
func (s *slot) winner() (write, bool) {
	live := s.live()
	if len(live) == 0 {
		return write{}, false
	}
	return live[len(live)-1], true
}

// holds reports whether a value stands in a slot, and nothing else: to put it there
// again changes nothing.
func (s *slot) holds(v crdt.Scalar) bool {
	live := s.live()
	if len(live) != 1 || live[0].child != nil {
		return false
	}
	a, isBytes := live[0].value.([]byte)
	b, want := v.([]byte)
	if isBytes || want {
		return isBytes && want && bytes.Equal(a, b)
	}
	return live[0].value == v
}
