package replication

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// command is what a client wants done; exactly one of the pointers is set. A Raft
// log entry holds one, or an array of them.
type command struct {
	// Key is the client's idempotency key; empty for none.
	Key         string              `cbor:"1,keyasint,omitempty"`
	Append      []appendItem        `cbor:"2,keyasint,omitempty"`
	Ingest      *ingestCommand      `cbor:"3,keyasint,omitempty"`
	Incarnation *incarnationCommand `cbor:"4,keyasint,omitempty"`
	Claim       *claimCommand       `cbor:"5,keyasint,omitempty"`
	Aside       *asideCommand       `cbor:"6,keyasint,omitempty"`
	Readings    *readingsCommand    `cbor:"7,keyasint,omitempty"`
	Thin        *thinCommand        `cbor:"8,keyasint,omitempty"`
	Format      *formatCommand      `cbor:"9,keyasint,omitempty"`
	Compare     *compareCommand     `cbor:"10,keyasint,omitempty"`
}

// asideCommand sets the records of a chain behind Keep aside: the side of a fork
// that gives way. When the site still writes the chain, a new incarnation begins.
type asideCommand struct {
	Site        tiers.SiteID `cbor:"1,keyasint"`
	Class       tiers.Class  `cbor:"2,keyasint"`
	Author      tiers.SiteID `cbor:"3,keyasint"`
	Incarnation uint32       `cbor:"4,keyasint"`
	Keep        uint64       `cbor:"5,keyasint"`
	Hash        crdt.Hash    `cbor:"6,keyasint"`
	ProofSeq    uint64       `cbor:"7,keyasint"`
	ProofHash   crdt.Hash    `cbor:"8,keyasint"`
	ProofTimeMS int64        `cbor:"9,keyasint"`
	Signature   []byte       `cbor:"10,keyasint"`
}

func (c *asideCommand) evict() store.Evict {
	chain := crdt.ChainID{
		Stream: tiers.StreamID{Site: c.Site, Class: c.Class}, Author: crdt.Author{Site: c.Author, Incarnation: c.Incarnation},
	}
	return store.Evict{
		Chain: chain, Keep: c.Keep, Hash: c.Hash,
		Proof: crdt.Checkpoint{Chain: chain, Head: crdt.Head{Seq: c.ProofSeq, Hash: c.ProofHash}, TimeMS: c.ProofTimeMS, Signature: c.Signature},
	}
}

// claimCommand claims a resource for a holder, or releases it when Holder is
// empty.
type claimCommand struct {
	Resource string `cbor:"1,keyasint"`
	Holder   string `cbor:"2,keyasint,omitempty"`
	Force    bool   `cbor:"3,keyasint,omitempty"`
	Epoch    uint64 `cbor:"4,keyasint,omitempty"`
}

type appendItem struct {
	Site   tiers.SiteID `cbor:"1,keyasint"`
	Class  tiers.Class  `cbor:"2,keyasint"`
	Doc    tiers.DocID  `cbor:"3,keyasint"`
	Base   []crdt.Hash  `cbor:"4,keyasint,omitempty"`
	Time   uint64       `cbor:"5,keyasint"`
	Change []byte       `cbor:"6,keyasint"`
}

type ingestCommand struct {
	Site        tiers.SiteID `cbor:"1,keyasint"`
	Class       tiers.Class  `cbor:"2,keyasint"`
	Author      tiers.SiteID `cbor:"3,keyasint"`
	Incarnation uint32       `cbor:"4,keyasint"`
	First       uint64       `cbor:"5,keyasint"`
	Records     [][]byte     `cbor:"6,keyasint"`
	Hash        crdt.Hash    `cbor:"7,keyasint"`
	TimeMS      int64        `cbor:"8,keyasint"`
	Signature   []byte       `cbor:"9,keyasint"`
	// Arrived is the proposer's hybrid time; earlier builds leave it out.
	Arrived uint64 `cbor:"10,keyasint,omitempty"`
}

