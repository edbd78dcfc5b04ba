package node_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// clone starts a copy of the township's disk, as of when it was made, on a port of
// its own, beside the original.
func (m *mesh) clone(dir string) *node.Node {
	m.t.Helper()
	n, err := node.Open(node.Config{
		Dir: dir, Credentials: filepath.Join(m.dir, string(township), "credentials"),
		Topology: filepath.Join(m.dir, "topology.json"), Listen: "127.0.0.1:0",
	}, node.Options{RedialMax: 200 * time.Millisecond, Engine: worker()})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }() // ends with stop
	m.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			m.t.Error(err)
		}
	})
	if err := n.Ready(limited(m.t)); err != nil {
		m.t.Fatal(err)
	}
	return n
}

// reportAt reports an event at a node and returns its document.
func (m *mesh) reportAt(n *node.Node, key string) store.DocKey {
	m.t.Helper()
	w, err := n.Report(limited(m.t), key, event.Report{Type: "01001", Title: key, Priority: 3, SourceKey: key})
	if err != nil {
		m.t.Fatal(err)
	}
	return store.DocKey{Stream: w.Stream, Doc: w.Doc}
}

// TestClone: a copy of a township's disk runs elsewhere at the same time. The copy
// reaches the district first; the original, with other records in the same places,
// finds that out at its first exchange, sets its own aside, goes on in a new
// incarnation, and writes once more what only it had. Nothing that either of them
// acknowledged is lost, nobody edits a file, and all other streams flow on.
func TestClone(t *testing.T) {
	m := newMesh(t)
	docs := m.report(3)
	m.wait("the sites to agree", m.agreed)
	if err := m.Crash(township); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(copied, os.DirFS(filepath.Join(m.dir, string(township), "data"))); err != nil {
		t.Fatal(err)
	}
	m.Isolate(township)
	if err := m.Start(limited(t), township); err != nil {
		t.Fatal(err)
	}
	original := m.Node(township)
	for i := range 3 {
		docs = append(docs, m.reportAt(original, fmt.Sprintf("original-%d", i)))
	}
	clone := m.clone(copied)
	for i := range 5 {
		docs = append(docs, m.reportAt(clone, fmt.Sprintf("clone-%d", i)))
	}
	m.wait("the clone's records to arrive", func() bool { return records(m.Node(city), township) == 8 })
	m.Heal()
	m.wait("the original to find out", func() bool { return original.Group().Store().Incarnation() == 2 })
	m.wait("everything to be everywhere", func() bool {
		for _, n := range []*node.Node{original, clone, m.Node(district), m.Node(city)} {
			for _, k := range docs {
				if _, err := n.Views().View(k); err != nil {
					return false
				}
			}
		}
		return true
	})
	all, err := original.Group().Store().Asides()
	if err != nil || len(all) != 1 || all[0].Kept != 3 || all[0].Records != 3 {
		t.Fatalf("set aside %+v, %v; want records 4 to 6", all, err)
	}
	key, _ := original.Topology().Site(township)
	if err := all[0].Proof.Verify(key.Key); err != nil {
		t.Errorf("the proof of the other history: %v", err)
	}
	want := map[crdt.Author]uint64{{Site: township, Incarnation: 1}: 8, {Site: township, Incarnation: 2}: 3}
	for _, n := range m.Nodes() {
		v := n.Group().Store().Vector(tiers.StreamID{Site: township, Class: tiers.ClassRoutine})
		for a, seq := range want {
			if v[a].Seq != seq || len(v) != len(want) {
				t.Errorf("%s holds %v, want %v", n.ID().Site, v, want)
			}
		}
	}
	if all := strings.Join(m.Node(district).Alarms(), "\n"); !strings.Contains(all, "forks at or before") {
		t.Errorf("the district raises no alarm: %s", all)
	}
	if all := strings.Join(original.Alarms(), "\n"); !strings.Contains(all, "a disk of it was cloned") {
		t.Errorf("the original raises no alarm: %s", all)
	}
	if r, err := original.Group().Store().Scrub(limited(t)); err != nil || len(r.Findings) > 0 {
		t.Errorf("after the fork: %+v, %v", r.Findings, err)
	}
}

