package crdt

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
)

// Signer signs with a site's key; an HSM or SM2 can stand behind it. It must
// be safe for concurrent use.
type Signer interface {
	// Sign returns the signature of message.
	Sign(message []byte) ([]byte, error)
}

// Ed25519Signer is the [Signer] over a private key in memory (RFC 8032).
type Ed25519Signer ed25519.PrivateKey

// Sign never fails.
func (s Ed25519Signer) Sign(message []byte) ([]byte, error) {
	return ed25519.Sign(ed25519.PrivateKey(s), message), nil
}

// Checkpoint is a chain head that the chain's author signed; it covers the
// whole prefix.
type Checkpoint struct {
	Chain ChainID
	Head  Head
	// TimeMS is the author's wall clock when it signed, in Unix milliseconds.
	TimeMS    int64
	Signature []byte
}

// message returns the bytes that the signature covers.
func (c Checkpoint) message() []byte {
	b := appendStream([]byte("tiermesh checkpoint v1\x00"), c.Chain.Stream)
	b = c.Chain.Author.appendTo(b)
	b = binary.BigEndian.AppendUint64(b, c.Head.Seq)
	b = append(b, c.Head.Hash[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(c.TimeMS))
}

// SignCheckpoint signs a head.
func SignCheckpoint(s Signer, chain ChainID, head Head, timeMS int64) (Checkpoint, error) {
	c := Checkpoint{Chain: chain, Head: head, TimeMS: timeMS}
	sig, err := s.Sign(c.message())
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sign checkpoint of %s: %w", chain, err)
	}
	c.Signature = sig
	return c, nil
}

// Verify checks the signature against the author site's public key. The error
// wraps [ErrBadSignature].
func (c Checkpoint) Verify(key []byte) error {
	if len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: no key of site %s", ErrBadSignature, c.Chain.Author.Site)
	}
	if !ed25519.Verify(key, c.message(), c.Signature) {
		return fmt.Errorf("%w: %s at %d", ErrBadSignature, c.Chain, c.Head.Seq)
	}
	return nil
}
