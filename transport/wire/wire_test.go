package wire_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

var update = flag.Bool("update", false, "write the golden bytes; only ever to add a line")

func messages() []wire.Message {
	chain := wire.Chain{Site: "500101001", Class: tiers.ClassRoutine, Author: "500101001", Incarnation: 1}
	return []wire.Message{
		&wire.Hello{
			VersionMin: 1, VersionMax: 1, Federation: "cq", Site: "500101001", Node: 1, TopologyVersion: 7, Incarnation: 2,
			LinkDigest: wire.Hash{1}, Streams: []wire.StreamDigest{{Site: "500101001", Class: tiers.ClassRoutine, Digest: wire.Hash{2}}},
		},
		&wire.Vectors{Streams: []wire.StreamVector{{Site: "500000", Class: tiers.ClassCatalog,
			Heads: []wire.ChainHead{{Author: "500000", Incarnation: 1, Seq: 9, Hash: wire.Hash{3}}}}}},
		&wire.Batch{
			Chain: chain, Prev: wire.Hash{4}, First: 3, Records: [][]byte{{1, 2}, {3}},
			Checkpoint: wire.Checkpoint{Seq: 4, Hash: wire.Hash{5}, TimeMS: 1_700_000_000_000, Signature: []byte{6}},
		},
		&wire.Ack{Chain: chain, Seq: 4, Hash: wire.Hash{5}},
		&wire.Proof{LinkDigest: wire.Hash{7}, Streams: 12},
		&wire.Bye{Code: wire.CodeStalled, Reason: "no progress"},
		&wire.Bye{Code: wire.CodeBusy, Reason: "later", RetryAfterMS: 1500},
		&wire.Bye{Code: wire.CodeMoved, Reason: "moved", Redirect: &wire.Redirect{TopologyVersion: 8, Parent: "500157", Addrs: []string{"127.0.0.1:7100"}}},
		&wire.Decline{Streams: []wire.Stream{{Site: "500101001", Class: tiers.ClassRoutine}}},
		&wire.Resend{Chain: chain, First: 9},
		&wire.Hello{
			VersionMin: 1, VersionMax: 1, Features: 2, Federation: "cq", Site: "500000", Node: 1, TopologyVersion: 7, Incarnation: 1, Whole: true,
			Streams: []wire.StreamDigest{{Site: "500000", Class: tiers.ClassCatalog, Digest: wire.Hash{2}}},
			Vectors: []wire.StreamVector{{Site: "500000", Class: tiers.ClassCatalog, Heads: []wire.ChainHead{{Author: "500000", Incarnation: 1, Seq: 9, Hash: wire.Hash{3}}}}},
		},
	}
}

func encode(t testing.TB, m wire.Message) []byte {
	t.Helper()
	b, err := wire.Append(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGolden holds the version-1 bytes of every message for good.
func TestGolden(t *testing.T) {
	var b bytes.Buffer
	for _, m := range messages() {
		fmt.Fprintf(&b, "%T %s\n", m, hex.EncodeToString(encode(t, m)))
	}
	const file = "testdata/v1/golden.txt"
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("version 1 changed:\n%s\nwant:\n%s", b.Bytes(), want)
	}
}

// TestRoundTrip: through a stream that hands out one byte at a time.
func TestRoundTrip(t *testing.T) {
	var stream []byte
	for _, m := range messages() {
		stream = append(stream, encode(t, m)...)
	}
	big := &wire.Batch{
		Chain: wire.Chain{Site: "c", Class: tiers.ClassBulk, Author: "c", Incarnation: 1}, First: 1,
		Records: [][]byte{bytes.Repeat([]byte("tiermesh "), 40_000)}, Checkpoint: wire.Checkpoint{Seq: 1},
	}
	packed := encode(t, big)
	if len(packed) > 10_000 {
		t.Errorf("%d bytes of a repetitive batch of 360,000", len(packed))
	}
	stream = append(stream, packed...)
	r := wire.NewReader(iotest.OneByteReader(bytes.NewReader(stream)))
	total := 0
	for _, want := range append(messages(), big) {
		got, n, err := r.Next()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
		total += n
	}
	if _, _, err := r.Next(); !errors.Is(err, io.EOF) || total != len(stream) {
		t.Errorf("end: %v, %d of %d bytes counted", err, total, len(stream))
	}
}

// frame wraps a payload as Append does, without looking at it.
func frame(kind wire.Type, flags byte, payload []byte) []byte {
	return append([]byte{byte(kind), flags}, payload...)
}

func pack(t *testing.T, payload []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	return w.EncodeAll(payload, nil)
}

func manyStreams(n int) []wire.StreamDigest {
	return slices.Repeat([]wire.StreamDigest{{Site: "c", Class: 1}}, n)
}

// millionHeads is the payload of a vectors frame of 32 streams of 32,768 empty heads
// each: a megabyte, and on the wire some hundred bytes.
func millionHeads() []byte {
	b := []byte{0xa1, 1, 0x98, 32}
	for range 32 {
		b = append(b, 0xa1, 3, 0x99, 0x80, 0)
		b = append(b, bytes.Repeat([]byte{0xa0}, 1<<15)...)
	}
	return b
}

// TestDecodeUnfoldsLittle: what a small frame makes the decoder use is in proportion
// to the largest frame, not to what it claims.
func TestDecodeUnfoldsLittle(t *testing.T) {
	f := frame(wire.TypeVectors, 1, pack(t, millionHeads()))
	if used := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = wire.Decode(f)
		}
	}).AllocedBytesPerOp(); len(f) > 1024 || used > 3*wire.FrameBytesMax {
		t.Errorf("a frame of %d bytes takes %d to refuse", len(f), used)
	}
}