// TestUnknownKinds: records of a kind that this version does not know travel from a
// township over its district to the city and back, byte for byte, and what comes
// behind them in the chain is read.
func TestUnknownKinds(t *testing.T) {
	m := newMesh(t)
	creds, err := identity.Load(filepath.Join(m.dir, string(township), "credentials"))
	if err != nil {
		t.Fatal(err)
	}
	g := m.Node(township).Group()
	author, _, err := g.Actor()
	if err != nil {
		t.Fatal(err)
	}
	chain := crdt.ChainID{Stream: tiers.StreamID{Site: township, Class: tiers.ClassRoutine}, Author: author}
	head, run := chain.Origin(), store.Range{Chain: chain, First: 1}
	for i := range 3 {
		enc := crdt.Record{Kind: 200, Time: crdt.HybridTime(i+1) << 16, Doc: "later:x", Body: []byte("of a later version")}.AppendTo(nil)
		run.Records, head = append(run.Records, enc), head.Next(enc)
	}
	if run.Checkpoint, err = crdt.SignCheckpoint(crdt.Ed25519Signer(creds.SiteKey), chain, head, 1); err != nil {
		t.Fatal(err)
	}
	if n, err := g.Ingest(limited(t), run); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	docs := m.report(2) // and records of a known kind behind them, in the same chain
	m.wait("the sites to agree", func() bool { return m.agreed() && records(m.Node(city), township) == 5 })
	m.holds(docs)
	for _, id := range []tiers.SiteID{district, city} {
		got, err := m.Node(id).Group().Store().ReadRun(chain, 1, 3, 1<<20)
		if err != nil || len(got.Records) != 3 || string(got.Records[2]) != string(run.Records[2]) {
			t.Errorf("%s holds %d of the records, %v", id, len(got.Records), err)
		}
	}
	// The township loses its disk and takes them back, as a site that knows the
	// kind no better.
	if err := m.Crash(township); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(m.dir, string(township), "data")); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(limited(t), township); err != nil {
		t.Fatal(err)
	}
	m.wait("the township to have them back", func() bool { return m.agreed() && records(m.Node(township), township) == 5 })
}

// TestRefusalsAreCounted: what a peer may not do is counted by reason, shown, and
// raises one alarm, however often it tries.
func TestRefusalsAreCounted(t *testing.T) {
	m := newMove(t, time.Minute)
	m.wait("the links", func() bool { return m.linkedEqual(district, city) && m.linkedEqual(other, city) })
	// The other district believes that the township is its own, by a topology that
	// the township has never seen: it is not, and never will be, linked to it.
	doc := m.Topology().Doc()
	for i := range doc.Sites {
		if doc.Sites[i].ID == other {
			doc.Sites[i].Parent, doc.Sites[i].Tier = district, tiers.TierTownship
		}
	}
	forged, err := tiers.NewTopology(doc)
	if err != nil {
		t.Fatal(err)
	}
	b, err := forged.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "topology.json")
	if err := errors.Join(os.WriteFile(file, b, 0o600), m.Crash(other)); err != nil {
		t.Fatal(err)
	}
	n, err := node.Open(node.Config{
		Dir: filepath.Join(t.TempDir(), "data"), Credentials: filepath.Join(m.dir, string(other), "credentials"), Topology: file, Listen: "127.0.0.1:0",
	}, node.Options{RedialMax: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }() // ends with stop
	m.wait("it to be refused again and again", func() bool {
		return m.link(district, other).Findings.Refused["unlinked"] > 3
	})
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	alarms := 0
	for _, a := range m.Node(district).Alarms() {
		if strings.Contains(a, "was refused (unlinked)") {
			alarms++
		}
	}
	if alarms != 1 {
		t.Errorf("%d alarms: %q", alarms, m.Node(district).Alarms())
	}
}
