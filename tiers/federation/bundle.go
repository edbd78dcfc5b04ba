package federation

import (
	"bufio"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// The first line of each kind of file.
const (
	bundleMagic  = "tiermesh bundle 1\n"
	requestMagic = "tiermesh request 1\n"
)

// BundleRange is a run of one chain in a bundle: what follows From, up to the
// checkpoint End, which the chain's author signed.
type BundleRange struct {
	From crdt.Head
	End  crdt.Checkpoint
	// Bytes is about the size of the records.
	Bytes uint64
}

// Records returns how many records the range has.
func (r BundleRange) Records() uint64 { return r.End.Head.Seq - r.From.Seq }

// Manifest says what a bundle holds. Since each range begins at a chain hash and
// ends at one, it also determines every record.
type Manifest struct {
	Federation string
	// From made the bundle for the site For.
	From, For tiers.SiteID
	// TimeMS is when, in Unix milliseconds of From's clock.
	TimeMS          int64
	TopologyVersion uint64
	// Ranges are at most one a chain, in lane order.
	Ranges []BundleRange
}

// Totals returns the number of records and their bytes.
func (m Manifest) Totals() (records, bytes uint64) {
	for _, r := range m.Ranges {
		records, bytes = records+r.Records(), bytes+r.Bytes
	}
	return records, bytes
}

func (m Manifest) wire() *wire.Manifest {
	out := &wire.Manifest{
		Federation: m.Federation, From: m.From, For: m.For, TimeMS: m.TimeMS, TopologyVersion: m.TopologyVersion,
	}
	for _, r := range m.Ranges {
		out.Ranges = append(out.Ranges, wire.BundleRange{
			Chain: wireChain(r.End.Chain), Seq: r.From.Seq, Hash: wire.Hash(r.From.Hash), End: wireCheckpoint(r.End), Bytes: r.Bytes,
		})
	}
	return out
}

func manifestOf(m *wire.Manifest) (Manifest, error) {
	out := Manifest{Federation: m.Federation, From: m.From, For: m.For, TimeMS: m.TimeMS, TopologyVersion: m.TopologyVersion}
	for i, r := range m.Ranges {
		chain := chainOf(r.Chain)
		if i > 0 && out.Ranges[i-1].End.Chain.Compare(chain) >= 0 {
			return out, fmt.Errorf("%w: %s is out of order", ErrBundle, chain)
		}
		if r.Seq == 0 && crdt.Hash(r.Hash) != chain.Origin().Hash {
			return out, fmt.Errorf("%w: %s does not begin at its origin", ErrBundle, chain)
		}
		out.Ranges = append(out.Ranges, BundleRange{
			From: crdt.Head{Seq: r.Seq, Hash: crdt.Hash(r.Hash)}, End: checkpointOf(chain, r.End), Bytes: r.Bytes,
		})
	}
	return out, nil
}

// Lack is a chain of which another site holds less than this one.
type Lack struct {
	Chain crdt.ChainID
	// After is how far the other site is known to hold it, To how far this one
	// does.
	After, To crdt.Head
}

// Difference returns what the peer lacks of what self may hand to it, in lane order: local is what self holds, has what the peer is known to.
func Difference(t *tiers.Topology, self, peer tiers.SiteID, local map[tiers.StreamID]crdt.Vector, has map[crdt.ChainID]crdt.Head) []Lack {
	var out []Lack
	for stream, v := range local {
		sole, ok := Exchanged(t, stream, self, peer)
		if !ok || sole == peer {
			continue
		}
		for author, head := range part(v, sole) {
			chain := crdt.ChainID{Stream: stream, Author: author}
			after, known := has[chain]
			if !known {
				after = chain.Origin()
			}
			if head.Seq > after.Seq {
				out = append(out, Lack{Chain: chain, After: after, To: head})
			}
		}
	}
	slices.SortFunc(out, func(a, b Lack) int { return a.Chain.Compare(b.Chain) })
	return out
}

// sign wraps a body in its frame; kind separates what bundles and requests sign.
func sign(kind string, t wire.Type, body []byte, s crdt.Signer) (*wire.Signed, error) {
	signature, err := s.Sign(append([]byte(kind+"\x00"), body...))
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", kind, err)
	}
	return &wire.Signed{FrameType: t, Body: body, Signature: signature}, nil
}

