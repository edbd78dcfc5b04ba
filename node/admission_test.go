package node_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/tiers"
)

// TestAdmission: a thousand children dial in the same moment. No more than the
// bound compare at once, the queue is never longer than its bound, those that are
// sent away come back spread out, and everybody is served.
func TestAdmission(t *testing.T) {
	const children, slots, queue = 1000, 16, 32
	synctest.Test(t, func(t *testing.T) {
		a := node.NewAdmission(slots, queue)
		var comparing, served, attempts atomic.Int64
		var mu sync.Mutex
		returns := map[time.Duration]int{} // by second
		began := time.Now()
		var all sync.WaitGroup
		for i := range children {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			all.Go(func() { // ends when it was served
				for {
					attempts.Add(1)
					leave, retry := a.Enter(context.Background(), tiers.SiteID(fmt.Sprint(i)))
					if leave == nil {
						time.Sleep(node.ComeBack(retry, r.Float64()))
						mu.Lock()
						returns[time.Since(began).Truncate(time.Second)]++
						mu.Unlock()
						continue
					}
					if n := comparing.Add(1); n > slots {
						t.Errorf("%d compare at once", n)
					}
					if _, n := a.Taken(); n > queue {
						t.Errorf("%d wait", n)
					}
					time.Sleep(100 * time.Millisecond)
					comparing.Add(-1)
					served.Add(1)
					leave()
					leave() // it may come twice
					return
				}
			})
			synctest.Wait() // one after the other, though at one time: who is let in is no chance
		}
		all.Wait()
		if s, q := a.Taken(); served.Load() != children || s != 0 || q != 0 {
			t.Errorf("%d served, %d places and %d in the queue left over", served.Load(), s, q)
		}
		// 1,000 at 160/s take 6.25 s; a herd that comes back together would need
		// an attempt each time.
		if attempts.Load() > 5*children {
			t.Errorf("%d attempts of %d children", attempts.Load(), children)
		}
		for second, n := range returns {
			if n > children/2 {
				t.Errorf("%d came back in second %v", n, second)
			}
		}
	})
}

// TestAdmissionOfTheSilent: peers that hold their places and do nothing lose them,
// and those that wait behind them for too long are sent away, not forgotten.
func TestAdmissionOfTheSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := node.NewAdmission(1, 1)
		if leave, _ := a.Enter(context.Background(), "500101"); leave == nil {
			t.Fatal("an empty house is full")
		}
		time.Sleep(node.ComparingFor / 2)
		leave, retry := a.Enter(context.Background(), "500102")
		if leave == nil || retry != 0 {
			t.Fatalf("sent away for %v although the place became free", retry)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if next, retry := a.Enter(ctx, "500103"); next != nil || retry <= 0 {
			t.Error("let in after the end")
		}
		leave()
	})
}

// TestAdmissionOfOne: a peer that dials without end takes up two places and makes
// nobody else wait for longer.
func TestAdmissionOfOne(t *testing.T) {
	a := node.NewAdmission(4, 4)
	var leaves []func()
	for range 1000 {
		leave, retry := a.Enter(t.Context(), "500101")
		if leave != nil {
			leaves = append(leaves, leave)
		} else if retry != time.Second {
			t.Fatalf("sent away for %v", retry)
		}
	}
	if len(leaves) != 2 {
		t.Errorf("one peer has %d places", len(leaves))
	}
	other, _ := a.Enter(t.Context(), "500102")
	if other == nil {
		t.Fatal("another peer is kept out")
	}
	other()
	leaves[0]()
	leaves[0]() // counts once
	if again, _ := a.Enter(t.Context(), "500101"); again == nil {
		t.Error("a place that was left stays taken")
	}
	if more, _ := a.Enter(t.Context(), "500101"); more != nil {
		t.Error("leaving twice made room for two")
	}
}
