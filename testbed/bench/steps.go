package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// progressEvery is how often a worker says how far it is.
const progressEvery = 500 * time.Millisecond

// fill writes the events of a seed and waits for their views, so that these do
// not run beside what is measured.
func (w *worker) fill(ctx context.Context, r fillRequest) (*filled, error) {
	docs := documents{r.Seed}
	var bytes, done atomic.Int64
	said := time.Now()
	run, err := drive(ctx, r.N, fillClients, func(ctx context.Context, i int) error {
		rep := docs.report(i)
		b, err := json.Marshal(rep)
		if err != nil {
			return err
		}
		bytes.Add(int64(len(b)))
		_, err = w.node.Report(ctx, fmt.Sprintf("fill-%d", i), rep)
		if n := done.Add(1); n%1024 == 0 {
			w.progress(int(n), r.N)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("fill, after %v: %w", time.Since(said).Round(time.Second), err)
	}
	_, err = viewsBehind(ctx, w.node)
	return &filled{Seconds: run.took.Seconds(), JSONBytes: bytes.Load()}, err
}

// paceWritersMax bounds the writes of a pace that wait for their
// acknowledgement; a further one waits for its turn and then counts from there.
const paceWritersMax = 256

// pace writes events at a rate, whether or not earlier ones are acknowledged.
func (w *worker) pace(ctx context.Context, r paceRequest) ([]written, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	docs := documents{r.Seed}
	out := make([]written, r.N)
	slots := make(chan struct{}, paceWritersMax)
	var writers sync.WaitGroup
	defer writers.Wait()
	began := time.Now()
	for i := range r.N {
		at := began.Add(time.Duration(float64(i) / r.PerS * float64(time.Second)))
		select {
		case <-time.After(time.Until(at)):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		slots <- struct{}{}
		writers.Go(func() { // ends with the write
			defer func() { <-slots }()
			rep := docs.paced(r.First+i, r.Priority, r.TextBytes)
			out[i].Began = time.Now().UnixNano()
			if _, err := w.node.Report(ctx, fmt.Sprintf("pace-%d", r.First+i), rep); err != nil {
				cancel(err)
			}
			out[i].Acked = time.Now().UnixNano()
		})
		if i%64 == 63 {
			w.progress(i+1, r.N)
		}
	}
	writers.Wait()
	return out, context.Cause(ctx)
}

// edit corrects documents all over a filling.
func (w *worker) edit(ctx context.Context, r editRequest) error {
	stream := tiers.StreamID{Site: w.node.ID().Site, Class: tiers.ClassRoutine}
	for k := range r.D {
		i := k*(r.N/r.D) + r.Round%(r.N/r.D)
		hits, err := w.node.Group().Store().Index(store.IndexQuery{
			Name: event.IndexEvent, Prefix: fmt.Sprintf("%016x", fillBase+int64(i)), Limit: 1,
		})
		if err != nil || len(hits) == 0 {
			return errors.Join(err, fmt.Errorf("edit: event %d is not listed", i))
		}
		op, err := event.CorrectOp("place", documents{r.Seed}.report(r.N+r.Round*r.D+k).Place)
		if err != nil {
			return err
		}
		if _, err := w.node.Edit(ctx, fmt.Sprintf("edit-%d-%d", r.Round, k), stream, hits[0].Key.Doc, []crdt.Op{op}); err != nil {
			return err
		}
	}
	_, err := viewsBehind(ctx, w.node)
	return err
}

// observe notes when a list shows each of the paced events and its view has
// been read: one index scan and one read later than a reader could see it.
func (w *worker) observe(ctx context.Context, r observeRequest) ([]int64, error) {
	seen := make([]int64, r.N)
	// All before low were seen: the scan begins there.
	low, left := 0, r.N
	fallback := time.NewTicker(5 * time.Millisecond) // a signal that another reader took
	defer fallback.Stop()
	for {
		after := &store.IndexHit{Value: fmt.Sprintf("%016x", pacedBase+int64(low)-1), Key: lastKey}
		hits, err := w.node.Group().Store().Index(store.IndexQuery{Name: event.IndexEvent, After: after})
		if err != nil {
			return nil, err
		}
		for _, h := range hits {
			var ms int64
			if _, err := fmt.Sscanf(h.Value, "%x", &ms); err != nil {
				return nil, fmt.Errorf("index value %q: %w", h.Value, err)
			}
			i := int(ms - pacedBase)
			if i < 0 || i >= r.N || seen[i] != 0 {
				continue
			}
			if _, err := w.node.Views().View(h.Key); err != nil {
				return nil, err
			}
			seen[i] = time.Now().UnixNano()
			left--
		}
		for low < r.N && seen[low] != 0 {
			low++
		}
		if left == 0 {
			return seen, nil
		}
		select {
		case <-w.views:
		case <-fallback.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// lastKey sorts behind every document of an index value.
var lastKey = store.DocKey{Stream: tiers.StreamID{Site: "~", Class: tiers.ClassBulk}, Doc: "~"}

// waiting is an armed awaitRequest.
type waiting struct {
	w    *worker
	r    awaitRequest
	out  awaited
	cpu  float64
	base uint64 // connections of the link so far
	of   uint64 // records of Heads that were missing at first
	said time.Time
}

func (w *worker) arm(r awaitRequest) (*waiting, error) {
	a := &waiting{w: w, r: r, out: awaited{Heads: make([]int64, len(r.Heads))}, cpu: treeCPUSeconds(), said: time.Now()}
	a.base = w.link(r.Peer).Totals.Connections
	a.of = a.missing()
	if r.First {
		hits, err := w.node.Group().Store().Index(store.IndexQuery{Name: event.IndexEvent, Limit: 1})
		if err != nil || len(hits) > 0 {
			return nil, errors.Join(err, errors.New("await a first event: the site lists some"))
		}
	}
	return a, nil
}

func (w *worker) link(peer tiers.SiteID) (l node.LinkState) {
	links := w.node.Links()
	if i := slices.IndexFunc(links, func(l node.LinkState) bool { return l.Peer == peer }); i >= 0 {
		return links[i]
	}
	return l
}

// missing returns how many records of Heads are not held, and stamps the heads
// that are.
func (a *waiting) missing() (n uint64) {
	vectors := map[tiers.StreamID]crdt.Vector{}
	for i, h := range a.r.Heads {
		if a.out.Heads[i] != 0 {
			continue
		}
		v, ok := vectors[h.Stream]
		if !ok {
			v = a.w.node.Group().Store().Vector(h.Stream)
			vectors[h.Stream] = v
		}
		if at := v[h.Author].Seq; at < h.Seq {
			n += h.Seq - at
		} else {
			a.out.Heads[i] = time.Now().UnixNano()
		}
	}
	return n
}

// linkState is the word of a link that is up.
const linkConnected = "connected"

func (a *waiting) run(ctx context.Context) (*awaited, error) {
	interval := time.Millisecond
	if len(a.r.Heads) > 4 {
		interval = 4 * time.Millisecond
	}
	err := every(ctx, interval, a.look)
	a.out.CPUS = treeCPUSeconds() - a.cpu
	return &a.out, err
}

// look stamps what has come about and reports whether everything has.
func (a *waiting) look() (bool, error) {
	now := time.Now()
	missing := a.missing()
	if of := a.of; of > 0 && now.Sub(a.said) > progressEvery {
		a.said = now
		a.w.progress(int(of-min(of, missing)), int(of))
	}
	done := missing == 0
	if done && a.r.Views && a.out.Views == 0 && a.w.node.Group().Store().Counts().Dirty == 0 {
		a.out.Views = now.UnixNano()
	}
	done = done && (!a.r.Views || a.out.Views != 0)
	if a.r.First && a.out.First == 0 {
		hits, err := a.w.node.Group().Store().Index(store.IndexQuery{Name: event.IndexEvent, Limit: 1})
		if err != nil {
			return false, err
		}
		if len(hits) > 0 {
			a.out.First = now.UnixNano()
		}
		done = done && a.out.First != 0
	}
	if !a.r.Link && !a.r.Equal && !a.r.Down {
		return done, nil
	}
	l := a.w.link(a.r.Peer)
	if a.r.Down {
		return done && l.State != linkConnected, nil
	}
	if a.out.Link == 0 && l.State == linkConnected && l.Totals.Connections > a.base {
		a.out.Link = l.Since.UnixNano() // not when it was seen
	}
	if a.out.Equal == 0 && done && l.Equal {
		a.out.Equal = now.UnixNano()
	}
	return done && (!a.r.Link || a.out.Link != 0) && (!a.r.Equal || a.out.Equal != 0), nil
}