// checkSigned checks the signature of a file's first frame, and of which
// federation it says it is.
func checkSigned(t *tiers.Topology, kind string, m *wire.Signed, site tiers.SiteID, federation string) error {
	if federation != t.Federation() {
		return fmt.Errorf("%w: it is of federation %q, this is %q", ErrForeign, federation, t.Federation())
	}
	row, ok := t.Site(site)
	if !ok || len(row.Key) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: topology version %d has no key of site %s, which signed it", ErrBundle, t.Version(), site)
	}
	if !ed25519.Verify(row.Key, append([]byte(kind+"\x00"), m.Body...), m.Signature) {
		return fmt.Errorf("%w: the signature is not that of site %s", ErrBundle, site)
	}
	return nil
}

// BundleWriter writes a bundle. It belongs to one goroutine.
type BundleWriter struct {
	w   io.Writer
	m   Manifest
	at  position
	buf []byte
}

// position is how far a bundle's ranges have come: which range, and its head so
// far.
type position struct {
	i    int
	head crdt.Head
}

// begin puts the position at the start of its range.
func (p *position) begin(m Manifest) {
	if p.i < len(m.Ranges) {
		p.head = m.Ranges[p.i].From
	}
}

// step takes a batch in, which must continue where the position is.
func (p *position) step(m Manifest, b *wire.Batch) error {
	if p.i == len(m.Ranges) {
		return fmt.Errorf("%w: records beyond what its manifest lists", ErrBundle)
	}
	r := m.Ranges[p.i]
	end := checkpointOf(r.End.Chain, b.Checkpoint).Head
	switch {
	case chainOf(b.Chain) != r.End.Chain, b.First != p.head.Seq+1, crdt.Hash(b.Prev) != p.head.Hash,
		b.First+uint64(len(b.Records))-1 != end.Seq, end.Seq > r.End.Head.Seq, end.Seq == r.End.Head.Seq && end != r.End.Head:
		return fmt.Errorf("%w: %s at %d does not continue as its manifest says", ErrBundle, chainOf(b.Chain), b.First)
	}
	if p.head = end; end.Seq == r.End.Head.Seq {
		p.i++
		p.begin(m)
	}
	return nil
}

// NewBundleWriter starts a bundle: it signs the manifest and writes it.
func NewBundleWriter(w io.Writer, m Manifest, s crdt.Signer) (*BundleWriter, error) {
	body, err := wire.EncodeBody(m.wire())
	if err != nil {
		return nil, err
	}
	signed, err := sign(bundleMagic, wire.TypeBundle, body, s)
	if err != nil {
		return nil, err
	}
	out := &BundleWriter{w: w, m: m}
	out.at.begin(m)
	if out.buf, err = wire.Append([]byte(bundleMagic), signed); err != nil {
		return nil, err
	}
	_, err = w.Write(out.buf)
	return out, err
}

// Put writes the next batch, which continues where the last one ended. The
// error wraps [ErrBundle] when it does not, or is the writer's.
func (b *BundleWriter) Put(r Range, prev crdt.Hash) error {
	batch := wireBatch(r, prev)
	if err := b.at.step(b.m, batch); err != nil {
		return err
	}
	var err error
	if b.buf, err = wire.Append(b.buf[:0], batch); err != nil {
		return err
	}
	_, err = b.w.Write(b.buf)
	return err
}

// Close checks that all of the manifest was written.
func (b *BundleWriter) Close() error {
	if b.at.i < len(b.m.Ranges) {
		return fmt.Errorf("%w: it ends before its manifest does", ErrBundle)
	}
	return nil
}

// BundleReader reads a bundle with bounded memory, whatever it claims. It
// belongs to one goroutine.
type BundleReader struct {
	frames   *wire.Reader
	signed   *wire.Signed
	manifest Manifest
	at       position
}

// first reads a file's first line and frame.
func first(r io.Reader, magic string, t wire.Type) (*wire.Reader, *wire.Signed, error) {
	line := make([]byte, len(magic))
	if n, err := io.ReadFull(r, line); err != nil && !errors.Is(readError(err), io.ErrUnexpectedEOF) {
		return nil, nil, fmt.Errorf("%w: %w", ErrBundle, err)
	} else if string(line[:n]) != magic {
		return nil, nil, fmt.Errorf("%w: it does not begin with %q", ErrBundle, magic)
	}
	frames := wire.NewReader(r)
	m, _, err := frames.Next()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrBundle, readError(err))
	}
	signed, ok := m.(*wire.Signed)
	if !ok || signed.FrameType != t {
		return nil, nil, fmt.Errorf("%w: its first frame is of type %d", ErrBundle, m.Type())
	}
	return frames, signed, nil
}

