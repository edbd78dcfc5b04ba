package wire

import (
	"fmt"

	"github.com/tiermesh/tiermesh/tiers"
)

// The frame types of proofs and bundles, which came after the first six.
const (
	TypeProve   Type = 7
	TypeProved  Type = 8
	TypeBundle  Type = 9
	TypeRequest Type = 12
)

// Nonce pairs a question with its answer.
type Nonce [16]byte

// Prove asks the peer to sign that it holds exactly these streams.
type Prove struct {
	Nonce           Nonce          `cbor:"1,keyasint"`
	TopologyVersion uint64         `cbor:"2,keyasint"`
	TimeMS          int64          `cbor:"3,keyasint"`
	Streams         []StreamDigest `cbor:"4,keyasint,omitempty"`
}

// Proved answers a [Prove]: with a signature, or with what differs.
type Proved struct {
	Nonce Nonce `cbor:"1,keyasint"`
	// TimeMS is the answering site's clock.
	TimeMS int64 `cbor:"2,keyasint"`
	// Signature is of the answering site; empty when the two are not equal.
	Signature []byte `cbor:"3,keyasint,omitempty"`
	// Differ are the sender's vectors of the streams that differ, or of the first
	// of them; More says that there are others.
	Differ []StreamVector `cbor:"4,keyasint,omitempty"`
	More   bool           `cbor:"5,keyasint,omitempty"`
	// Reason says why nothing was compared, when nothing was.
	Reason string `cbor:"6,keyasint,omitempty"`
}

// Signed is the first frame of a bundle ([TypeBundle], whose body is a
// [Manifest]) and the only one of a request ([TypeRequest], whose body is a
// [Holdings]). The signature covers the body's bytes, so that a later version
// can add to it. Neither is expected on a link.
type Signed struct {
	FrameType Type   `cbor:"-"`
	Body      []byte `cbor:"1,keyasint"`
	Signature []byte `cbor:"2,keyasint"`
}

// Manifest says what a bundle holds.
type Manifest struct {
	Federation      string        `cbor:"1,keyasint"`
	From            tiers.SiteID  `cbor:"2,keyasint"`
	For             tiers.SiteID  `cbor:"3,keyasint"`
	TimeMS          int64         `cbor:"4,keyasint"`
	TopologyVersion uint64        `cbor:"5,keyasint"`
	Ranges          []BundleRange `cbor:"6,keyasint,omitempty"`
}

// BundleRange is a run of one chain: what follows the head (Seq, Hash), up to
// the checkpoint End. Bytes is about the size of its records.
type BundleRange struct {
	Chain Chain      `cbor:"1,keyasint"`
	Seq   uint64     `cbor:"2,keyasint"`
	Hash  Hash       `cbor:"3,keyasint"`
	End   Checkpoint `cbor:"4,keyasint"`
	Bytes uint64     `cbor:"5,keyasint"`
}

// Holdings are a site's vectors of the streams that it shares with another, for
// whom it asks for a bundle.
type Holdings struct {
	Federation      string         `cbor:"1,keyasint"`
	Site            tiers.SiteID   `cbor:"2,keyasint"`
	From            tiers.SiteID   `cbor:"3,keyasint"`
	TimeMS          int64          `cbor:"4,keyasint"`
	TopologyVersion uint64         `cbor:"5,keyasint"`
	Streams         []StreamVector `cbor:"6,keyasint,omitempty"`
}

// Type implements [Message].
func (*Prove) Type() Type { return TypeProve }

// Type implements [Message].
func (*Proved) Type() Type { return TypeProved }

// Type implements [Message].
func (s *Signed) Type() Type { return s.FrameType }

func (m *Prove) validate() error {
	if err := checkCount(len(m.Streams)); err != nil {
		return err
	}
	for _, s := range m.Streams {
		if err := checkStream(s.Site, s.Class); err != nil {
			return err
		}
	}
	return nil
}

func (m *Proved) validate() error {
	if len(m.Reason) > 4096 || len(m.Signature) > signatureBytesMax {
		return fmt.Errorf("%w: answer to a proof", ErrMalformed)
	}
	return (&Vectors{Streams: m.Differ}).validate()
}

// signatureBytesMax bounds a signature of any scheme.
const signatureBytesMax = 256

func (s *Signed) validate() error {
	if len(s.Body) == 0 || len(s.Signature) > signatureBytesMax {
		return fmt.Errorf("%w: signed body of %d bytes", ErrMalformed, len(s.Body))
	}
	return nil
}

// EncodeBody returns the body of a [Signed] frame: of a [Manifest] or of
// [Holdings].
func EncodeBody(m interface{ validate() error }) ([]byte, error) {
	b, err := shared().enc.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode signed body: %w", err)
	}
	return b, nil
}

// DecodeBody reads a body into a [Manifest] or [Holdings] and checks it. The
// error wraps [ErrMalformed].
func DecodeBody(b []byte, m interface{ validate() error }) error {
	if err := checkElements(b); err != nil {
		return fmt.Errorf("signed body: %w", err)
	}
	if err := shared().dec.Unmarshal(b, m); err != nil {
		return fmt.Errorf("%w: signed body: %w", ErrMalformed, err)
	}
	return m.validate()
}

func (m *Manifest) validate() error {
	if len(m.Federation) > 255 {
		return fmt.Errorf("%w: manifest", ErrMalformed)
	}
	for _, r := range m.Ranges {
		if err := r.Chain.validate(); err != nil {
			return err
		}
		if r.End.Seq <= r.Seq || r.End.Seq > SeqMax || len(r.End.Signature) > signatureBytesMax {
			return fmt.Errorf("%w: range from %d to %d", ErrMalformed, r.Seq, r.End.Seq)
		}
	}
	if err := check(m.From.Validate()); err != nil {
		return err
	}
	return check(m.For.Validate())
}

func (m *Holdings) validate() error {
	if len(m.Federation) > 255 {
		return fmt.Errorf("%w: holdings", ErrMalformed)
	}
	if err := check(m.Site.Validate()); err != nil {
		return err
	}
	if err := check(m.From.Validate()); err != nil {
		return err
	}
	return (&Vectors{Streams: m.Streams}).validate()
}
