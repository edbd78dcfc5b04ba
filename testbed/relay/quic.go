package relay

import "encoding/binary"

// handshakeBytes returns how many bytes of a datagram belong to QUIC packets
// with a long header (RFC 9000 section 17.2), which carry the handshake. Zero
// for a datagram of short-header packets or of something else; a datagram that
// ends early counts in full.
func handshakeBytes(datagram []byte) int {
	rest := datagram
	for len(rest) > 0 && rest[0]&0x80 != 0 {
		n, ok := longPacket(rest)
		if !ok {
			return len(datagram)
		}
		rest = rest[n:]
	}
	return len(datagram) - len(rest)
}

// longPacket returns the length of the long-header packet that b begins with.
func longPacket(b []byte) (int, bool) {
	const initial, retry = 0, 3
	if len(b) < 6 || binary.BigEndian.Uint32(b[1:]) == 0 { // version negotiation
		return len(b), true
	}
	kind, at := b[0]>>4&3, 5
	for range 2 { // the connection ids
		if at >= len(b) {
			return 0, false
		}
		at += 1 + int(b[at])
	}
	if kind == retry {
		return len(b), true
	}
	if kind == initial {
		token, n := varint(b, at)
		if n == 0 || token > uint64(len(b)) {
			return 0, false
		}
		at += n + int(token)
	}
	length, n := varint(b, at)
	if n == 0 || length > uint64(len(b)) {
		return 0, false
	}
	at += n + int(length)
	return at, at <= len(b)
}

// varint reads QUIC's variable-length integer (RFC 9000 section 16); n is 0
// when it does not fit.
func varint(b []byte, at int) (v uint64, n int) {
	if at >= len(b) {
		return 0, 0
	}
	n = 1 << (b[at] >> 6)
	if at+n > len(b) {
		return 0, 0
	}
	v = uint64(b[at] & 0x3f)
	for _, c := range b[at+1 : at+n] {
		v = v<<8 | uint64(c)
	}
	return v, n
}
