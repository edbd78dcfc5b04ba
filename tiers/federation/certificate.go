package federation

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// Statement is what two sites sign together: that both held exactly these
// streams. Each signs only when it holds them itself.
type Statement struct {
	Federation      string
	TopologyVersion uint64
	// Asker asked Peer.
	Asker, Peer tiers.SiteID
	// AskedMS is the asker's clock when it asked, AnsweredMS the peer's when it
	// signed, in Unix milliseconds.
	AskedMS, AnsweredMS int64
	Nonce               wire.Nonce
	Digests             map[tiers.StreamID]crdt.Hash
}

// message returns the bytes that both signatures cover.
func (s Statement) message() []byte {
	b := []byte("tiermesh certificate v1\x00")
	for _, text := range []string{s.Federation, string(s.Asker), string(s.Peer)} {
		b = append(b, byte(len(text)))
		b = append(b, text...)
	}
	for _, n := range []uint64{s.TopologyVersion, uint64(s.AskedMS), uint64(s.AnsweredMS), uint64(len(s.Digests))} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = append(b, s.Nonce[:]...)
	for _, stream := range sorted(s.Digests) {
		digest := s.Digests[stream]
		b = append(b, byte(len(stream.Site)))
		b = append(b, stream.Site...)
		b = append(b, byte(stream.Class))
		b = append(b, digest[:]...)
	}
	return b
}

func digestsOf(vectors map[tiers.StreamID]crdt.Vector) map[tiers.StreamID]crdt.Hash {
	out := make(map[tiers.StreamID]crdt.Hash, len(vectors))
	for stream, v := range vectors {
		out[stream] = v.Digest(stream)
	}
	return out
}

// AskProof returns the question of whether the peer holds exactly what this site
// does: vectors are of the streams that the two share ([Shared]).
func AskProof(t *tiers.Topology, vectors map[tiers.StreamID]crdt.Vector, nonce wire.Nonce, nowMS int64) *wire.Prove {
	m := &wire.Prove{Nonce: nonce, TopologyVersion: t.Version(), TimeMS: nowMS}
	digests := digestsOf(vectors)
	for _, stream := range sorted(digests) {
		m.Streams = append(m.Streams, wire.StreamDigest{Site: stream.Site, Class: stream.Class, Digest: wire.Hash(digests[stream])})
	}
	return m
}

// differHeadsMax bounds the chain heads in an answer, so that it fits a frame.
const differHeadsMax = 4096

// AnswerProof answers a peer's question: it signs when vectors, what this site
// holds of the streams that it shares with the asker, are exactly those asked
// for; otherwise it says what it holds of those that differ.
func AnswerProof(t *tiers.Topology, self, asker tiers.SiteID, vectors map[tiers.StreamID]crdt.Vector, m *wire.Prove, s crdt.Signer, nowMS int64) (*wire.Proved, error) {
	out := &wire.Proved{Nonce: m.Nonce, TimeMS: nowMS}
	if m.TopologyVersion != t.Version() {
		out.Reason = fmt.Sprintf("site %s has topology version %d, the question is of version %d", self, t.Version(), m.TopologyVersion)
		return out, nil
	}
	asked := make(map[tiers.StreamID]crdt.Hash, len(m.Streams))
	for _, d := range m.Streams {
		asked[tiers.StreamID{Site: d.Site, Class: d.Class}] = crdt.Hash(d.Digest)
	}
	mine := digestsOf(vectors)
	heads := 0
	for _, stream := range sorted(union(asked, mine)) {
		a, asks := asked[stream]
		b, holds := mine[stream]
		if _, shared := Exchanged(t, stream, self, asker); asks == holds && a == b || !shared {
			continue // what is not shared is no business of the asker's
		}
		if heads += len(vectors[stream]); heads > differHeadsMax {
			out.More = true
			break
		}
		out.Differ = append(out.Differ, wireVector(stream, vectors[stream]))
	}
	if len(out.Differ) > 0 || out.More {
		return out, nil
	}
	if len(asked) != len(mine) {
		out.Reason = "the question names streams that the two sites do not share"
		return out, nil
	}
	st := Statement{
		Federation: t.Federation(), TopologyVersion: t.Version(), Asker: asker, Peer: self,
		AskedMS: m.TimeMS, AnsweredMS: nowMS, Nonce: m.Nonce, Digests: asked,
	}
	var err error
	if out.Signature, err = s.Sign(st.message()); err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return out, nil
}

