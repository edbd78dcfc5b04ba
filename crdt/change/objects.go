package change

import (
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
)

// CheckObjects checks a document's changes, in causal order, against each
// other: each edits only objects that are among what it follows, maps by key
// and lists by element. The Automerge library aborts on anything else. The
// verdict does not depend on which causal order it is. The error wraps
// [ErrMalformed], or [ErrTooLarge] when changes and actors are so many that what
// each follows does not fit into memory.
func CheckObjects(changes []*Change) error {
	if !slices.ContainsFunc(changes, func(c *Change) bool { return len(c.Uses) > 0 }) {
		return nil
	}
	actors := map[crdt.Actor]struct{}{}
	for _, c := range changes {
		actors[c.Actor] = struct{}{}
	}
	if len(changes)*len(actors) > clocksMax {
		return fmt.Errorf("%w: %d changes of %d actors", ErrTooLarge, len(changes), len(actors))
	}
	var o objects
	for _, c := range changes {
		if err := o.add(c); err != nil {
			return err
		}
	}
	return nil
}

// objects are the objects of changes, and what each of these follows.
type objects struct {
	made map[opID]maker
	past pasts
	n    int // changes
}

// maker is the change that made an object.
type maker struct {
	seq  uint64
	list bool
}

// add checks the next change.
func (o *objects) add(c *Change) error {
	clock := o.past.add(c)
	for _, u := range c.Uses {
		m, ok := o.made[opID{u.Counter, u.Actor}]
		if !ok || m.seq > clock.of(o.past.actor(u.Actor)) || m.list != u.List {
			return fmt.Errorf("%w: change %d edits object %d of %s, which it does not follow, or is of another kind", ErrMalformed, o.n, u.Counter, u.Actor)
		}
	}
	for _, m := range c.Made {
		if o.made == nil {
			o.made = map[opID]maker{}
		}
		o.made[opID{m.Counter, m.Actor}] = maker{c.Seq, m.List}
	}
	o.n++
	return nil
}

// clocksMax bounds the entries of all clocks of a document, of eight bytes each:
// 10,000 changes of 1,600 actors, that is, leaderships.
const clocksMax = 16 << 20

// clock is, by actor, the last sequence number that a change follows.
type clock []uint64

func (c clock) of(actor int) uint64 {
	if actor < len(c) {
		return c[actor]
	}
	return 0
}

// pasts are the clocks of changes.
type pasts struct {
	actors []crdt.Actor
	clocks map[crdt.Hash]clock
}

// actor returns an actor's place in the clocks.
func (p *pasts) actor(a crdt.Actor) int {
	if i := slices.Index(p.actors, a); i >= 0 {
		return i
	}
	p.actors = append(p.actors, a)
	return len(p.actors) - 1
}

// add returns the clock of the next change, itself included.
func (p *pasts) add(c *Change) clock {
	if p.clocks == nil {
		p.clocks = map[crdt.Hash]clock{}
	}
	own := p.actor(c.Actor)
	out := make(clock, len(p.actors))
	for _, d := range c.Deps {
		for i, seq := range p.clocks[d] {
			out[i] = max(out[i], seq)
		}
	}
	out[own] = c.Seq
	p.clocks[c.Hash] = out
	return out
}