// readError says that a file that just ends is torn.
func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ReadBundle reads a bundle's manifest. Who made it is not checked yet: see
// [BundleReader.Verify]. The error wraps [ErrBundle].
func ReadBundle(r io.Reader) (*BundleReader, error) {
	frames, signed, err := first(bufio.NewReader(r), bundleMagic, wire.TypeBundle)
	if err != nil {
		return nil, err
	}
	b := &BundleReader{frames: frames, signed: signed}
	m := &wire.Manifest{}
	if err := wire.DecodeBody(signed.Body, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	if b.manifest, err = manifestOf(m); err != nil {
		return nil, err
	}
	b.at.begin(b.manifest)
	return b, nil
}

// Manifest returns what the bundle says of itself; the caller must not change
// its ranges.
func (b *BundleReader) Manifest() Manifest { return b.manifest }

// Verify checks that the bundle is of this federation and that the site that it
// names made it. The error wraps [ErrForeign] or [ErrBundle].
func (b *BundleReader) Verify(t *tiers.Topology) error {
	return checkSigned(t, bundleMagic, b.signed, b.manifest.From, b.manifest.Federation)
}

// Next returns the next batch and the index of its range. It checks the batch's
// place only: a [Verifier] decides about the records. At the end of a whole
// bundle it returns [io.EOF]; other errors wrap [ErrBundle].
func (b *BundleReader) Next() (*wire.Batch, int, error) {
	m, _, err := b.frames.Next()
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && b.at.i == len(b.manifest.Ranges) {
		return nil, 0, io.EOF
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%w: it is torn in range %d of %d: %w", ErrBundle, min(b.at.i+1, len(b.manifest.Ranges)), len(b.manifest.Ranges), readError(err))
	}
	batch, ok := m.(*wire.Batch)
	if !ok {
		return nil, 0, fmt.Errorf("%w: frame of type %d among its records", ErrBundle, m.Type())
	}
	i := b.at.i
	return batch, i, b.at.step(b.manifest, batch)
}

// Check reads the rest of the bundle and recomputes every chain from where its
// range starts to where it ends; with a topology it also checks every signature,
// audience and author, as the site that it is for would. The error wraps
// [ErrBundle] or [ErrForeign].
func (b *BundleReader) Check(t *tiers.Topology) error {
	if t != nil {
		if err := b.Verify(t); err != nil {
			return err
		}
	}
	v := Verifier{Topology: t, Self: b.manifest.For, Peer: b.manifest.From}
	for {
		m, _, err := b.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, ErrBundle) {
			return nil
		}
		if err != nil {
			return err
		}
		chain, start := chainOf(m.Chain), crdt.Head{Seq: m.First - 1, Hash: crdt.Hash(m.Prev)}
		var end crdt.Head
		if t != nil {
			var r Range
			r, err = v.Range(m, start)
			end = r.Checkpoint.Head
		} else {
			end, _, err = fold(chain, m, start)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBundle, err)
		}
		if end != checkpointOf(chain, m.Checkpoint).Head {
			return fmt.Errorf("%w: %s: records do not hash to the checkpoint at %d", ErrBundle, chain, m.Checkpoint.Seq)
		}
	}
}

func wireCheckpoint(c crdt.Checkpoint) wire.Checkpoint {
	return wire.Checkpoint{Seq: c.Head.Seq, Hash: wire.Hash(c.Head.Hash), TimeMS: c.TimeMS, Signature: c.Signature}
}

func checkpointOf(chain crdt.ChainID, c wire.Checkpoint) crdt.Checkpoint {
	return crdt.Checkpoint{
		Chain: chain, Head: crdt.Head{Seq: c.Seq, Hash: crdt.Hash(c.Hash)}, TimeMS: c.TimeMS, Signature: c.Signature,
	}
}

func wireBatch(r Range, prev crdt.Hash) *wire.Batch {
	return &wire.Batch{
		Chain: wireChain(r.Chain), Prev: wire.Hash(prev), First: r.First, Records: r.Records, Checkpoint: wireCheckpoint(r.Checkpoint),
	}
}
