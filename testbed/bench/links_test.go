package bench_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/testbed/bench"
)

// TestMain is also the processes of the sites and their engines.
func TestMain(m *testing.M) {
	var err error
	switch os.Getenv("TIERMESH_TEST_PROCESS") {
	case "worker":
		err = bench.Work(context.Background(), os.Stdin, os.Stdout, os.Stderr)
	case "engine":
		err = engine.Work(engine.WorkerConfig{}, os.Stdin, os.Stdout)
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// links is a configuration whose sites are processes of this test binary.
func links(t *testing.T) bench.LinkConfig {
	t.Helper()
	return bench.LinkConfig{
		Dir: t.TempDir(), Seed: 1, RedialMax: 200 * time.Millisecond,
		Worker: []string{"env", "TIERMESH_TEST_PROCESS=worker", os.Args[0]},
		Engine: []string{"env", "TIERMESH_TEST_PROCESS=engine", os.Args[0]},
	}
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// checkLine holds what a line counted against what had to cross it.
func checkLine(t *testing.T, l bench.Line, wireMin uint64) {
	t.Helper()
	if l.WireBytes != l.WireUp+l.WireDown || l.WireBytes < wireMin || l.TLSBytes >= l.WireBytes || l.ConvergeS == 0 {
		t.Errorf("%+v", l)
	}
}

// leftNothing checks that a benchmark removed what it made.
func leftNothing(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("%v is left in %s, %v", entries, dir, err)
	}
}

func TestCatchup(t *testing.T) {
	cfg := links(t)
	c, err := bench.Catchup(limited(t), bench.CatchupConfig{LinkConfig: cfg, N: 300})
	if err != nil {
		t.Fatal(err)
	}
	checkLine(t, c.Line, 300*50)
	if c.N != 300 || c.OpsS <= 0 || c.ViewsOpsS <= 0 || c.ViewsOpsS > c.OpsS || c.RSSMB <= 0 || c.DiskMB <= 0 || c.TLSBytes == 0 {
		t.Errorf("%+v", c)
	}
	if mean := c.JSONBytes / 300; mean < 500 || mean > 700 {
		t.Errorf("%d bytes of JSON a document", mean)
	}
	leftNothing(t, cfg.Dir)
}

// TestDiff: each kind of forgetting ends equal, with the records that differed
// and no more, for a few kilobytes.
func TestDiff(t *testing.T) {
	cfg := links(t)
	cfg.RTT, cfg.Idle = 20*time.Millisecond, time.Second
	var got []string
	err := bench.Diff(limited(t), bench.DiffConfig{LinkConfig: cfg, N: 300, D: 3, Forget: bench.Forgets()}, func(c bench.DiffCase) error {
		got = append(got, c.Forget)
		checkLine(t, c.Line, 1000)
		want := uint64(3)
		if c.Forget == bench.ForgetEdge {
			want = 6
		}
		if c.Records != want || c.SessionBytes > 16<<10 || c.RoundTrips < 1 || c.ProvenS < c.ConvergeS {
			t.Errorf("%+v", c)
		}
		return nil
	})
	if err != nil || !slices.Equal(got, bench.Forgets()) {
		t.Errorf("%v, %v", got, err)
	}
	leftNothing(t, cfg.Dir)
}

func TestLive(t *testing.T) {
	var got []string
	err := bench.Live(limited(t), bench.LiveConfig{LinkConfig: links(t), N: 60, PerS: 100, Tiers: 3}, func(c bench.LiveCase) error {
		got = append(got, c.At)
		checkLine(t, c.Line, 60*50)
		if c.N != 60 || c.P50MS > c.P99MS || c.P99MS > c.MaxMS || c.AckP50MS <= 0 {
			t.Errorf("%+v", c)
		}
		return nil
	})
	if err != nil || !slices.Equal(got, []string{"district", "city"}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestFanin(t *testing.T) {
	c, err := bench.Fanin(limited(t), bench.FaninConfig{LinkConfig: links(t), Edges: 3, N: 40})
	if err != nil {
		t.Fatal(err)
	}
	checkLine(t, c.Line, 3*40*50)
	if c.Edges != 3 || c.OpsS <= 0 || c.SlowestS < c.MedianS || c.Spread < 1 {
		t.Errorf("%+v", c)
	}
}

func TestUrgent(t *testing.T) {
	cfg := links(t)
	cfg.BytesPerS = 1e6 / 8
	c, err := bench.Urgent(limited(t), bench.UrgentConfig{LinkConfig: cfg, BacklogBytes: 200_000, PerS: 10, Drain: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	checkLine(t, c.Line, 11*500)
	if c.Drain != 10 || c.UrgentMS == 0 || c.UrgentHealMS < c.UrgentMS || c.P50MS > c.P99MS || c.P99MS > c.MaxMS || c.Drained <= 0 || c.Drained > 1 {
		t.Errorf("%+v", c)
	}
}

func TestLinkRefusals(t *testing.T) {
	ctx, none := context.Background(), func(bench.DiffCase) error { return nil }
	good := links(t)
	bad := map[string]bench.LinkConfig{}
	for name, change := range map[string]func(*bench.LinkConfig){
		"rtt": func(c *bench.LinkConfig) { c.RTT = -1 }, "rate": func(c *bench.LinkConfig) { c.BytesPerS = 1 },
		"queue": func(c *bench.LinkConfig) { c.QueueBytes = 1 }, "worker": func(c *bench.LinkConfig) { c.Worker = nil },
		"dir": func(c *bench.LinkConfig) { c.Dir += "/none" }, "redial": func(c *bench.LinkConfig) { c.RedialMax = -1 },
	} {
		c := good
		change(&c)
		bad[name] = c
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, bench.ErrConfig) {
			t.Errorf("%s: %v", what, err)
		}
	}
	catchup := func(c bench.CatchupConfig) error { _, err := bench.Catchup(ctx, c); return err }
	for name, c := range bad {
		refused(name, catchup(bench.CatchupConfig{LinkConfig: c, N: 1}))
	}
	refused("no events", catchup(bench.CatchupConfig{LinkConfig: good}))
	refused("too many events", catchup(bench.CatchupConfig{LinkConfig: good, N: 1 << 40}))
	for _, c := range []bench.DiffConfig{{N: 0, D: 1}, {N: 5, D: 6}, {N: 5, D: 0}, {N: 5, D: 1, Forget: []string{"all"}}} {
		c.LinkConfig = good
		refused(fmt.Sprint(c), bench.Diff(ctx, c, none))
	}
	for _, c := range []bench.LiveConfig{{N: 0, PerS: 1, Tiers: 2}, {N: 1, PerS: 0, Tiers: 2}, {N: 1, PerS: 1, Tiers: 4}} {
		c.LinkConfig = good
		refused(fmt.Sprint(c), bench.Live(ctx, c, nil))
	}
	for _, c := range []bench.FaninConfig{{Edges: 0, N: 1}, {Edges: 1000, N: 1}, {Edges: 1, N: 0}} {
		c.LinkConfig = good
		_, err := bench.Fanin(ctx, c)
		refused(fmt.Sprint(c), err)
	}
	for _, c := range []bench.UrgentConfig{{BacklogBytes: 1, PerS: 1, Drain: time.Second}, {BacklogBytes: 1e6, PerS: 0, Drain: 1}, {BacklogBytes: 1e6, PerS: 1, Drain: 0}} {
		c.LinkConfig = good
		_, err := bench.Urgent(ctx, c)
		refused(fmt.Sprint(c), err)
	}
	leftNothing(t, good.Dir)
}

func TestParseSizes(t *testing.T) {
	for in, want := range map[string]float64{"500kbit": 62_500, "10mbit": 1_250_000, "1Gbit": 125_000_000, "1.5mbit": 187_500, "": 0, "5": 0, "-1kbit": 0, "kbit": 0, "infkbit": 0, "nankbit": 0} {
		got, err := bench.ParseRate(in)
		if got != want || (want == 0) != errors.Is(err, bench.ErrConfig) {
			t.Errorf("rate %q: %v, %v", in, got, err)
		}
	}
	for in, want := range map[string]int64{"23MB": 23_000_000, "500kb": 500_000, "1.5GB": 1_500_000_000, "7B": 7, "": 0, "7": 0, "-1MB": 0, "MB": 0, "infMB": 0, "nanMB": 0} {
		got, err := bench.ParseBytes(in)
		if got != want || (want == 0) != errors.Is(err, bench.ErrConfig) {
			t.Errorf("size %q: %v, %v", in, got, err)
		}
	}
}

// noted is a progress that can be waited on.
type noted struct {
	once sync.Once
	busy chan struct{}
}

func (n *noted) Line(string) {}

func (n *noted) Bar(int, int, string) { n.once.Do(func() { close(n.busy) }) }

// TestInterrupted: a benchmark that is interrupted ends its processes and
// removes its files; a site's process ends with its input, whoever is gone.
func TestInterrupted(t *testing.T) {
	cfg := links(t)
	n := &noted{busy: make(chan struct{})}
	cfg.Progress = n
	ctx, cancel := context.WithCancelCause(limited(t))
	stop := errors.New("stop")
	go func() { // ends when the filling has begun, or with the test
		select {
		case <-n.busy:
		case <-ctx.Done():
		}
		cancel(stop)
	}()
	if _, err := bench.Catchup(ctx, bench.CatchupConfig{LinkConfig: cfg, N: 1_000_000}); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	leftNothing(t, cfg.Dir)
	if left := bench.Children(); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	dead := links(t)
	dead.Worker = []string{"false"}
	if _, err := bench.Catchup(limited(t), bench.CatchupConfig{LinkConfig: dead, N: 1}); !errors.Is(err, bench.ErrWorker) {
		t.Errorf("a process that ends at once: %v", err)
	}
	for name, in := range map[string]string{"nothing": "", "rubbish": "hello", "no node": `{"node":{}}`} {
		if err := bench.Work(ctx, strings.NewReader(in), io.Discard, io.Discard); err == nil {
			t.Errorf("%s: a worker without a site ends well", name)
		}
	}
}
