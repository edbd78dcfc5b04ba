package replication

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
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
}

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
	}
	return s.boltStore.StoreLogs(sealed)
}

// GetLog implements [raft.LogStore]. The error wraps [ErrLogDamaged].
func (s *sealedLog) GetLog(index uint64, l *raft.Log) error {
	err := s.open(index, l)
	if errors.Is(err, ErrLogDamaged) && s.running.Load() {
		s.fatal(err)
	}
	return err
}

// check reads every entry from an index on, as Raft does when it starts, which
// panics where this returns an error. Before a snapshot there may be gaps.
func (s *sealedLog) check(from uint64) error {
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	var l raft.Log
	for i := max(first, from); i <= last; i++ {
		if err := s.GetLog(i, &l); err != nil {
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
