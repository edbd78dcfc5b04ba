package replication_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/oracle"
)

// history is what the clients of one document saw, for Porcupine.
type history struct {
	start time.Time

	mu  sync.Mutex // guards ops
	ops []oracle.Op
}

func newHistory() *history { return &history{start: time.Now()} }

// note adds an operation that began at call.
func (h *history) note(op oracle.Op, call time.Duration) {
	op.Object, op.Call, op.Return = "event:x", call, time.Since(h.start)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
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
	if v := oracle.Linearizable(h.ops); !v.Holds() || v.Checked == 0 {
		t.Fatalf("%+v", v)
	}
	unknown := 0
	for _, o := range h.ops {
		if o.Outcome == oracle.Unknown {
			unknown++
		}
	}
	t.Logf("%d operations, %d of unknown outcome", len(h.ops), unknown)
	o := &h.ops[len(h.ops)/2]
	o.Kind, o.Value, o.Outcome = oracle.OpRead, "never written", oracle.Done
	if oracle.Linearizable(h.ops).Holds() {
		t.Fatal("the check cannot fail")
	}
}

// TestLinearizable: concurrent clients of one document, and a node that is
// killed under them, give a history that fits some order.
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
	h.note(oracle.Op{Kind: oracle.OpRead, Value: value, Outcome: oracle.Done}, call)
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
	op := oracle.Op{Kind: oracle.OpSwap, Old: value, Value: next, Outcome: oracle.Done}
	switch {
	case errors.Is(err, replication.ErrUnknown):
		op.Outcome = oracle.Unknown
	case errors.Is(err, store.ErrMoved):
		op.Outcome = oracle.Rejected
	case err != nil:
		if !errors.Is(err, replication.ErrNotLeader) && !errors.Is(err, replication.ErrClosed) {
			t.Errorf("write: %v", err)
		}
		return false
	}
	h.note(op, call)
	return op.Outcome != oracle.Unknown
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

// clients begins clients of one document, which read linearizably and write on top of
// what they read, and returns what ends them.
func (c *cluster) clients(h *history) (stop func()) {
	end := make(chan struct{})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() { // ends with end
			for n := 0; ; n++ {
				select {
				case <-end:
					return
				default:
				}
				for _, g := range c.all() {
					if g.Leads() && g.Linearize(context.Background()) == nil {
						casOnce(c.t, g, h, fmt.Sprintf("%d-%d", i, n))
					}
				}
			}
		})
	}
	return func() {
		close(end)
		all.Wait()
	}
}