func TestUnfolded(t *testing.T) {
	for name, row := range map[string]struct {
		frame []byte
		want  int
	}{
		"plain":        {frame(wire.TypeAck, 0, []byte("12345")), 7},
		"says so":      {encode(t, &wire.Bye{Reason: strings.Repeat("x", 1000)})[4:], 1007},
		"does not say": {frame(wire.TypeAck, 1, []byte("x")), wire.FrameBytesMax},
	} {
		if got := wire.Unfolded(row.frame); got != row.want {
			t.Errorf("%s: %d, want %d", name, got, row.want)
		}
	}
}

func TestDecodeRefusals(t *testing.T) {
	body := func(m wire.Message) []byte { return encode(t, m)[6:] }
	chain := wire.Chain{Site: "c", Class: 1, Author: "c"}
	for name, row := range map[string]struct {
		frame []byte
		want  error
	}{
		"nothing":                {nil, wire.ErrMalformed},
		"one byte":               {[]byte{1}, wire.ErrMalformed},
		"unknown flag":           {frame(wire.TypeAck, 2, nil), wire.ErrMalformed},
		"no CBOR":                {frame(wire.TypeAck, 0, []byte{0xff}), wire.ErrMalformed},
		"bytes after":            {frame(wire.TypeProof, 0, append(body(&wire.Proof{}), 0)), wire.ErrMalformed},
		"no zstd":                {frame(wire.TypeAck, 1, []byte("x")), wire.ErrMalformed},
		"zstd bomb":              {frame(wire.TypeBatch, 1, pack(t, make([]byte, 64<<20))), wire.ErrTooLarge},
		"key twice":              {frame(wire.TypeProof, 0, []byte{0xa2, 2, 1, 2, 1}), wire.ErrMalformed},
		"endless array":          {frame(wire.TypeVectors, 0, []byte{0xa1, 1, 0x9f, 0xff}), wire.ErrMalformed},
		"tag":                    {frame(wire.TypeProof, 0, []byte{0xa1, 2, 0xc1, 1}), wire.ErrMalformed},
		"array of 2^32":          {frame(wire.TypeVectors, 0, []byte{0xa1, 1, 0x9a, 0xff, 0xff, 0xff, 0xff}), wire.ErrMalformed},
		"nested 20 deep":         {frame(wire.TypeVectors, 0, append(bytes.Repeat([]byte{0x81}, 20), 0)), wire.ErrMalformed},
		"site with a slash":      {frame(wire.TypeAck, 0, body(&wire.Ack{Chain: wire.Chain{Site: "a/b", Class: 1, Author: "c"}})), wire.ErrMalformed},
		"class 8":                {frame(wire.TypeAck, 0, body(&wire.Ack{Chain: wire.Chain{Site: "c", Class: 8, Author: "c"}})), wire.ErrMalformed},
		"no author":              {frame(wire.TypeAck, 0, body(&wire.Ack{Chain: wire.Chain{Site: "c", Class: 1}})), wire.ErrMalformed},
		"versions upside down":   {frame(wire.TypeHello, 0, body(&wire.Hello{VersionMin: 2, VersionMax: 1, Site: "c"})), wire.ErrMalformed},
		"head at 0":              {frame(wire.TypeVectors, 0, body(&wire.Vectors{Streams: []wire.StreamVector{{Site: "c", Class: 1, Heads: []wire.ChainHead{{Author: "c"}}}}})), wire.ErrMalformed},
		"batch without records":  {frame(wire.TypeBatch, 0, body(&wire.Batch{Chain: chain, First: 1})), wire.ErrMalformed},
		"head past every chain":  {frame(wire.TypeVectors, 0, body(&wire.Vectors{Streams: []wire.StreamVector{{Site: "c", Class: 1, Heads: []wire.ChainHead{{Author: "c", Seq: 1 << 63}}}}})), wire.ErrMalformed},
		"incarnation 2^32":       {frame(wire.TypeAck, 0, body(&wire.Ack{Chain: wire.Chain{Site: "c", Class: 1, Author: "c", Incarnation: 1<<32 - 1}, Seq: 1})), wire.ErrMalformed},
		"batch past every chain": {frame(wire.TypeBatch, 0, body(&wire.Batch{Chain: chain, First: 1<<64 - 1, Records: [][]byte{{1}, {1}}})), wire.ErrMalformed},
		"ack of nothing":         {frame(wire.TypeAck, 0, body(&wire.Ack{Chain: chain})), wire.ErrMalformed},
		"100000 streams":         {frame(wire.TypeHello, 1, pack(t, body(&wire.Hello{Site: "c", Streams: manyStreams(100_000)}))), wire.ErrMalformed},
		"a million heads":        {frame(wire.TypeVectors, 1, pack(t, millionHeads())), wire.ErrMalformed},
		"batch from 0":           {frame(wire.TypeBatch, 0, body(&wire.Batch{Chain: chain, Records: [][]byte{{1}}})), wire.ErrMalformed},
	} {
		if m, err := wire.Decode(row.frame); !errors.Is(err, row.want) {
			t.Errorf("%s: %+v, %v; want %v", name, m, err, row.want)
		}
	}
}

