package node_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/testbed/byzantine"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// traitor is a township of the district with a genuine certificate.
const traitor = tiers.SiteID("500101002")

// siege is a mesh in which a township has turned on its district.
type siege struct {
	*mesh
	peer        *byzantine.Peer
	heap        uint64
	incarnation uint32
	held        map[string]uint64 // records at the district, by chain of other sites
}

func newSiege(t *testing.T, cfg local.Config) *siege {
	t.Helper()
	cfg.Dir, cfg.Federation, cfg.RedialMax = t.TempDir(), "cq", 200*time.Millisecond
	cfg.Sites = []tiers.Site{
		{ID: city, Tier: tiers.TierCity, Name: "重庆市"},
		{ID: district, Tier: tiers.TierDistrict, Name: "万州区", Parent: city},
		{ID: township, Tier: tiers.TierTownship, Name: "高笋塘街道", Parent: district},
		{ID: traitor, Tier: tiers.TierTownship, Name: "太白街道", Parent: district},
	}
	c, err := local.Open(limited(t), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &siege{mesh: &mesh{Cluster: c, t: t, dir: cfg.Dir}}
	if err := c.Crash(traitor); err != nil { // its place is taken
		t.Fatal(err)
	}
	if s.peer, err = byzantine.Open(filepath.Join(cfg.Dir, string(traitor), "credentials"), c.Topology()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.peer.Close(); err != nil {
			t.Error(err)
		}
	})
	s.publishRules() // so that the district has something for every township
	s.report(3)
	s.wait("the honest sites to agree", s.agreed)
	s.heap, s.incarnation, s.held = heapInUse(), s.Node(district).Group().Store().Incarnation(), s.stored()
	return s
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// stored returns what the district holds and did not write.
func (s *siege) stored() map[string]uint64 {
	out := map[string]uint64{}
	for stream, v := range s.Node(district).Group().Store().Vectors() {
		for author, head := range v {
			if author.Site != district && stream.Site != township {
				out[stream.String()+" "+author.String()] = head.Seq
			}
		}
	}
	return out
}

// watchHeap samples the live heap until the returned function is called, which fails
// the test when it was ever too large.
func (s *siege) watchHeap() (stop func()) {
	heapInUse() // collects what was used before
	t, over, peak := s.t, make(chan struct{}), make(chan uint64)
	go func() { // ends with stop
		sample, most := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}, uint64(0)
		for {
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64())
			select {
			case <-time.After(10 * time.Millisecond):
			case <-over:
				peak <- most
				return
			}
		}
	}()
	return func() {
		close(over)
		if most := <-peak; most > s.heap+heapGrowthMax {
			t.Errorf("the live heap grew from %d to %d MB", s.heap>>20, most>>20)
		}
	}
}

// heapGrowthMax is how much more the process, four sites and the attacker, may hold
// after an attack: a link's buffers many times over.
const heapGrowthMax = 96 << 20

// unharmed fails when the honest links do not go on, when anything of the attack is
// in the store, or when memory is not given back.
func (s *siege) unharmed(mayHold ...crdt.ChainID) {
	s.t.Helper()
	docs := s.report(2)
	s.wait("the honest sites to agree", s.agreed)
	s.holds(docs)
	held := s.stored()
	for _, c := range mayHold {
		delete(held, c.Stream.String()+" "+c.Author.String())
	}
	if fmt.Sprint(held) != fmt.Sprint(s.held) {
		s.t.Errorf("the district holds %v, before the attack %v", held, s.held)
	}
	if n := s.Node(district).Group().Store().Incarnation(); n != s.incarnation {
		s.t.Errorf("the district is in incarnation %d, was in %d", n, s.incarnation)
	}
	if h := heapInUse(); h > s.heap+heapGrowthMax {
		s.t.Errorf("the heap grew from %d to %d MB", s.heap>>20, h>>20)
	}
}

