package replication

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/s2"
)

// The first byte of a log entry tells what it is, by the major types of CBOR (RFC
// 8949, section 3.1) in its top three bits: a map is one command, an array several.
// A tag's is packedEntry, and no CBOR: an S2 block of either follows.
const (
	majorType   = 7 << 5
	cborArray   = 4 << 5
	cborMap     = 5 << 5
	packedEntry = 6 << 5
	// packedFrom is the size from which packing an entry is tried. It costs a
	// microsecond for two kilobytes or so, once, and saves every node of the site the
	// writing, and the leader the sending.
	packedFrom = 1 << 10
	// packerKept is up to which size a packer keeps its rooms.
	packerKept = 1 << 20
)

// packer makes log entries of commands. It is not safe for concurrent use.
type packer struct {
	joined, packed []byte
	// may says that all nodes of the site read packed entries.
	may bool
}

// entry makes one entry of encoded commands.
func (p *packer) entry(batch []*proposal) []byte {
	data := batch[0].data
	if len(batch) > 1 {
		p.joined = joinCommands(p.joined[:0], batch)
		data = p.joined
	}
	out := p.pack(data)
	if len(batch) > 1 && len(out) == len(data) {
		out = bytes.Clone(data) // Raft keeps it
	}
	if cap(p.joined)+cap(p.packed) > packerKept {
		p.joined, p.packed = nil, nil
	}
	return out
}

// pack returns an entry packed, if that takes an eighth off it, or else as it is.
func (p *packer) pack(data []byte) []byte {
	if !p.may || len(data) < packedFrom {
		return data
	}
	if need := 1 + s2.MaxEncodedLen(len(data)); cap(p.packed) < need {
		p.packed = make([]byte, need)
	}
	room := p.packed[:cap(p.packed)]
	room[0] = packedEntry
	n := 1 + len(s2.Encode(room[1:], data))
	if n > len(data)-len(data)/8 {
		return data
	}
	return bytes.Clone(room[:n])
}

// joinCommands appends an array of encoded commands to out.
func joinCommands(out []byte, batch []*proposal) []byte {
	switch n := len(batch); {
	case n < 24:
		out = append(out, cborArray|byte(n))
	case n < 256:
		out = append(out, cborArray|24, byte(n))
	default:
		out = append(out, cborArray|25, byte(n>>8), byte(n))
	}
	for _, p := range batch {
		out = append(out, p.data...)
	}
	return out
}

// encoded is a command in its place in a log entry: nobody changes an entry.
type encoded []byte

// UnmarshalCBOR implements [cbor.Unmarshaler].
func (e *encoded) UnmarshalCBOR(b []byte) error {
	*e = b
	return nil
}

// commands returns the encoded commands of a log entry. They share its memory, or
// room's, which is returned for the next entry.
func (c codec) commands(entry, room []byte) ([]encoded, []byte, error) {
	entry, room, err := unpack(entry, room)
	if err != nil {
		return nil, room, err
	}
	switch {
	case len(entry) > 0 && entry[0]&majorType == cborMap:
		return []encoded{entry}, room, nil
	case len(entry) == 0 || entry[0]&majorType != cborArray:
		return nil, room, fmt.Errorf("%w: an entry that begins with %.1x", ErrFormat, entry)
	}
	var out []encoded
	if err := c.dec.Unmarshal(entry, &out); err != nil {
		return nil, room, fmt.Errorf("%w: an entry: %w", ErrFormat, err)
	}
	return out, room, nil
}

// unpack returns an entry as it was before it was packed, if it was: in room then, or
// in more if that is too small.
func unpack(entry, room []byte) (out, more []byte, err error) {
	if len(entry) == 0 || entry[0]&majorType != packedEntry {
		return entry, room, nil
	}
	if n, err := s2.DecodedLen(entry[1:]); err == nil && n > entryBytesMax {
		return nil, room, fmt.Errorf("%w: a packed entry of %d bytes, at most %d", ErrFormat, n, entryBytesMax)
	}
	if out, err = s2.Decode(room, entry[1:]); err != nil {
		return nil, room, fmt.Errorf("%w: a packed entry: %w", ErrFormat, err)
	}
	if cap(out) > packerKept {
		return out, nil, nil
	}
	return out, out, nil
}
