package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
)

const (
	// FrameBytesMax bounds a frame without its length, and what a compressed
	// payload unfolds to.
	FrameBytesMax = 4 << 20
	// compressFrom is the payload size from which compressing is tried.
	compressFrom = 256

	headerBytes = 2
	flagZstd    = 1
)

// codec is what encoding and decoding need; built once, safe for concurrent use.
type codec struct {
	enc  cbor.EncMode
	dec  cbor.DecMode
	zenc *zstd.Encoder
	zdec *zstd.Decoder
}

// shared builds the codec on first use. Its options are constants, so an error
// is a mistake in this file.
var shared = sync.OnceValue(func() codec {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	dec, err2 := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 1 << 17, MaxMapPairs: 64, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	zenc, err3 := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	zdec, err4 := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(FrameBytesMax), zstd.WithDecoderMaxWindow(FrameBytesMax),
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err := errors.Join(err, err2, err3, err4); err != nil {
		panic(fmt.Sprintf("wire: codec options: %v", err)) //nolint:forbidigo // a mistake in this file
	}
	return codec{enc, dec, zenc, zdec}
})

// Append appends a message's whole frame, length included, to dst. The error
// wraps [ErrTooLarge].
func Append(dst []byte, m Message) ([]byte, error) {
	c := shared()
	payload, err := c.enc.Marshal(m)
	if err != nil {
		return dst, fmt.Errorf("encode frame of type %d: %w", m.Type(), err)
	}
	flags := byte(0)
	if len(payload) > compressFrom && len(payload) <= FrameBytesMax {
		if packed := c.zenc.EncodeAll(payload, nil); len(packed) < len(payload) {
			payload, flags = packed, flagZstd
		}
	}
	n := headerBytes + len(payload)
	if n > FrameBytesMax {
		return dst, fmt.Errorf("%w: type %d, %d bytes", ErrTooLarge, m.Type(), n)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	dst = append(dst, byte(m.Type()), flags)
	return append(dst, payload...), nil
}

// empty returns a new message of a type, or nil for an unknown one.
func empty(t Type) Message {
	switch t {
	case TypeHello:
		return &Hello{}
	case TypeVectors:
		return &Vectors{}
	case TypeBatch:
		return &Batch{}
	case TypeAck:
		return &Ack{}
	case TypeProof:
		return &Proof{}
	case TypeBye:
		return &Bye{}
	case TypeProve:
		return &Prove{}
	case TypeProved:
		return &Proved{}
	case TypeBundle, TypeRequest:
		return &Signed{FrameType: t}
	case TypeDecline:
		return &Decline{}
	case TypeResend:
		return &Resend{}
	default:
		return nil
	}
}

// Decode reads what follows a frame's length. The message shares no memory with
// the frame. The error wraps [ErrMalformed] or [ErrTooLarge].
func Decode(frame []byte) (Message, error) {
	if len(frame) < headerBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(frame))
	}
	t, flags, payload := Type(frame[0]), frame[1], frame[headerBytes:]
	if flags&^flagZstd != 0 {
		return nil, fmt.Errorf("%w: type %d, flags %#x", ErrMalformed, t, flags)
	}
	c := shared()
	if flags&flagZstd != 0 {
		var err error
		switch payload, err = c.zdec.DecodeAll(payload, nil); {
		case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
			return nil, fmt.Errorf("%w: type %d: %w", ErrTooLarge, t, err)
		case err != nil:
			return nil, fmt.Errorf("%w: type %d: %w", ErrMalformed, t, err)
		}
	}
	m := empty(t)
	if m == nil {
		return &Unknown{FrameType: t, Payload: append([]byte(nil), payload...)}, nil
	}
	if err := checkElements(payload); err != nil {
		return nil, fmt.Errorf("type %d: %w", t, err)
	}
	if err := c.dec.Unmarshal(payload, m); err != nil {
		return nil, fmt.Errorf("%w: type %d: %w", ErrMalformed, t, err)
	}
	return m, m.validate()
}

// Reader reads frames from a stream.
type Reader struct {
	r      io.Reader
	header [4]byte
	buf    []byte
}

// NewReader returns a reader of frames.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next returns the next message and the size of its whole frame. At the end of
// the stream it returns [io.EOF]; otherwise the error wraps [ErrMalformed],
// [ErrTooLarge] or the stream's.
func (r *Reader) Next() (Message, int, error) {
	frame, err := r.Frame()
	if err != nil {
		return nil, 0, err
	}
	m, err := Decode(frame)
	return m, len(r.header) + len(frame), err
}

// Frame returns what follows the length of the next frame, for [Decode]; it is
// valid until the next call. The error is that of [Reader.Next].
func (r *Reader) Frame() ([]byte, error) {
	if _, err := io.ReadFull(r.r, r.header[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(r.header[:])
	if n > FrameBytesMax {
		return nil, fmt.Errorf("%w: %d bytes announced", ErrTooLarge, n)
	}
	// Grow as bytes arrive: an announced length alone costs the sender nothing.
	if cap(r.buf) > 64<<10 {
		r.buf = nil
	}
	r.buf = r.buf[:0]
	for uint32(len(r.buf)) < n {
		step := min(int(n)-len(r.buf), 64<<10)
		at := len(r.buf)
		r.buf = append(r.buf, make([]byte, step)...)
		if _, err := io.ReadFull(r.r, r.buf[at:]); err != nil {
			return nil, fmt.Errorf("frame of %d bytes: %w", n, errors.Join(io.ErrUnexpectedEOF, err))
		}
	}
	return r.buf, nil
}
