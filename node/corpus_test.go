package node_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/corpus"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// TestHostilePeer: a township with a valid certificate sends its district
// records whose changes are damaged, with correct checksums and signed
// checkpoints. The district stays up, refuses or quarantines what is bad, hands
// it on, and the honest documents arrive with the same views everywhere.
func TestHostilePeer(t *testing.T) {
	m := newMesh(t)
	m.poison(2000)
	honest := m.report(20)
	m.wait("all records to arrive", m.agreed)
	m.holds(honest)
	if n := m.Node(city).Group().Store().Counts().Refused; n < 500 {
		t.Errorf("%d of 2,000 damaged changes were refused", n)
	}
}

// poison puts n damaged changes into the township's own chain, past its checks:
// as a range of its own chain that comes from elsewhere.
func (m *mesh) poison(n int) {
	m.t.Helper()
	creds, err := identity.Load(filepath.Join(m.dir, string(township), "credentials"))
	if err != nil {
		m.t.Fatal(err)
	}
	g := m.Node(township).Group()
	author, actor, err := g.Actor()
	if err != nil {
		m.t.Fatal(err)
	}
	chain := crdt.ChainID{Stream: tiers.StreamID{Site: township, Class: tiers.ClassUrgent}, Author: author}
	head, r := chain.Origin(), rand.New(rand.NewPCG(7, 7))
	run := store.Range{Chain: chain, First: 1}
	for i := range n {
		b, err := engine.New().Build(nil, actor, 1, []crdt.Op{
			{Kind: crdt.OpPut, Key: "report", Value: "{}"}, {Kind: crdt.OpMakeList, Key: "actions"}, {Kind: crdt.OpMakeMap, Key: "corrections"},
			{Kind: crdt.OpAppend, In: "actions", Value: "{}"}, {Kind: crdt.OpPut, In: "corrections", Key: "title", Value: fmt.Sprint(i)},
		})
		if err != nil {
			m.t.Fatal(err)
		}
		rec := crdt.Record{Kind: crdt.RecordChange, Time: crdt.NewHybridTime(time.Now()), Doc: tiers.DocID(fmt.Sprintf("event:bad-%d", i)), Body: corpus.Damage(r, b.Raw)}
		enc := rec.AppendTo(nil)
		run.Records, head = append(run.Records, enc), head.Next(enc)
	}
	if run.Checkpoint, err = crdt.SignCheckpoint(crdt.Ed25519Signer(creds.SiteKey), chain, head, time.Now().UnixMilli()); err != nil {
		m.t.Fatal(err)
	}
	if fresh, err := g.Ingest(limited(m.t), run); err != nil || fresh != n {
		m.t.Fatal(fresh, err)
	}
}
