package federation

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// Request asks for a bundle: what a site holds of the streams that it shares
// with the site that is asked, so that the bundle is exactly the difference.
type Request struct {
	Federation string
	// Site asks the site From.
	Site, From      tiers.SiteID
	TimeMS          int64
	TopologyVersion uint64
	Vectors         map[tiers.StreamID]crdt.Vector
}

// Heads returns the vectors by chain.
func (r Request) Heads() map[crdt.ChainID]crdt.Head {
	out := map[crdt.ChainID]crdt.Head{}
	for stream, v := range r.Vectors {
		for author, head := range v {
			out[crdt.ChainID{Stream: stream, Author: author}] = head
		}
	}
	return out
}

// WriteRequest signs a request and writes it.
func WriteRequest(w io.Writer, r Request, s crdt.Signer) error {
	h := &wire.Holdings{
		Federation: r.Federation, Site: r.Site, From: r.From, TimeMS: r.TimeMS, TopologyVersion: r.TopologyVersion,
	}
	for _, stream := range sorted(r.Vectors) {
		h.Streams = append(h.Streams, wireVector(stream, r.Vectors[stream]))
	}
	body, err := wire.EncodeBody(h)
	if err != nil {
		return err
	}
	signed, err := sign(requestMagic, wire.TypeRequest, body, s)
	if err != nil {
		return err
	}
	b, err := wire.Append([]byte(requestMagic), signed)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// ReadRequest reads a request and checks that the site that it names signed it.
// The error wraps [ErrBundle] or [ErrForeign].
func ReadRequest(in io.Reader, t *tiers.Topology) (Request, error) {
	frames, signed, err := first(bufio.NewReader(in), requestMagic, wire.TypeRequest)
	if err != nil {
		return Request{}, err
	}
	if _, _, err := frames.Next(); !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Request{}, fmt.Errorf("%w: bytes after the request", ErrBundle)
	}
	h := &wire.Holdings{}
	if err := wire.DecodeBody(signed.Body, h); err != nil {
		return Request{}, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	if err := checkSigned(t, requestMagic, signed, h.Site, h.Federation); err != nil {
		return Request{}, err
	}
	return Request{
		Federation: h.Federation, Site: h.Site, From: h.From, TimeMS: h.TimeMS, TopologyVersion: h.TopologyVersion,
		Vectors: vectorsOf(h.Streams),
	}, nil
}

func vectorsOf(streams []wire.StreamVector) map[tiers.StreamID]crdt.Vector {
	out := make(map[tiers.StreamID]crdt.Vector, len(streams))
	for _, s := range streams {
		v := crdt.Vector{}
		for _, h := range s.Heads {
			v[crdt.Author{Site: h.Author, Incarnation: h.Incarnation}] = crdt.Head{Seq: h.Seq, Hash: crdt.Hash(h.Hash)}
		}
		out[tiers.StreamID{Site: s.Site, Class: s.Class}] = v
	}
	return out
}

// Shared returns the vectors of what two sites exchange ([Exchanged]), without
// streams of which there is no chain. The vectors are not all copies.
func Shared(t *tiers.Topology, a, b tiers.SiteID, local map[tiers.StreamID]crdt.Vector) map[tiers.StreamID]crdt.Vector {
	out := map[tiers.StreamID]crdt.Vector{}
	for stream, v := range local {
		author, ok := Exchanged(t, stream, a, b)
		if !ok || len(v) == 0 {
			continue
		}
		if v = part(v, author); len(v) > 0 {
			out[stream] = v
		}
	}
	return out
}
