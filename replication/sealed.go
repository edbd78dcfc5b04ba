package replication

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// sealedKept is up to which size the room for sealed entries is kept.
const sealedKept = 1 << 20

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
// data, and one behind each value of Raft's own state, and checks them whenever
// they are read. bbolt itself checks only its meta pages. See node/adr/0004.
type sealedLog struct {
	boltStore
	// fatal ends the process when damage is found while Raft runs, which would
	// otherwise panic. While the log is being opened the error is enough.
	fatal   func(error)
	running atomic.Bool
	// first is the oldest entry, which Raft looks at again and again for its age;
	// nil until it was read.
	first   atomic.Pointer[raft.Log]
	entries atomic.Int64  // stored since the log was cut
	bytes   atomic.Int64  // in these
	bounds  logSize       // zero for none
	full    chan struct{} // capacity 1: a bound was passed
	stored  func()        // called after entries were stored; nil for nobody
	room    sync.Pool     // of *[]byte, for sealed entries
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
	size := 0
	for _, l := range logs {
		size += len(l.Data) + sealBytes
	}
	room, _ := s.room.Get().(*[]byte) // raft-boltdb copies what it is given
	if room == nil || cap(*room) < size {
		room = new([]byte)
		*room = make([]byte, 0, size)
	}
	if size <= sealedKept {
		defer s.room.Put(room)
	}
	sealed := make([]*raft.Log, len(logs))
	data := (*room)[:0]
	for i, l := range logs {
		c, from := *l, len(data)
		data = append(append(data, l.Data...), seal(l)...)
		c.Data = data[from:]
		sealed[i] = &c
	}
	s.bytes.Add(int64(size))
	s.entries.Add(int64(len(logs)))
	if s.grew(1) {
		s.cut()
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

// keySealed marks a stable store whose values have seals; those of earlier versions
// have none.
var keySealed = []byte("tiermesh sealed")

// sealValues puts seals behind the values of an earlier version, or checks those
// that are there.
func (s *sealedLog) sealValues() error {
	_, err := s.Get(keySealed)
	sealed := err == nil
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return err
	}
	for _, key := range boltBuckets[boltConf] {
		b, err := s.boltStore.Get([]byte(key))
		if errors.Is(err, raftboltdb.ErrKeyNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = unsealValue([]byte(key), b)
		if err != nil && !sealed {
			err = s.Set([]byte(key), b)
		}
		if err != nil {
			return err
		}
	}
	if sealed {
		return nil
	}
	return s.Set(keySealed, nil)
}

// sealValue returns a value with its seal behind it: a truncated SHA-256 over key and value.
func sealValue(key, value []byte) []byte {
	h := sha256.New()
	h.Write(binary.AppendUvarint(nil, uint64(len(key))))
	h.Write(key)
	h.Write(value)
	return append(slices.Clone(value), h.Sum(nil)[:sealBytes]...)
}

// unsealValue takes the seal off. The error wraps [ErrLogDamaged].
func unsealValue(key, b []byte) ([]byte, error) {
	n := len(b) - sealBytes
	if n < 0 || !bytes.Equal(sealValue(key, b[:n]), b) {
		return nil, fmt.Errorf("%w: %s: its bytes are not those that were written", ErrLogDamaged, key)
	}
	return b[:n:n], nil
}

// Get implements [raft.StableStore]. The error wraps [ErrLogDamaged].
func (s *sealedLog) Get(key []byte) ([]byte, error) {
	b, err := s.boltStore.Get(key)
	if err != nil {
		return nil, err
	}
	b, err = unsealValue(key, b)
	if err != nil && s.running.Load() {
		s.fatal(err)
	}
	return b, err
}

// GetUint64 implements [raft.StableStore]. The error wraps [ErrLogDamaged].
func (s *sealedLog) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err == nil && len(b) != 8 {
		err = fmt.Errorf("%w: %s: %d bytes", ErrLogDamaged, key, len(b))
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

// Set implements [raft.StableStore].
func (s *sealedLog) Set(key, value []byte) error {
	return s.wrote("write raft's state", s.boltStore.Set(key, sealValue(key, value)))
}

// SetUint64 implements [raft.StableStore].
func (s *sealedLog) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
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
// snapshot there may be gaps. What it reads counts as what the log grew by. The error
// wraps [ErrLogDamaged].
func (s *sealedLog) check(from uint64) error {
	return s.read(from, func(l *raft.Log) {
		s.entries.Add(1)
		s.bytes.Add(int64(len(l.Data)))
	})
}

// grew reports whether the log grew by one part in so many of its bounds.
func (s *sealedLog) grew(part int64) bool {
	return s.bounds != (logSize{}) && (s.bytes.Load() > s.bounds.bytes/part || s.entries.Load() >= s.bounds.entries/part)
}

// cut asks for the log to be cut.
func (s *sealedLog) cut() {
	select {
	case s.full <- struct{}{}:
	default:
	}
}

// each implements [entryLog].
func (s *sealedLog) each(f func(*raft.Log)) error { return s.read(0, f) }

func (s *sealedLog) read(from uint64, f func(*raft.Log)) error {
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
		f(&l)
	}
	return nil
}

// open reads an entry and takes its seal off.
func (s *sealedLog) open(index uint64, l *raft.Log) error {
	*l = raft.Log{} // a field whose name is damaged would keep what is there
	if err := s.boltStore.GetLog(index, l); err != nil {
		return err
	}
	if l.Index != index || !unseal(l) {
		return fmt.Errorf("%w: entry %d: its bytes are not those that were written", ErrLogDamaged, index)
	}
	return nil
}

// unseal takes an entry's seal off and reports whether it is the entry's.
func unseal(l *raft.Log) bool {
	n := len(l.Data) - sealBytes
	if n < 0 {
		return false
	}
	got := l.Data[n:]
	l.Data = l.Data[:n:n]
	return string(seal(l)) == string(got)
}
