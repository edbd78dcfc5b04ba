package replication_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/oracle"
)

// TestClaims: one holder at a time, an epoch for each grant, and a key that
// gives the first outcome again.
func TestClaims(t *testing.T) {
	g := open(t, t.TempDir())
	defer func() { _ = g.Close() }()
	ctx := limited(t)
	first, err := g.Claim(ctx, "k1", "engine-7", "task:a", false)
	if err != nil || first != 1<<32+1 {
		t.Fatal(first, err)
	}
	if again, err := g.Claim(ctx, "k1", "engine-7", "task:a", false); err != nil || again != first {
		t.Errorf("the same key: %d, %v", again, err)
	}
	if again, err := g.Claim(ctx, "", "engine-7", "task:a", false); err != nil || again != first {
		t.Errorf("the same holder: %d, %v", again, err)
	}
	if _, err := g.Claim(ctx, "", "engine-7", "task:b", false); !errors.Is(err, store.ErrHeld) {
		t.Errorf("another holder: %v", err)
	}
	forced, err := g.Claim(ctx, "", "engine-7", "task:b", true)
	if err != nil || forced <= first {
		t.Errorf("by force: %d after %d, %v", forced, first, err)
	}
	if err := g.Release(ctx, "", "engine-7", first); !errors.Is(err, store.ErrFenced) {
		t.Errorf("released by the former holder: %v", err)
	}
	if err := errors.Join(g.Release(ctx, "", "engine-7", forced), g.Release(ctx, "", "engine-7", forced)); err != nil {
		t.Errorf("released twice: %v", err)
	}
	if next, err := g.Claim(ctx, "", "engine-7", "task:c", false); err != nil || next != forced+1 {
		t.Errorf("after a release: %d, %v", next, err)
	}
	if err := g.NewIncarnation(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if next, err := g.Claim(ctx, "", "engine-7", "task:d", true); err != nil || next != 2<<32+1 {
		t.Errorf("in a new incarnation: %d, %v", next, err)
	}
	if c, err := g.Store().Claim("engine-7"); err != nil || c.Holder != "task:d" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := g.Claim(ctx, "", "engine-7", "", false); !errors.Is(err, store.ErrBadClaim) {
		t.Errorf("no holder: %v", err)
	}
	if _, err := g.Claim(ctx, "", "", "task:a", false); !errors.Is(err, store.ErrBadClaim) {
		t.Errorf("no resource: %v", err)
	}
}

// claimHistory is what the holders of a test have asked for and been told.
type claimHistory struct {
	start time.Time
	mu    sync.Mutex
	ops   []oracle.Op // guarded by mu
}

// do runs f, which asks for op, and notes what came of it; held tells whether
// it was done.
func (h *claimHistory) do(op oracle.Op, f func() (uint64, error)) (epoch uint64, held bool) {
	op.Object, op.Call, op.Outcome = "engine-7", time.Since(h.start), oracle.Done
	epoch, err := f()
	op.Return = time.Since(h.start)
	switch {
	case errors.Is(err, replication.ErrUnknown):
		op.Outcome = oracle.Unknown
	case errors.Is(err, store.ErrHeld), errors.Is(err, store.ErrFenced):
		op.Outcome = oracle.Rejected
	case err != nil:
		return 0, false // it had no effect
	case op.Kind == oracle.OpClaim:
		op.Epoch = epoch
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
	return epoch, err == nil
}

func (h *claimHistory) size() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// fight claims engine-7 at whichever node leads and releases it, until stop.
func (h *claimHistory) fight(c *cluster, holder int, stop <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		for _, g := range c.all() {
			if !g.Leads() {
				continue
			}
			op := oracle.Op{Kind: oracle.OpClaim, Holder: fmt.Sprintf("task:%d-%d", holder, n)}
			epoch, held := h.do(op, func() (uint64, error) { return g.Claim(context.Background(), "", "engine-7", op.Holder, false) })
			if held {
				h.do(oracle.Op{Kind: oracle.OpRelease, Epoch: epoch}, func() (uint64, error) { return 0, g.Release(context.Background(), "", "engine-7", epoch) })
			}
		}
	}
}

// TestClaimsLinearizable: holders that fight for one resource, at a site of
// three whose leaders are cut off and killed, give a history that fits
// some order; so no epoch has two holders.
func TestClaimsLinearizable(t *testing.T) {
	c := newCluster(t, 3, nil)
	h := &claimHistory{start: time.Now()}
	stop := make(chan struct{})
	var holders sync.WaitGroup
	for i := range 3 {
		holders.Go(func() { h.fight(c, i, stop) }) // ends with stop
	}
	for round := range 4 {
		want := h.size() + 60
		c.wait("the holders to get on", func() bool { return h.size() >= want })
		for node, g := range c.all() {
			if g.Leads() {
				c.disturb(node, round)
				break
			}
		}
		// A claim of unknown outcome may hold the resource for ever.
		now, err := c.leader().Store().Claim("engine-7")
		if err != nil {
			t.Fatal(err)
		}
		h.do(oracle.Op{Kind: oracle.OpRelease, Epoch: now.Epoch}, func() (uint64, error) { return 0, c.leader().Release(limited(t), "", "engine-7", now.Epoch) })
	}
	close(stop)
	holders.Wait()
	if v := oracle.Linearizable(h.ops); !v.Holds() || v.Checked == 0 {
		t.Fatalf("%+v", v)
	}
	var granted []oracle.Granted
	for _, o := range h.ops {
		if o.Kind == oracle.OpClaim && o.Outcome == oracle.Done {
			granted = append(granted, oracle.Granted{Site: "500101001", Resource: o.Object, Holder: o.Holder, Epoch: o.Epoch})
		}
	}
	if v := oracle.Claims(granted, nil); !v.Holds() || v.Checked == 0 {
		t.Errorf("%+v", v)
	}
	t.Logf("%d operations, %d grants", len(h.ops), len(granted))
	for i, o := range h.ops {
		if o.Kind == oracle.OpClaim && o.Outcome == oracle.Done {
			h.ops[i].Epoch++
			break
		}
	}
	if oracle.Linearizable(h.ops).Holds() {
		t.Error("the check cannot fail")
	}
}

// disturb cuts a leader off until another one leads, or kills and restarts it.
func (c *cluster) disturb(node uint32, round int) {
	c.t.Helper()
	if round%2 == 0 {
		c.net.isolate(node, true)
		c.wait("another leader", func() bool { return othersLead(c, node) })
		c.net.isolate(node, false)
		return
	}
	c.crash(node)
	c.leader()
	c.start(node)
}
