package replication_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/s2"
	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/replication"
)

// encodedCommand is a CBOR map of one byte string: what a command looks like from
// outside. The string repeats itself after every so many bytes, or never for zero.
func encodedCommand(seed uint64, size, period int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, size)
	_, _ = r.Read(b) // never fails
	for i := period; period > 0 && i < size; i++ {
		b[i] = b[i-period]
	}
	return append(binary.BigEndian.AppendUint32([]byte{0xa1, 0x01, 0x5a}, uint32(size)), b...)
}

// TestEntries: what goes into log entries comes out of them, whatever their sizes,
// and no entry is changed by those that are made after it.
func TestEntries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var batches [][][]byte
		for range rapid.IntRange(1, 4).Draw(t, "entries") {
			var batch [][]byte
			for range rapid.SampledFrom([]int{1, 2, 23, 24, 255, 256}).Draw(t, "commands") {
				seed := rapid.Uint64().Draw(t, "seed")
				period := rapid.IntRange(0, 40).Draw(t, "period")
				batch = append(batch, encodedCommand(seed, rapid.IntRange(0, 1500).Draw(t, "size"), period))
			}
			batches = append(batches, batch)
		}
		for i, entry := range replication.Entries(batches...) {
			got, err := replication.Commands(entry)
			if err != nil || len(got) != len(batches[i]) {
				t.Fatalf("entry %d: %d commands, error %v; want %d", i, len(got), err, len(batches[i]))
			}
			size := 3
			for j, b := range got {
				if size += len(b); !bytes.Equal(b, batches[i][j]) {
					t.Fatalf("entry %d, command %d: %x, want %x", i, j, b, batches[i][j])
				}
			}
			if len(entry) > size {
				t.Fatalf("entry %d: %d bytes for %d", i, len(entry), size)
			}
		}
	})
}

// TestPackedEntry: an entry is packed where that pays, and only there.
func TestPackedEntry(t *testing.T) {
	same := encodedCommand(7, 500, 0)
	for name, c := range map[string]struct {
		batch [][]byte
		want  int
	}{
		"commands that are alike": {[][]byte{same, same, same, same}, 600},
		"one that repeats itself": {[][]byte{encodedCommand(7, 4000, 20)}, 50},
		"no pattern":              {[][]byte{encodedCommand(1, 2000, 0), encodedCommand(2, 2000, 0)}, 4015},
		"too small":               {[][]byte{encodedCommand(7, 900, 20)}, 907},
	} {
		t.Run(name, func(t *testing.T) {
			if got := len(replication.Entries(c.batch)[0]); got > c.want || got < c.want/2 {
				t.Errorf("%d bytes, want about %d", got, c.want)
			}
		})
	}
}

// TestBadPackedEntry: damage to a packed entry is refused or gives other commands;
// it never takes more memory than an entry may have.
func TestBadPackedEntry(t *testing.T) {
	whole := replication.Entries([][]byte{encodedCommand(7, 4000, 20), encodedCommand(8, 4000, 0)})[0]
	for cut := range len(whole) - 1 {
		if _, err := replication.Commands(whole[:1+cut]); !errors.Is(err, replication.ErrFormat) {
			t.Fatalf("cut to %d bytes: error %v, want %v", 1+cut, err, replication.ErrFormat)
		}
	}
	for i := range whole {
		for bit := range 8 {
			flipped := bytes.Clone(whole)
			flipped[i] ^= 1 << bit
			_, err := replication.Commands(flipped)
			if err != nil && !errors.Is(err, replication.ErrFormat) {
				t.Fatalf("byte %d, bit %d: %v", i, bit, err)
			}
		}
	}
	for name, entry := range map[string][]byte{"empty": nil, "text": []byte("entry"), "a packed text": append([]byte{whole[0]}, s2.Encode(nil, []byte("entry"))...)} {
		if _, err := replication.Commands(entry); !errors.Is(err, replication.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bomb := append([]byte{whole[0]}, s2.Encode(nil, make([]byte, 9<<20))...)
	if _, err := replication.Commands(bomb); !errors.Is(err, replication.ErrFormat) {
		t.Errorf("%d bytes that unpack to 9 MiB: %v", len(bomb), err)
	}
}

// TestEntryOfLaterBuild: a node that cannot take an entry apart says so and ends; it
// would go on with another state than the nodes that can.
func TestEntryOfLaterBuild(t *testing.T) { ends(t, []byte{0xe0}) }

// ends checks that a node ends at a log entry that it cannot read.
func ends(t *testing.T, entry []byte) {
	t.Helper()
	dir := t.TempDir()
	if err := open(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	if err := replication.LogEntry(dir, entry); err != nil {
		t.Fatal(err)
	}
	cfg := config(t, dir)
	fatal := make(chan error, 8)
	cfg.Fatal = func(err error) {
		select {
		case fatal <- err:
		default:
		}
	}
	g, err := replication.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Abandon() }()
	select {
	case err := <-fatal:
		if !errors.Is(err, replication.ErrFormat) {
			t.Error(err)
		}
	case <-limited(t).Done():
		t.Error("the node goes on")
	}
}

// BenchmarkEntries packs and unpacks an entry of 32 commands.
func BenchmarkEntries(b *testing.B) {
	var batch [][]byte
	size := 0
	for i := range 32 {
		batch = append(batch, encodedCommand(uint64(i), 600, 200))
		size += len(batch[i])
	}
	b.SetBytes(int64(size))
	for b.Loop() {
		if _, err := replication.Commands(replication.Entries(batch)[0]); err != nil {
			b.Fatal(err)
		}
	}
}
