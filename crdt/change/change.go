package change

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/crdt"
)

// Limits bound what one change may hold.
type Limits struct {
	// BytesMax is the size of the encoded change.
	BytesMax int
	// OpsMax is the number of operations.
	OpsMax int
	// DepsMax and ActorsMax are the numbers of dependencies and other actors.
	DepsMax, ActorsMax int
}

// DefaultLimits are 1 MiB, 100,000 operations, 1,024 dependencies and actors.
// They are part of the verdict on a record and must be equal at all sites.
func DefaultLimits() Limits {
	return Limits{BytesMax: 1 << 20, OpsMax: 100_000, DepsMax: 1024, ActorsMax: 1024}
}

// Change is a decoded change. It shares memory with the input.
type Change struct {
	Hash    crdt.Hash
	Actor   crdt.Actor
	Seq     uint64
	StartOp uint64
	// Ops is the number of operations.
	Ops     uint64
	TimeMS  int64
	Message string
	Deps    []crdt.Hash
	// Made are the objects that it creates, Uses those of other changes that it
	// edits, each once.
	Made []Object
	Uses []Object

	// What [Tree] reads; nil without operations.
	table  *table
	actors []crdt.Actor
}

// Object is a map or a list (or text) of a document, by the operation that
// created it.
type Object struct {
	Actor   crdt.Actor
	Counter uint64
	List    bool
}

// Info returns what documents keep of a change.
func (c *Change) Info() crdt.ChangeInfo {
	return crdt.ChangeInfo{
		Hash: c.Hash, Actor: c.Actor, Seq: c.Seq, StartOp: c.StartOp, MaxOp: c.StartOp + c.Ops - 1,
		TimeMS: c.TimeMS, Deps: c.Deps,
	}
}

var magic = []byte{0x85, 0x6f, 0x4a, 0x83}

const chunkChange = 1

// Decode checks raw in full and returns what it says. The error wraps
// [ErrMalformed], [ErrTooLarge] or [ErrRefused] and names the place.
func Decode(raw []byte, lim Limits) (*Change, error) {
	if len(raw) > lim.BytesMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(raw), lim.BytesMax)
	}
	if len(raw) < 10 || !bytes.Equal(raw[:4], magic) {
		return nil, fmt.Errorf("%w: no chunk header", ErrMalformed)
	}
	if raw[8] != chunkChange {
		return nil, fmt.Errorf("%w: chunk of type %d, want an uncompressed change", ErrRefused, raw[8])
	}
	sum := sha256.Sum256(raw[8:])
	if !bytes.Equal(sum[:4], raw[4:8]) {
		return nil, fmt.Errorf("%w: checksum", ErrMalformed)
	}
	r := &reader{b: raw[9:]}
	if n := r.uleb("length"); r.err == nil && n != uint64(len(r.b)) {
		return nil, fmt.Errorf("%w: length %d, %d bytes follow", ErrMalformed, n, len(r.b))
	}
	whole := &struct {
		Change
		table
		own [1]crdt.Actor
	}{Change: Change{Hash: sum}}
	c := &whole.Change
	d := decoder{reader: r, lim: lim, c: c, t: &whole.table, actors: whole.own[:0]}
	d.header()
	d.columns()
	if r.err != nil {
		return nil, r.err
	}
	return c, nil
}

// decoder reads one change.
type decoder struct {
	*reader
	lim    Limits
	c      *Change
	t      *table              // c.table, once there are operations
	actors []crdt.Actor        // own actor first, then the others
	used   map[Object]struct{} // c.Uses, once there are many
	cells  []cell[uint64]      // room for columns
}

func (d *decoder) header() {
	n := d.uleb("dependencies")
	if n > uint64(d.lim.DepsMax) {
		d.fail(ErrTooLarge, "%d dependencies", n)
		return
	}
	for range n {
		var h crdt.Hash
		copy(h[:], d.take(32, "dependency"))
		if k := len(d.c.Deps); k > 0 && bytes.Compare(d.c.Deps[k-1][:], h[:]) >= 0 {
			d.fail(ErrMalformed, "dependencies are not ascending")
		}
		d.c.Deps = append(d.c.Deps, h)
	}
	d.c.Actor = d.actor()
	d.c.Seq, d.c.StartOp = d.uleb("seq"), d.uleb("start op")
	d.c.TimeMS = d.sleb("time")
	message := d.take(d.uleb("message"), "message")
	d.c.Message = string(message)
	if !utf8.Valid(message) {
		d.fail(ErrMalformed, "message is not UTF-8")
	}
	if d.c.Seq == 0 || d.c.StartOp == 0 || d.c.Seq > math.MaxInt64 || d.c.StartOp > math.MaxUint32-uint64(d.lim.OpsMax) {
		d.fail(ErrMalformed, "seq %d, start op %d", d.c.Seq, d.c.StartOp)
	}
	d.otherActors()
}

func (d *decoder) otherActors() {
	d.actors = append(d.actors, d.c.Actor)
	n := d.uleb("other actors")
	if n > uint64(d.lim.ActorsMax) {
		d.fail(ErrTooLarge, "%d other actors", n)
		return
	}
	for range n {
		a := d.actor()
		if k := len(d.actors); a == d.c.Actor || k > 1 && bytes.Compare(d.actors[k-1][:], a[:]) >= 0 {
			d.fail(ErrMalformed, "other actors are not ascending")
		}
		d.actors = append(d.actors, a)
	}
}

func (d *decoder) actor() (a crdt.Actor) {
	if n := d.uleb("actor"); d.err == nil && n != 16 {
		d.fail(ErrRefused, "actor id of %d bytes, want 16", n)
	}
	copy(a[:], d.take(16, "actor"))
	return a
}

// State is a document's history as far as [Fit] needs it.
type State interface {
	// MaxOp returns the highest operation counter of an applied change.
	MaxOp(hash crdt.Hash) (uint64, bool)
	// Actor returns an actor's last sequence number and highest operation
	// counter in the document; zeros for an actor that has not written.
	Actor(a crdt.Actor) (seq, maxOp uint64)
}

// Fit judges whether a change may be applied next: nil when it may,
// [ErrMissingDeps] when something that it follows has not come, [ErrMisfit]
// when it never may. It is a pure function of its arguments.
func Fit(c *Change, s State) error {
	var maxOp uint64
	for _, h := range c.Deps {
		m, ok := s.MaxOp(h)
		if !ok {
			return fmt.Errorf("%w: %s", ErrMissingDeps, h)
		}
		maxOp = max(maxOp, m)
	}
	seq, own := s.Actor(c.Actor)
	switch {
	case c.Seq > seq+1:
		return fmt.Errorf("%w: actor %s is at %d, change is %d", ErrMissingDeps, c.Actor, seq, c.Seq)
	case c.Seq <= seq:
		return fmt.Errorf("%w: actor %s is at %d already, change is %d", ErrMisfit, c.Actor, seq, c.Seq)
	case c.StartOp != maxOp+1:
		return fmt.Errorf("%w: starts at operation %d, dependencies end at %d", ErrMisfit, c.StartOp, maxOp)
	case c.StartOp <= own:
		return fmt.Errorf("%w: starts at operation %d, its actor is at %d", ErrMisfit, c.StartOp, own)
	}
	return nil
}
