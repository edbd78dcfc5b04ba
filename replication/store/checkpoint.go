package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tiermesh/tiermesh/crdt"
)

// Checkpoint makes a copy of the store in dir, which must not exist, as of some
// index at or after the present one. It costs one flush; the tables are hard
// links. The copy is durable on return.
func (s *Store) Checkpoint(dir string) error {
	if err := s.usage.enter(); err != nil {
		return err
	}
	defer s.usage.leave()
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.db.Checkpoint(dir); err != nil {
		return fmt.Errorf("checkpoint store to %s: %w", dir, err)
	}
	return nil
}

// Advance notes that the store reflects the Raft log up to an index, of which the
// entries past [Store.AppliedIndex] hold nothing for it. Only the goroutine that
// applies may call it.
func (s *Store) Advance(index uint64) error {
	if s.AppliedIndex() >= index {
		return nil
	}
	return s.Begin().Commit(index)
}

// Replace puts a checkpoint's contents in the place of the store's. The
// checkpoint stays as it is. Only the goroutine that applies may call it;
// readers wait meanwhile. After an error the store must be closed.
func (s *Store) Replace(checkpoint string) error {
	if err := s.usage.pause(); err != nil {
		return err
	}
	defer s.usage.resume()
	next := s.cfg.Dir + ".next"
	if err := errors.Join(s.cfg.FS.RemoveAll(next), linkCheckpoint(s.cfg.FS, checkpoint, next)); err != nil {
		return fmt.Errorf("replace store from %s: %w", checkpoint, err)
	}
	old := s.db
	s.db = nil
	if err := old.Close(); err != nil {
		s.usage.close()
		return fmt.Errorf("replace store: %w", err)
	}
	// A crash between these two leaves a store that is behind its log, which
	// the next start mends from the same checkpoint.
	if err := errors.Join(s.cfg.FS.RemoveAll(s.cfg.Dir), s.cfg.FS.Rename(next, s.cfg.Dir)); err != nil {
		s.usage.close()
		return fmt.Errorf("replace store: %w", err)
	}
	if err := s.openDB(); err != nil {
		s.usage.close()
		return fmt.Errorf("replace store: %w", err)
	}
	s.showAll()
	return nil
}

// showAll makes every chain look grown, after the database was replaced.
func (s *Store) showAll() {
	s.marks.database++
	s.mu.Lock()
	for stream, authors := range s.chains {
		for author, st := range authors {
			s.grown[crdt.ChainID{Stream: stream, Author: author}] = st.head
		}
	}
	s.mu.Unlock()
	signal(s.changed)
	signal(s.dirty)
}

// Exchange puts the store in directory next, which is closed, in the place of
// this one, whose directory is moved to aside, which must not exist. Only the
// goroutine that applies may call it; readers wait meanwhile. A crash leaves
// this store in its place, or none in its place and next whole. After an error
// the store must be closed.
func (s *Store) Exchange(next, aside string) error {
	if err := s.usage.pause(); err != nil {
		return err
	}
	defer s.usage.resume()
	old := s.db
	s.db = nil
	if err := old.Close(); err != nil {
		// Nothing of a damaged database is needed any more.
		s.cfg.Logger.Warn("damaged store closed", "err", err)
	}
	s.rot.forget()
	err := s.cfg.FS.Rename(s.cfg.Dir, aside)
	if err == nil {
		err = s.cfg.FS.Rename(next, s.cfg.Dir)
	}
	if err == nil {
		err = s.openDB()
	}
	if err != nil {
		s.usage.close()
		return fmt.Errorf("exchange store for %s: %w", next, err)
	}
	s.showAll()
	return nil
}

// LinkCopy copies the directory of a store that is closed, or of a checkpoint,
// to another on the same file system: tables by hard link. The copy is durable
// on return.
func LinkCopy(from, to string) error {
	if err := linkCheckpoint(vfs.Default, from, to); err != nil {
		return fmt.Errorf("copy store %s: %w", from, err)
	}
	return nil
}

// linkCheckpoint copies a checkpoint: tables, which never change, by hard link,
// the rest by content.
func linkCheckpoint(fs vfs.FS, from, to string) error {
	names, err := fs.List(from)
	if err != nil {
		return err
	}
	if err := fs.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, name := range names {
		a, b := fs.PathJoin(from, name), fs.PathJoin(to, name)
		if filepath.Ext(name) == ".sst" {
			err = fs.Link(a, b)
		} else {
			err = copyFile(fs, a, b)
		}
		if err != nil {
			return err
		}
	}
	d, err := fs.OpenDir(to)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func copyFile(fs vfs.FS, from, to string) error {
	in, err := fs.Open(from)
	if err != nil {
		return err
	}
	out, err := fs.Create(to, vfs.WriteCategoryUnspecified)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close(), in.Close())
}

// RebasedIndex is the Raft index that a rebased store reflects: that of the
// snapshot with which its new log begins.
const RebasedIndex = 1

// Rebase prepares a store that was restored for a new Raft log, of which it
// reflects [RebasedIndex]. The site goes on in the next incarnation, so that
// nothing it writes from now on can contradict what it wrote after the backup.
// The store must not be in use.
func (s *Store) Rebase() error {
	next := s.Incarnation() + 1
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }()
	_ = b.Set(keyMeta("applied"), binary.BigEndian.AppendUint64(nil, RebasedIndex), nil)
	_ = b.Set(keyMeta("incarnation"), binary.BigEndian.AppendUint32(nil, next), nil)
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("rebase store: %w", err)
	}
	s.mu.Lock()
	s.applied, s.incarnation = RebasedIndex, next
	s.mu.Unlock()
	return s.Flush()
}