func union(a, b map[tiers.StreamID]crdt.Hash) map[tiers.StreamID]crdt.Hash {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// ChainDifference is a chain that two sites hold differently.
type ChainDifference struct {
	Chain crdt.ChainID
	// Mine and Theirs are the sequence numbers of the heads; at equal ones the
	// records differ.
	Mine, Theirs uint64
}

// Differences compares the vectors of an answer with those that were asked
// about.
func Differences(vectors map[tiers.StreamID]crdt.Vector, m *wire.Proved) []ChainDifference {
	var out []ChainDifference
	for stream, theirs := range vectorsOf(m.Differ) {
		mine := vectors[stream]
		authors := maps.Clone(theirs)
		maps.Copy(authors, mine)
		for author := range authors {
			if mine[author] != theirs[author] {
				out = append(out, ChainDifference{crdt.ChainID{Stream: stream, Author: author}, mine[author].Seq, theirs[author].Seq})
			}
		}
	}
	slices.SortFunc(out, func(a, b ChainDifference) int { return a.Chain.Compare(b.Chain) })
	return out
}

// Certificate proves that two sites held exactly the same of all the streams that
// they share. Its JSON form is a file of its own.
type Certificate struct {
	Statement
	Vectors map[tiers.StreamID]crdt.Vector
	// Signatures are the asker's and the peer's.
	Signatures [2][]byte
}

// Certify makes a certificate of a peer's signed answer, after checking it, and
// signs it for the asker. The error wraps [ErrCertificate].
func Certify(t *tiers.Topology, self, peer tiers.SiteID, vectors map[tiers.StreamID]crdt.Vector, asked *wire.Prove, m *wire.Proved, s crdt.Signer) (*Certificate, error) {
	c := &Certificate{Vectors: vectors, Statement: Statement{
		Federation: t.Federation(), TopologyVersion: asked.TopologyVersion, Asker: self, Peer: peer,
		AskedMS: asked.TimeMS, AnsweredMS: m.TimeMS, Nonce: asked.Nonce, Digests: digestsOf(vectors),
	}}
	own, err := s.Sign(c.message())
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	c.Signatures = [2][]byte{own, m.Signature}
	return c, c.Verify(t)
}

// Verify checks both signatures against the keys of a topology, and that the two
// sites exchange every chain ([Exchanged]). The digests are those of the vectors, since
// a certificate has no others. The error wraps [ErrCertificate].
func (c *Certificate) Verify(t *tiers.Topology) error {
	if c.Federation != t.Federation() {
		return fmt.Errorf("%w: it is of federation %q, the topology of %q", ErrCertificate, c.Federation, t.Federation())
	}
	for stream, v := range c.Vectors {
		if author, ok := Exchanged(t, stream, c.Asker, c.Peer); !ok || len(part(v, author)) < len(v) {
			return fmt.Errorf("%w: %s and %s do not share %s in topology version %d (the certificate is of %d)",
				ErrCertificate, c.Asker, c.Peer, stream, t.Version(), c.TopologyVersion)
		}
	}
	for i, site := range []tiers.SiteID{c.Asker, c.Peer} {
		row, ok := t.Site(site)
		if !ok || len(row.Key) != ed25519.PublicKeySize {
			return fmt.Errorf("%w: the topology has no key of site %s", ErrCertificate, site)
		}
		if !ed25519.Verify(row.Key, c.message(), c.Signatures[i]) {
			return fmt.Errorf("%w: the signature of site %s does not fit", ErrCertificate, site)
		}
	}
	return nil
}

// certificateFormat names the kind and version of the file.
const certificateFormat = "tiermesh certificate v1"

// The file's JSON. Digests stand in it for readers; they must be those of the
// vectors.
type (
	certificateFile struct {
		Format          string                 `json:"format"`
		Federation      string                 `json:"federation"`
		TopologyVersion uint64                 `json:"topology_version"`
		Asker           tiers.SiteID           `json:"asker"`
		Peer            tiers.SiteID           `json:"peer"`
		AskedMS         int64                  `json:"asked_ms"`
		AnsweredMS      int64                  `json:"answered_ms"`
		Nonce           string                 `json:"nonce"`
		LinkDigest      string                 `json:"link_digest"`
		Streams         []certificateStream    `json:"streams"`
		Signatures      []certificateSignature `json:"signatures"`
	}
	certificateStream struct {
		Site   tiers.SiteID      `json:"site"`
		Class  string            `json:"class"`
		Digest string            `json:"digest"`
		Heads  []certificateHead `json:"heads"`
	}
	certificateHead struct {
		Author      tiers.SiteID `json:"author"`
		Incarnation uint32       `json:"incarnation"`
		Seq         uint64       `json:"seq"`
		Hash        string       `json:"hash"`
	}
	certificateSignature struct {
		Site      tiers.SiteID `json:"site"`
		Signature string       `json:"signature"`
	}
)

// MarshalJSON returns the certificate's file; equal certificates give equal bytes.
func (c *Certificate) MarshalJSON() ([]byte, error) {
	link := crdt.LinkDigest(c.Digests)
	f := certificateFile{
		Format: certificateFormat, Federation: c.Federation, TopologyVersion: c.TopologyVersion, Asker: c.Asker, Peer: c.Peer,
		AskedMS: c.AskedMS, AnsweredMS: c.AnsweredMS, Nonce: hex.EncodeToString(c.Nonce[:]),
		LinkDigest: hex.EncodeToString(link[:]), Streams: []certificateStream{},
	}
	for _, stream := range sorted(c.Vectors) {
		v, digest := c.Vectors[stream], c.Digests[stream]
		s := certificateStream{Site: stream.Site, Class: stream.Class.String(), Digest: hex.EncodeToString(digest[:]), Heads: []certificateHead{}}
		for _, a := range v.Authors() {
			h := v[a]
			s.Heads = append(s.Heads, certificateHead{Author: a.Site, Incarnation: a.Incarnation, Seq: h.Seq, Hash: hex.EncodeToString(h.Hash[:])})
		}
		f.Streams = append(f.Streams, s)
	}
	for i, site := range []tiers.SiteID{c.Asker, c.Peer} {
		f.Signatures = append(f.Signatures, certificateSignature{Site: site, Signature: base64.StdEncoding.EncodeToString(c.Signatures[i])})
	}
	return json.Marshal(f)
}

// ParseCertificate reads a certificate's file and recomputes every digest from
// the vectors. Whether it holds is another question: [Certificate.Verify]. The
// error wraps [ErrCertificate].
func ParseCertificate(b []byte) (*Certificate, error) {
	var f certificateFile
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: bytes after it", ErrCertificate)
	}
	if f.Format != certificateFormat || len(f.Federation) > 255 || len(f.Signatures) != 2 ||
		f.Signatures[0].Site != f.Asker || f.Signatures[1].Site != f.Peer {
		return nil, fmt.Errorf("%w: it is not of the form %q with the signatures of asker and peer", ErrCertificate, certificateFormat)
	}
	c := &Certificate{Vectors: map[tiers.StreamID]crdt.Vector{}, Statement: Statement{
		Federation: f.Federation, TopologyVersion: f.TopologyVersion, Asker: f.Asker, Peer: f.Peer,
		AskedMS: f.AskedMS, AnsweredMS: f.AnsweredMS,
	}}
	err := errors.Join(f.Asker.Validate(), f.Peer.Validate(), unhex(c.Nonce[:], f.Nonce))
	for i, s := range f.Signatures {
		var e error
		c.Signatures[i], e = base64.StdEncoding.DecodeString(s.Signature)
		err = errors.Join(err, e)
	}
	for _, s := range f.Streams {
		err = errors.Join(err, c.addStream(s))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	c.Digests = digestsOf(c.Vectors)
	var said crdt.Hash
	if err := unhex(said[:], f.LinkDigest); err != nil || said != crdt.LinkDigest(c.Digests) {
		return nil, fmt.Errorf("%w: its link digest is not that of its vectors", ErrCertificate)
	}
	return c, nil
}

var (
	errDigest = errors.New("digest is not that of the vector")
	errTwice  = errors.New("listed twice")
	errHex    = errors.New("not the hexadecimal digits that belong here")
)

func unhex(into []byte, s string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(into) {
		return fmt.Errorf("%.80q: %w", s, errHex)
	}
	copy(into, b)
	return nil
}

// addStream reads one stream's vector and holds it against its digest.
func (c *Certificate) addStream(s certificateStream) error {
	class, err := tiers.ParseClass(s.Class)
	stream := tiers.StreamID{Site: s.Site, Class: class}
	if err := errors.Join(err, stream.Validate()); err != nil {
		return err
	}
	if _, twice := c.Vectors[stream]; twice {
		return fmt.Errorf("stream %s: %w", stream, errTwice)
	}
	v := crdt.Vector{}
	for _, h := range s.Heads {
		a := crdt.Author{Site: h.Author, Incarnation: h.Incarnation}
		if _, twice := v[a]; twice {
			return fmt.Errorf("author %s of %s: %w", a, stream, errTwice)
		}
		head := crdt.Head{Seq: h.Seq}
		if err := errors.Join(a.Site.Validate(), unhex(head.Hash[:], h.Hash)); err != nil {
			return err
		}
		v[a] = head
	}
	var said crdt.Hash
	if err := unhex(said[:], s.Digest); err != nil {
		return err
	}
	if v.Digest(stream) != said {
		return fmt.Errorf("stream %s: %w", stream, errDigest)
	}
	c.Vectors[stream] = v
	return nil
}
