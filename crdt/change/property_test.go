package change_test

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/testbed/corpus"
)

// randomHistory builds a history of three honest actors who each see some of
// the others' changes before they write.
func randomHistory(t *rapid.T) [][]byte {
	e := engine.New()
	first, err := e.Build(nil, alice, 1, []crdt.Op{
		{Kind: crdt.OpMakeList, Key: "l"}, {Kind: crdt.OpMakeMap, Key: "m"}, {Kind: crdt.OpPut, Key: "a", Value: "0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	all := [][]byte{first.Raw}
	seen := map[crdt.Actor]int{alice: 1, bob: 1, carol: 1} // a prefix of all, plus their own
	own := map[crdt.Actor][]int{alice: {0}}
	for i := range rapid.IntRange(1, 12).Draw(t, "changes") {
		actor := rapid.SampledFrom([]crdt.Actor{alice, bob, carol}).Draw(t, "actor")
		seen[actor] = rapid.IntRange(seen[actor], len(all)).Draw(t, "seen")
		base := append([][]byte(nil), all[:seen[actor]]...)
		for _, n := range own[actor] {
			if n >= seen[actor] {
				base = append(base, all[n])
			}
		}
		ops := []crdt.Op{{Kind: crdt.OpPut, Key: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key"), Value: fmt.Sprint(i)}}
		for range rapid.IntRange(0, 3).Draw(t, "more") {
			ops = append(ops, rapid.SampledFrom([]crdt.Op{
				{Kind: crdt.OpAppend, In: "l", Value: "x"}, {Kind: crdt.OpPut, In: "m", Key: "k", Value: int64(i)},
				{Kind: crdt.OpDelete, Key: "a"}, {Kind: crdt.OpPut, Key: "n", Value: nil},
			}).Draw(t, "op"))
		}
		b, err := e.Build(base, actor, int64(i), ops)
		if errors.Is(err, engine.ErrEngine) || errors.Is(err, engine.ErrUnchanged) {
			continue // deleted what was not there, or put what was
		}
		if err != nil {
			t.Fatal(err)
		}
		own[actor] = append(own[actor], len(all))
		all = append(all, b.Raw)
	}
	return all
}

// TestHonestNeverRefused: whatever honest actors write is accepted, in any
// order of arrival, and every order ends with the same set applied.
func TestHonestNeverRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		waiting := rapid.Permutation(randomHistory(t)).Draw(t, "order")
		h := newHistory()
		for len(waiting) > 0 {
			var held [][]byte
			for _, raw := range waiting {
				c, err := change.Decode(raw, change.DefaultLimits())
				if err != nil {
					t.Fatalf("honest change %x: %v", raw, err)
				}
				switch err := change.Fit(c, h); {
				case err == nil:
					h.apply(c)
				case errors.Is(err, change.ErrMissingDeps):
					held = append(held, raw)
				default:
					t.Fatalf("honest change: %v", err)
				}
			}
			if len(held) == len(waiting) {
				t.Fatalf("%d changes never fit", len(held))
			}
			waiting = held
		}
	})
}

// FuzzDecode: no input makes the decoder panic or take what does not add up.
func FuzzDecode(f *testing.F) {
	first := eventChange(f)
	f.Add(first[9:])
	f.Add(build(f, [][]byte{first}, bob, crdt.Op{Kind: crdt.OpPut, Key: "report", Value: "y"})[9:])
	f.Fuzz(func(t *testing.T, body []byte) {
		used := 0 // skip the length of the seeds: the fuzzer writes bodies
		for shift := 0; used < len(body) && shift < 63; shift += 7 {
			used++
			if body[used-1]&0x80 == 0 {
				break
			}
		}
		raw := corpus.Chunk(1, body[used:], 0, false)
		c, err := change.Decode(raw, change.DefaultLimits())
		if err != nil {
			return
		}
		if c.Seq == 0 || c.StartOp == 0 || c.Ops > 100_000 || c.Info().MaxOp != c.StartOp+c.Ops-1 {
			t.Fatalf("accepted %+v", c)
		}
	})
}

// BenchmarkDecode checks one event's first change in full.
func BenchmarkDecode(b *testing.B) {
	raw := eventChange(b)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := change.Decode(raw, change.DefaultLimits()); err != nil {
			b.Fatal(err)
		}
	}
}
