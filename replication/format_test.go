package replication_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// logged collects what a node logs.
type logged struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) holds(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

// builds are a cluster whose nodes may be of different builds.
type builds struct {
	*cluster
	mu      sync.Mutex // guards formats
	formats map[uint32]uint32
	log     logged
}

// newBuilds forms a site of three nodes of a build before formats had numbers.
func newBuilds(t *testing.T) *builds {
	t.Helper()
	b := &builds{cluster: &cluster{t: t, dir: t.TempDir(), net: newNetwork(), nodes: map[uint32]*replication.Group{}}, formats: map[uint32]uint32{}}
	b.change = func(cfg *replication.Config) {
		b.mu.Lock()
		defer b.mu.Unlock()
		cfg.Siblings.Format = b.formats[cfg.Node]
		cfg.Logger = slog.New(slog.NewTextHandler(&b.log, nil))
	}
	t.Cleanup(b.close)
	if err := replication.Init(b.path(1)); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(3) {
		b.build(i+1, 1)
		b.start(i + 1)
	}
	b.join(2)
	b.join(3)
	return b
}

// build says which build a node has from its next start on.
func (b *builds) build(node, format uint32) {
	b.mu.Lock()
	b.formats[node] = format
	b.mu.Unlock()
	b.net.mu.Lock()
	b.net.old[node] = format < 2
	b.net.mu.Unlock()
}

// replace ends a node and starts it with another build.
func (b *builds) replace(node, format uint32) {
	b.t.Helper()
	b.crash(node)
	b.build(node, format)
	b.start(node)
	target, g := b.leader().Progress().Commit, b.all()[node]
	b.wait("the node to come to where the leader was", func() bool { return g.Progress().Applied >= target })
}

// wordy writes a document whose entry packs well.
func (b *builds) wordy(doc string) {
	b.t.Helper()
	b.led(func(lead *replication.Group) error {
		_, actor, err := lead.Actor()
		if err != nil {
			return err
		}
		c, err := engine.New().Build(nil, actor, 1, []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: strings.Repeat("供水井盖异常", 300)}})
		if err != nil {
			return err
		}
		_, err = lead.Append(limited(b.t), doc, []store.Item{{Stream: stream, Doc: tiers.DocID("event:" + doc), Time: lead.Clock().Now(), Change: c.Raw}})
		return err
	})
}

// packed ends all nodes and returns how many entries of their logs are packed.
func (b *builds) packed() (n int) {
	b.t.Helper()
	nodes := b.all()
	for node := range nodes {
		b.crash(node)
	}
	for node := range nodes {
		some, err := replication.PackedEntries(b.path(node))
		if err != nil {
			b.t.Fatal(err)
		}
		n += some
	}
	return n
}

// TestRollingUpgrade: three nodes are brought to a new build one by one under
// writers, one goes back and comes again, nothing is lost, and the history is
// linearizable. Until the format rises nothing is written that the older build cannot
// read; once it has risen, the older build is refused.
func TestRollingUpgrade(t *testing.T) {
	b := newBuilds(t)
	h := newHistory()
	stop := b.clients(h)
	for i, step := range []struct{ node, format uint32 }{{1, 2}, {2, 2}, {2, 1}, {3, 2}, {1, 1}, {1, 2}, {2, 2}} {
		h.grow(t, 40)
		b.wordy(fmt.Sprintf("step-%d", i))
		b.replace(step.node, step.format)
	}
	h.grow(t, 40)
	stop()
	h.check(t)
	if n := b.packed(); n > 0 {
		t.Fatalf("%d packed entries before the format rose", n)
	}
	for node := range uint32(3) {
		b.start(node + 1)
	}
	b.led(func(lead *replication.Group) error { return lead.Raise(limited(t), 2) })
	b.wordy("risen")
	b.agree()
	for node, g := range b.all() {
		if _, at := g.Formats(); at != 2 {
			t.Errorf("node %d: the site's format is %d", node, at)
		}
	}
	if err := b.all()[2].Close(); err != nil {
		t.Fatal(err)
	}
	b.cluster.mu.Lock()
	delete(b.nodes, 2)
	b.cluster.mu.Unlock()
	b.build(2, 1)
	cfg := config(t, b.path(2))
	b.change(&cfg)
	cfg.Node, cfg.Bootstrap, cfg.Siblings.Nodes, cfg.Siblings.Streams, cfg.Siblings.Format = 2, false, 3, b.net.plug(2), 1
	if g, err := replication.Open(cfg); !errors.Is(err, replication.ErrFormat) || !strings.Contains(err.Error(), "format 2, this build reads up to 1") {
		t.Errorf("the older build opens: %v, %v", g, err)
	}
	if n := b.packed(); n == 0 {
		t.Error("no packed entry after the format rose")
	}
}

