package crdt_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

var update = flag.Bool("update", false, "write the golden bytes; only ever to add a line")

var (
	stream = tiers.StreamID{Site: "500101001", Class: tiers.ClassRoutine}
	author = crdt.Author{Site: "500101001", Incarnation: 1}
	chain  = crdt.ChainID{Stream: stream, Author: author}
	key    = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
)

func record(n byte) crdt.Record {
	return crdt.Record{Kind: crdt.RecordChange, Time: crdt.HybridTime(n) << 16, Doc: "event:e-1", Body: []byte{n, n}}
}

// TestGolden holds the version-1 bytes of records, chains, digests and
// checkpoints for good: sites that differ in one of them cannot talk.
func TestGolden(t *testing.T) {
	var b bytes.Buffer
	line := func(name string, raw []byte) { fmt.Fprintf(&b, "%s %s\n", name, hex.EncodeToString(raw)) }
	first, second := record(1).AppendTo(nil), record(2).AppendTo(nil)
	line("record", first)
	origin := chain.Origin()
	line("origin", origin.Hash[:])
	head := origin.Next(first).Next(second)
	line("head2", head.Hash[:])
	vector := crdt.Vector{author: head, {Site: "500101", Incarnation: 3}: {Seq: 9, Hash: crdt.Hash{9}}}
	digest := vector.Digest(stream)
	line("stream_digest", digest[:])
	link := crdt.LinkDigest(map[tiers.StreamID]crdt.Hash{stream: digest, {Site: "500000", Class: tiers.ClassCatalog}: {1}})
	line("link_digest", link[:])
	empty := crdt.LinkDigest(nil)
	line("empty_link_digest", empty[:])
	mark := author.Mark()
	line("actor_mark", mark[:])
	cp, err := crdt.SignCheckpoint(crdt.Ed25519Signer(key), chain, head, 1_700_000_000_000)
	if err != nil {
		t.Fatal(err)
	}
	line("checkpoint_signature", cp.Signature)

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
