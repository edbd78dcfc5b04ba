package crdt_test

import (
	"crypto/ed25519"
	"errors"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

func vectors() *rapid.Generator[crdt.Vector] {
	return rapid.Custom(func(t *rapid.T) crdt.Vector {
		v := crdt.Vector{}
		for range rapid.IntRange(0, 6).Draw(t, "chains") {
			a := crdt.Author{
				Site:        tiers.SiteID(rapid.SampledFrom([]string{"5", "50", "500101", "500101001"}).Draw(t, "site")),
				Incarnation: rapid.Uint32Range(1, 3).Draw(t, "incarnation"),
			}
			v[a] = crdt.Head{Seq: rapid.Uint64Range(1, 4).Draw(t, "seq"), Hash: crdt.Hash{rapid.Byte().Draw(t, "hash")}}
		}
		return v
	})
}

// TestDigestMeansEqual: digests are equal exactly when vectors are, whatever
// the order in which they were filled.
func TestDigestMeansEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := vectors().Draw(t, "a"), vectors().Draw(t, "b")
		if (a.Digest(stream) == b.Digest(stream)) != maps.Equal(a, b) {
			t.Fatalf("digests do not tell %v and %v apart", a, b)
		}
		again := crdt.Vector{}
		for _, author := range a.Authors() {
			again[author] = a[author]
		}
		if again.Digest(stream) != a.Digest(stream) {
			t.Fatal("digest depends on the order")
		}
		other := tiers.StreamID{Site: stream.Site, Class: tiers.ClassUrgent}
		if a.Digest(stream) == a.Digest(other) {
			t.Fatal("digest does not bind the stream")
		}
	})
}

func TestCheckpointBinds(t *testing.T) {
	public := key.Public().(ed25519.PublicKey)
	head := crdt.Head{Seq: 5, Hash: crdt.Hash{5}}
	good, err := crdt.SignCheckpoint(crdt.Ed25519Signer(key), chain, head, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := good.Verify(public); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*crdt.Checkpoint){
		"stream site":  func(c *crdt.Checkpoint) { c.Chain.Stream.Site = "500101002" },
		"stream class": func(c *crdt.Checkpoint) { c.Chain.Stream.Class = tiers.ClassUrgent },
		"author":       func(c *crdt.Checkpoint) { c.Chain.Author.Site = "500101" },
		"incarnation":  func(c *crdt.Checkpoint) { c.Chain.Author.Incarnation++ },
		"seq":          func(c *crdt.Checkpoint) { c.Head.Seq++ },
		"hash":         func(c *crdt.Checkpoint) { c.Head.Hash[31]++ },
		"time":         func(c *crdt.Checkpoint) { c.TimeMS++ },
		"signature":    func(c *crdt.Checkpoint) { c.Signature = append([]byte{c.Signature[0] + 1}, c.Signature[1:]...) },
		"no signature": func(c *crdt.Checkpoint) { c.Signature = nil },
	} {
		bad := good
		change(&bad)
		if err := bad.Verify(public); !errors.Is(err, crdt.ErrBadSignature) {
			t.Errorf("%s changed: %v, want ErrBadSignature", name, err)
		}
	}
	for _, k := range [][]byte{nil, public[:31], make([]byte, 32)} {
		if err := good.Verify(k); !errors.Is(err, crdt.ErrBadSignature) {
			t.Errorf("key %x: %v", k, err)
		}
	}
}

// TestClock: stamps rise whatever the wall clock and the peers do, and a peer
// that is years ahead does not carry the clock along.
func TestClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wall := time.UnixMilli(1_700_000_000_000)
		c := crdt.NewClock(func() time.Time { return wall })
		var last crdt.HybridTime
		highest := wall
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			wall = wall.Add(time.Duration(rapid.IntRange(-5000, 5000).Draw(t, "drift")) * time.Millisecond)
			if wall.After(highest) {
				highest = wall
			}
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				c.Observe(crdt.NewHybridTime(wall.Add(30 * time.Minute)))
				highest = later(highest, wall.Add(30*time.Minute))
			case 1:
				c.Observe(crdt.NewHybridTime(wall.Add(10 * 365 * 24 * time.Hour)))
			}
			now := c.Now()
			if now <= last {
				t.Fatalf("%d after %d", now, last)
			}
			if now.Time().After(highest.Add(time.Second)) {
				t.Fatalf("clock at %s, nothing honest is past %s", now.Time(), highest)
			}
			last = now
		}
	})
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func TestHybridTimeCutsItsRange(t *testing.T) {
	if got := crdt.NewHybridTime(time.UnixMilli(-5)); got != 0 {
		t.Errorf("before 1970: %d", got)
	}
	at := time.UnixMilli(1_700_000_000_123).UTC()
	if got := crdt.NewHybridTime(at).Time(); !got.Equal(at) {
		t.Errorf("%s became %s", at, got)
	}
}