func (s *siege) dial() *byzantine.Conn {
	s.t.Helper()
	c, err := s.peer.Dial(limited(s.t), district)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// refused returns how often the district refused the traitor, by reason.
func (s *siege) refused() map[string]uint64 { return s.link(district, traitor).Findings.Refused }

// refusedFor fails unless the district's status counts another refusal than before.
func (s *siege) refusedFor(code wire.Code, before map[string]uint64) {
	s.t.Helper()
	s.wait("the status to show why: "+code.String(), func() bool {
		return s.refused()[code.String()] > before[code.String()]
	})
}

// The chains of the attacks: of the traitor's own stream, and of others'.
var (
	ownStream  = tiers.StreamID{Site: traitor, Class: tiers.ClassRoutine}
	ownChain   = byzantine.Chain(ownStream, traitor, 1)
	sibling    = tiers.StreamID{Site: township, Class: tiers.ClassRoutine}
	victims    = tiers.StreamID{Site: district, Class: tiers.ClassCatalog}
	victimsOwn = byzantine.Chain(victims, district, 1)
	rules      = byzantine.Chain(tiers.StreamID{Site: city, Class: tiers.ClassCatalog}, city, 1)
)

// attack is something that a peer does on one link, and the reason for which the
// link ends; of several, any.
type attack struct {
	name string
	run  func(ctx context.Context, c *byzantine.Conn) error
	want []wire.Code
}

// greeted runs an attack after an honest hello.
func greeted(run func(ctx context.Context, c *byzantine.Conn) error, holds ...tiers.StreamID) func(ctx context.Context, c *byzantine.Conn) error {
	return func(ctx context.Context, c *byzantine.Conn) error {
		return errors.Join(c.Greet(ctx, holds...), run(ctx, c))
	}
}

// says sends messages that are made for the link.
func says(all ...func(c *byzantine.Conn) wire.Message) func(ctx context.Context, c *byzantine.Conn) error {
	return func(ctx context.Context, c *byzantine.Conn) error {
		for _, m := range all {
			if err := c.Say(ctx, m(c)); err != nil {
				return nil //nolint:nilerr // the link may end before the last one
			}
		}
		return nil
	}
}

func just(m wire.Message) func(*byzantine.Conn) wire.Message {
	return func(*byzantine.Conn) wire.Message { return m }
}

// batch forges one record of a chain after a head, and then what change says.
func batch(chain crdt.ChainID, after crdt.Head, change func(b *wire.Batch)) func(*byzantine.Conn) wire.Message {
	return func(c *byzantine.Conn) wire.Message {
		b, _, err := c.Peer.Batch(chain, after, 1)
		if err != nil {
			panic(err)
		}
		if change != nil {
			change(b)
		}
		return b
	}
}

// writes puts bytes on streams of their own.
func writes(streams ...[]byte) func(ctx context.Context, c *byzantine.Conn) error {
	return func(ctx context.Context, c *byzantine.Conn) error {
		for _, b := range streams {
			if _, err := c.Write(ctx, b); err != nil {
				return nil //nolint:nilerr // likewise
			}
		}
		return nil
	}
}

// floods says the same kind of message without end.
func floods(next func(i int) wire.Message) func(ctx context.Context, c *byzantine.Conn) error {
	return func(ctx context.Context, c *byzantine.Conn) error { c.Flood(ctx, next); return nil }
}

func vectors(s tiers.StreamID, heads ...wire.ChainHead) wire.Message {
	return &wire.Vectors{Streams: []wire.StreamVector{{Site: s.Site, Class: s.Class, Heads: heads}}}
}

// attacks are the rows of [TestByzantine].
func attacks() []attack {
	protocol, chain, checkpoint := []wire.Code{wire.CodeProtocol}, []wire.Code{wire.CodeChain}, []wire.Code{wire.CodeCheckpoint}
	one := func(b *wire.Batch) { b.Records[0] = []byte("no record") }
	second := crdt.Head{Seq: 1, Hash: crdt.Hash{7}}
	ack, err := wire.Append([]byte{1}, byzantine.Ack(ownChain, second))
	hello, err2 := wire.Append([]byte{0}, &wire.Bye{})
	bomb, err3 := byzantine.Bomb(wire.TypeBatch, 64<<20)
	heads, err4 := byzantine.MillionHeads()
	if err := errors.Join(err, err2, err3, err4); err != nil {
		panic(err)
	}
	return append(floodAttacks(),
		attack{"frame of 4 GiB", writes([]byte{0, 0xff, 0xff, 0xff, 0xff}), protocol},
		attack{"frame cut off", func(ctx context.Context, c *byzantine.Conn) error {
			r, err := c.Write(ctx, hello[:len(hello)-1])
			return errors.Join(err, r.Close())
		}, protocol},
		attack{"random bytes", writes(append([]byte{0}, byzantine.Noise(1<<16)...)), protocol},
		attack{"random frames", writes(append([]byte{0}, byzantine.Frame(wire.TypeBatch, 0, byzantine.Noise(4096))...)), protocol},
		attack{"lane opened twice", writes(ack, ack), protocol},
		attack{"zstd bomb", writes(append([]byte{0}, bomb...)), protocol},
		attack{"no hello", says(just(byzantine.Ack(ownChain, second))), protocol},
		attack{"two hellos", greeted(says(func(c *byzantine.Conn) wire.Message { return c.Peer.Hello() })), protocol},
		attack{"hello in another's name", says(func(c *byzantine.Conn) wire.Message {
			h := c.Peer.Hello()
			h.Site = township
			return h
		}), []wire.Code{wire.CodeFederation}},
		attack{"hello with 50,000 streams", says(func(c *byzantine.Conn) wire.Message {
			return c.Peer.Hello(slices.Repeat([]tiers.StreamID{victims}, 50_000)...)
		}), protocol},
		attack{"vectors with a million heads", greeted(writes(append([]byte{1}, heads...))), protocol},
		attack{"vectors that nobody asked for", greeted(says(just(vectors(ownStream)))), protocol},
		attack{"vectors at 2^63", greeted(says(just(vectors(victims, wire.ChainHead{Author: district, Incarnation: 1, Seq: 1 << 63}))), victims), protocol},
		attack{"vectors with a forged author", greeted(says(just(vectors(victims, wire.ChainHead{Author: township, Incarnation: 1, Seq: 1}))), victims), []wire.Code{wire.CodeAuthorship}},
		attack{"forged author", greeted(says(batch(byzantine.Chain(ownStream, township, 1), second, nil))), []wire.Code{wire.CodeAuthorship}},
		attack{"forged audience", greeted(says(batch(byzantine.Chain(sibling, township, 1), second, nil))), []wire.Code{wire.CodeAudience}},
		attack{"reordered", greeted(says(batch(ownChain, second, nil), batch(ownChain, ownChain.Origin(), nil))), chain},
		attack{"chain without its origin", greeted(says(batch(ownChain, crdt.Head{Hash: crdt.Hash{1}}, nil))), chain},
		attack{"malformed record", greeted(says(batch(ownChain, ownChain.Origin(), one))), chain},
		attack{"checkpoint of other records", greeted(says(batch(ownChain, ownChain.Origin(), func(b *wire.Batch) { b.Checkpoint.Hash[0]++ }))), checkpoint},
		attack{"checkpoint in the district's name", greeted(says(batch(victimsOwn, victimsOwn.Origin(), nil))), checkpoint},
		attack{"ack of what was not sent", greeted(says(just(byzantine.Ack(victimsOwn, crdt.Head{Seq: 1 << 30})))), protocol},
		attack{"ack with another hash", greeted(func(ctx context.Context, c *byzantine.Conn) error {
			if err := c.LackAll(ctx); err != nil {
				return err
			}
			b, err := byzantine.Await[*wire.Batch](ctx, c)
			if err != nil {
				return err
			}
			return c.Say(ctx, &wire.Ack{Chain: b.Chain, Seq: b.Checkpoint.Seq, Hash: wire.Hash{1}})
		}), chain},
	)
}

// floodAttacks say without end what would be in order once.
func floodAttacks() []attack {
	protocol := []wire.Code{wire.CodeProtocol}
	return []attack{
		{"flood of proofs", greeted(floods(func(i int) wire.Message { return &wire.Proof{Streams: uint64(i)} })), protocol},
		{"flood of questions", greeted(floods(func(i int) wire.Message {
			return &wire.Prove{Nonce: wire.Nonce{byte(i), byte(i >> 8), byte(i >> 16)}}
		})), protocol},
		{"flood of declines", greeted(floods(func(i int) wire.Message {
			return &wire.Decline{Streams: []wire.Stream{{Site: tiers.SiteID(fmt.Sprint(i)), Class: 1}}}
		})), protocol},
		{"flood of resends", greeted(floods(func(int) wire.Message { return byzantine.Resend(rules, 1) })), protocol},
		{"flood of what nobody knows", greeted(floods(func(int) wire.Message { return &wire.Unknown{FrameType: 200} })), protocol},
	}
}

// TestByzantine: whatever a peer with a genuine certificate sends, its link ends with
// a reason that it hears and the operator sees, nothing of it is stored, memory is
// given back, and the other links go on.
func TestByzantine(t *testing.T) {
	s := newSiege(t, local.Config{})
	rows := attacks() // what the attacker prepares is not the district's memory
	defer s.watchHeap()()
	for _, a := range rows {
		t.Run(a.name, func(t *testing.T) {
			s.t = t
			ctx := limited(t)
			before, c := s.refused(), s.dial()
			if err := a.run(ctx, c); err != nil {
				t.Fatal(err)
			}
			code, reason, err := c.Verdict(ctx)
			if err != nil || !slices.Contains(a.want, code) {
				t.Fatalf("told %s (%s), %v; want one of %v", code, reason, err, a.want)
			}
			s.refusedFor(code, before)
			s.unharmed()
		})
	}
	s.t = t
}
