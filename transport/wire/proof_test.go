package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"testing"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

func manifest() *wire.Manifest {
	chain := wire.Chain{Site: "500101001", Class: tiers.ClassRoutine, Author: "500101001", Incarnation: 1}
	return &wire.Manifest{
		Federation: "cq", From: "500101", For: "500000", TimeMS: 1_700_000_000_000, TopologyVersion: 7,
		Ranges: []wire.BundleRange{{Chain: chain, Seq: 2, Hash: wire.Hash{1}, Bytes: 600,
			End: wire.Checkpoint{Seq: 9, Hash: wire.Hash{2}, TimeMS: 1_700_000_000_001, Signature: []byte{3}}}},
	}
}

func holdings() *wire.Holdings {
	return &wire.Holdings{
		Federation: "cq", Site: "500000", From: "500101", TimeMS: 1_700_000_000_000, TopologyVersion: 7,
		Streams: []wire.StreamVector{{Site: "500000", Class: tiers.ClassCatalog,
			Heads: []wire.ChainHead{{Author: "500000", Incarnation: 1, Seq: 9, Hash: wire.Hash{3}}}}},
	}
}

// proofs are the messages of proofs, bundles and requests.
func proofs(t testing.TB) []wire.Message {
	t.Helper()
	body, err := wire.EncodeBody(manifest())
	if err != nil {
		t.Fatal(err)
	}
	ask, err := wire.EncodeBody(holdings())
	if err != nil {
		t.Fatal(err)
	}
	return []wire.Message{
		&wire.Prove{Nonce: wire.Nonce{1}, TopologyVersion: 7, TimeMS: 1_700_000_000_000,
			Streams: []wire.StreamDigest{{Site: "500101001", Class: tiers.ClassRoutine, Digest: wire.Hash{2}}}},
		&wire.Proved{Nonce: wire.Nonce{1}, TimeMS: 1_700_000_000_002, Signature: []byte{4}},
		&wire.Proved{Nonce: wire.Nonce{1}, TimeMS: 1, Differ: holdings().Streams, More: true, Reason: "so"},
		&wire.Signed{FrameType: wire.TypeBundle, Body: body, Signature: []byte{5}},
		&wire.Signed{FrameType: wire.TypeRequest, Body: ask, Signature: []byte{6}},
	}
}

// TestGoldenProofs holds the version-1 bytes of what came after the first six
// messages for good.
func TestGoldenProofs(t *testing.T) {
	var b bytes.Buffer
	for _, m := range proofs(t) {
		fmt.Fprintf(&b, "%T %d %s\n", m, m.Type(), hex.EncodeToString(encode(t, m)))
	}
	const file = "testdata/v1/proofs.txt"
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

func TestProofRoundTrip(t *testing.T) {
	for _, m := range proofs(t) {
		got, err := wire.Decode(encode(t, m)[4:])
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v, %v; want %+v", got, err, m)
		}
	}
	m, h := &wire.Manifest{}, &wire.Holdings{}
	body, ask := proofs(t)[3].(*wire.Signed).Body, proofs(t)[4].(*wire.Signed).Body
	if err := wire.DecodeBody(body, m); err != nil || !reflect.DeepEqual(m, manifest()) {
		t.Errorf("%+v, %v", m, err)
	}
	if err := wire.DecodeBody(ask, h); err != nil || !reflect.DeepEqual(h, holdings()) {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestProofRefusals(t *testing.T) {
	bodyOf := func(m wire.Message) []byte { return encode(t, m)[6:] }
	long := make([]byte, 300)
	for name, m := range map[string]wire.Message{
		"a question of class 8":   &wire.Prove{Streams: []wire.StreamDigest{{Site: "c", Class: 8}}},
		"a long signature":        &wire.Proved{Signature: long},
		"a long reason":           &wire.Proved{Reason: string(make([]byte, 5000))},
		"a difference at 0":       &wire.Proved{Differ: []wire.StreamVector{{Site: "c", Class: 1, Heads: []wire.ChainHead{{Author: "c"}}}}},
		"an empty body":           &wire.Signed{FrameType: wire.TypeBundle},
		"a body's long signature": &wire.Signed{FrameType: wire.TypeRequest, Body: long, Signature: long},
	} {
		if got, err := wire.Decode(frame(m.Type(), 0, bodyOf(m))); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	backwards, badSite, badAuthor := manifest(), manifest(), manifest()
	backwards.Ranges[0].End.Seq = 2
	badSite.For = "a/b"
	badAuthor.Ranges[0].Chain.Author = ""
	for name, m := range map[string]*wire.Manifest{"a range of nothing": backwards, "for a site with a slash": badSite, "no author": badAuthor} {
		b, err := wire.EncodeBody(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := wire.DecodeBody(b, &wire.Manifest{}); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzBody: what decodes as a body encodes, and decodes to the same again.
func FuzzBody(f *testing.F) {
	for _, m := range proofs(f)[3:] {
		f.Add(m.(*wire.Signed).Body)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m := (&wire.Manifest{}); wire.DecodeBody(b, m) == nil {
			once, err := wire.EncodeBody(m)
			again := &wire.Manifest{}
			if err = errors.Join(err, wire.DecodeBody(once, again)); err != nil {
				t.Fatalf("%+v: %v", m, err)
			}
			if twice, err := wire.EncodeBody(again); err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("%+v became %+v, %v", m, again, err)
			}
		}
		if h := (&wire.Holdings{}); wire.DecodeBody(b, h) == nil {
			once, err := wire.EncodeBody(h)
			again := &wire.Holdings{}
			if err = errors.Join(err, wire.DecodeBody(once, again)); err != nil {
				t.Fatalf("%+v: %v", h, err)
			}
			if twice, err := wire.EncodeBody(again); err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("%+v became %+v, %v", h, again, err)
			}
		}
	})
}
