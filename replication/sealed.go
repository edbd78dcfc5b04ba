package replication

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// sealBytes is the size of an entry's seal: a truncated SHA-256.
const sealBytes = 16

// ErrLogDamaged reports a Raft log entry whose bytes on disk are not those that
// were written. It is found when the entry is read, before it can be applied.
var ErrLogDamaged = errors.New("replication: damaged raft log")

// boltStore is what the sealed log needs of raft-boltdb.
type boltStore interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// sealedLog puts a hash over index, term, type and data behind each entry's
// data, and checks it whenever the entry is read. bbolt itself checks only its
// meta pages. See node/adr/0004.
type sealedLog struct {
	boltStore
	// fatal ends the process when damage is found while Raft runs, which would
	// otherwise panic. While the log is being opened the error is enough.
	fatal   func(error)
	running atomic.Bool
	// first is the oldest entry, which Raft looks at again and again for its age;
	// nil until it was read.
	first   atomic.Pointer[raft.Log]
	entries atomic.Int64  // stored since they were last looked at
	bytes   atomic.Int64  // in these
	bounds  logSize       // zero for none
	full    chan struct{} // capacity 1: a bound was passed
	stored  func()        // called after entries were stored; nil for nobody
}

// logSize is how much a log may grow by.
type logSize struct{ entries, bytes int64 }

var _ raft.LogStore = (*sealedLog)(nil)

func seal(l *raft.Log) []byte {
	h := sha256.New()
	var b [17]byte
	binary.BigEndian.PutUint64(b[:8], l.Index)
	binary.BigEndian.PutUint64(b[8:16], l.Term)
	b[16] = byte(l.Type)
	h.Write(b[:])
	h.Write(l.Data)
	return h.Sum(nil)[:sealBytes]
}

// StoreLog implements [raft.LogStore].
func (s *sealedLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements [raft.LogStore]; the caller's entries are left as they
// are, since Raft goes on using them.
func (s *sealedLog) StoreLogs(logs []*raft.Log) error {
	sealed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		c := *l
		c.Data = append(append(make([]byte, 0, len(l.Data)+sealBytes), l.Data...), seal(l)...)
		sealed[i] = &c
		s.bytes.Add(int64(len(c.Data)))
	}
	s.entries.Add(int64(len(logs)))
	if s.bounds != (logSize{}) && (s.bytes.Load() > s.bounds.bytes || s.entries.Load() >= s.bounds.entries) {
		select {
		case s.full <- struct{}{}:
		default:
		}
	}
	err := s.wrote("append to the raft log", s.boltStore.StoreLogs(sealed))
	if s.stored != nil {
		s.stored()
	}
	return err
}

// DeleteRange implements [raft.LogStore].
func (s *sealedLog) DeleteRange(first, last uint64) error {
	s.first.Store(nil)
	defer s.first.Store(nil) // what was read meanwhile
	return s.wrote("cut the raft log", s.boltStore.DeleteRange(first, last))
}

// Set implements [raft.StableStore].
func (s *sealedLog) Set(key, value []byte) error {
	return s.wrote("write raft's state", s.boltStore.Set(key, value))
}

// SetUint64 implements [raft.StableStore].
func (s *sealedLog) SetUint64(key []byte, value uint64) error {
	return s.wrote("write raft's state", s.boltStore.SetUint64(key, value))
}

// wrote ends the process when a write failed while Raft runs: what is on the
// disk is not known after a failed fsync, and it may never be tried again.
func (s *sealedLog) wrote(what string, err error) error {
	if err != nil && s.running.Load() {
		s.fatal(diskError(what, err))
	}
	return err
}

// GetLog implements [raft.LogStore]. The error wraps [ErrLogDamaged].
func (s *sealedLog) GetLog(index uint64, l *raft.Log) error {
	if first := s.first.Load(); first != nil && first.Index == index {
		*l = *first
		return nil
	}
	err := s.open(index, l)
	if errors.Is(err, ErrLogDamaged) && s.running.Load() {
		s.fatal(err)
	}
	if first, _ := s.FirstIndex(); err == nil && first == index && s.running.Load() {
		entry := *l
		s.first.Store(&entry)
	}
	return err
}

// check reads every entry from an index on, as Raft does when it starts, which
// panics where this returns an error; from 0 on it reads those there are. Before a
// snapshot there may be gaps. The error wraps [ErrLogDamaged].
func (s *sealedLog) check(from uint64) error {
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	if from == 0 {
		from = first
	}
	var l raft.Log
	for i := from; i <= last; i++ {
		switch err := s.GetLog(i, &l); {
		case errors.Is(err, raft.ErrLogNotFound):
			return fmt.Errorf("%w: entry %d is not there, entries %d to %d should be", ErrLogDamaged, i, from, last)
		case err != nil:
			return err
		}
	}
	return nil
}

// open reads an entry and takes its seal off.
func (s *sealedLog) open(index uint64, l *raft.Log) error {
	if err := s.boltStore.GetLog(index, l); err != nil {
		return err
	}
	n := len(l.Data) - sealBytes
	if n < 0 || l.Index != index {
		return fmt.Errorf("%w: entry %d", ErrLogDamaged, index)
	}
	got := l.Data[n:]
	l.Data = l.Data[:n:n]
	if string(seal(l)) != string(got) {
		return fmt.Errorf("%w: entry %d: its bytes are not those that were written", ErrLogDamaged, index)
	}
	return nil
}

// Where a bbolt file says how long it is: two meta pages of which the valid one
// with the higher transaction counts (bbolt, internal/common/meta.go).
const (
	boltMagic      = 0xED0CDAED
	boltMetaAt     = 16 // behind the page's header
	boltMetaLength = 64
	boltHashed     = 56 // what the checksum covers
)

// checkLength returns [ErrLogDamaged] for a log file that is shorter than it
// says. bbolt maps it to memory, and reading beyond its end kills the process.
func checkLength(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open raft log: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open raft log: %w", err)
	}
	var pages, last uint64
	page := uint64(os.Getpagesize())
	for i := range uint64(2) {
		b := make([]byte, boltMetaLength)
		if _, err := f.ReadAt(b, int64(i*page+boltMetaAt)); err != nil {
			continue
		}
		sum := fnv.New64a()
		_, _ = sum.Write(b[:boltHashed])
		if binary.NativeEndian.Uint32(b) != boltMagic || binary.NativeEndian.Uint64(b[boltHashed:]) != sum.Sum64() {
			continue
		}
		if tx := binary.NativeEndian.Uint64(b[48:]); pages == 0 || tx > last {
			pages, last = binary.NativeEndian.Uint64(b[40:]), tx
		}
	}
	if pages == 0 || uint64(info.Size()) < pages*page {
		return fmt.Errorf("%w: %s has %d bytes, its contents %d pages of %d", ErrLogDamaged, path, info.Size(), pages, page)
	}
	return nil
}
