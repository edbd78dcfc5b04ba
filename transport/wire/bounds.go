package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// What a message may name at most, so that none makes its receiver remember or
// answer without end. They hold for every site alike: what one site takes in, the
// next one takes from it.
const (
	// SeqMax bounds sequence numbers: a record each millisecond for 34 years. Sums
	// of what is owed stay far from overflowing.
	SeqMax = 1 << 40
	// IncarnationMax bounds a site's incarnations, of which each is a chain in
	// every vector of its streams: one more with each restore and each clone.
	IncarnationMax = 1 << 10
	// streamsMax bounds the streams that a message names: seven classes of more
	// than twice the sites of the largest federation.
	streamsMax = 1 << 14
	// elementsMax bounds the elements of all arrays of a message together, since
	// one of a byte can become a structure of many.
	elementsMax = 1 << 17
)

// checkSeq refuses 0, too.
func checkSeq(seq uint64) error {
	if seq == 0 || seq > SeqMax {
		return fmt.Errorf("%w: sequence number %d", ErrMalformed, seq)
	}
	return nil
}

func checkIncarnation(n uint32) error {
	if n > IncarnationMax {
		return fmt.Errorf("%w: incarnation %d", ErrMalformed, n)
	}
	return nil
}

func checkCount(streams int) error {
	if streams > streamsMax {
		return fmt.Errorf("%w: %d streams", ErrMalformed, streams)
	}
	return nil
}

// The major types of CBOR items (RFC 8949, section 3.1) that carry bytes, or
// elements.
const (
	majorBytes = 2
	majorText  = 3
	majorArray = 4
)

// checkElements counts the elements of all arrays. Items of definite length follow
// each other in the order of their heads, so nesting plays no part. What is not
// well-formed is left to the decoder to refuse.
func checkElements(payload []byte) error {
	elements := uint64(0)
	for len(payload) > 0 {
		major, info := payload[0]>>5, payload[0]&31
		payload = payload[1:]
		arg := uint64(info)
		if info >= 24 {
			n := 1 << (info - 24)
			if info > 27 || n > len(payload) {
				return nil
			}
			var b [8]byte
			copy(b[8-n:], payload)
			arg, payload = binary.BigEndian.Uint64(b[:]), payload[n:]
		}
		switch major {
		case majorBytes, majorText:
			if arg > uint64(len(payload)) {
				return nil
			}
			payload = payload[arg:]
		case majorArray:
			if elements = min(elements, elementsMax) + min(arg, elementsMax); elements > elementsMax {
				return fmt.Errorf("%w: more than %d elements", ErrMalformed, elementsMax)
			}
		}
	}
	return nil
}

// Unfolded returns how many bytes the payload of a frame takes up once it is
// unfolded, or the most that it may when the frame does not say.
func Unfolded(frame []byte) int {
	if len(frame) < headerBytes || frame[1]&flagZstd == 0 {
		return len(frame)
	}
	var h zstd.Header
	if h.Decode(frame[headerBytes:]) != nil || !h.HasFCS || h.FrameContentSize > FrameBytesMax {
		return FrameBytesMax
	}
	return int(h.FrameContentSize)
}
