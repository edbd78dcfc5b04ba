package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/testbed/corpus"
)

// TestMain is also the worker process of these tests.
func TestMain(m *testing.M) {
	switch os.Getenv("TIERMESH_TEST_ENGINE") {
	case "":
		goleak.VerifyTestMain(m)
	case "plain":
		exit(engine.Work(engine.WorkerConfig{}, os.Stdin, os.Stdout))
	default:
		exit(engine.WorkHooked(engine.WorkerConfig{MemoryBytes: 256 << 20}, os.Stdin, os.Stdout, misbehave))
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// misbehave does what a document says that bears a mark.
func misbehave(loaded []byte) {
	switch {
	case bytes.Contains(loaded, []byte("DIE")):
		fmt.Fprintln(os.Stderr, "panicked at automerge.rs")
		os.Exit(134)
	case bytes.Contains(loaded, []byte("HANG")):
		select {}
	case bytes.Contains(loaded, []byte("EAT")):
		for size := 64 << 20; ; size *= 2 {
			runtime.KeepAlive(bytes.Repeat([]byte{1}, size))
		}
	case bytes.Contains(loaded, []byte("BABBLE")):
		_, _ = os.Stdout.Write(bytes.Repeat([]byte{0xff}, 64))
	}
}

func workers(t testing.TB, mode string, n int) *engine.Workers {
	t.Helper()
	w := engine.NewWorkers(engine.WorkersConfig{
		Command: []string{"env", "TIERMESH_TEST_ENGINE=" + mode, os.Args[0]}, Processes: n, Timeout: 8 * time.Second,
	})
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func marked(t testing.TB, mark string) [][]byte {
	t.Helper()
	b, err := engine.New().Build(nil, alice, 1, []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: mark}})
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{b.Raw}
}

// TestWorkerEqualsDirect: an engine in another process makes and reads the same
// as one in this.
func TestWorkerEqualsDirect(t *testing.T) {
	own, isolated := engine.Library(engine.New()), engine.Library(engine.NewIsolated(workers(t, "plain", 1)))
	first, err := own.Build(nil, alice, 1, eventOps())
	if err != nil {
		t.Fatal(err)
	}
	ops := []crdt.Op{{Kind: crdt.OpAppend, In: "actions", Value: "x"}}
	want, err := own.Build([][]byte{first.Raw}, bob, 2, ops)
	if err != nil {
		t.Fatal(err)
	}
	got, err := isolated.Build([][]byte{first.Raw}, bob, 2, ops)
	if err != nil || !bytes.Equal(got.Raw, want.Raw) {
		t.Errorf("built %x, %v; want %x", got.Raw, err, want.Raw)
	}
	a, err := own.Read([][]byte{first.Raw, want.Raw})
	if err != nil {
		t.Fatal(err)
	}
	b, err := isolated.Read([][]byte{first.Raw, want.Raw})
	if err != nil || fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("read %v, %v; want %v", b, err, a)
	}
	if _, err := isolated.Build([][]byte{first.Raw}, bob, 2, []crdt.Op{{Kind: crdt.OpAppend, In: "nowhere", Value: "x"}}); !errors.Is(err, engine.ErrEngine) {
		t.Errorf("what the library refuses: %v", err)
	}
}

// TestPoisonStopsOnlyItself: documents that kill, block or exhaust a worker, or
// make it babble, fail as such; all others that were asked for at the same time
// are read.
func TestPoisonStopsOnlyItself(t *testing.T) {
	e := engine.Library(engine.NewIsolated(workers(t, "misbehave", 1)))
	marks := []string{"DIE", "HANG", "EAT", "BABBLE"}
	honest := marked(t, "honest")
	var all sync.WaitGroup
	for _, mark := range marks {
		doc := marked(t, mark)
		all.Go(func() {
			if _, err := e.Read(doc); !errors.Is(err, engine.ErrPoisoned) {
				t.Errorf("%s: %v", mark, err)
			}
		})
		for range 20 {
			all.Go(func() {
				if d, err := e.Read(honest); err != nil || d.Root.String("k") != "honest" {
					t.Errorf("honest: %v", err)
				}
			})
		}
	}
	all.Wait()
}

// TestWorkersUnavailable: an engine that cannot be started, or is closed, blames
// no document.
func TestWorkersUnavailable(t *testing.T) {
	w := engine.NewWorkers(engine.WorkersConfig{Command: []string{"/nowhere/at/all"}})
	e := engine.Library(engine.NewIsolated(w))
	if _, err := e.Read(marked(t, "x")); !errors.Is(err, crdt.ErrUnavailable) {
		t.Errorf("no program: %v", err)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Read(marked(t, "x")); !errors.Is(err, crdt.ErrUnavailable) {
		t.Errorf("closed: %v", err)
	}
	hanging := workers(t, "misbehave", 1)
	done := make(chan error, 1)
	go func() { // ends with the workers
		_, err := engine.Library(engine.NewIsolated(hanging)).Read(marked(t, "HANG"))
		done <- err
	}()
	<-time.After(100 * time.Millisecond) // it may hang by now; either way it ends
	if err := hanging.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, crdt.ErrUnavailable) {
		t.Errorf("closed under a job: %v", err)
	}
}