// incarnationCommand raises the incarnation from From to From+1; it is a no-op
// when that happened already.
type incarnationCommand struct {
	From uint32 `cbor:"1,keyasint"`
}

// outcome is what applying a command came to. Accepted outcomes are stored
// under the command's key.
type outcome struct {
	Placed []placed `cbor:"1,keyasint,omitempty"`
	New    int      `cbor:"2,keyasint,omitempty"`
	// Code is zero when accepted, else an index into rejections.
	Code   int    `cbor:"3,keyasint,omitempty"`
	Reason string `cbor:"4,keyasint,omitempty"`
	// Epoch is that of a claim.
	Epoch uint64 `cbor:"5,keyasint,omitempty"`
	// Replayed marks an outcome that an earlier command with the same key had;
	// it is never stored.
	Replayed bool `cbor:"-"`
}

type placed struct {
	Site        tiers.SiteID `cbor:"1,keyasint"`
	Class       tiers.Class  `cbor:"2,keyasint"`
	Doc         tiers.DocID  `cbor:"3,keyasint"`
	Incarnation uint32       `cbor:"4,keyasint"`
	Seq         uint64       `cbor:"5,keyasint"`
}

// err turns a rejection back into an error that wraps its sentinel.
func (o outcome) err() error {
	if o.Code <= 0 || o.Code >= len(rejections) {
		return nil
	}
	return fmt.Errorf("%w: %s", rejections[o.Code], o.Reason)
}

// codec holds the CBOR modes; building one costs, so each Group has one.
type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

func newCodec() (codec, error) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return codec{}, fmt.Errorf("command encoder: %w", err)
	}
	// A field that this build does not know is of a later one, and not to be passed over.
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	if err != nil {
		return codec{}, fmt.Errorf("command decoder: %w", err)
	}
	return codec{enc, dec}, nil
}

func (c command) kinds() (n int) {
	for _, set := range []bool{
		len(c.Append) > 0, c.Ingest != nil, c.Incarnation != nil, c.Claim != nil, c.Aside != nil, c.Readings != nil, c.Thin != nil,
		c.Format != nil, c.Compare != nil,
	} {
		if set {
			n++
		}
	}
	return n
}

// decodeCommand decodes a command. The error wraps [ErrFormat]: this node must not go
// on without what it cannot read.
func (c codec) decodeCommand(b []byte) (cmd command, err error) {
	if err := c.dec.Unmarshal(b, &cmd); err != nil {
		return command{}, fmt.Errorf("%w: a command: %w", ErrFormat, err)
	}
	return cmd, nil
}

// check refuses a command that does not say what to do. The error wraps
// [ErrBadCommand].
func (c command) check() error {
	if n := c.kinds(); n != 1 {
		return fmt.Errorf("%w: %d kinds of work", ErrBadCommand, n)
	}
	return nil
}

func (c *ingestCommand) storeRange() store.Range {
	chain := crdt.ChainID{
		Stream: tiers.StreamID{Site: c.Site, Class: c.Class},
		Author: crdt.Author{Site: c.Author, Incarnation: c.Incarnation},
	}
	return store.Range{
		Chain: chain, First: c.First, Records: c.Records, Arrived: crdt.HybridTime(c.Arrived),
		Checkpoint: crdt.Checkpoint{
			Chain: chain, TimeMS: c.TimeMS, Signature: c.Signature,
			Head: crdt.Head{Seq: c.First + uint64(len(c.Records)) - 1, Hash: c.Hash},
		},
	}
}

func newIngestCommand(r store.Range) *ingestCommand {
	return &ingestCommand{
		Site: r.Chain.Stream.Site, Class: r.Chain.Stream.Class,
		Author: r.Chain.Author.Site, Incarnation: r.Chain.Author.Incarnation,
		First: r.First, Records: r.Records, Hash: r.Checkpoint.Head.Hash,
		TimeMS: r.Checkpoint.TimeMS, Signature: r.Checkpoint.Signature, Arrived: uint64(r.Arrived),
	}
}
