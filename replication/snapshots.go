package replication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/tiermesh/tiermesh/replication/archive"
)

// snapshots is Raft's snapshot store. A snapshot is a directory:
//
//	<dir>/<term>-<index>/meta.json   raft.SnapshotMeta
//	<dir>/<term>-<index>/store/      a checkpoint of the store
//
// Taking one costs a flush and hard links. To a follower that is too far behind
// it goes as an archive, which is verified as a whole before it counts. Only
// the latest is kept.
type snapshots struct {
	dir string

	mu    sync.Mutex     // guards using
	using map[string]int // readers of each snapshot; negative while it is replaced
}

// streamMeta begins the archive of a snapshot.
const streamMeta = "tiermesh snapshot v1"

var _ raft.SnapshotStore = (*snapshots)(nil)

// newSnapshots opens a directory, created when missing, and clears what an
// interrupted snapshot left.
func newSnapshots(dir string) (*snapshots, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	s := &snapshots{dir: dir, using: map[string]int{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	for _, e := range entries {
		var err error
		if _, bad := s.meta(e.Name()); bad != nil {
			err = os.RemoveAll(filepath.Join(dir, e.Name()))
		} else {
			err = s.finishExchange(e.Name())
		}
		if err != nil {
			return nil, fmt.Errorf("clear unfinished snapshot: %w", err)
		}
	}
	return s, nil
}

// next is where a snapshot's new checkpoint is made.
func (s *snapshots) next(id string) string { return s.store(id) + ".next" }

// finishExchange ends an exchange that a crash interrupted: the new checkpoint
// counts once the old one is away, since it was whole before.
func (s *snapshots) finishExchange(id string) error {
	if _, err := os.Stat(s.store(id)); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, os.RemoveAll(s.next(id)))
	}
	if _, err := os.Stat(s.next(id)); err != nil {
		return fmt.Errorf("snapshot %s has no store: %w", id, err)
	}
	return errors.Join(os.Rename(s.next(id), s.store(id)), archive.SyncDir(filepath.Join(s.dir, id)))
}

// exchange gives each snapshot another checkpoint, which checkpoint makes, and moves
// the old one into the directory aside. A snapshot that is being read is waited
// for until ctx ends.
func (s *snapshots) exchange(ctx context.Context, checkpoint func(dir string) error, aside string) error {
	list, err := s.List()
	if err != nil {
		return err
	}
	for _, m := range list {
		for !s.reserve(m.ID) {
			select {
			case <-time.After(exchangePause):
			case <-ctx.Done():
				return fmt.Errorf("snapshot %s is being sent: %w", m.ID, context.Cause(ctx))
			}
		}
		err := errors.Join(os.RemoveAll(s.next(m.ID)), checkpoint(s.next(m.ID)))
		if err == nil {
			err = errors.Join(os.Rename(s.store(m.ID), filepath.Join(aside, "snapshot-"+m.ID)), s.finishExchange(m.ID))
		}
		s.use(m.ID, exchanging)
		if err != nil {
			return fmt.Errorf("exchange snapshot %s: %w", m.ID, err)
		}
	}
	return nil
}

const (
	// exchanging is what a snapshot's readers count down by while it is replaced.
	exchanging    = 1 << 20
	exchangePause = 20 * time.Millisecond
)

// reserve keeps readers away from a snapshot, unless there are any.
func (s *snapshots) reserve(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.using[id] != 0 {
		return false
	}
	s.using[id] = -exchanging
	return true
}

func (s *snapshots) meta(id string) (*raft.SnapshotMeta, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, id, "meta.json"))
	if err != nil {
		return nil, err
	}
	var m raft.SnapshotMeta
	if err := json.Unmarshal(b, &m); err != nil || m.ID != id {
		return nil, errors.Join(fmt.Errorf("snapshot %s: damaged meta.json", id), err)
	}
	return &m, nil
}

// store returns the checkpoint of a snapshot.
func (s *snapshots) store(id string) string { return filepath.Join(s.dir, id, "store") }

// List implements [raft.SnapshotStore]: the latest first.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var out []*raft.SnapshotMeta
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			continue
		}
		m, err := s.meta(e.Name())
		if err != nil {
			return nil, fmt.Errorf("list snapshots: %w", err)
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *raft.SnapshotMeta) int {
		if a.Term != b.Term {
			return int(b.Term) - int(a.Term)
		}
		return int(b.Index) - int(a.Index)
	})
	return out, nil
}

// Create implements [raft.SnapshotStore].
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	id := fmt.Sprintf("%d-%d", term, index)
	k := &sink{s: s, m: raft.SnapshotMeta{
		Version: version, ID: id, Index: index, Term: term, Configuration: conf, ConfigurationIndex: confIndex,
	}}
	if err := errors.Join(os.RemoveAll(k.tmp()), os.Mkdir(k.tmp(), 0o700)); err != nil {
		return nil, fmt.Errorf("create snapshot %s: %w", id, err)
	}
	return k, nil
}

