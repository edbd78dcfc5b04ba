package byzantine

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/identity"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// Peer has the credentials of a listed site.
type Peer struct {
	ID       tiers.SiteID
	topology *tiers.Topology
	signer   crdt.Signer
	endpoint *transport.Endpoint
}

// Open takes up the credentials in a directory, see [identity.Load], and a loopback
// port. The caller must Close the peer.
func Open(credentials string, t *tiers.Topology) (*Peer, error) {
	creds, err := identity.Load(credentials)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	e, err := transport.Open(transport.Config{Conn: conn, Credentials: creds})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &Peer{ID: creds.ID.Site, topology: t, signer: crdt.Ed25519Signer(creds.SiteKey), endpoint: e}, nil
}

// Close ends all of the peer's links.
func (p *Peer) Close() error { return p.endpoint.Close() }

// Chain names a chain.
func Chain(stream tiers.StreamID, author tiers.SiteID, incarnation uint32) crdt.ChainID {
	return crdt.ChainID{Stream: stream, Author: crdt.Author{Site: author, Incarnation: incarnation}}
}

// Batch is a batch of n records, of a kind that nobody knows, that follow a head;
// signed with the peer's own key, whoever the author is said to be.
func (p *Peer) Batch(chain crdt.ChainID, after crdt.Head, n int) (*wire.Batch, crdt.Head, error) {
	b := &wire.Batch{Chain: wireChain(chain), Prev: wire.Hash(after.Hash), First: after.Seq + 1}
	head := after
	for range n {
		rec := crdt.Record{Kind: 200, Time: crdt.HybridTime(head.Seq+1) << 16, Doc: "event:forged", Body: []byte("x")}.AppendTo(nil)
		b.Records = append(b.Records, rec)
		head = head.Next(rec)
	}
	c, err := crdt.SignCheckpoint(p.signer, chain, head, 1)
	b.Checkpoint = wire.Checkpoint{Seq: head.Seq, Hash: wire.Hash(head.Hash), TimeMS: 1, Signature: c.Signature}
	return b, head, err
}

func wireChain(c crdt.ChainID) wire.Chain {
	return wire.Chain{Site: c.Stream.Site, Class: c.Stream.Class, Author: c.Author.Site, Incarnation: c.Author.Incarnation}
}

// Ack acknowledges a chain.
func Ack(chain crdt.ChainID, head crdt.Head) *wire.Ack {
	return &wire.Ack{Chain: wireChain(chain), Seq: head.Seq, Hash: wire.Hash(head.Hash)}
}

// Resend asks for a chain again.
func Resend(chain crdt.ChainID, first uint64) *wire.Resend {
	return &wire.Resend{Chain: wireChain(chain), First: first}
}

// Hello is what an honest site would say that holds the streams given, each with a
// digest that no other site has.
func (p *Peer) Hello(holds ...tiers.StreamID) *wire.Hello {
	h := &wire.Hello{
		VersionMin: 1, VersionMax: 1, Features: 1, Federation: p.topology.Federation(), Site: p.ID, Node: 1,
		TopologyVersion: p.topology.Version(), Incarnation: 1,
	}
	for _, s := range holds {
		h.Streams = append(h.Streams, wire.StreamDigest{Site: s.Site, Class: s.Class, Digest: wire.Hash{1}})
	}
	return h
}

// Dial opens a link to a site. Nothing is said on it yet.
func (p *Peer) Dial(ctx context.Context, site tiers.SiteID) (*Conn, error) {
	row, _ := p.topology.Site(site)
	if len(row.Nodes) == 0 {
		return nil, fmt.Errorf("site %s has no address", site)
	}
	l, err := p.endpoint.Dial(ctx, row.Nodes[0].Addr, site)
	if err != nil {
		return nil, err
	}
	return &Conn{Link: l, Peer: p}, nil
}
