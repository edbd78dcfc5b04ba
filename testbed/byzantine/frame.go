package byzantine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/klauspost/compress/zstd"

	"github.com/tiermesh/tiermesh/transport/wire"
)

// Frame is a frame as it is on a lane, well-formed or not.
func Frame(t wire.Type, flags byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload)+2))
	return append(append(b, byte(t), flags), payload...)
}

// Bomb is a frame of a few hundred bytes whose payload unfolds to size zeros.
func Bomb(t wire.Type, size int) ([]byte, error) { return packed(t, make([]byte, size)) }

// MillionHeads is a small frame of vectors with a million empty heads: 1 MB unfolded,
// and 64 MB as a message.
func MillionHeads() ([]byte, error) {
	b := []byte{0xa1, 1, 0x98, 32} // {1: [32 × {3: [32768 × {}]}]}
	for range 32 {
		b = append(append(b, 0xa1, 3, 0x99, 0x80, 0), bytes.Repeat([]byte{0xa0}, 1<<15)...)
	}
	return packed(wire.TypeVectors, b)
}

func packed(t wire.Type, payload []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return Frame(t, 1, w.EncodeAll(payload, nil)), w.Close()
}

// Noise is n random bytes, the same each time.
func Noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // noise, not a secret
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
