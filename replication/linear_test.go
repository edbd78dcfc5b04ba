package replication_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
)

// cas is one operation of the linearizability test: read the document's value,
// or write a value on top of one that was read.
type cas struct {
	write    bool
	old, new string
}

// result is what an operation came to.
type result struct {
	value   string // of a read
	ok      bool   // of a write: done or rejected
	unknown bool
}

// register is the sequential model of a document as a compare-and-set register.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in, out, now := input.(cas), output.(result), state.(string)
		switch {
		case !in.write:
			return out.value == now, now
		case out.unknown:
			return false, now // settle decides on these before the check
		case out.ok:
			return in.old == now, in.new
		default:
			return in.old != now, now
		}
	},
}

// history is what the clients of one document saw, for Porcupine.
type history struct {
	start time.Time

	mu  sync.Mutex // guards ops
	ops []porcupine.Operation
}

func newHistory() *history { return &history{start: time.Now()} }

// note adds an operation that began at call; each is a client of its own, since
// one of unknown outcome may take effect after its client went on.
func (h *history) note(in cas, call time.Duration, out result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{
		ClientId: len(h.ops), Input: in, Call: int64(call), Output: out, Return: int64(time.Since(h.start)),
	})
}

func (h *history) size() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// grow waits until the history has n more operations.
func (h *history) grow(t *testing.T, n int) {
	t.Helper()
	ctx := limited(t)
	for want := h.size() + n; h.size() < want; {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatal("the clients do not get on")
		}
	}
}

// check fails when the history is not linearizable, or when a planted defect
// goes unnoticed.
func (h *history) check(t *testing.T) {
	t.Helper()
	if !porcupine.CheckOperations(register, settle(h.ops)) {
		t.Fatal("the history is not linearizable")
	}
	unknown := 0
	for _, o := range h.ops {
		if o.Output.(result).unknown {
			unknown++
		}
	}
	t.Logf("%d operations, %d of unknown outcome", len(h.ops), unknown)
	h.ops[len(h.ops)/2].Output = result{value: "never written"}
	h.ops[len(h.ops)/2].Input = cas{}
	if porcupine.CheckOperations(register, settle(h.ops)) {
		t.Fatal("the check cannot fail")
	}
}

// TestLinearizable: concurrent clients of one document, and a node that is
// killed under them, give a history that Porcupine accepts. A write of unknown
// outcome is taken as done when its value was ever read, and left out
// otherwise.
func TestLinearizable(t *testing.T) {
	dir := t.TempDir()
	h := newHistory()
	for round := range 3 {
		g := open(t, dir)
		var clients sync.WaitGroup
		for c := range 4 {
			clients.Go(func() {
				for i := 0; casOnce(t, g, h, fmt.Sprintf("%d-%d-%d", round, c, i)); i++ {
				}
			})
		}
		h.grow(t, 120)
		if err := g.Abandon(); err != nil {
			t.Fatal(err)
		}
		clients.Wait()
	}
	h.check(t)
}

// casOnce reads the document and writes a value on top of what it read. It
// returns false when the node cannot go on.
func casOnce(t *testing.T, g *replication.Group, h *history, next string) bool {
	t.Helper()
	call := time.Since(h.start)
	if err := g.Linearize(context.Background()); err != nil {
		return false
	}
	document, value, err := read(g)
	if err != nil {
		if !errors.Is(err, store.ErrClosed) {
			t.Error(err)
		}
		return false
	}
	h.note(cas{}, call, result{value: value})
	_, actor, err := g.Actor()
	if err != nil {
		return false
	}
	b, err := engine.New().Build(document.Raw, actor, 1, []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: next}})
	if err != nil {
		t.Error(err)
		return false
	}
	call = time.Since(h.start)
	_, err = g.Append(context.Background(), "", []store.Item{{Stream: stream, Doc: "event:x", Base: document.Heads, Time: 1, Change: b.Raw}})
	out := result{ok: err == nil, unknown: errors.Is(err, replication.ErrUnknown)}
	if err != nil && !out.unknown && !errors.Is(err, store.ErrMoved) {
		if !errors.Is(err, replication.ErrNotLeader) && !errors.Is(err, replication.ErrClosed) {
			t.Errorf("write: %v", err)
		}
		return false
	}
	h.note(cas{write: true, old: value, new: next}, call, out)
	return !out.unknown
}

// settle decides on the writes of unknown outcome: done if their value was read
// or built upon, at some time up to the end; else left out.
func settle(in []porcupine.Operation) (out []porcupine.Operation) {
	seen, end := map[string]bool{}, int64(0)
	for _, o := range in {
		seen[o.Output.(result).value] = true
		seen[o.Input.(cas).old] = true
		end = max(end, o.Return)
	}
	for _, o := range in {
		if r := o.Output.(result); r.unknown {
			if !seen[o.Input.(cas).new] {
				continue
			}
			o.Output, o.Return = result{ok: true}, end+1
		}
		out = append(out, o)
	}
	return out
}

func read(g *replication.Group) (*store.Changes, string, error) {
	history, err := g.Store().Changes(store.DocKey{Stream: stream, Doc: "event:x"})
	if errors.Is(err, store.ErrNotFound) {
		return &store.Changes{}, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	doc, err := engine.New().Read(history.Raw)
	if err != nil {
		return nil, "", err
	}
	return history, doc.Root.String("k"), nil
}