// Open implements [raft.SnapshotStore]. The reader is a [snapshotReader]; its
// stream is made while it is read.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m, err := s.meta(id)
	if err != nil {
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, err)
	}
	if s.use(id, 1) <= 0 {
		s.use(id, -1)
		return nil, nil, fmt.Errorf("open snapshot %s: it is being replaced: try again", id)
	}
	if m.Size, err = archive.Size([]byte(streamMeta), s.store(id)); err != nil {
		s.use(id, -1)
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, err)
	}
	return m, &snapshotReader{s: s, id: id, dir: s.store(id)}, nil
}

// use counts readers and returns how many there are.
func (s *snapshots) use(id string, n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.using[id] += n
	return s.using[id]
}

// prune removes all snapshots but the latest, unless somebody reads them.
func (s *snapshots) prune() error {
	list, err := s.List()
	if err != nil || len(list) < 2 {
		return err
	}
	for _, m := range list[1:] {
		s.mu.Lock()
		busy := s.using[m.ID] != 0
		s.mu.Unlock()
		if busy {
			continue
		}
		// The name goes first, so that a crash leaves nothing that looks whole.
		old := filepath.Join(s.dir, m.ID+".tmp")
		if err := errors.Join(os.Rename(filepath.Join(s.dir, m.ID), old), os.RemoveAll(old)); err != nil {
			return fmt.Errorf("remove snapshot %s: %w", m.ID, err)
		}
	}
	return nil
}

// sink is a snapshot that is being made: here, by a checkpoint put into it, or
// from a leader's stream.
type sink struct {
	s      *snapshots
	m      raft.SnapshotMeta
	stream *os.File // what Write was given
	done   bool
}

func (k *sink) tmp() string { return filepath.Join(k.s.dir, k.m.ID+".tmp") }

// checkpoint returns where the checkpoint belongs.
func (k *sink) checkpoint() string { return filepath.Join(k.tmp(), "store") }

// ID implements [raft.SnapshotSink].
func (k *sink) ID() string { return k.m.ID }

// Write implements [raft.SnapshotSink]: a part of a leader's archive.
func (k *sink) Write(p []byte) (int, error) {
	if k.stream == nil {
		f, err := os.OpenFile(filepath.Join(k.tmp(), "stream"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return 0, fmt.Errorf("snapshot %s: %w", k.m.ID, err)
		}
		k.stream = f
	}
	return k.stream.Write(p)
}

// Close implements [raft.SnapshotSink]: the snapshot counts from here on, or
// not at all.
func (k *sink) Close() error {
	if k.done {
		return nil
	}
	err := k.unpack()
	if err == nil {
		err = k.publish()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("snapshot %s: %w", k.m.ID, err), k.Cancel())
	}
	k.done = true
	return k.s.prune()
}

// unpack verifies a leader's archive.
func (k *sink) unpack() error {
	if k.stream == nil {
		return nil
	}
	if _, err := k.stream.Seek(0, io.SeekStart); err != nil {
		return err
	}
	meta, err := archive.Unpack(k.stream, k.checkpoint())
	if err == nil && string(meta) != streamMeta {
		err = fmt.Errorf("%w: it is a %q", archive.ErrDamaged, meta)
	}
	path := k.stream.Name()
	err = errors.Join(err, k.stream.Close(), os.Remove(path))
	k.stream = nil
	return err
}

func (k *sink) publish() error {
	b, err := json.Marshal(k.m)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(k.tmp(), "meta.json"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close(), archive.SyncDir(k.tmp())); err != nil {
		return err
	}
	final := filepath.Join(k.s.dir, k.m.ID)
	if _, err := k.s.meta(k.m.ID); err == nil {
		return os.RemoveAll(k.tmp()) // the same snapshot, which may be in use
	}
	return errors.Join(os.Rename(k.tmp(), final), archive.SyncDir(k.s.dir))
}

// Cancel implements [raft.SnapshotSink].
func (k *sink) Cancel() error {
	if k.done {
		return nil
	}
	k.done = true
	var err error
	if k.stream != nil {
		err = k.stream.Close()
	}
	return errors.Join(err, os.RemoveAll(k.tmp()))
}

// snapshotReader is an open snapshot: a directory for this node, a stream for
// another.
type snapshotReader struct {
	s    *snapshots
	id   string
	dir  string
	pipe *io.PipeReader
	once sync.Once
}

// Read implements [io.Reader]: the archive of the snapshot.
func (r *snapshotReader) Read(p []byte) (int, error) {
	if r.pipe == nil {
		out, in := io.Pipe()
		r.pipe = out
		go func() { in.CloseWithError(archive.Pack(in, []byte(streamMeta), r.dir)) }() // ends with the last byte, or Close
	}
	return r.pipe.Read(p)
}

// Close implements [io.Closer].
func (r *snapshotReader) Close() error {
	r.once.Do(func() { r.s.use(r.id, -1) })
	if r.pipe != nil {
		return r.pipe.Close()
	}
	return nil
}
