package replication_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/archive"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// snapshotOf makes a group with n documents, takes a snapshot, and returns it
// as the stream that a follower is sent.
func snapshotOf(t *testing.T, n int) (*raft.SnapshotMeta, []byte) {
	t.Helper()
	dir := t.TempDir()
	g := open(t, dir)
	for i := range n {
		if _, err := g.Append(limited(t), "", []store.Item{item(t, g, tiers.DocID(fmt.Sprintf("event:%d", i)), &store.Changes{}, "v")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Snapshot(); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	snaps, err := replication.OpenSnapshots(filepath.Join(dir, "snapshots"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := snaps.List()
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	m, r, err := snaps.Open(list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || int64(len(b)) != m.Size {
		t.Fatalf("%d bytes of %d, %v", len(b), m.Size, err)
	}
	return m, b
}

// TestTornSnapshot: a stream that is cut at any 512 bytes, or damaged, never
// counts as a snapshot and leaves nothing behind.
func TestTornSnapshot(t *testing.T) {
	m, stream := snapshotOf(t, 3)
	dir := filepath.Join(t.TempDir(), "snapshots")
	snaps, err := replication.OpenSnapshots(dir)
	if err != nil {
		t.Fatal(err)
	}
	send := func(b []byte) error {
		t.Helper()
		k, err := snaps.Create(m.Version, m.Index, m.Term, m.Configuration, m.ConfigurationIndex, nil)
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			n := min(len(b), 700)
			if _, err := k.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
		return k.Close()
	}
	empty := func(what string) {
		t.Helper()
		list, err := snaps.List()
		entries, err2 := os.ReadDir(dir)
		if err != nil || err2 != nil || len(list) != 0 || len(entries) != 0 {
			t.Fatalf("%s left %v, %v (%v, %v)", what, list, entries, err, err2)
		}
	}
	step := max(512, len(stream)/64/512*512) // every 512 bytes takes too long for a large one
	for n := 512; n < len(stream)-1024; n += step {
		if err := send(stream[:n]); !errors.Is(err, archive.ErrDamaged) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		empty(fmt.Sprintf("a stream cut at %d", n))
	}
	flipped := bytes.Clone(stream)
	flipped[len(stream)/2] ^= 1
	if err := send(flipped); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("a flipped bit: %v", err)
	}
	empty("a flipped bit")
	if err := send(stream); err != nil {
		t.Fatal(err)
	}
	// What an interrupted snapshot left is cleared at the next start.
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "9-9.tmp", "store"), 0o700), os.MkdirAll(filepath.Join(dir, "8-8"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if snaps, err = replication.OpenSnapshots(dir); err != nil {
		t.Fatal(err)
	}
	list, err := snaps.List()
	entries, _ := os.ReadDir(dir)
	if err != nil || len(list) != 1 || len(entries) != 1 || list[0].ID != m.ID || list[0].Index != m.Index {
		t.Errorf("%v, %v, %v", list, entries, err)
	}
}

// TestLogIsBounded: few large entries are forgotten, too, once a snapshot reflects
// them; Raft itself counts entries alone.
func TestLogIsBounded(t *testing.T) {
	cfg := config(t, t.TempDir())
	cfg.SnapshotBytes, cfg.TrailingEntries = 1<<20, 4
	g, err := replication.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	if _, err := g.Lead(limited(t)); err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{})
	text := make([]byte, 75_000) // of which nothing can be packed
	for i := range 40 {
		_, _ = random.Read(text) // never fails
		it := item(t, g, tiers.DocID(fmt.Sprintf("event:%d", i)), &store.Changes{}, base64.StdEncoding.EncodeToString(text))
		if _, err := g.Append(limited(t), "", []store.Item{it}); err != nil {
			t.Fatal(err)
		}
	}
	for ctx := limited(t); ; {
		n, err := g.LogLength()
		if err != nil {
			t.Fatal(err)
		}
		if n < 30 { // of more than forty
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("the log still holds %d entries", n)
		}
	}
}

// TestKilledOften: a node that is killed again and again, each time before its log has
// grown by as much as a snapshot is made for, does not replay more at each start.
func TestKilledOften(t *testing.T) {
	const runs, each = 12, 20
	dir := t.TempDir()
	cfg := config(t, dir)
	cfg.SnapshotEntries, cfg.TrailingEntries = 64, 4
	longest := uint64(0)
	for run := range runs {
		g, err := replication.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Lead(limited(t)); err != nil {
			t.Fatal(err)
		}
		for i := range each {
			it := item(t, g, tiers.DocID(fmt.Sprintf("event:%d-%d", run, i)), &store.Changes{}, "v")
			if _, err := g.Append(limited(t), "", []store.Item{it}); err != nil {
				t.Fatal(err)
			}
		}
		for ctx := limited(t); ; { // what a start asks for is done after a while
			n, err := g.LogLength()
			if err != nil {
				t.Fatal(err)
			}
			longest = max(longest, n)
			if run < 1 || n < 2*each {
				break
			}
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("run %d: the log holds %d entries", run, n)
			}
		}
		if err := g.Abandon(); err != nil {
			t.Fatal(err)
		}
	}
	if longest > 5*each {
		t.Errorf("the log held %d entries", longest)
	}
}
