package replication

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"

	msgpack "github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
)

// foundLog holds the entries that are left in a damaged log's file, in memory.
type foundLog struct {
	entries     map[uint64]*raft.Log
	first, last uint64
}

var _ entryLog = (*foundLog)(nil)

// findEntries looks through a log's file for entries whose seal is right, whatever
// leads to them: also in pages that bbolt gave up, where older copies lie. Of two
// entries with one index the one of the later term counts, and none counts behind one
// of a later term, which took its place.
func findEntries(path string) (*foundLog, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read raft log: %w", err)
	}
	begin, err := entryBegin()
	if err != nil {
		return nil, err
	}
	found := &foundLog{entries: map[uint64]*raft.Log{}}
	for at := bytes.Index(file, begin); at >= 0; {
		found.take(file[at:])
		next := bytes.Index(file[at+1:], begin)
		if next < 0 {
			break
		}
		at += 1 + next
	}
	found.settle()
	return found, nil
}

// entryBegin returns how every entry begins as raft-boltdb encodes it: as a map of
// its fields, in the order of their names.
func entryBegin() ([]byte, error) {
	var b []byte
	if err := msgpack.NewEncoderBytes(&b, &msgpack.MsgpackHandle{}).Encode(&raft.Log{}); err != nil {
		return nil, fmt.Errorf("encode an entry: %w", err)
	}
	const fixString = 0xa0 // with the length in the lower bits (MessagePack, str formats)
	return b[:2+int(b[1]&^fixString)], nil
}

// take decodes what begins like an entry, and keeps it if it is one.
func (l *foundLog) take(b []byte) {
	var entry raft.Log
	if msgpack.NewDecoderBytes(b, &msgpack.MsgpackHandle{}).Decode(&entry) != nil || !unseal(&entry) {
		return
	}
	if old := l.entries[entry.Index]; old == nil || old.Term < entry.Term {
		l.entries[entry.Index] = &entry
	}
}

func (l *foundLog) settle() {
	term := uint64(0)
	for _, i := range slices.Sorted(maps.Keys(l.entries)) {
		if l.entries[i].Term < term {
			delete(l.entries, i)
			continue
		}
		term, l.last = l.entries[i].Term, i
		if l.first == 0 {
			l.first = i
		}
	}
}

// FirstIndex implements [entryLog].
func (l *foundLog) FirstIndex() (uint64, error) { return l.first, nil }

// LastIndex implements [entryLog].
func (l *foundLog) LastIndex() (uint64, error) { return l.last, nil }

// Close implements [entryLog].
func (l *foundLog) Close() error { return nil }

// GetLog implements [entryLog]. The error wraps [ErrLogDamaged].
func (l *foundLog) GetLog(index uint64, into *raft.Log) error {
	entry := l.entries[index]
	if entry == nil {
		return fmt.Errorf("%w: entry %d is nowhere", ErrLogDamaged, index)
	}
	*into = *entry
	return nil
}

func (l *foundLog) each(f func(*raft.Log)) error {
	for _, i := range slices.Sorted(maps.Keys(l.entries)) {
		f(l.entries[i])
	}
	return nil
}
