package wire

import (
	"errors"
	"fmt"

	"github.com/tiermesh/tiermesh/tiers"
)

// Type is a frame's type; the numbers are part of version 1.
type Type uint8

// The frame types of version 1.
const (
	TypeHello   Type = 1
	TypeVectors Type = 2
	TypeBatch   Type = 3
	TypeAck     Type = 4
	TypeProof   Type = 5
	TypeBye     Type = 6
	TypeDecline Type = 10
	TypeResend  Type = 11
)

// Hash is a SHA-256.
type Hash [32]byte

// Message is one frame's content.
type Message interface {
	// Type returns the frame's type.
	Type() Type
	// validate checks what the decoder cannot.
	validate() error
}

// Chain names an author's records in a stream.
type Chain struct {
	Site        tiers.SiteID `cbor:"1,keyasint"`
	Class       tiers.Class  `cbor:"2,keyasint"`
	Author      tiers.SiteID `cbor:"3,keyasint"`
	Incarnation uint32       `cbor:"4,keyasint"`
}

// Hello opens a session: who speaks, and what it holds, in digests.
type Hello struct {
	VersionMin      uint16         `cbor:"1,keyasint"`
	VersionMax      uint16         `cbor:"2,keyasint"`
	Features        uint64         `cbor:"3,keyasint,omitempty"`
	Federation      string         `cbor:"4,keyasint"`
	Site            tiers.SiteID   `cbor:"5,keyasint"`
	Node            uint32         `cbor:"6,keyasint"`
	TopologyVersion uint64         `cbor:"7,keyasint"`
	Incarnation     uint32         `cbor:"8,keyasint"`
	LinkDigest      Hash           `cbor:"9,keyasint"`
	Streams         []StreamDigest `cbor:"10,keyasint,omitempty"`
	// Whole says that Vectors holds the vector of every stream named in Streams.
	Whole   bool           `cbor:"11,keyasint,omitempty"`
	Vectors []StreamVector `cbor:"12,keyasint,omitempty"`
}

// StreamDigest is the digest of one stream that the sender holds.
type StreamDigest struct {
	Site   tiers.SiteID `cbor:"1,keyasint"`
	Class  tiers.Class  `cbor:"2,keyasint"`
	Digest Hash         `cbor:"3,keyasint"`
}

// Vectors are the whole vectors of the streams whose digests differ.
type Vectors struct {
	Streams []StreamVector `cbor:"1,keyasint"`
}

// StreamVector is one stream's vector; no heads means that the sender holds
// nothing of it.
type StreamVector struct {
	Site  tiers.SiteID `cbor:"1,keyasint"`
	Class tiers.Class  `cbor:"2,keyasint"`
	Heads []ChainHead  `cbor:"3,keyasint,omitempty"`
}

// ChainHead is how far one author's chain goes.
type ChainHead struct {
	Author      tiers.SiteID `cbor:"1,keyasint"`
	Incarnation uint32       `cbor:"2,keyasint"`
	Seq         uint64       `cbor:"3,keyasint"`
	Hash        Hash         `cbor:"4,keyasint"`
}

// Batch is a run of records that ends in a checkpoint.
type Batch struct {
	Chain Chain `cbor:"1,keyasint"`
	// Prev is the chain hash before the first record, First its sequence number.
	Prev       Hash       `cbor:"2,keyasint"`
	First      uint64     `cbor:"3,keyasint"`
	Records    [][]byte   `cbor:"4,keyasint"`
	Checkpoint Checkpoint `cbor:"5,keyasint"`
}

// Checkpoint is a signed chain head; the chain is the batch's.
type Checkpoint struct {
	Seq       uint64 `cbor:"1,keyasint"`
	Hash      Hash   `cbor:"2,keyasint"`
	TimeMS    int64  `cbor:"3,keyasint"`
	Signature []byte `cbor:"4,keyasint"`
}

// Ack says that a chain is durable at the sender up to here.
type Ack struct {
	Chain Chain  `cbor:"1,keyasint"`
	Seq   uint64 `cbor:"2,keyasint"`
	Hash  Hash   `cbor:"3,keyasint"`
}

// Proof is the sender's link digest while it has nothing left to do.
type Proof struct {
	LinkDigest Hash   `cbor:"1,keyasint"`
	Streams    uint64 `cbor:"2,keyasint"`
}

// Bye says why the sender closes.
type Bye struct {
	Code   Code   `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint"`
	// RetryAfterMS asks the receiver not to dial again for so many milliseconds.
	RetryAfterMS uint32 `cbor:"3,keyasint,omitempty"`
	// Redirect says where the receiver belongs now; nil for nowhere else.
	Redirect *Redirect `cbor:"4,keyasint,omitempty"`
}