// chainHistory is what the validator asks about a document's history.
type chainHistory struct {
	maxOps map[crdt.Hash]uint64
	actors map[crdt.Actor][2]uint64
}

// MaxOp implements [change.History].
func (h chainHistory) MaxOp(x crdt.Hash) (uint64, bool) { m, ok := h.maxOps[x]; return m, ok }

// Actor implements [change.History].
func (h chainHistory) Actor(a crdt.Actor) (seq, maxOp uint64) {
	return h.actors[a][0], h.actors[a][1]
}

func historyOf(t testing.TB, base [][]byte) chainHistory {
	t.Helper()
	h := chainHistory{map[crdt.Hash]uint64{}, map[crdt.Actor][2]uint64{}}
	for _, raw := range base {
		c, err := change.Decode(raw, change.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		i := c.Info()
		h.maxOps[i.Hash], h.actors[i.Actor] = i.MaxOp, [2]uint64{i.Seq, i.MaxOp}
	}
	return h
}

// TestFuzzEngine damages honest changes, with correct checksums, and gives what
// the validator lets through to workers: none may die, and what the library
// reads is read the same without it. "make fuzz-engine" sets
// how many cases; the seed is printed.
func TestFuzzEngine(t *testing.T) {
	cases, seed := 30_000, uint64(1)
	if s := os.Getenv("TIERMESH_FUZZ_ENGINE"); s != "" {
		var err error
		if cases, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	own := engine.New()
	e := engine.Library(engine.NewIsolated(workers(t, "plain", 2)))
	honest, bases := targets(t)
	var passed, refused atomic.Int64
	var all sync.WaitGroup
	for w := range 32 {
		all.Go(func() { // ends with its share of the cases
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := range cases / 32 {
				target := i % len(honest)
				raw := corpus.Damage(r, honest[target])
				c, err := change.Decode(raw, change.DefaultLimits())
				if err != nil || change.Fit(c, bases[target].history) != nil {
					continue
				}
				passed.Add(1)
				history := append(append([][]byte{}, bases[target].changes...), raw)
				doc, err := e.Read(history)
				mine, mineErr := own.Read(history)
				switch {
				case errors.Is(err, engine.ErrPoisoned), errors.Is(err, crdt.ErrUnavailable):
					t.Errorf("case %d of %d: %x: %v", i, w, raw, err)
				case err != nil:
					refused.Add(1)
				case mineErr != nil || !sameTree(mine.Root, doc.Root):
					t.Errorf("case %d of %d: %x: read without the library: %v, %v", i, w, raw, mine, mineErr)
				case len(doc.Changes) != len(bases[target].changes)+1:
					t.Errorf("engine took %d changes: %x", len(doc.Changes), raw)
				}
			}
		})
	}
	all.Wait()
	if passed.Load() < int64(cases)/50 {
		t.Errorf("only %d of %d reached the engine: the test proves little", passed.Load(), cases)
	}
	t.Logf("%d cases, %d passed the validator, %d of these the engine refused, none killed it", cases, passed.Load(), refused.Load())
}

// sameTree compares what two readers read; a float that is no number is the same
// as itself.
func sameTree(a, b crdt.Node) bool {
	return reflect.DeepEqual(a, b) || fmt.Sprintf("%#v", a) == fmt.Sprintf("%#v", b)
}

type fuzzBase struct {
	changes [][]byte
	history chainHistory
}

// targets are honest changes and what each stands on.
func targets(t testing.TB) (honest [][]byte, bases []fuzzBase) {
	t.Helper()
	e := engine.New()
	var chain [][]byte
	for i, step := range []struct {
		actor crdt.Actor
		ops   []crdt.Op
	}{
		{alice, eventOps()},
		{bob, []crdt.Op{{Kind: crdt.OpAppend, In: "actions", Value: "z"}, {Kind: crdt.OpPut, Key: "report", Value: "y"}}},
		{alice, []crdt.Op{{Kind: crdt.OpDelete, In: "corrections", Key: "title"}, {Kind: crdt.OpPut, Key: "n", Value: 2.5}}},
		{bob, []crdt.Op{{Kind: crdt.OpMakeMap, Key: "m"}, {Kind: crdt.OpPut, In: "m", Key: "k", Value: []byte{0xff}}, {Kind: crdt.OpMakeList, Key: "l"}}},
	} {
		b, err := e.Build(chain, step.actor, int64(i), step.ops)
		if err != nil {
			t.Fatal(err)
		}
		honest = append(honest, b.Raw)
		bases = append(bases, fuzzBase{append([][]byte{}, chain...), historyOf(t, chain)})
		chain = append(chain, b.Raw)
	}
	return honest, bases
}

// BenchmarkRead reads an event with three changes, in this process and in a
// worker, from 16 goroutines.
func BenchmarkRead(b *testing.B) {
	honest, _ := targets(b)
	for name, e := range map[string]*engine.Engine{"own": engine.New(), "direct": engine.Library(engine.New()), "isolated": engine.Library(engine.NewIsolated(workers(b, "plain", 1)))} {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := e.Read(honest[:3]); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