// TestOlderBuildGetsNothing: once the format has risen, a node of a build that knows of
// no formats gets no entry from the leader, and its votes and calls for votes reach
// nobody; the log says why.
func TestOlderBuildGetsNothing(t *testing.T) {
	b := newBuilds(t)
	for node := range uint32(3) {
		b.replace(node+1, 2)
	}
	b.led(func(lead *replication.Group) error { return lead.Raise(limited(t), 2) })
	b.agree()
	lead := b.leader()
	old := lead.Node()%3 + 1
	b.crash(old)
	b.build(old, 2) // its store says 2: only a build that knows no formats would open it
	b.net.mu.Lock()
	b.net.old[old] = true
	b.net.mu.Unlock()
	g := b.start(old)
	before := g.Progress().Last
	b.puts("without", 5)
	b.wait("the refusal in the log", func() bool { return b.log.holds("has a build that cannot read the site's format 2") })
	if last := g.Progress().Last; last > before || g.Leads() {
		t.Errorf("the older build went from entry %d to %d", before, last)
	}
}

// TestUnreadableCommandEndsTheNode: a command of a kind or with a field that this
// build does not know ends the node and is never a rejection: the others carry it out.
func TestUnreadableCommandEndsTheNode(t *testing.T) {
	for name, c := range map[string]map[int]any{
		"a kind of work": {99: map[int]any{1: "x"}},
		"a field":        {5: map[int]any{1: "r", 2: "h", 99: true}},
		"a higher format": {9: map[int]any{
			1: replication.Format + 1,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			entry, err := cbor.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			ends(t, entry)
		})
	}
}

// TestNewSiteHasNewestFormat: a new site writes the newest format from its start, and
// an older site with records does not rise by itself here.
func TestNewSiteHasNewestFormat(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.wait("the newest format", func() bool { _, at := c.leader().Formats(); return at == replication.Format })
	b := newBuilds(t)
	b.puts("old", 1)
	b.replace(1, 2)
	b.puts("more", 3)
	if _, at := b.leader().Formats(); at != 1 {
		t.Errorf("format %d", at)
	}
	if _, err := b.leader().Compare(limited(t)); !errors.Is(err, replication.ErrFormat) && !again(err) {
		t.Errorf("compare before the format that has it: %v", err)
	}
}

// TestCompare: nodes of a site that compare what they hold at one entry, under writers,
// find the same, and find the one that holds something else.
func TestCompare(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.wait("a format that compares", func() bool { _, at := c.leader().Formats(); return at == replication.Format })
	at := func() (own replication.Compared, others map[uint32]replication.Compared) {
		c.led(func(g *replication.Group) (err error) {
			own, err = g.Compare(limited(t))
			return err
		})
		others = map[uint32]replication.Compared{}
		c.wait("all to come to the entry", func() bool {
			for node, g := range c.all() {
				if others[node] = g.Compared(); others[node].Index < own.Index {
					return false
				}
			}
			return true
		})
		return own, others
	}
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() { // ends with stop
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				_, _ = put(context.Background(), c.leader(), tiers.DocID(fmt.Sprintf("event:w%d", n)))
			}
		}
	})
	for range 20 {
		own, all := at()
		for node, o := range all {
			if o != own {
				t.Fatalf("node %d: %+v, the leader %+v", node, o, own)
			}
		}
	}
	close(stop)
	writer.Wait()
	wrong := c.leader().Node()%3 + 1
	st := c.all()[wrong].Store()
	tx := st.Begin()
	if _, err := tx.Grant("nobody's", "somebody", false); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(st.AppliedIndex()); err != nil {
		t.Fatal(err)
	}
	own, all := at()
	for node, o := range all {
		if o.Index != own.Index || (o.Digest == own.Digest) == (node == wrong) {
			t.Errorf("node %d: %+v, the leader %+v; %d is the wrong one", node, o, own, wrong)
		}
	}
}

// TestGapsWaitForTheFormat: a site that was begun by an older build writes no gaps
// until its format is raised.
func TestGapsWaitForTheFormat(t *testing.T) {
	b := newBuilds(t)
	b.puts("old", 1)
	b.replace(1, replication.Format)
	low := 0.0
	thin := store.Thin{Site: "500101001", Code: "rain", Readings: 9}
	thin.Values.Min = &low
	b.led(func(g *replication.Group) error {
		if g.WritesGaps() {
			t.Error("gaps before the format that has them")
		}
		_, err := g.Thin(limited(t), thin)
		return err
	})
	b.replace(2, replication.Format)
	b.replace(3, replication.Format)
	b.led(func(g *replication.Group) error { return g.Raise(limited(t), replication.Format) })
	b.wait("gaps", func() bool { return b.leader().WritesGaps() })
	b.led(func(g *replication.Group) error { _, err := g.Thin(limited(t), thin); return err })
	b.puts("new", 1)
}