// Redirect names the parent of the receiver as the sender's topology has it.
type Redirect struct {
	TopologyVersion uint64       `cbor:"1,keyasint"`
	Parent          tiers.SiteID `cbor:"2,keyasint"`
	// Addrs are the QUIC addresses of the parent's nodes, host:port.
	Addrs []string `cbor:"3,keyasint,omitempty"`
}

// Decline says that the sender takes no part in streams, by its topology: they
// are left out of this session by both ends.
type Decline struct {
	Streams []Stream `cbor:"1,keyasint"`
}

// Stream names a stream.
type Stream struct {
	Site  tiers.SiteID `cbor:"1,keyasint"`
	Class tiers.Class  `cbor:"2,keyasint"`
}

// Resend asks for a chain from a record on, one batch of it: the sender has to
// find where its own copy departs from the receiver's.
type Resend struct {
	Chain Chain  `cbor:"1,keyasint"`
	First uint64 `cbor:"2,keyasint"`
}

// Unknown is a frame of a type that this version does not know.
type Unknown struct {
	FrameType Type
	Payload   []byte
}

// Type implements [Message].
func (*Hello) Type() Type { return TypeHello }

// Type implements [Message].
func (*Vectors) Type() Type { return TypeVectors }

// Type implements [Message].
func (*Batch) Type() Type { return TypeBatch }

// Type implements [Message].
func (*Ack) Type() Type { return TypeAck }

// Type implements [Message].
func (*Proof) Type() Type { return TypeProof }

// Type implements [Message].
func (*Bye) Type() Type { return TypeBye }

// Type implements [Message].
func (*Decline) Type() Type { return TypeDecline }

// Type implements [Message].
func (*Resend) Type() Type { return TypeResend }

// Type implements [Message].
func (u *Unknown) Type() Type { return u.FrameType }

func check(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

func checkStream(site tiers.SiteID, class tiers.Class) error {
	return check(tiers.StreamID{Site: site, Class: class}.Validate())
}

func (c Chain) validate() error {
	if err := checkStream(c.Site, c.Class); err != nil {
		return err
	}
	if err := checkIncarnation(c.Incarnation); err != nil {
		return err
	}
	return check(c.Author.Validate())
}

func (m *Hello) validate() error {
	if len(m.Federation) > 255 || m.VersionMin > m.VersionMax {
		return fmt.Errorf("%w: hello", ErrMalformed)
	}
	if err := checkCount(len(m.Streams)); err != nil {
		return err
	}
	for _, s := range m.Streams {
		if err := checkStream(s.Site, s.Class); err != nil {
			return err
		}
	}
	if err := (&Vectors{Streams: m.Vectors}).validate(); err != nil {
		return err
	}
	return check(m.Site.Validate())
}

func (m *Vectors) validate() error {
	if err := checkCount(len(m.Streams)); err != nil {
		return err
	}
	for _, s := range m.Streams {
		if err := checkStream(s.Site, s.Class); err != nil {
			return err
		}
		for _, h := range s.Heads {
			if err := errors.Join(check(h.Author.Validate()), checkSeq(h.Seq), checkIncarnation(h.Incarnation)); err != nil {
				return err
			}
		}
	}
	return nil
}

// recordsMax bounds the records of a batch.
const recordsMax = 65536

func (m *Batch) validate() error {
	if len(m.Records) == 0 || len(m.Records) > recordsMax || m.First == 0 || m.First > SeqMax || m.Checkpoint.Seq > SeqMax ||
		len(m.Checkpoint.Signature) > signatureBytesMax {
		return fmt.Errorf("%w: batch of %d records from %d", ErrMalformed, len(m.Records), m.First)
	}
	return m.Chain.validate()
}

func (m *Ack) validate() error { return errors.Join(m.Chain.validate(), checkSeq(m.Seq)) }

func (*Proof) validate() error { return nil }

func (m *Bye) validate() error {
	if len(m.Reason) > 4096 {
		return fmt.Errorf("%w: reason of %d bytes", ErrMalformed, len(m.Reason))
	}
	if m.Redirect == nil {
		return nil
	}
	if len(m.Redirect.Addrs) > redirectAddrsMax {
		return fmt.Errorf("%w: redirect to %d addresses", ErrMalformed, len(m.Redirect.Addrs))
	}
	for _, a := range m.Redirect.Addrs {
		if len(a) > 255 {
			return fmt.Errorf("%w: address of %d bytes", ErrMalformed, len(a))
		}
	}
	return check(m.Redirect.Parent.Validate())
}

// redirectAddrsMax bounds the addresses of a redirect: a site has few nodes.
const redirectAddrsMax = 16

func (m *Decline) validate() error {
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

func (m *Resend) validate() error {
	return errors.Join(checkSeq(m.First), m.Chain.validate())
}

func (*Unknown) validate() error { return nil }
