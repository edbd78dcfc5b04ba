package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
)

// Engine makes and reads Automerge documents. It is safe for concurrent use.
type Engine struct {
	limits change.Limits
	doc    Limits
	runner runner
	// library leaves every document to the library: it is the oracle of tests.
	library bool
}

// Limits bound what one document may hold; past them it is neither read nor
// edited. They are no part of the verdict on a record: whichever record comes
// last would differ between sites.
type Limits struct {
	// BytesMax is the size of its changes together.
	BytesMax int
	// OpsMax is the number of their operations.
	OpsMax uint64
}

// DefaultLimits are 16 MiB and 100,000 operations.
func DefaultLimits() Limits { return Limits{BytesMax: 16 << 20, OpsMax: 100_000} }

// New returns an engine in this process with the default limits: for documents
// that hold this site's own changes only, and for simulation.
func New() *Engine { return NewLimited(DefaultLimits()) }

// NewLimited returns an engine in this process with the given limits of a
// document.
func NewLimited(doc Limits) *Engine {
	return &Engine{limits: change.DefaultLimits(), doc: doc, runner: direct{}}
}

// NewIsolated returns an engine in other processes, for documents with changes
// from elsewhere.
func NewIsolated(w *Workers) *Engine {
	return &Engine{limits: change.DefaultLimits(), doc: DefaultLimits(), runner: w}
}

// Built is a new change.
type Built struct {
	Raw  []byte
	Info crdt.ChangeInfo
}

// Build makes one change by actor on top of base (raw changes in causal order;
// nil for a new document), with the given commit time. Equal input gives equal
// bytes. The change depends on the heads of base and, when that is not one of
// them, on its actor's previous change. The error wraps [ErrUnchanged],
// [ErrTooLarge], [ErrOps], [ErrEngine], [ErrHeads], [ErrPoisoned],
// [crdt.ErrUnavailable] or what [change.Decode] returns.
func (e *Engine) Build(base [][]byte, actor crdt.Actor, timeMS int64, ops []crdt.Op) (Built, error) {
	if len(ops) == 0 {
		return Built{}, fmt.Errorf("%w: none", ErrOps)
	}
	if err := checkOps(ops); err != nil {
		return Built{}, err
	}
	if len(base) == 0 && !e.library {
		raw, info, ok := change.First(actor, timeMS, ops)
		if ok && len(raw) <= e.limits.BytesMax && len(ops) <= e.limits.OpsMax {
			return Built{Raw: raw, Info: info}, nil
		}
	}
	infos, _, err := e.decode(base)
	if err != nil {
		return Built{}, err
	}
	raw, err := e.runner.run(context.Background(), job{Loaded: slices.Concat(base...), Program: encodeOps(ops), Actor: actor[:], TimeMS: timeMS})
	if err != nil {
		return Built{}, err
	}
	if len(raw) == 0 {
		return Built{}, ErrUnchanged
	}
	c, err := change.Decode(raw, e.limits)
	if err != nil {
		return Built{}, fmt.Errorf("built change: %w", err)
	}
	if missing := without(heads(infos), c.Deps); len(missing) > 0 {
		return Built{}, fmt.Errorf("%w: the new change does not follow %v", ErrHeads, missing)
	}
	return Built{Raw: raw, Info: c.Info()}, nil
}