// TestUnknownTypeIsKept: a frame of a later version is handed on, not refused.
func TestUnknownTypeIsKept(t *testing.T) {
	m, err := wire.Decode(frame(200, 0, []byte("later")))
	u, ok := m.(*wire.Unknown)
	if err != nil || !ok || u.FrameType != 200 || string(u.Payload) != "later" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestReaderBounds(t *testing.T) {
	announce := func(n uint32, rest string) io.Reader {
		return io.MultiReader(bytes.NewReader(binary.BigEndian.AppendUint32(nil, n)), strings.NewReader(rest))
	}
	for name, row := range map[string]struct {
		r    io.Reader
		want error
	}{
		"cut in the length": {strings.NewReader("\x00\x00"), io.ErrUnexpectedEOF},
		"cut in the frame":  {announce(100, "short"), io.ErrUnexpectedEOF},
		"too long":          {announce(wire.FrameBytesMax+1, ""), wire.ErrTooLarge},
		"4 GiB":             {announce(1<<32-1, ""), wire.ErrTooLarge},
		"empty":             {announce(0, ""), wire.ErrMalformed},
	} {
		if _, _, err := wire.NewReader(row.r).Next(); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
	if allocs := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = wire.NewReader(announce(wire.FrameBytesMax, "x")).Next()
		}
	}).AllocedBytesPerOp(); allocs > 256<<10 {
		t.Errorf("announcing 4 MiB makes the reader allocate %d bytes", allocs)
	}
	over := &wire.Batch{Chain: wire.Chain{Site: "c", Class: 1, Author: "c"}, First: 1, Records: [][]byte{make([]byte, wire.FrameBytesMax+1)}}
	if _, err := wire.Append(nil, over); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("a message past the limit: %v", err)
	}
}

func TestCodeNames(t *testing.T) {
	if wire.CodeAudience.String() != "audience" || wire.CodeSuperseded.String() != "superseded" || wire.Code(99).String() != "code(99)" {
		t.Errorf("%s %s %s", wire.CodeAudience, wire.CodeSuperseded, wire.Code(99))
	}
}

// FuzzDecode: what decodes encodes, and decodes to the same again.
func FuzzDecode(f *testing.F) {
	for _, m := range messages() {
		f.Add(encode(f, m)[4:])
	}
	for _, m := range proofs(f) {
		f.Add(encode(f, m)[4:])
	}
	f.Add(frame(200, 0, []byte("later")))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := wire.Decode(b)
		if err != nil {
			return
		}
		if _, ok := m.(*wire.Unknown); ok {
			return
		}
		again, err := wire.Decode(encode(t, m)[4:])
		if err != nil || !bytes.Equal(encode(t, again), encode(t, m)) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}
