package federation_test

import (
	"testing"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// TestVectorsAreForgotten: a peer that names a hundred thousand chains is not
// remembered for all of them, and the session goes on.
func TestVectorsAreForgotten(t *testing.T) {
	w, err := newWorld("c\nd1 c\nt1 x d1\n")
	if err != nil {
		t.Fatal(err)
	}
	s := federation.New(federation.Config{Self: "c", Peer: "d1", Topology: w.topology, Incarnation: 1, Node: 1}, nil)
	hello := &wire.Hello{VersionMin: 1, VersionMax: 1, Federation: "cq", Site: "d1", Node: 1, Incarnation: 1, TopologyVersion: 1}
	classes := tiers.Classes()
	for _, site := range []tiers.SiteID{"d1", "t1"} {
		for _, class := range classes {
			hello.Streams = append(hello.Streams, wire.StreamDigest{Site: site, Class: class, Digest: wire.Hash{1}})
		}
	}
	s.Step(hello)
	named := 0
	for _, d := range hello.Streams {
		v := wire.StreamVector{Site: d.Site, Class: d.Class}
		for i := range uint32(wire.IncarnationMax) {
			for _, author := range []tiers.SiteID{"c", "d1", "t1"} {
				if w.topology.MayHaveWritten(tiers.StreamID{Site: d.Site, Class: d.Class}, author) {
					v.Heads = append(v.Heads, wire.ChainHead{Author: author, Incarnation: i, Seq: 1 + uint64(i), Hash: wire.Hash{byte(i)}})
				}
			}
		}
		named += len(v.Heads)
		s.Step(&wire.Vectors{Streams: []wire.StreamVector{v}})
	}
	r := s.Ready()
	if r.Close != nil || r.RolledBack != nil || !s.Compared() {
		t.Fatalf("%+v, compared %v", r.Close, s.Compared())
	}
	if n := len(s.Chains()); named < 20_000 || n > 16384 {
		t.Errorf("%d of %d chains are remembered", n, named)
	}
}