// Read applies changes, given in causal order, and walks the document. Nearly all
// documents are read without the library (see [change.Tree]). decoded may hold
// what [change.Decode] made of the changes, under the default limits. The
// result's changes stand in the order given. The error wraps [ErrTooLarge],
// [ErrEngine], [ErrHeads], [ErrPoisoned], [crdt.ErrUnavailable] or what
// [change.Decode] returns.
func (e *Engine) Read(changes [][]byte, decoded ...*change.Change) (*crdt.Document, error) {
	infos, decoded, err := e.decode(changes, decoded...)
	if err != nil {
		return nil, err
	}
	if !e.library {
		if err := causal(infos); err != nil {
			return nil, err
		}
		root, err := change.Tree(decoded)
		if err == nil {
			return &crdt.Document{Root: root, Heads: heads(infos), Changes: infos}, nil
		}
		if !errors.Is(err, change.ErrUnsupported) {
			return nil, err
		}
	}
	walked, err := e.runner.run(context.Background(), job{Loaded: slices.Concat(changes...)})
	if err != nil {
		return nil, err
	}
	doc, err := decodeWalk(walked)
	if err != nil {
		return nil, err
	}
	if want := heads(infos); !sameHeads(doc.Heads, want) {
		return nil, fmt.Errorf("%w: %v, want %v", ErrHeads, doc.Heads, want)
	}
	doc.Changes = infos
	return doc, nil
}

// decode checks changes, each and against each other, and counts them against
// the document's limits; those that were decoded before are not decoded again.
func (e *Engine) decode(changes [][]byte, before ...*change.Change) ([]crdt.ChangeInfo, []*change.Change, error) {
	infos, decoded := make([]crdt.ChangeInfo, len(changes)), make([]*change.Change, len(changes))
	copy(decoded, before)
	size, ops := 0, uint64(0)
	for i, raw := range changes {
		size += len(raw)
		c := decoded[i]
		if c == nil {
			var err error
			if c, err = change.Decode(raw, e.limits); err != nil {
				return nil, nil, fmt.Errorf("change %d: %w", i, err)
			}
		}
		infos[i], decoded[i] = c.Info(), c
		if ops += c.Ops; size > e.doc.BytesMax || ops > e.doc.OpsMax {
			return nil, nil, fmt.Errorf("%w: more than %d bytes or %d operations in %d changes", ErrTooLarge, e.doc.BytesMax, e.doc.OpsMax, len(changes))
		}
	}
	if len(changes) > 1 || len(changes) == 1 && len(decoded[0].Uses) > 0 {
		if err := change.CheckObjects(decoded); err != nil {
			return nil, nil, err
		}
	}
	return infos, decoded, nil
}

// causal returns [ErrHeads] unless each change follows what it depends on and
// comes once.
func causal(infos []crdt.ChangeInfo) error {
	if len(infos) == 1 && len(infos[0].Deps) == 0 {
		return nil
	}
	there := make(map[crdt.Hash]struct{}, len(infos))
	for i, c := range infos {
		for _, d := range c.Deps {
			if _, ok := there[d]; !ok {
				return fmt.Errorf("%w: change %d follows %s, which does not stand before it", ErrHeads, i, d)
			}
		}
		there[c.Hash] = struct{}{}
		if len(there) != i+1 {
			return fmt.Errorf("%w: change %d comes twice", ErrHeads, i)
		}
	}
	return nil
}

// heads returns the changes on which no other one depends.
func heads(infos []crdt.ChangeInfo) []crdt.Hash {
	inner := map[crdt.Hash]struct{}{}
	for _, c := range infos {
		for _, d := range c.Deps {
			inner[d] = struct{}{}
		}
	}
	var out []crdt.Hash
	for _, c := range infos {
		if _, ok := inner[c.Hash]; !ok {
			out = append(out, c.Hash)
		}
	}
	return out
}

// without returns what of a is not in b.
func without(a, b []crdt.Hash) []crdt.Hash {
	return slices.DeleteFunc(a, func(h crdt.Hash) bool { return slices.Contains(b, h) })
}

func sameHeads(a, b []crdt.Hash) bool {
	order := func(x, y crdt.Hash) int { return slices.Compare(x[:], y[:]) }
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, order)
	slices.SortFunc(b, order)
	return slices.Equal(a, b)
}

// byPrecedence orders concurrent values as every replica does: the higher
// operation counter first, then the higher actor id.
func byPrecedence(a, b crdt.Written) int {
	return cmp.Or(cmp.Compare(b.Counter, a.Counter), slices.Compare(b.Actor[:], a.Actor[:]))
}
