package crdt_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := crdt.Record{
			Kind: crdt.RecordKind(rapid.Byte().Draw(t, "kind")),
			Time: crdt.HybridTime(rapid.Uint64().Draw(t, "time")),
			Doc:  tiers.NewDocID(rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "kind"), rapid.StringMatching(`[A-Za-z0-9._-]{1,80}`).Draw(t, "name")),
			Body: rapid.SliceOf(rapid.Byte()).Draw(t, "body"),
		}
		out, err := crdt.DecodeRecord(in.AppendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		if out.Kind != in.Kind || out.Time != in.Time || out.Doc != in.Doc || !bytes.Equal(out.Body, in.Body) {
			t.Fatalf("%+v became %+v", in, out)
		}
	})
}

func TestDecodeRecordRefusals(t *testing.T) {
	good := record(1).AppendTo(nil)
	long := record(1)
	long.Doc = tiers.DocID("event:" + strings.Repeat("x", 91))
	upper := record(1)
	upper.Doc = "Event:x"
	for name, b := range map[string][]byte{
		"empty":               {},
		"short":               good[:9],
		"name past the end":   good[:12],
		"longer length form":  append(append(append([]byte{}, good[:9]...), 0x89, 0x00), good[10:]...),
		"length that runs on": append(append([]byte{}, good[:9]...), bytes.Repeat([]byte{0xff}, 11)...),
		"long name":           long.AppendTo(nil),
		"kind in upper case":  upper.AppendTo(nil),
	} {
		if _, err := crdt.DecodeRecord(b); !errors.Is(err, crdt.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

// FuzzDecodeRecord: what decodes encodes to the same bytes.
func FuzzDecodeRecord(f *testing.F) {
	f.Add(record(1).AppendTo(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := crdt.DecodeRecord(b)
		if err == nil && !bytes.Equal(r.AppendTo(nil), b) {
			t.Fatalf("%x decodes and encodes to %x", b, r.AppendTo(nil))
		}
	})
}

// TestChainDiffers: no two of chain, record order or content share a hash.
func TestChainDiffers(t *testing.T) {
	a, b := record(1).AppendTo(nil), record(2).AppendTo(nil)
	other := chain
	other.Author.Incarnation++
	elsewhere := chain
	elsewhere.Stream.Class = tiers.ClassUrgent
	seen := map[crdt.Hash]string{}
	for name, h := range map[string]crdt.Hash{
		"origin": chain.Origin().Hash, "incarnation": other.Origin().Hash, "class": elsewhere.Origin().Hash,
		"a": chain.Origin().Next(a).Hash, "ab": chain.Origin().Next(a).Next(b).Hash, "ba": chain.Origin().Next(b).Next(a).Hash,
		"other a": other.Origin().Next(a).Hash,
	} {
		if seen[h] != "" {
			t.Errorf("%s and %s hash alike", name, seen[h])
		}
		seen[h] = name
	}
	if got := chain.Origin().Next(a).Next(b).Seq; got != 2 {
		t.Errorf("seq %d after two records", got)
	}
}

func TestActorBearsMark(t *testing.T) {
	a := crdt.NewActor(author, [8]byte{1})
	if !author.Owns(a) {
		t.Error("author does not own its actor")
	}
	for _, other := range []crdt.Author{{Site: "500101001", Incarnation: 2}, {Site: "500101002", Incarnation: 1}} {
		if other.Owns(a) {
			t.Errorf("%s owns the actor of %s", other, author)
		}
	}
}

// BenchmarkChain folds one record of an event's size into its chain.
func BenchmarkChain(b *testing.B) {
	rec := record(1)
	rec.Body = make([]byte, 900)
	enc := rec.AppendTo(nil)
	b.SetBytes(int64(len(enc)))
	head := chain.Origin()
	for b.Loop() {
		head = head.Next(enc)
	}
}
